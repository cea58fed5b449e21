"""Files of 512 KiB that `hilum node` receives per second, beside pynetdicom's own storescp."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from _common import write_result

from hilum.inference.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

STORESCU = Path("/usr/bin/storescu")  # pynetdicom has a program of that name, too
SENDERS, GOAL = 4, 100
PIXELS = 512  # rows and columns of 16 bits: 512 KiB


def main() -> None:
    """Send to both in turn; report files a second, processor time a file and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100, help="files of each sender")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not STORESCU.is_file():
        raise SystemExit("dcmtk's storescu is needed: scripts/programs installs it")
    measured: dict[str, list[dict[str, float]]] = {"hilum node": [], "pynetdicom storescp": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = make_files(folder / "sent", options.files)
        for number in range(options.rounds):
            for name, taken in measured.items():
                target = folder / f"{number}-{name.replace(' ', '-')}"
                with receiver(name, target) as (process, port):
                    taken.append(measure(sources, options.files, process, port))
                check(target, options.files * SENDERS)
                shutil.rmtree(target)
    report(measured)


def make_files(folder: Path, number: int) -> list[Path]:
    """Write a study of random pixels for each sender."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    for sender in range(SENDERS):
        study, series = generate_uid(), generate_uid()
        (folder / str(sender)).mkdir(parents=True)
        for index in range(number):
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
            data.StudyInstanceUID, data.SeriesInstanceUID = study, series
            data.PatientID, data.Modality, data.InstanceNumber = "BENCH", "CT", index + 1
            data.Rows = data.Columns = PIXELS
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
            data.PixelRepresentation, data.SamplesPerPixel = 0, 1
            data.PhotometricInterpretation = "MONOCHROME2"
            data.PixelData = os.urandom(2 * PIXELS**2)
            data.save_as(folder / str(sender) / f"{index:05d}.dcm", enforce_file_format=True)
    return [folder / str(sender) for sender in range(SENDERS)]


@contextlib.contextmanager
def receiver(name: str, target: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Start one of the two on a free port; nothing is predicted meanwhile."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    target.mkdir()
    if name == "hilum node":
        model = target / "model"  # never loaded: no study is quiet for a day
        nothing = {"hilum": "", "name": "none", "task": "segmentation", "created": ""}
        Manifest.sealed(**nothing, members=("none",), files={}).save(model)
        command = ["hilum", "node", "--model", model, "--quiet-seconds", 86400, "--folder", target]
        command += ["--port", port]
    else:
        command = ["pynetdicom", "storescp", port, "-od", target, "-q"]
    with (target / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_for(port)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Wait until a port is listened on."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


def measure(
    sources: list[Path], files: int, process: psutil.Process, port: int
) -> dict[str, float]:
    """Let all senders send at once, each by one association, and wait for the last."""
    before = process.cpu_times()
    start = time.perf_counter()
    senders = [
        subprocess.Popen(
            [STORESCU, "+sd", "--max-send-pdu", "131072", "127.0.0.1", str(port), str(source)],
            stderr=subprocess.DEVNULL,
        )
        for source in sources
    ]
    if any(sender.wait() for sender in senders):
        raise SystemExit("a sender failed")
    seconds = time.perf_counter() - start
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    total = files * SENDERS
    return {
        "files_a_second": total / seconds,
        "processor_ms_a_file": 1000 * used / total,
        "peak_mb": process.memory_info().rss / 2**20,
    }


def check(target: Path, files: int) -> None:
    """Every file that was acknowledged has to be there."""
    found = sum(path.stat().st_size > 2 * PIXELS**2 for path in target.rglob("*") if path.is_file())
    if found != files:
        raise SystemExit(f"{found} of {files} files are in {target}")


def report(measured: dict[str, list[dict[str, float]]]) -> None:
    """Print medians and ranges, and keep them."""
    result = {}
    for name, rounds in measured.items():
        rates = [one["files_a_second"] for one in rounds]
        result[name] = {
            "files_a_second": round(statistics.median(rates)),
            "least": round(min(rates)),
            "most": round(max(rates)),
            "processor_ms_a_file": round(
                statistics.median(one["processor_ms_a_file"] for one in rounds), 2
            ),
            "memory_mb": round(max(one["peak_mb"] for one in rounds)),
        }
        print(name, result[name])
    reached = result["hilum node"]["files_a_second"] >= GOAL
    print(f"goal of {GOAL} files a second: {'reached' if reached else 'not reached'}")
    write_result("node", {"senders": SENDERS, "goal": GOAL} | result)


if __name__ == "__main__":
    main()
