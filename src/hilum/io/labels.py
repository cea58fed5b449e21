"""From stored numbers to labels: integers in the smallest dtype, or a clear error.

Also the named segments of 3D Slicer in NRRD files (.seg.nrrd): a voxel of overlapping segments has
several layers, and each layer its own numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError, readable, some
from hilum.files.record import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hilum.volume import Volume

_DTYPES = (np.uint8, np.int16, np.int32)
_KEY = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


def as_labels(volume: Volume, source: str) -> Volume:
    """Convert labels to the smallest of uint8, int16 and int32 that holds them.

    Args:
        volume: one channel; or several equal ones, as in a grey picture that was stored as RGB.
        source: what to call it in an error.

    Returns:
        A volume of one channel.

    Raises:
        LabelError: channels that differ, fractional numbers, NaN, or numbers beyond 32 bits.
    """
    array = volume.array
    if volume.channels > 1:
        if not all(np.array_equal(array[0], channel) for channel in array[1:]):
            raise LabelError(
                f"{source} has {volume.channels} channels that differ",
                needed="labels in one channel",
                cure=(
                    "store one integer for each voxel (for coloured masks: replace each colour by"
                    " its label)"
                ),
            )
        array = array[:1]
    return volume.with_array(minimal_integers(array, source))


def minimal_integers(array: NDArray[np.generic], source: str) -> NDArray[np.generic]:
    """Convert an array to the smallest of uint8, int16 and int32 that holds all its values.

    Not copied where it already has that dtype.

    Raises:
        LabelError: fractional numbers, NaN, or numbers beyond 32 bits.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        _refuse_fractions(array, source)
    low, high = array.min(initial=0), array.max(initial=0)
    for dtype in _DTYPES:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return array.astype(dtype, copy=False)
    raise LabelError(
        f"{source} has labels from {low} to {high}",
        needed="labels of at most 32 bits",
        cure="number the labels anew, from 0",
    )


def _refuse_fractions(array: NDArray[np.generic], source: str) -> None:
    """Raise where real numbers are not all whole."""
    with np.errstate(invalid="ignore"):
        wrong = array != np.rint(array)  # NaN differs from itself
    wrong |= np.isinf(array)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise LabelError(
            f"{source}: {int(wrong.sum())} voxels hold no whole number, the first"
            f" {array[index]:.6g} at (z, y, x) = {index[-3:]}",
            needed="an integer label in every voxel",
            cure=(
                'write 0 for NaN (or the number of "ignore" in dataset.json, where nobody looked)'
                if np.isnan(array[index])
                else (
                    "threshold probabilities, resample labels by nearest neighbour, round numbers"
                    " that are nearly whole"
                )
            ),
        )


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


def merge_layers(
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
        unknown = np.unique(array[(array != 0) & ~named]).tolist()
        raise LabelError(
            f"{source}: the numbers {some(map(str, unknown))} belong to no segment of the header",
            needed="a segment for each number",
            cure="open it in 3D Slicer and save it again as .seg.nrrd",
        )
    return labels, tuple(notes)
