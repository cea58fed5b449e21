"""Compact label ids: memory depends on the number of labels, not on their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Box3 = tuple[slice, slice, slice]

_NEAR = 2**16
"""Ids that are no further apart are looked up in a table of their whole range, which is faster than
a search."""


def places_of(
    labels: NDArray[np.generic], ids: Sequence[int] | NDArray[np.generic]
) -> NDArray[np.int32]:
    """Find the place of each label in `ids`, -1 where it is not among them.

    Args:
        labels: integers, of any shape.
        ids: in rising order, at least one.
    """
    known = np.asarray(ids, dtype=np.int64)
    low, high = int(known[0]), int(known[-1])
    if high - low > _NEAR:
        found = np.minimum(np.searchsorted(known, labels), len(known) - 1).astype(np.int32)
        found[known[found] != labels] = -1
        return found
    # with a place for what is lower, and one for what is higher
    table = np.full(high - low + 3, -1, dtype=np.int32)
    table[known - low + 1] = np.arange(len(known))
    return table[np.clip(labels.astype(np.int64), low - 1, high + 1) - low + 1]


def label_boxes(labels: NDArray[np.integer]) -> dict[int, Box3]:
    """Find the box of every label above 0, of integers (Z, Y, X)."""
    from scipy import ndimage

    if labels.max(initial=0) <= _NEAR:
        ids, boxes = np.arange(1, _NEAR + 1), ndimage.find_objects(labels)
    else:
        ids = np.unique(labels[labels > 0])
        boxes = ndimage.find_objects(places_of(labels, ids) + 1)
    return {int(i): (box[0], box[1], box[2]) for i, box in zip(ids, boxes, strict=False) if box}
