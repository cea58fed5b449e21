"""The processor as this process may use it, and what libraries say when memory is not enough.

Without torch.
"""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path

import psutil

_BFLOAT16 = re.compile(r"^(flags|Features)\b.*\b(avx512_bf16|amx_bf16|bf16)\b", re.MULTILINE)
_NO_MEMORY = re.compile(
    r"bad[_ ]alloc|out of memory|not enough memory|cannot allocate memory|(could not|failed to)"
    r" (create|allocate) (a )?memory",
    re.IGNORECASE,
)


def usable_cpus(root: Path = Path("/")) -> int:
    """Count the processors of this process: its affinity and its control group's quota, rounded up.

    Args:
        root: where /proc and /sys lie; only Linux has them, elsewhere all processors count.
    """
    allowed = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else psutil.cpu_count() or 1
    )
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """Processors' time that the groups above this process give it; none where there is no limit."""
    top = root / "sys/fs/cgroup"
    folders = {top}
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = top / line[3:].strip("/")
            folders |= {own, *(parent for parent in own.parents if parent.is_relative_to(top))}
    pairs = [_read(folder / "cpu.max").split() for folder in folders]
    pairs.append(
        [_read(top / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    )  # version 1; -1: no limit
    return [
        int(pair[0]) / int(pair[1])
        for pair in pairs
        if len(pair) == 2 and all(n.isdecimal() for n in pair) and int(pair[1])
    ]


def processor() -> str:
    """Model of the processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def has_bfloat16(root: Path = Path("/")) -> bool:
    """Return whether the processor has instructions for bfloat16 (AVX512-BF16, AMX-BF16, ARM).

    Linux names a processor's instructions; elsewhere this is False.

    Args:
        root: where /proc lies.
    """
    return _BFLOAT16.search(_read(root / "proc/cpuinfo")) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Return True if a library's error states that memory is not enough."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
