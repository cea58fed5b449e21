"""Voxels in common: Dice, intersection over union, volume error.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

==================  ==========  ===================  ===================
metric              both empty  only the prediction  only the reference
                                is empty             is empty
==================  ==========  ===================  ===================
Dice, IoU           undefined   0                    0
sensitivity         undefined   0                    undefined
precision           undefined   undefined            0
volume error, ml    0           - the reference      + the prediction
relative volume     undefined   -1                   undefined
error
==================  ==========  ===================  ===================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.metrics.masks import check_masks, check_spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.metrics.masks import Mask

_MM3_IN_ML = 1000.0


def ratio(part: float, whole: float) -> float:
    """`part / whole`; NaN (undefined) where the whole is 0."""
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a prediction against a reference, and the ratios made of them.

    Args:
        true_positive: voxels in both.
        false_positive: voxels in the prediction alone.
        false_negative: voxels in the reference alone.
    """

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def referenced(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def dice(self) -> float:
        """2 |P and R| / (|P| + |R|), 0..1; NaN where both are empty."""
        return ratio(2 * self.true_positive, self.predicted + self.referenced)

    @property
    def iou(self) -> float:
        """|P and R| / |P or R|, 0..1; NaN where both are empty."""
        return ratio(self.true_positive, self.predicted + self.false_negative)

    @property
    def sensitivity(self) -> float:
        """|P and R| / |R|, 0..1; NaN where the reference is empty."""
        return ratio(self.true_positive, self.referenced)

    @property
    def precision(self) -> float:
        """|P and R| / |P|, 0..1; NaN where the prediction is empty."""
        return ratio(self.true_positive, self.predicted)


def overlap(prediction: Mask, reference: Mask) -> Overlap:
    """Count the voxels of two boolean masks (Z, Y, X) on one grid.

    Raises:
        UsageError: the arrays are not boolean masks of one shape.
    """
    check_masks(prediction, reference)
    both = int(np.count_nonzero(prediction & reference))
    return Overlap(
        both, int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(reference)) - both
    )


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice similarity coefficient of two masks (Z, Y, X), 0..1.

    NaN where both are empty, 0 where one is.

    Source: Dice, Ecology 26 (1945).
    """
    return overlap(prediction, reference).dice


def iou(prediction: Mask, reference: Mask) -> float:
    """Intersection over union (Jaccard) of two masks (Z, Y, X), 0..1.

    NaN where both are empty, 0 where one is.
    """
    return overlap(prediction, reference).iou


def volume_ml(voxels: int, spacing: Sequence[float]) -> float:
    """Millilitres of a number of voxels; spacing in mm along (Z, Y, X)."""
    return float(voxels * np.prod(check_spacing(spacing)) / _MM3_IN_ML)


def volume_error_ml(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """Signed volume error, prediction minus reference, in ml; 0 where both are empty."""
    counts = overlap(prediction, reference)
    return volume_ml(counts.predicted - counts.referenced, spacing)


def relative_volume_error(prediction: Mask, reference: Mask) -> float:
    """Signed volume error as a fraction of the reference's volume (0.1: 10 % too large).

    NaN where the reference is empty.
    """
    counts = overlap(prediction, reference)
    return ratio(counts.predicted - counts.referenced, counts.referenced)
