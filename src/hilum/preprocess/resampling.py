"""Interpolation order along each axis: one for all, or the axis of the largest spacing by itself.

Slices far apart are not alike: a spline across them rings, so nnU-Net resamples each slice and
takes the nearest across them (Isensee et al., Nature Methods 18, 2021, supplement). The rules are
nnU-Net's: its models see what they were trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.volume import resample_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.plan.segmentation import ResamplingSpec

Three = tuple[int, int, int]


def separate_axis(how: ResamplingSpec, own: Sequence[float], target: Sequence[float]) -> int | None:
    """Return the axis that is resampled separately between two spacings (Z, Y, X), or None.

    It is the axis of the largest spacing: of the one that things come from if that is anisotropic,
    else of the other. Where two axes share the largest spacing there is none.
    """
    if how.separate == "never":
        return None
    spacings = [one for one in (own, target) if max(one) / min(one) > how.anisotropy]
    if how.separate == "always":
        spacings = [own]
    if not spacings:
        return None
    largest = [axis for axis in range(3) if max(spacings[0]) / spacings[0][axis] == 1]
    return largest[0] if len(largest) == 1 else None


def logits_orders(how: ResamplingSpec, own: Sequence[float], target: Sequence[float]) -> Three:
    """Return the orders along (Z, Y, X) that bring logits from spacing `own` to `target`."""
    apart = separate_axis(how, own, target)
    orders = [how.logits_order] * 3
    if apart is not None:
        orders[apart] = how.separate_logits_order
    return orders[0], orders[1], orders[2]


def resample_image(
    array: NDArray[np.float32],
    shape: Three,
    how: ResamplingSpec,
    order: int,
    *,
    separate: int | None,
) -> NDArray[np.float32]:
    """Resample (C, Z, Y, X) to (C, *shape), contiguous float32.

    Args:
        array: normalised intensities.
        shape: (Z', Y', X').
        how: the order along an axis that is resampled separately, and whether overshoot of splines
            is cut off.
        order: 0, 1 or 3, along all other axes.
        separate: that axis, or None.
    """
    if separate is None:
        made = resample_array(array, shape, order=order)
        if how.clip and order == 3:
            _clip(made, array, axes=(1, 2, 3))
        return np.ascontiguousarray(made, dtype=np.float32)
    within = (*shape[:separate], array.shape[separate + 1], *shape[separate + 1 :])
    made = array
    if within != array.shape[1:]:
        made = resample_array(array, within, order=order)
        if how.clip and order == 3:
            _clip(made, array, axes=tuple(axis + 1 for axis in range(3) if axis != separate))
    orders = [
        how.separate_order if axis == separate else 0 for axis in range(3)
    ]  # the others stay as they are
    return np.ascontiguousarray(resample_array(made, shape, order=orders), dtype=np.float32)


def _clip(made: NDArray[np.float32], array: NDArray[np.float32], *, axes: tuple[int, ...]) -> None:
    """Cut `made` to the range that `array` has over these axes, in place."""
    np.clip(
        made, array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True), out=made
    )
