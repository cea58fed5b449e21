"""Centreline Dice of tubes: do the centrelines of each side lie in the other side's mask?

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

===============  ==========  =========
metric           both empty  one empty
===============  ==========  =========
centreline Dice  undefined   0
===============  ==========  =========
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hilum.metrics.lesion import components
from hilum.metrics.masks import bounding_box, check_masks

if TYPE_CHECKING:
    from hilum.metrics.masks import Mask


def cldice(prediction: Mask, reference: Mask) -> float:
    """Centreline Dice (clDice) of two masks (Z, Y, X), 0..1.

    The harmonic mean of two shares: of the prediction's centreline in the reference, and of the
    reference's centreline in the prediction. Centrelines are counted in voxels, whatever their
    spacing, as the source does. NaN where both masks are empty, 0 where one is.

    Raises:
        UsageError: the arrays are not boolean masks of one shape.

    Source: Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure
    Segmentation", CVPR 2021, arXiv:2003.07311.
    """
    check_masks(prediction, reference)
    box = bounding_box(prediction, reference)
    if box is None:
        return math.nan
    prediction, reference = prediction[box], reference[box]
    if not prediction.any() or not reference.any():
        return 0.0
    precision = _share(centreline(prediction), reference)
    sensitivity = _share(centreline(reference), prediction)
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def centreline(mask: Mask) -> Mask:
    """Return the centreline of a mask (Z, Y, X): thinned until it is a voxel wide.

    A component that thinning would remove altogether (2 x 2 x 2 voxels) is its own centreline.

    Sources, both in scikit-image: Lee et al., CVGIP 56(6), 1994; of one plane (Z = 1) Zhang and
    Suen, Comm ACM 27(3), 1984.
    """
    from skimage.morphology import skeletonize

    if mask.shape[0] == 1:
        line = np.asarray(skeletonize(mask[0])[np.newaxis], dtype=np.bool_)
    else:
        line = np.asarray(skeletonize(np.pad(mask, 1)), dtype=np.bool_)[1:-1, 1:-1, 1:-1]
    numbered, count = components(mask)
    kept = np.zeros(count + 1, dtype=np.bool_)
    kept[numbered[line]] = True
    return np.asarray(line | (mask & ~kept[numbered]))


def _share(line: Mask, mask: Mask) -> float:
    """Share of a centreline that lies in a mask."""
    return float(np.count_nonzero(line & mask) / np.count_nonzero(line))
