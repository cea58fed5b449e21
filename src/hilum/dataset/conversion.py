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
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError, some
from hilum.io import read_labels, read_volume
from hilum.volume import LARGEST_ID

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.volume import LabelTable

    Numbers = NDArray[np.number]

Colour = tuple[int, int, int]

NEARLY_WHOLE = 0.01
"""Numbers this close to a whole one are taken for rounding errors of it."""
_MOST_COLOURS = 256
"""A picture of more colours is blurred, or a photograph."""
_WHITE = 255
_NEAR_WHITE = 64


@dataclass(frozen=True)
class Conversion:
    """Label ids that were made of fractions, probabilities or colours.

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


def _contents_of_others(array: Numbers) -> Contents:
    """Find the colours or labels of an array that is no label map."""
    if is_colour(array):
        colours, _, counts = _colours(array)
        known = len(colours) <= _MOST_COLOURS
        return Contents(colours=dict(zip(colours, counts.tolist(), strict=True)) if known else {})
    labels: Iterable[int] = ()
    if array.shape[0] > 1:
        numbers = _layer_numbers(array)
        labels = () if numbers is None else range(1, int(numbers.max()) + 1)
    elif not np.isfinite(array).all():
        pass
    elif _is_nearly_whole(array):
        labels = (int(value) for value in np.unique(np.rint(array)) if 0 < value <= LARGEST_ID)
    elif array.min() >= -NEARLY_WHOLE and array.max() <= 1 + NEARLY_WHOLE:
        labels = (1,)
    elif _is_blurred_mask(array):
        labels = (_WHITE,)
    return Contents(frozenset(labels))


def convert(array: Numbers, table: LabelTable) -> Conversion | None:
    """Make labels of an array (C, Z, Y, X) that holds none; None where nothing safe does."""
    if is_colour(array):
        return _from_colours(array, table)
    if array.shape[0] > 1:
        return _from_layers(array, table)
    how = rounding_rule(array, table)
    return None if how is None else Conversion("fractional-labels", how, whole(array, table))


def kind_of(array: Numbers) -> str:
    """Return the kind of finding for an array (C, Z, Y, X) that holds no labels."""
    if is_colour(array):
        return "coloured-labels"
    if array.shape[0] > 1:
        return "layered-labels"
    integers = np.isfinite(array).all() and (array == np.rint(array)).all()
    return "unknown-label" if integers else "fractional-labels"


def describe(array: Numbers) -> str:
    """Return an array (C, Z, Y, X) of several channels in words."""
    if is_colour(array):
        colours = _colours(array)[0]
        return f"{len(colours)} colours ({some(map(str, colours))})"
    values = f"of values from {array.min():.4g} to {array.max():.4g}"
    return f"{array.shape[0]} layers that differ, {values}"


def is_colour(array: Numbers) -> bool:
    """Return True if an array (C, Z, Y, X) holds colours: 8-bit RGB, not all 0 or 1."""
    return array.shape[0] == 3 and array.dtype == np.uint8 and int(array.max(initial=0)) > 1


def _colours(array: Numbers) -> tuple[list[Colour], NDArray[np.intp], NDArray[np.intp]]:
    """The colours of (3, Z, Y, X), the place of each voxel's among them, and their counts."""
    red, green, blue = array.astype(np.int32)
    values, places, counts = np.unique(
        red << 16 | green << 8 | blue, return_inverse=True, return_counts=True
    )
    colours = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    return colours, places.reshape(1, *array.shape[1:]), counts


def _from_colours(array: Numbers, table: LabelTable) -> Conversion | None:
    """Give each colour its label by the table's colours; None where one is not among them."""
    known = {label.colour: label.id for label in table.labels if label.colour is not None}
    known.setdefault((0, 0, 0), 0)
    colours, places, _ = _colours(array)
    if not set(colours) <= set(known):
        return None
    ids = np.array([known[colour] for colour in colours], dtype=np.int32)
    told = ", ".join(f"{colour} becomes {known[colour]}" for colour in colours)
    return Conversion("coloured-labels", f"gives each colour its label: {told}", ids[places])


def _layer_numbers(array: Numbers) -> NDArray[np.int32] | None:
    """Return the number of the layer (from 1; 0 for none) that holds each voxel, (1, Z, Y, X).

    None where layers overlap or hold more.

    Layers that add up to one everywhere are those of a softmax: the first is the background, and
    has number 0.
    """
    if not np.isfinite(array).all() or array.min() < -NEARLY_WHOLE:
        return None
    shares = array.dtype.kind == "f" and array.max() <= 1 + NEARLY_WHOLE
    top = 1.0 if shares else float(array.max())
    if top == 0 or not (shares or np.isin(array, (0, top)).all()):
        return None
    if np.allclose(array.sum(axis=0, dtype=np.float64), top, atol=NEARLY_WHOLE):
        return np.asarray(array.argmax(axis=0)[np.newaxis], dtype=np.int32)
    inside = array >= top / 2
    if int(inside.sum(axis=0).max()) > 1:
        return None
    return np.where(inside.any(axis=0), inside.argmax(axis=0) + 1, 0)[np.newaxis].astype(np.int32)


def foreground_of(array: Numbers) -> NDArray[np.uint8]:
    """Mask (1, Z, Y, X) where a channel of (C, Z, Y, X) reaches half the largest number."""
    values = np.nan_to_num(array)
    inside = np.asarray((values > 0) & (values >= values.max() / 2))
    return np.asarray(inside.any(axis=0, keepdims=True), dtype=np.uint8)


def _from_layers(array: Numbers, table: LabelTable) -> Conversion | None:
    """Give each layer of one image its label; None where layers and labels do not match."""
    numbers, layers = _layer_numbers(array), array.shape[0]
    background = layers - len(table.foreground)  # one more layer than labels: the first is it
    if numbers is None or background not in {0, 1} or int(numbers.max()) > len(table.foreground):
        return None
    ids = np.array(table.ids, dtype=np.int32)
    told = ", ".join(
        f"layer {number} becomes {label.id} ({label.name})"
        for number, label in enumerate(table.foreground, start=1 + background)
    )
    return Conversion("layered-labels", f"gives each layer its label: {told}", ids[numbers])


def _is_nearly_whole(array: Numbers) -> bool:
    return float(np.abs(array - np.rint(array)).max()) <= NEARLY_WHOLE


def rounding_rule(array: Numbers, table: LabelTable) -> str | None:
    """Describe the rule that makes labels of fractional numbers without inventing any.

    None where none is safe.

    Numbers within `NEARLY_WHOLE` of a whole one are rounded. A single label, interpolated between
    the background's 0 and its own id, is cut at half its id. Between several labels, interpolation
    goes through ids of other labels, and nothing can be told.
    """
    if array.shape[0] != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    if _is_nearly_whole(array) and float(np.abs(array).max()) <= LARGEST_ID:
        return "rounds the nearly whole numbers"
    return cutting_rule(array, table)


def cutting_rule(array: Numbers, table: LabelTable) -> str | None:
    """Cut numbers between 0 and the id of the only label at half of it.

    None where there are several labels or other numbers.
    """
    if len(table.foreground) != 1 or table.ignore is not None:
        return None
    only = table.foreground[0].id
    if array.min() < -NEARLY_WHOLE or array.max() > only + NEARLY_WHOLE:
        return None
    return f"gives label {only} to values of at least {only / 2:g}"


def whole(array: Numbers, table: LabelTable, *, cut: bool = False) -> NDArray[np.int32]:
    """Labels of fractional numbers, as `rounding_rule` says; with `cut`, as `cutting_rule` says."""
    if not cut and _is_nearly_whole(array):
        return np.asarray(np.rint(array), dtype=np.int32)
    only = table.foreground[0].id
    return np.where(array >= only / 2, only, 0).astype(np.int32)


def is_jpeg(path: Path) -> bool:
    """Return True if the file's name stands for a compression that changes numbers."""
    return path.suffix.lower() in {".jpg", ".jpeg"}


def is_blurred(path: Path, array: Numbers, table: LabelTable) -> bool:
    """Return True if JPEG or interpolation changed the numbers and a cut restores the label."""
    if cutting_rule(array, table) is None or set(np.unique(array).tolist()) <= set(table.ids):
        return False
    return is_jpeg(path) or (table.ids == (0, _WHITE) and _is_blurred_mask(array))


def _is_blurred_mask(array: Numbers) -> bool:
    """Return True for numbers of a blurred black and white mask: most near 0 or 255."""
    if array.min() < -NEARLY_WHOLE or array.max() > _WHITE + NEARLY_WHOLE:
        return False
    white = np.count_nonzero(array >= _WHITE - _NEAR_WHITE)
    grey = np.count_nonzero(array > _NEAR_WHITE) - white
    return bool(grey < white)


def background_of(colours: Counter[Colour]) -> Colour:
    """The colour of what is not annotated: black where there is any, else the most frequent one."""
    return (0, 0, 0) if (0, 0, 0) in colours else colours.most_common(1)[0][0]
