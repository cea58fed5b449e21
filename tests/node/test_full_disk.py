"""A disk that is full is told to the sender, and costs nothing that was acknowledged."""

import contextlib
import errno
import io
import itertools
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from node_samples import encoded, send_bytes, stored

from hilum.node.instances import OUT_OF_RESOURCES, SUCCESS

FULL = OSError(errno.ENOSPC, "No space left on device")
PIXELS = 400_000


class Disk:
    """The bytes that are left for files that arrive; a write may be taken in part, as by Linux."""

    def __init__(self) -> None:
        self.left = None
        self._lock = threading.Lock()

    def take(self, size: int) -> int:
        with self._lock:
            if self.left is None:
                return size
            taken = min(size, self.left)
            self.left -= taken
        if taken == 0 < size:
            raise FULL
        return taken


@pytest.fixture
def disk(monkeypatch):
    """A disk of which every write call of an arriving file takes."""
    made, usual = Disk(), io.open

    class Arriving(io.FileIO):
        def write(self, data):
            return super().write(memoryview(data)[: made.take(len(data))])

    def opens(path, mode="r", buffering=-1, *more, **options):
        if str(path).endswith(".part") and "x" in mode:
            return io.BufferedWriter(Arriving(path, mode), buffering)
        return usual(path, mode, buffering, *more, **options)

    monkeypatch.setattr(io, "open", opens)
    return made


def instances(number):
    """Encode instances of one study, each with other pixels."""
    _, first = encoded()
    study = {"StudyInstanceUID": first.StudyInstanceUID}
    return [
        encoded(pixels=bytes([n, 1]) * int(np.random.default_rng(n).integers(1, PIXELS)), **study)
        for n in range(number)
    ]


def send_all(node, sent):
    """Send instances; return the status of each."""
    return [send_bytes(node, data, instance=header.SOPInstanceUID) for data, header in sent]


def check(node, sent, statuses):
    """Whoever was told success is on the disk whole, and nothing else is."""
    assert {*statuses} <= {SUCCESS, OUT_OF_RESOURCES}
    kept = {
        header.SOPInstanceUID: data
        for (data, header), status in zip(sent, statuses, strict=True)
        if status == SUCCESS
    }
    found = {path.stem: path for path in stored(node)}
    assert found.keys() == kept.keys()
    assert all(path.read_bytes().endswith(kept[name]) for name, path in found.items())
    assert not list((node.config.folder / "incoming").iterdir())
    assert {uid for _, uid in node._queue.instances()} == kept.keys()


@pytest.mark.parametrize("seed", range(8))
def test_writes_that_fail_anywhere_are_refused_politely(start, disk, seed):
    node, sent = start(), instances(4)
    total = sum(len(data) for data, _ in sent)
    disk.left = int(np.random.default_rng(seed).integers(total))
    statuses = send_all(node, sent)
    assert OUT_OF_RESOURCES in statuses
    check(node, sent, statuses)
    disk.left = None
    check(node, sent, send_all(node, sent))
    assert len(stored(node)) == len(sent)


@pytest.mark.parametrize("step", ["fsync", "mkdir", "replace"])
def test_other_calls_that_fail_are_refused_politely(start, monkeypatch, step):
    """Flushing, a new folder, a new name: any of them may need a block of the disk."""
    node, sent = start(), instances(4)
    fails = itertools.cycle([True, True, False])
    place = os if step == "fsync" else Path
    usual = getattr(place, step)

    def call(*arguments, **options):
        if threading.current_thread() is not threading.main_thread() and next(fails):
            raise FULL
        return usual(*arguments, **options)

    monkeypatch.setattr(place, step, call)
    statuses = send_all(node, sent)
    monkeypatch.undo()
    assert OUT_OF_RESOURCES in statuses
    check(node, sent, statuses)
    check(node, sent, send_all(node, sent))


def test_a_queue_that_cannot_grow_is_refused_politely(start):
    """SQLite's own limit gives its own error at its own writes."""
    node, sent = start(), instances(1)
    (pages,) = node._queue._rows("PRAGMA page_count")[0]
    node._queue._rows(f"PRAGMA max_page_count={pages}")
    statuses = []
    while OUT_OF_RESOURCES not in statuses[-3:]:
        data, header = encoded()
        sent.append((data, header))
        statuses = [*statuses, *send_all(node, sent[-1:])]
        assert len(statuses) < 2000
    acknowledged = [one for one, status in zip(sent[1:], statuses, strict=True) if status == 0]
    entered = {uid for _, uid in node._queue.instances()}
    assert {header.SOPInstanceUID for _, header in acknowledged} <= entered
    node._queue._rows("PRAGMA max_page_count=1000000")
    assert {*send_all(node, sent)} == {SUCCESS}
    check(node, sent, [SUCCESS] * len(sent))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MB in memory; only root may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "hilum-test", str(place)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this system has no mount")
    if done.returncode != 0:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(path, left=0):
    """Fill a disk but for some bytes."""
    block = bytes(2**16)
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(block):
            pass
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - left)


@pytest.mark.parametrize("left", [0, 50_000, 900_000, 2_000_000])
def test_a_disk_that_is_really_full_loses_nothing(start, small_disk, left):
    """In mid-transfer, and for a node that is started again while it is full."""
    node, sent = start(folder=small_disk / "node", reserve="1KB"), instances(8)
    begun = send_all(node, sent[:2])
    assert begun == [SUCCESS, SUCCESS]
    fill(small_disk / "filler", left)
    statuses = [*begun, *send_all(node, sent[2:])]
    assert OUT_OF_RESOURCES in statuses
    check(node, sent, statuses)
    node.stop()
    (small_disk / "filler").unlink()
    again = start(folder=small_disk / "node", reserve="1KB")
    check(again, sent, statuses)
    check(again, sent, send_all(again, sent))
    again.stop()
