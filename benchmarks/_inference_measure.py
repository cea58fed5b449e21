"""Runs one command and measures it.

Wall time of the whole, and peak memory of the whole tree of processes.
"""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERVAL = 0.1  # seconds between two looks
# proportional sizes are slow to read: they are read where the resident sum has grown by this
# factor, and
GROWN = 1.02
# so many seconds after the last time: what processes share makes the resident sum no measure of
# them
OFTEN = 3.0
MEMORY_IS = (
    "peak over time of the sum, over the command and all its children, of proportional set sizes (a"
    " page shared by n processes counts 1/n in each, so once); where the system does not tell them,"
    " of resident sets"
)


@dataclass(frozen=True)
class Measured:
    """Measurements of one command."""

    seconds: float
    memory_gib: float
    resident_gib: float
    """Peak of the sum of resident sets: shared pages count once a process."""
    processes: int
    """Most at one time."""
    code: int


class _Watch(threading.Thread):
    """Looks at a tree of processes until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root, self._over = psutil.Process(pid), threading.Event()
        self.memory = self.resident = self._read_at = self.processes = 0
        self._read = 0.0

    def run(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            resident = sum(_resident(process) for process in tree)
            self.processes = max(self.processes, len(tree))
            self.resident = max(self.resident, resident)
            now = time.perf_counter()
            if resident > GROWN * self._read_at or now > self._read + OFTEN:
                self._read_at, self._read = resident, now
                self.memory = max(self.memory, sum(_proportional(process) for process in tree))

    def stop(self) -> None:
        self._over.set()
        self.join()


def measure(
    command: Sequence[object], *, log: Path, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command to its end; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as text:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=text,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        seconds = time.perf_counter() - start
        watch.stop()
    return Measured(seconds, watch.memory / 2**30, watch.resident / 2**30, watch.processes, code)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a command that was interrupted, and its children."""
    tree = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in tree:
        one.terminate()
    process.wait()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(process: psutil.Process) -> int:
    try:
        for line in (
            Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        ):
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(process)
