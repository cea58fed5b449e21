"""Headers of NRRD and MetaImage: fields that ITK fills in or mends silently, and data files.

A detached header names its data: one file, a list, or a series.
"""

from __future__ import annotations

import os
import re
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 1 << 16  # bytes of a header that are looked at
_END = re.compile(r"\r?\n\r?\n|ElementDataFile", re.IGNORECASE)
_FIELD = re.compile(r"^([A-Za-z ]+?)\s*(?:=|:(?!=))\s*(.*?)\s*$", re.MULTILINE)
_VECTOR = re.compile(r"none|\([^)]*\)")
_NO_SPACE = {"none", "list", "vector", "point", "normal", "scalar", "stub", "complex", "time"}
"""Kinds of NRRD's axes that do not lie in space."""
_MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3}
_MM_PER_UNIT |= {"nm": 1e-6}
_NO_SPACING = "no spacing is stored; 1 mm is assumed"
_NO_ORIGIN = "no origin is stored; 0 is assumed"
_LONGEST_LIST = 1 << 20  # bytes of a header; a list names a file for each slice
_DATA_FILE = re.compile(rb"(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*", re.IGNORECASE)
_LIST = re.compile(rb"LIST(?:\s+\S+)?", re.IGNORECASE)
_SERIES = re.compile(rb"([^\s%]*%0?\d{0,3}[du][^\s%]*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(?:\s+\d+)?")
_MOST = 100_000  # files of a series


def grid_notes(path: Path) -> tuple[float, tuple[str, ...]]:
    """Find what a header of ITK lacks, so that ITK fills it in.

    Returns:
        Millimetres of the unit in which lengths are stored, and one note for each thing that is
        missing or mended.
    """
    with path.open("rb") as stream:
        text = stream.read(_LONGEST).decode("latin-1")
    end = _END.search(text)
    fields = {
        name.lower(): value for name, value in _FIELD.findall(text[: end.start()] if end else text)
    }
    return _nrrd(fields) if text.startswith("NRRD") else (1.0, tuple(_meta(fields)))


def _numbers(text: str) -> list[float]:
    """Read all numbers of a text; words become NaN."""
    found = []
    for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            found.append(float("nan"))
    return found


def _meta(fields: dict[str, str]) -> list[str]:
    """List what a MetaImage header lacks."""
    notes = []
    spacing = _numbers(fields.get("elementspacing", ""))
    if not spacing:
        size = fields.get("elementsize")
        notes.append(
            f"no spacing is stored; the size of a voxel, {size}, is taken" if size else _NO_SPACING
        )
    if any(value < 0 for value in spacing):
        notes.append(f"the spacing {fields['elementspacing']} has a sign; the axis is turned round")

    def first(*names: str) -> str:
        return next((fields[name] for name in names if name in fields), "")

    origin = first("offset", "position", "origin")
    if not origin:
        notes.append(_NO_ORIGIN)
    elif not np.isfinite(_numbers(origin)).all():
        notes.append(f"the origin is {origin}; ITK takes 0 for what is no number")
    matrix = _numbers(first("transformmatrix", "rotation", "orientation"))
    side = round(len(matrix) ** 0.5)
    if not matrix:
        notes.append("no directions are stored; axes to Left, Posterior and Superior are assumed")
    elif side * side == len(matrix):
        lengths = np.linalg.norm(np.reshape(matrix, (side, side)), axis=1)
        if (np.abs(lengths - 1) > 1e-3).any():
            notes.append(
                f"the directions have lengths of {', '.join(f'{v:.4g}' for v in lengths)}; they"
                " multiply the spacing"
            )
    return notes


def _nrrd(fields: dict[str, str]) -> tuple[float, tuple[str, ...]]:
    """Find the unit of an NRRD header, and list what it lacks."""
    notes = []
    kinds = fields.get("kinds", "").lower().split()
    vectors = _VECTOR.findall(fields.get("space directions", ""))
    spacings = [f"{value:g}" for value in _numbers(fields.get("spacings", ""))]
    spatial = [
        n for n, kind in enumerate(kinds) if kind.strip("?") not in _NO_SPACE and "-" not in kind
    ]
    steps = [step for n, step in enumerate(vectors or spacings) if not kinds or n in spatial]
    if not kinds and len(steps) > 3:  # a first axis without direction holds the channels
        steps = steps[1:] if steps[0] in {"none", "nan"} else steps[:3]
    if not steps:
        notes.append(_NO_SPACING)
    elif any(step == "none" or "nan" in step for step in steps):
        notes.append(f"an axis without spacing ({', '.join(steps)}); 1 mm is assumed for it")
    if not vectors and any(step.startswith("-") for step in steps):
        notes.append(f"the spacing {' '.join(steps)} has a sign; the axis is turned round")
    if vectors and "space origin" not in fields:
        notes.append(_NO_ORIGIN)
    unit = next(iter(re.findall(r'"([^"]*)"', fields.get("space units", ""))), "mm")
    factor = _MM_PER_UNIT.get(unit, 1.0)
    if unit not in {"mm", ""}:
        known = unit in _MM_PER_UNIT
        mending = "they were converted to millimetres" if known else "millimetres are assumed"
        notes.append(f"lengths are stored in {unit}; {mending}")
    return factor, tuple(notes)


def data_files(header: Path) -> tuple[Path, ...]:
    """List the files that a header names for its voxels, there or not.

    () where they follow in the file itself.
    """
    with header.open("rb") as stream:
        lines = stream.read(_LONGEST_LIST).splitlines()
    for number, line in enumerate(lines):
        if not line.strip() and lines[0].startswith(b"NRRD"):
            break  # voxels follow
        if field := _DATA_FILE.fullmatch(line):
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
