"""The processor as this process may use it, and what libraries say when memory is not enough.

Without torch.
"""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_BFLOAT16 = re.compile(r"^(flags|Features)\b.*\b(avx512_bf16|amx_bf16|bf16)\b", re.MULTILINE)
_NO_MEMORY = re.compile(
    r"bad[_ ]alloc|out of memory|not enough memory|cannot allocate memory|(could not|failed to)"
    r" (create|allocate) (a )?memory",
    re.IGNORECASE,
)


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders of this process's control groups, its own first, then those above it.

    In a container the path of the group may be the machine's, and only the top is there.

    Args:
        controller: "cpu" or "memory": each version 1 group has one.
        root: where /proc and /sys lie; only Linux has groups.
    """
    for line in read_kernel_file(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if names else "")
        group = top / path.strip("/")
        yield from (group, *(parent for parent in group.parents if parent.is_relative_to(top)))


def usable_cpus(root: Path = Path("/")) -> int:
    """Count the processors of this process: its affinity and its control group's quota, rounded up.

    Args:
        root: where /proc and /sys lie; only Linux has them, elsewhere all processors count.
    """
    count = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else psutil.cpu_count() or 1
    )
    for folder in control_groups("cpu", root):
        pair = read_kernel_file(folder / "cpu.max").split() or [
            read_kernel_file(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]  # -1 or "max": no limit
        if all(n.isdecimal() and int(n) for n in pair):
            count = min(count, math.ceil(int(pair[0]) / int(pair[1])))
    return max(1, count)


def processor() -> str:
    """Model of the processor."""
    found = re.search(
        r"^model name\s*:\s*(.+)$", read_kernel_file(Path("/proc/cpuinfo")), re.MULTILINE
    )
    return found[1].strip() if found else platform.processor() or platform.machine()


def has_bfloat16(root: Path = Path("/")) -> bool:
    """Return whether the processor has instructions for bfloat16 (AVX512-BF16, AMX-BF16, ARM).

    Linux names a processor's instructions; elsewhere this is False.

    Args:
        root: where /proc lies.
    """
    return _BFLOAT16.search(read_kernel_file(root / "proc/cpuinfo")) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Return True if a library's error states that memory is not enough."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def read_kernel_file(path: Path) -> str:
    """Read a file of the kernel; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
