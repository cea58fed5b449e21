"""Conversion of stored numbers to labels, where that is safe.

| in the file | becomes |
|---|---|
| one channel within 0.01 of whole numbers | the nearest whole numbers |
| one channel between 0 and the id of the only label (interpolated masks) | it from half its id |
| colours (three channels of 8 bits) | for each colour the label that has it in the label table |
| layers that never overlap, of 0 and one other value or of probabilities | a label a layer |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.layouts.listing import some
from hilum.errors import LabelError
from hilum.io import read_labels, read_volume
from hilum.volume import LARGEST_ID

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.volume import LabelTable

Colour = tuple[int, int, int]

NEARLY_WHOLE = 0.01
"""Numbers this close to a whole one are taken for rounding errors of it."""
_MOST_COLOURS = 256
"""A picture of more colours is blurred, or a photograph."""
_WHITE = 255
_NEAR_WHITE = 64


@dataclass(frozen=True)
class Conversion:
    """Labels made of other numbers.

    Args:
        kind: the finding that this mends, a key of the doctor's `KINDS`.
        how: what it does, to follow "--fix": "rounds the nearly whole numbers".
        array: label ids (1, Z, Y, X).
    """

    kind: str
    how: str
    array: NDArray[np.int32]


@dataclass(frozen=True)
class Contents:
    """Labels or colours that an annotation file holds.

    Args:
        labels: label ids other than 0.
        colours: voxels of each colour.
    """

    labels: frozenset[int] = frozenset()
    colours: Mapping[Colour, int] = field(default_factory=dict)


def contents_of(path: Path) -> Contents:
    """Say which labels an annotation holds where no label table names them.

    Nothing where its numbers cannot become labels.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        array = read_labels(path).array
    except LabelError:
        return _contents_of_others(read_volume(path).array)
    values = frozenset(int(value) for value in np.unique(array) if value > 0)
    if len(values) > 1 and array.shape[1] == 1 and _is_blurred_mask(array):
        return Contents(frozenset({_WHITE}))
    return Contents() if len(values) > 1 and is_jpeg(path) else Contents(values)


def _contents_of_others(array: NDArray[Any]) -> Contents:
    if is_colour(array):
        values, counts = np.unique(_packed(array), return_counts=True)
        colours = {_unpacked(int(value)): int(n) for value, n in zip(values, counts, strict=True)}
        return Contents(colours=colours if len(colours) <= _MOST_COLOURS else {})
    if array.shape[0] > 1:
        numbers = _layer_numbers(array)
        return (
            Contents() if numbers is None else Contents(frozenset(range(1, int(numbers.max()) + 1)))
        )
    if not np.isfinite(array).all():
        return Contents()
    rounded = np.rint(array)
    if float(np.abs(array - rounded).max()) <= NEARLY_WHOLE:
        return Contents(
            frozenset(int(value) for value in np.unique(rounded) if 0 < value <= LARGEST_ID)
        )
    if array.min() >= -NEARLY_WHOLE and array.max() <= 1 + NEARLY_WHOLE:
        return Contents(frozenset({1}))
    return Contents(frozenset({_WHITE})) if _is_blurred_mask(array) else Contents()


def convert(array: NDArray[Any], table: LabelTable) -> Conversion | None:
    """Make labels of an array (C, Z, Y, X) that holds none; None where nothing safe does."""
    if is_colour(array):
        return _from_colours(array, table)
    if array.shape[0] > 1:
        return _from_layers(array, table)
    how = rounding_rule(array, table)
    return None if how is None else Conversion("fractional-labels", how, whole(array, table))


def kind_of(array: NDArray[Any]) -> str:
    """The kind of finding for an array (C, Z, Y, X) that holds no labels."""
    if is_colour(array):
        return "coloured-labels"
    if array.shape[0] > 1:
        return "layered-labels"
    is_whole = array.dtype.kind != "f" or bool(
        (np.isfinite(array) & (array == np.rint(array))).all()
    )
    return "unknown-label" if is_whole else "fractional-labels"


def describe(array: NDArray[Any]) -> str:
    """An array (C, Z, Y, X) of several channels in words."""
    if is_colour(array):
        colours = [_unpacked(int(value)) for value in np.unique(_packed(array))]
        return f"{len(colours)} colours ({some(map(str, colours))})"
    return (
        f"{array.shape[0]} layers that differ, of values from {array.min():.4g} to"
        f" {array.max():.4g}"
    )


def is_colour(array: NDArray[Any]) -> bool:
    """Return True if an array (C, Z, Y, X) holds colours: 8-bit RGB, not all 0 or 1."""
    return array.shape[0] == 3 and array.dtype == np.uint8 and int(array.max(initial=0)) > 1


def _packed(array: NDArray[Any]) -> NDArray[np.int32]:
    red, green, blue = array.astype(np.int32)
    return np.asarray(red << 16 | green << 8 | blue)


def _unpacked(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _from_colours(array: NDArray[Any], table: LabelTable) -> Conversion | None:
    known = {label.colour: label.id for label in table.labels if label.colour is not None}
    known.setdefault((0, 0, 0), 0)
    packed = _packed(array)
    values, places = np.unique(packed, return_inverse=True)
    colours = [_unpacked(int(value)) for value in values]
    if not set(colours) <= set(known):
        return None
    ids = np.array([known[colour] for colour in colours], dtype=np.int32)
    told = ", ".join(f"{colour} becomes {known[colour]}" for colour in colours)
    return Conversion(
        "coloured-labels",
        f"gives each colour its label: {told}",
        ids[places].reshape(1, *packed.shape),
    )


def _layer_numbers(array: NDArray[Any]) -> NDArray[np.int32] | None:
    """The number of the layer (from 1; 0 for none) that holds each voxel, (1, Z, Y, X).

    None where layers overlap or hold more.

    Layers that add up to one everywhere are those of a softmax: the first is the background, and
    has number 0.
    """
    if not np.isfinite(array).all() or array.min() < -NEARLY_WHOLE:
        return None
    top = 1.0 if array.dtype.kind == "f" and array.max() <= 1 + NEARLY_WHOLE else float(array.max())
    binary = np.isin(array, (0, top)).all()
    if top == 0 or not (binary or (top == 1.0 and array.dtype.kind == "f")):
        return None
    if np.allclose(array.sum(axis=0, dtype=np.float64), top, atol=NEARLY_WHOLE):
        return np.asarray(array.argmax(axis=0)[np.newaxis], dtype=np.int32)
    inside = array >= top / 2
    if int(inside.sum(axis=0).max()) > 1:
        return None
    return np.where(inside.any(axis=0), inside.argmax(axis=0) + 1, 0)[np.newaxis].astype(np.int32)


def foreground_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Mask (1, Z, Y, X) where a channel of (C, Z, Y, X) reaches half the largest number."""
    values = np.nan_to_num(array)
    inside = np.asarray((values > 0) & (values >= values.max() / 2))
    return np.asarray(inside.any(axis=0, keepdims=True), dtype=np.uint8)


def _from_layers(array: NDArray[Any], table: LabelTable) -> Conversion | None:
    numbers = _layer_numbers(array)
    layers = array.shape[0]
    if (
        numbers is None
        or len(table.foreground) not in {layers, layers - 1}
        or int(numbers.max()) > len(table.foreground)
    ):
        return None
    ids = np.array(table.ids, dtype=np.int32)
    told = ", ".join(
        f"layer {number} becomes {label.id} ({label.name})"
        for number, label in _layers_of(layers, table)
    )
    return Conversion("layered-labels", f"gives each layer its label: {told}", ids[numbers])


def _layers_of(layers: int, table: LabelTable) -> list[tuple[int, Any]]:
    """Layers, from 1, with their labels.

    One more layer than labels means that the first is the background.
    """
    first = 1 if len(table.foreground) == layers else 2
    return list(enumerate(table.foreground, start=first))


def rounding_rule(array: NDArray[Any], table: LabelTable) -> str | None:
    """Describe the rule that makes labels of fractional numbers without inventing any.

    None where none is safe.

    Numbers within `NEARLY_WHOLE` of a whole one are rounded. A single label, interpolated between
    the background's 0 and its own id, is cut at half its id. Between several labels, interpolation
    goes through ids of other labels, and nothing can be told.
    """
    if array.shape[0] != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    if (
        float(np.abs(array - np.rint(array)).max()) <= NEARLY_WHOLE
        and float(np.abs(array).max()) <= LARGEST_ID
    ):
        return "rounds the nearly whole numbers"
    return cutting_rule(array, table)


def cutting_rule(array: NDArray[Any], table: LabelTable) -> str | None:
    """Cut numbers between 0 and the id of the only label at half of it.

    None where there are several labels or other numbers.
    """
    only = table.foreground[0].id if len(table.foreground) == 1 else None
    if (
        only is not None
        and table.ignore is None
        and array.min() >= -NEARLY_WHOLE
        and array.max() <= only + NEARLY_WHOLE
    ):
        return f"gives label {only} to values of at least {only / 2:g}"
    return None


def whole(array: NDArray[Any], table: LabelTable, *, cut: bool = False) -> NDArray[np.int32]:
    """Labels of fractional numbers, as `rounding_rule` says; with `cut`, as `cutting_rule` says."""
    rounded = np.rint(array)
    if not cut and float(np.abs(array - rounded).max()) <= NEARLY_WHOLE:
        return np.asarray(rounded, dtype=np.int32)
    only = table.foreground[0].id
    return np.where(array >= only / 2, only, 0).astype(np.int32)


def is_jpeg(path: Path) -> bool:
    """Return True if the file's name stands for a compression that changes numbers."""
    return path.suffix.lower() in {".jpg", ".jpeg"}


def is_blurred(path: Path, array: NDArray[Any], table: LabelTable) -> bool:
    """Return True if JPEG or interpolation changed the numbers and a cut restores the label."""
    if cutting_rule(array, table) is None or set(np.unique(array).tolist()) <= set(table.ids):
        return False
    return is_jpeg(path) or (table.ids == (0, _WHITE) and _is_blurred_mask(array))


def _is_blurred_mask(array: NDArray[Any]) -> bool:
    """Return True for numbers of a blurred black and white mask: most near 0 or 255."""
    if array.min() < -NEARLY_WHOLE or array.max() > _WHITE + NEARLY_WHOLE:
        return False
    white = np.count_nonzero(array >= _WHITE - _NEAR_WHITE)
    grey = np.count_nonzero(array > _NEAR_WHITE) - white
    return bool(grey < white)


def background_of(colours: Counter[Colour]) -> Colour:
    """The colour of what is not annotated: black where there is any, else the most frequent one."""
    return (0, 0, 0) if (0, 0, 0) in colours else colours.most_common(1)[0][0]
