"""The named segments of 3D Slicer in NRRD files (.seg.nrrd), and label maps of their layers.

A voxel of a segmentation with overlapping segments has several layers, and each layer its own
numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError, readable
from hilum.io.record import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_KEY = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


def segments_of(fields: Mapping[str, str]) -> tuple[Segment, ...]:
    """Read the segments from the fields of a header, in the file's order; () where there are none.

    Where several layers use one number, the segments are numbered from 1 in the file's order.
    """
    found: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        match = _KEY.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value.strip()
    known = [
        (readable(one["Name"]), int(one["LabelValue"]), int(one.get("Layer", "0")))
        for _, one in sorted(found.items())
        if one.get("Name")
        and one.get("LabelValue", "").isdecimal()
        and one.get("Layer", "0").isdecimal()
    ]
    twice = max(Counter(value for _, value, _ in known).values(), default=0) > 1
    return tuple(
        Segment(name, number if twice else value, value, layer)
        for number, (name, value, layer) in enumerate(known, start=1)
    )


def merged(
    array: NDArray[np.generic], segments: tuple[Segment, ...], source: str
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Make one label map (1, Z, Y, X) of layers (L, Z, Y, X).

    The later of overlapping segments counts, as in Slicer.

    Returns:
        The label map, and a note for each pair of segments that overlap.

    Raises:
        LabelError: a layer that a segment names is not there, or holds numbers that no segment
            names.
    """
    labels = np.zeros((1, *array.shape[1:]), dtype=np.int32)
    named = np.zeros(array.shape, dtype=bool)
    notes: dict[str, None] = {}
    for place, segment in enumerate(segments):
        if segment.layer >= len(array):
            raise LabelError(
                f"{source}: segment {segment.name} lies in layer {segment.layer}, the file has"
                f" {len(array)}",
                needed="a layer for each segment",
                cure="save the segmentation again",
            )
        inside = array[segment.layer] == segment.stored
        named[segment.layer] |= inside
        for other in segments[:place]:
            if (
                other.layer != segment.layer
                and ((array[other.layer] == other.stored) & inside).any()
            ):
                notes[
                    f"segments {other.name} and {segment.name} overlap; {segment.name}, the later"
                    " one, counts there"
                ] = None
        labels[0][inside] = segment.value
    if ((array != 0) & ~named).any():
        raise LabelError(
            f"{source}: layers with numbers that no segment names",
            needed="a segment for each number",
            cure="save the segmentation again",
        )
    return labels, tuple(notes)
