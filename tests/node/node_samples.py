"""Studies, senders and servers for the tests of the node."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context

from hilum.examples.dicom import SeriesTags, write_dicom_series
from hilum.node import NodeConfig
from hilum.volume import Geometry, Volume
from programs import require

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big endian": "1.2.840.10008.1.2.2",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
    "RLE": "1.2.840.10008.1.2.5",
    "private": "1.2.826.0.1.3680043.2.1143.7.7.7",
}

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
    """Send files or a folder by dcmtk's storescu, not pynetdicom's; return its exit code."""
    sources = [str(one) for one in files]
    command = [require("/usr/bin/storescu"), "-aec", title, "+sd", *options, "127.0.0.1", str(port)]
    return subprocess.run([*command, *sources], check=False).returncode


def stored(node, study=None):
    return sorted((node.config.folder / "studies").glob(f"{study or '*'}/*.dcm"))


def associate(node, sop_class, syntax):
    entity = AE("SENDER")
    association = entity.associate(
        "127.0.0.1", node.port, contexts=[build_context(sop_class, syntax)]
    )
    assert association.is_established
    return association


def send_bytes(node, data: bytes, *, sop_class=CT, instance, syntax=SYNTAXES["explicit"]):
    """Send an encoded data set as it is; return the status."""
    from pynetdicom.dimse_primitives import C_STORE

    association = associate(node, sop_class, syntax)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
    request.DataSet = BytesIO(data)
    context = association.accepted_contexts[0].context_id
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context)
    _, reply = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return reply.Status


def encoded(syntax="explicit", *, pixels=b"\1\0" * 64, **changes) -> tuple[bytes, Dataset]:
    """Encode a small data set."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    data = Dataset()
    values = {
        "SOPClassUID": CT,
        "SOPInstanceUID": generate_uid(),
        "PatientName": "Doe^John",
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "Rows": 8,
        "Columns": 8,
        "PixelData": pixels,
    } | changes
    for name, value in values.items():
        if value is not None:
            setattr(data, name, value)
    data["PixelData"].VR = "OW"
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != "big endian"
    buffer.is_implicit_VR = syntax == "implicit"
    write_dataset(buffer, data)
    return buffer.getvalue(), data


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


def fetch(port: int, path: str) -> str:
    """Read a page of this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return reply.read().decode()


class RunningNode:
    """A node in a process of its own, started by the command line as users do.

    Args:
        folder: its folder; `log` is beside it.
        options: of `hilum node`.
    """

    def __init__(self, folder: Path, *options: object) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        self.port, self.status_port = free_port(), free_port()
        command = [sys.executable, "-m", "hilum", "node", "--folder", folder, "--port", self.port]
        command += ["--status-port", self.status_port, "--reserve", "1MB", "--device", "cpu"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(one) for one in (*command, *options)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"},
            )
        wait_until(self.page, what=f"the node ({self.log})")

    def page(self, path: str = "/") -> str:
        return fetch(self.status_port, path)

    def runs(self, state: str) -> int:
        """Count the studies in a state, as Prometheus sees them."""
        found = re.search(rf'hilum_node_runs{{state="{state}"}} (\d+)', self.page("/metrics"))
        return int(found[1]) if found else 0

    def wait_for(self, state: str, number: int = 1, seconds: float = 60.0) -> None:
        wait_until(lambda: self.runs(state) >= number, seconds, f"{number} {state} ({self.log})")

    def kill(self) -> None:
        """End it as a power cut would, at once."""
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        self.process.terminate()
        return self.process.wait(40)


class Archive:
    """A destination in this process that keeps what it gets by C-STORE.

    Args:
        port: to listen on.
        before_reply: called with each instance's UID before it is acknowledged.
    """

    def __init__(self, port: int | None = None, before_reply=None) -> None:
        from pynetdicom import AE, AllStoragePresentationContexts, evt

        self.port = port or free_port()
        self.received: list = []
        self._before_reply = before_reply
        entity = AE("ARCHIVE")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, "1.2.840.10008.1.2.1")
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    @property
    def destination(self) -> str:
        return f"ARCHIVE@127.0.0.1:{self.port}"

    @property
    def instances(self) -> list[str]:
        return [str(one.SOPInstanceUID) for one in self.received]

    @property
    def studies(self) -> list[str]:
        return [str(one.StudyInstanceUID) for one in self.received]

    def _store(self, event) -> int:
        data = event.dataset
        data.file_meta = event.file_meta
        self.received.append(data)
        if self._before_reply is not None:
            self._before_reply(str(data.SOPInstanceUID))
        return 0

    def stop(self) -> None:
        self._server.shutdown()
