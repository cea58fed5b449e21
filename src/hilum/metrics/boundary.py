"""Boundary IoU: intersection over union of what lies near the boundaries.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

============  ==========  =========
metric        both empty  one empty
============  ==========  =========
boundary IoU  undefined   0
============  ==========  =========
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.masks import (
    around,
    bounding_box,
    check_masks,
    check_picture,
    check_spacing,
    steps_within,
)
from hilum.metrics.overlap import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask


def boundary_iou(
    prediction: Mask,
    reference: Mask,
    spacing: Sequence[float],
    *,
    width_mm: float,
    ignore: Mask | None = None,
    picture: bool | None = None,
) -> float:
    """Intersection over union of the bands inside the boundaries of two masks (Z, Y, X), 0..1.

    The band of a mask holds its voxels whose centre is within the width of the nearest centre
    outside, and those that share a face with the outside. What lies outside the image is outside
    the mask. NaN where both masks are empty, or nothing that is known lies within the width of
    either; 0 where one is empty.

    Args:
        prediction: mask (Z, Y, X).
        reference: mask (Z, Y, X).
        spacing: mm along (Z, Y, X).
        width_mm: how far the band reaches into the mask. The source takes 2 % of a picture's
            diagonal, in steps to any of eight neighbours.
        ignore: mask (Z, Y, X) of voxels that nobody annotated: neither inside nor outside.
        picture: look for the outside in the plane only; None: where Z = 1.

    Raises:
        UsageError: the masks, the spacing or the choice of `picture` do not fit each other, or a
            width of 0 or less.

    Source: Cheng et al., "Boundary IoU", CVPR 2021, arXiv:2103.16562.
    """
    check_masks(prediction, reference)
    millimetres = check_spacing(spacing)
    if not width_mm > 0:
        raise UsageError(f"width_mm is {width_mm}", needed="a width above 0 mm", cure="width_mm=2")
    flat = check_picture(picture, reference)
    unknown = np.zeros_like(reference) if ignore is None else ignore
    check_masks(unknown, reference)
    box = bounding_box(prediction & ~unknown, reference & ~unknown)
    if box is None:
        return float("nan")
    behind = 0.0 if ignore is None else width_mm  # the outside may lie behind an ignored rim
    steps = steps_within(behind, spacing, reference.shape)
    sides = zip(box, steps, reference.shape, strict=True)
    z, y, x = (slice(max(s.start - n, 0), min(s.stop + n, end)) for s, n, end in sides)
    hidden = around(unknown, (z, y, x), flat=flat)
    bands = [
        _band(
            around(mask, (z, y, x), flat=flat) & ~hidden, hidden, millimetres, width_mm, flat=flat
        )
        for mask in (prediction, reference)
    ]
    return overlap(*bands).iou


def _band(
    mask: Mask, hidden: Mask, spacing: NDArray[np.float64], width_mm: float, *, flat: bool
) -> Mask:
    """Return the voxels near the boundary of a mask (Z, Y, X) with a margin around it."""
    from scipy import ndimage

    faces = ndimage.generate_binary_structure(3, 1)
    if flat:
        faces[[0, 2]] = False
    inside = mask | hidden
    if inside.all():
        return np.zeros_like(mask)
    border = mask & ndimage.binary_dilation(~inside, faces)
    distances = ndimage.distance_transform_edt(inside, sampling=spacing)
    return np.asarray(border | (mask & (distances <= width_mm)))
