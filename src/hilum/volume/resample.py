"""Bring volumes to another spacing or onto another grid.

Nothing here smooths before it takes fewer voxels (no anti-aliasing), as in nnU-Net: what a network
saw in training it sees again. NaN and infinity spread to their neighbourhood (at orders 1 and 3
over some 30 voxels): clean them first; `hilum check` finds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError
from hilum.volume.majority import majority_labels
from hilum.volume.separable import (
    Value,
    block_coordinates,
    check_order,
    gather,
    interpolate,
    make_axis,
    make_linear_axis,
)
from hilum.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume.geometry import Geometry
    from hilum.volume.separable import Axis


def resample_array(
    array: NDArray[Value], shape: Sequence[int], *, order: int | Sequence[int] = 3
) -> NDArray[Value | np.float32]:
    """Resample an array to another shape over the same block of space.

    Output voxel *i* of *m* lies at source coordinate (i + 0.5) * n / m - 0.5; beyond the ends the
    outermost value goes on. The same as `skimage.transform.resize(mode="edge",
    anti_aliasing=False)` and as `scipy.ndimage` with mode "nearest" (order 3 within 1e-4 of the
    values' range).

    Args:
        array: (C, Z, Y, X), any real dtype.
        shape: (Z', Y', X').
        order: 0 nearest, 1 linear, 3 cubic B-spline; one for all axes, or one for each of (Z, Y,
            X).

    Returns:
        (C, Z', Y', X'): the given dtype where every order is 0, else float32. Where the shape is
        unchanged, the very same values.
        Beyond its input and result it needs at most `separable.WORKING_BYTES` (64 MiB).

    Raises:
        UsageError: another order.
        GeometryError: `array` or `shape` is not as above.
    """
    axes = _axes(array, shape, order)
    if order == 0 or (not isinstance(order, int) and set(order) == {0}):
        return gather(array, axes)
    if all(axis.identity for axis in axes):
        return array.astype(np.float32)
    return interpolate(array, axes)


def resample_labels_array(labels: NDArray[np.integer], shape: Sequence[int]) -> NDArray[np.integer]:
    """Resample integer labels by the largest linear weight among the eight neighbours.

    As good as resampling every label's mask linearly and taking the largest, at the cost of one:
    only points between different labels are looked at. A label that is not there is never invented;
    ties go to the nearest voxel's label.

    Args:
        labels: (Z, Y, X), integers.
        shape: (Z', Y', X').

    Returns:
        (Z', Y', X') of the same dtype.
    """
    nearest = gather(labels[None], _axes(labels[None], shape, 0))[0]
    axes = [
        make_linear_axis(block_coordinates(n, m), n)
        for n, m in zip(labels.shape, nearest.shape, strict=True)
    ]
    return majority_labels(labels, axes, nearest)


def shape_for(geometry: Geometry, spacing: Sequence[float]) -> tuple[int, int, int]:
    """Return the shape nearest to a spacing: round(size * spacing / wanted), at least 1.

    Raises:
        GeometryError: a spacing that is not positive.
    """
    if len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise GeometryError(
            f"the target spacing is {tuple(spacing)}",
            needed="three positive numbers, in mm, along (Z, Y, X)",
        )
    pairs = zip(geometry.shape, geometry.spacing, spacing, strict=True)
    z, y, x = (max(1, round(n * now / wanted)) for n, now, wanted in pairs)
    return z, y, x


def resample(volume: Volume, spacing: Sequence[float], *, order: int = 3) -> Volume:
    """Resample to a spacing over the same block of space.

    Args:
        volume: (C, Z, Y, X).
        spacing: mm along (Z, Y, X). The result's own spacing is the nearest that divides the block
            into whole voxels.
        order: 0 nearest, 1 linear, 3 cubic B-spline.
    """
    shape = shape_for(volume.geometry, spacing)
    return Volume(resample_array(volume.array, shape, order=order), volume.geometry.resized(shape))


def resample_labels(volume: Volume, spacing: Sequence[float]) -> Volume:
    """Resample a label volume (1, Z, Y, X) to a spacing.

    See :func:`resample_labels_array` and :func:`resample`.
    """
    shape = shape_for(volume.geometry, spacing)
    return Volume(
        resample_labels_array(volume.array[0], shape)[None], volume.geometry.resized(shape)
    )


def _axes(
    array: NDArray[np.generic], shape: Sequence[int], order: int | Sequence[int]
) -> list[Axis]:
    """Check the array and make the interpolation along each axis."""
    orders = (order,) * 3 if isinstance(order, int) else tuple(order)
    if len(orders) != 3:
        raise GeometryError(
            f"the interpolation orders are {orders}",
            needed="one number, or one for each of (Z, Y, X)",
            cure="order=1",
        )
    for one in orders:
        check_order(one)
    if array.ndim != 4 or min(array.shape) < 1 or len(shape) != 3 or min(shape) < 1:
        raise GeometryError(
            f"an array of shape {array.shape} cannot be resampled to {tuple(shape)}",
            needed="an array (C, Z, Y, X) and three positive sizes",
        )
    return [
        make_axis(block_coordinates(n, int(m)), n, o)
        for n, m, o in zip(array.shape[1:], shape, orders, strict=True)
    ]
