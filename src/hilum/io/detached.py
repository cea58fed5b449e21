"""Data files that a detached NRRD or MetaImage header names: one, a list, or a series."""

from __future__ import annotations

import os
import re
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 1 << 20  # bytes of a header; a list names a file for each slice
_FIELD = re.compile(rb"(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*", re.IGNORECASE)
_LIST = re.compile(rb"LIST(?:\s+\S+)?", re.IGNORECASE)
_SERIES = re.compile(rb"([^\s%]*%0?\d{0,3}[du][^\s%]*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(?:\s+\d+)?")
_MOST = 100_000  # files of a series


def data_files(header: Path) -> tuple[Path, ...]:
    """List the files that a header names for its voxels, there or not.

    () where they follow in the file itself.
    """
    with header.open("rb") as stream:
        lines = stream.read(_LONGEST).splitlines()
    for number, line in enumerate(lines):
        if not line.strip() and lines[0].startswith(b"NRRD"):
            break  # voxels follow
        if field := _FIELD.fullmatch(line):
            return tuple(
                header.parent / os.fsdecode(name) for name in _names(field[1], lines[number + 1 :])
            )
    return ()


def _names(value: bytes, below: list[bytes]) -> list[bytes]:
    """Name the files of a field's value, to which the lines below belong where it is a list."""
    if value.upper() == b"LOCAL":
        return []
    if _LIST.fullmatch(value):
        return list(takewhile(bool, (line.strip() for line in below)))
    series = _SERIES.fullmatch(value)
    if series is None:
        return [value]
    first, last, step = (int(number) for number in series.groups()[1:])
    numbers = range(first, last + (1 if step > 0 else -1), step or 1)
    return [series[1] % number for number in numbers[:_MOST]]
