"""Lesion by lesion: how many were found, how many of the findings are real.

A lesion is a 26-connected component. It is found when at least `min_overlap` of its voxels are
predicted; a predicted component is real when at least `min_overlap` of its voxels lie in the
reference. Both are shares of the component's own size, so one finding may cover several lesions,
but one that floods the organ finds all of them at the price of its own precision.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

=========  ==========  ===================  ===================
metric     both empty  only the prediction  only the reference
                       is empty             is empty
=========  ==========  ===================  ===================
recall     undefined   0                    undefined
precision  undefined   undefined            0
F1         undefined   0                    0
=========  ==========  ===================  ===================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.instances import object_overlaps
from hilum.metrics.masks import bounding_box, check_masks
from hilum.metrics.overlap import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.metrics.instances import Overlaps
    from hilum.metrics.masks import Mask


@dataclass(frozen=True)
class Lesions:
    """Counts of lesions, and the ratios made of them.

    Args:
        reference: lesions of the reference.
        found: those of them that were found.
        predicted: components of the prediction.
        real: those of them that lie on a lesion.
    """

    reference: int
    found: int
    predicted: int
    real: int

    @property
    def recall(self) -> float:
        """Share of the reference's lesions that were found; NaN where there are none."""
        return ratio(self.found, self.reference)

    @property
    def precision(self) -> float:
        """Share of the predicted components that are real; NaN where there are none."""
        return ratio(self.real, self.predicted)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision.

        NaN where neither side has a lesion, 0 where one side has none.
        """
        if not self.reference and not self.predicted:
            return math.nan
        if not self.found or not self.real:
            return 0.0
        return 2 * self.recall * self.precision / (self.recall + self.precision)


def lesions(prediction: Mask, reference: Mask, *, min_overlap: float = 0.1) -> Lesions:
    """Match the 26-connected components of two masks (Z, Y, X).

    Args:
        prediction: mask (Z, Y, X).
        reference: mask (Z, Y, X).
        min_overlap: share of a component that must be covered for it to count; above 0, at most 1.

    Raises:
        UsageError: the arrays are not boolean masks of one shape, or the share is out of range.
    """
    check_masks(prediction, reference)
    box = bounding_box(prediction, reference)
    if box is None:
        box = (slice(0, 1),) * 3
    objects = (components(mask[box])[0] for mask in (prediction, reference))
    return count_lesions(object_overlaps(*objects), min_overlap=min_overlap)


def count_lesions(overlaps: Overlaps, *, min_overlap: float = 0.1) -> Lesions:
    """Count the objects of which at least the share `min_overlap` lies in any of the other side.

    Raises:
        UsageError: the share is out of range.
    """
    if not 0 < min_overlap <= 1:
        raise UsageError(f"min_overlap is {min_overlap}", needed="a share above 0 and at most 1")
    counts = []
    for sizes, which in (
        (overlaps.referenced, overlaps.reference),
        (overlaps.predicted, overlaps.prediction),
    ):
        hits = np.bincount(which, weights=overlaps.common, minlength=len(sizes))
        counts += [len(sizes), int(np.count_nonzero(hits >= min_overlap * sizes - 1e-9))]
    return Lesions(*counts)


def components(mask: Mask) -> tuple[NDArray[np.integer], int]:
    """Number the 26-connected components of a mask (Z, Y, X) from 1, and count them.

    A margin of one voxel is added, as cc3d 4.1 reserves one label too few for scattered voxels on
    grids of odd size ("maximum length exception").
    """
    import cc3d

    numbered, count = cc3d.connected_components(np.pad(mask, 1), connectivity=26, return_N=True)
    return numbered[1:-1, 1:-1, 1:-1], int(count)
