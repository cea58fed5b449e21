"""How much memory this process may still take: the machine's, or its container's where that is less."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class HostMemory:
    """Bytes that this process may still take, and how many there are in all."""

    free: int
    total: int


def host_memory(root: Path = Path("/")) -> HostMemory:
    """Memory outside the accelerators, of the machine or of the control group that this process is in, whichever is less.

    A container, a batch job or a systemd unit is killed at its group's limit, however much the machine has free. What the group's
    files take in the page cache counts as free, as it does for the machine.

    Args:
        root: where /proc and /sys lie; only Linux has groups, elsewhere the machine alone counts.
    """
    machine = psutil.virtual_memory()
    groups = list(_groups(root))
    return HostMemory(
        free=max(0, min([machine.available, *(group.free for group in groups)])),
        total=min([machine.total, *(group.total for group in groups)]),
    )


@dataclass(frozen=True)
class _Files:
    """What a version of control groups calls limit, use, and the parts of the page cache."""

    limit: str
    used: str
    cache: tuple[str, str]


_VERSIONS = {
    "cgroup2": _Files("memory.max", "memory.current", ("inactive_file", "active_file")),
    "cgroup": _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}


def _groups(root: Path) -> Iterator[HostMemory]:
    """Every limited group above this process, its own first."""
    paths = _paths_of_groups(root)
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3 or kind[0] not in paths:
            continue
        if kind[0] == "cgroup" and "memory" not in kind[2].split(","):
            continue  # each mount of version 1 holds other controllers
        top = root / mount[4].lstrip("/")
        for folder in _upwards(top, paths[kind[0]], mounted=mount[3]):
            group = _limited(folder, _VERSIONS[kind[0]])
            if group is not None:
                yield group


def _paths_of_groups(root: Path) -> dict[str, str]:
    """Where in its hierarchy the group lies that counts this process's memory, by version."""
    paths = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    return paths


def _upwards(top: Path, path: str, *, mounted: str) -> list[Path]:
    """The group's folder and those above it; in a container the mount begins at the container's own group."""
    inside = Path(path).relative_to(mounted) if Path(path).is_relative_to(mounted) else Path()
    return [top / inside, *(top / parent for parent in inside.parents)]


def _limited(folder: Path, files: _Files) -> HostMemory | None:
    """A group's memory; None where it has no limit."""
    limit, used = _read(folder / files.limit).strip(), _read(folder / files.used).strip()
    if not limit.isdecimal() or not used.isdecimal():  # "max", or no such group here
        return None
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    cache = sum(int(line[1]) for line in lines if len(line) == 2 and line[0] in files.cache)
    return HostMemory(free=int(limit) - int(used) + cache, total=int(limit))


def _read(path: Path) -> str:
    """A file of the kernel; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
