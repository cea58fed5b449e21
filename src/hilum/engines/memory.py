"""Memory limit of this process: the free memory of machine or container, and the user's limit."""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from hilum.engines.host import control_groups, read_kernel_file
from hilum.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


SHARE = 0.75
"""Share of the free memory that is used where the user allows no other amount."""

_C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
_M_MMAP_THRESHOLD = -3
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_PAUSE_SECONDS = 0.03
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_memory(amount: str | int) -> int:
    """Parse "4GB", "512MB" (powers of 1000), "1.5GiB" (of 1024), or an integer, into bytes.

    Raises:
        UsageError: it is no amount of memory, none at all, or a text without a unit.
    """
    bare = isinstance(amount, str) and amount.strip().isdecimal()
    found = None if bare else _AMOUNT.fullmatch(str(amount))
    number = (
        float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].upper()] if found else 0
    )
    if number < 1:
        raise UsageError(
            f"memory={amount!r} is no amount of memory",
            needed="an amount with its unit, such as 4GB, 512MB or 1.5GiB",
            cure=f"memory='{str(amount).strip() if bare else 4}GB'",
        )
    return int(number)


def resident() -> int:
    """Measure the bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def return_what_is_freed(most: int) -> None:
    """Give freed blocks of a small part of `most` bytes back to the system from now on.

    glibc raises that size by itself to up to 32 MiB and keeps what is smaller, a heap for each
    thread, so that a second case would hold what the first had freed. Blocks that go back cost time
    when they are asked for again, so the part is no smaller than it must be. Other C libraries have
    no such call and need none.
    """
    mallopt = getattr(_C_LIBRARY, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, min(2**25, max(2**20, most // 400)))


@dataclass(frozen=True)
class Budget:
    """Memory limit of this process in bytes of resident memory.

    `given` by the user, or a share of what was free.
    """

    most: int
    given: bool

    @classmethod
    def of(cls, amount: str | int | None) -> Budget:
        """Return the user's limit.

        None: the resident memory of the process, and three quarters of what is free.

        Raises:
            UsageError: see `parse_memory`.
        """
        if amount is not None:
            return cls(parse_memory(amount), given=True)
        return cls(resident() + int(SHARE * host_memory().free), given=False)

    def __str__(self) -> str:
        """Describe it for messages."""
        return f"{self.most / 2**30:.2f} GiB " + (
            "that are allowed" if self.given else f"({SHARE:.0%} of what is free)"
        )


@dataclass(frozen=True)
class RowStorage:
    """Storage of the rows of logits that a sliding window has in the making.

    Args:
        limit: bytes that the process may hold while they exist, they included; None: no limit.
        folder: of a file for rows that memory is not enough for; None: the system's own for
            temporary files.
        at_once: bytes of finished rows that are put together from a file at a time (one row at
            least).
    """

    limit: int | None = None
    folder: Path | None = None
    at_once: int = 2**26


def file_array(shape: Sequence[int], folder: Path | None) -> NDArray[np.float32]:
    """Make an array of float32 in a nameless file, mapped into memory: gone when the array is.

    The file gets its whole size first: a full disk would kill a process that writes to its pages.

    Mapped pages that were read or written count as held by the process. A thread gives them back to
    the system some thirty times a second (what was written stays in the file), so that they never
    add up, whoever uses the array.

    Raises:
        ResourceError: the disk has not enough room.
    """
    size = 4 * math.prod(shape)
    where = Path(tempfile.gettempdir()) if folder is None else folder
    free = shutil.disk_usage(where).free
    lack = f"only {free / 2**30:.1f} GiB are free" if size > free else ""
    with tempfile.TemporaryFile(dir=where, buffering=0) as file:
        try:
            if not lack:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # a file system that cannot say how much it has: what is free was looked at
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                lack = f"a temporary file cannot be made: {error.strerror or error}"
        if lack:
            raise ResourceError(
                f"{where}: {lack}",
                needed=(
                    f"{size / 2**30:.1f} GiB for a temporary file, for what does not fit into the"
                    " memory that is allowed"
                ),
                cure="free some space, choose another output folder, or allow more memory",
            )
        pages = mmap.mmap(file.fileno(), size)  # holds the file
    array: NDArray[np.float32] = np.frombuffer(pages, dtype=np.float32).reshape(shape)
    if hasattr(pages, "madvise"):  # Windows takes mapped pages back by itself
        threading.Thread(
            target=_give_back, args=(weakref.ref(pages),), name="hilum-pages", daemon=True
        ).start()
    return array


def _give_back(mapped: weakref.ref[mmap.mmap]) -> None:
    """Let go of the pages of a mapped file again and again, as long as someone holds it."""
    while (pages := mapped()) is not None:
        pages.madvise(mmap.MADV_DONTNEED)
        del pages
        time.sleep(_PAUSE_SECONDS)


@dataclass(frozen=True)
class HostMemory:
    """Bytes that this process may still take, and how many there are in all."""

    free: int
    total: int


def host_memory(root: Path = Path("/")) -> HostMemory:
    """Measure the memory outside the accelerators, of the machine or of this process's group.

    A container, a batch job or a systemd unit is killed at its group's limit, however much the
    machine has free. What the group's files take in the page cache counts as free, as it does for
    the machine.

    Args:
        root: where /proc and /sys lie; only Linux has groups, elsewhere the machine alone counts.
    """
    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    for folder in control_groups("memory", root):
        limit, used = (
            read_kernel_file(folder / new).strip() or read_kernel_file(folder / old).strip()
            for new, old in (
                ("memory.max", "memory.limit_in_bytes"),
                ("memory.current", "memory.usage_in_bytes"),
            )
        )
        if limit.isdecimal() and used.isdecimal():  # not "max"
            counts = dict(
                line.split() for line in read_kernel_file(folder / "memory.stat").splitlines()
            )
            # version 1 has its own counts and, as total_*, those of the groups below it
            cache = sum(
                int(counts.get(f"total_{name}", counts.get(name, 0)))
                for name in ("inactive_file", "active_file")
            )
            free, total = min(free, int(limit) - int(used) + cache), min(total, int(limit))
    return HostMemory(free=max(0, free), total=total)
