"""Panoptic quality: objects matched one to one by their intersection over union.

Segmentation quality is the mean IoU of the matched objects, recognition quality their F1, and
panoptic quality the product of both.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

=======================  ==========  =========  =================
metric                   no objects  one side   objects, no match
                                     has none
=======================  ==========  =========  =================
panoptic quality,        undefined   0          0
recognition quality
segmentation quality     undefined   undefined  undefined
=======================  ==========  =========  =================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.overlap import ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.integer]


@dataclass(frozen=True)
class Matches:
    """Objects of a prediction and a reference that were matched, and the ratios made of them.

    Args:
        matched: pairs of objects.
        predicted: objects of the prediction.
        referenced: objects of the reference.
        iou_sum: sum of the pairs' IoU.
    """

    matched: int
    predicted: int
    referenced: int
    iou_sum: float

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the pairs, 0..1; NaN where there is no pair."""
        return ratio(self.iou_sum, self.matched)

    @property
    def rq(self) -> float:
        """Recognition quality: F1 of the objects, 0..1; NaN where there are none."""
        return ratio(2 * self.matched, self.predicted + self.referenced)

    @property
    def pq(self) -> float:
        """Panoptic quality, 0..1: segmentation quality times recognition quality.

        NaN where there are no objects, 0 where none is matched.
        """
        return ratio(2 * self.iou_sum, self.predicted + self.referenced)


@dataclass(frozen=True)
class Overlaps:
    """Voxels that each object of a prediction shares with each of a reference.

    Args:
        predicted: (P,) voxels of each object of the prediction.
        referenced: (R,) voxels of each object of the reference.
        prediction: (N,) which object of the prediction, from 0, of each pair that share voxels.
        reference: (N,) which of the reference.
        common: (N,) voxels that they share.
    """

    predicted: Ids
    referenced: Ids
    prediction: Ids
    reference: Ids
    common: Ids


def object_overlaps(prediction: Ids, reference: Ids) -> Overlaps:
    """Count what the objects of two maps (Z, Y, X) share; 0 is background.

    Raises:
        UsageError: not integers of 0 and more of one shape.
    """
    if prediction.shape != reference.shape or not all(
        np.issubdtype(ids.dtype, np.integer) and ids.min(initial=0) >= 0
        for ids in (prediction, reference)
    ):
        raise UsageError(
            f"maps of objects of {prediction.dtype} {prediction.shape} and"
            f" {reference.dtype} {reference.shape}",
            needed="integers of 0 and more (Z, Y, X) of one shape",
        )
    (predicted, sizes), (referenced, others) = (
        _count(ids[ids != 0]) for ids in (prediction, reference)
    )
    both = (prediction != 0) & (reference != 0)
    rows = np.searchsorted(predicted, prediction[both])
    columns = np.searchsorted(referenced, reference[both])
    width = max(len(referenced), 1)
    pairs, common = _count(rows * width + columns)
    return Overlaps(sizes, others, *np.divmod(pairs, width), common)


def match_instances(prediction: Ids, reference: Ids, *, min_iou: float = 0.5) -> Matches:
    """Match the objects of two maps of objects (Z, Y, X), 0 being background.

    Args:
        prediction: ids of objects; the voxels of one id are one object, connected or not.
        reference: the same, on the same grid; its ids need not be those of the prediction.
        min_iou: see `match_objects`.

    Raises:
        UsageError: not integers of one shape, or a `min_iou` out of range.
    """
    return match_objects(object_overlaps(prediction, reference), min_iou=min_iou)


def match_objects(overlaps: Overlaps, *, min_iou: float = 0.5) -> Matches:
    """Match objects where their IoU is above `min_iou`, one to one.

    Above 0.5 no object has two such partners (Kirillov et al., "Panoptic Segmentation", CVPR 2019,
    arXiv:1801.00868); below, the most pairs are matched, and of equally many those of the largest
    sum of IoU.

    Raises:
        UsageError: a `min_iou` that is not from 0 up to, but not, 1.
    """
    if not 0 <= min_iou < 1:
        raise UsageError(f"min_iou is {min_iou}", needed="an IoU from 0 up to, but not, 1")
    rows, columns = overlaps.prediction, overlaps.reference
    union = overlaps.predicted[rows] + overlaps.referenced[columns] - overlaps.common
    iou = overlaps.common / union
    kept = iou > min_iou
    if min_iou < 0.5:
        kept[kept] = _one_to_one(rows[kept], columns[kept], iou[kept])
    return Matches(
        matched=int(kept.sum()),
        predicted=len(overlaps.predicted),
        referenced=len(overlaps.referenced),
        iou_sum=float(iou[kept].sum()),
    )


def _count(values: Ids) -> tuple[Ids, Ids]:
    """Return the different values, ascending, and how often each is there."""
    if values.max(initial=0) > values.size:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values)  # without a sort
    found = np.flatnonzero(counts)
    return found, counts[found]


def _one_to_one(rows: Ids, columns: Ids, iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Choose the most pairs that share no object, and of equally many those of most IoU."""
    from scipy.optimize import linear_sum_assignment

    _, row = np.unique(rows, return_inverse=True)
    _, column = np.unique(columns, return_inverse=True)
    worth = np.zeros((row.max(initial=-1) + 1, column.max(initial=-1) + 1))
    worth[row, column] = 1 + iou / (len(iou) + 1)  # all IoU together are worth less than a pair
    chosen = np.zeros(worth.shape, dtype=bool)
    chosen[linear_sum_assignment(worth, maximize=True)] = True
    return np.asarray(chosen[row, column])
