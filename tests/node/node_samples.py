"""Studies, senders and servers for the tests of the node."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path

import numpy as np

from hilum.examples.dicom import SeriesTags, write_dicom_series
from hilum.node import NodeConfig
from hilum.volume import Geometry, Volume
from programs import require

SOURCES = str(Path(__file__).resolve().parents[2] / "src")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until(condition, seconds: float = 60.0, what: str = "the condition"):
    """Wait for a condition to be true, and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        time.sleep(0.05)
    raise AssertionError(f"{what} was not true within {seconds} seconds")


def make_study(
    folder: Path,
    number: int = 0,
    *,
    shape: tuple[int, int, int] = (6, 20, 24),
    name: str = "Synthetic^Patient",
    seed: str = "",
) -> tuple[Path, ...]:
    """Write a CT study whose middle is bright."""
    generator = np.random.default_rng(number)
    array = generator.integers(-100, 100, size=(1, *shape)).astype(np.float32)
    array[:, 2:4, 5:12, 6:15] = 400
    geometry = Geometry.from_spacing(shape, (2.5, 0.8, 0.8), origin=(-50.0, 20.0, 30.0))
    tags = SeriesTags(patient_id=f"SYN-{number:04d}", patient_name=name, uid_seed=f"node{seed}")
    return write_dicom_series(Volume(array, geometry), folder, tags=tags)


def study_uid(files) -> str:
    from pydicom import dcmread

    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def send(files, port: int, *, title: str = "HILUM", options: tuple[str, ...] = ()) -> int:
    """Send files or a folder by dcmtk's storescu; return its exit code."""
    sources = [str(one) for one in files]
    command = [require("storescu"), "-aec", title, "+sd", *options, "127.0.0.1", str(port)]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    return done.returncode


def config_of(folder: Path, model: Path, **changes) -> NodeConfig:
    settings = {
        "folder": folder,
        "models": [{"name": "toy", "folder": model}],
        "host": "127.0.0.1",
        "port": 0,
        "quiet_seconds": 600,
        "reserve": "1MB",
        "retry_seconds": (0.2, 0.2),
        "device": "cpu",
    } | changes
    return NodeConfig.model_validate(settings)
