"""Checks of the two masks that every metric takes, and the box that holds both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


def check_masks(prediction: NDArray[np.generic], reference: NDArray[np.generic]) -> None:
    """Refuse two arrays that are not masks on one grid.

    Raises:
        UsageError: not boolean, not (Z, Y, X), or of two shapes.
    """
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != np.bool_:
            raise UsageError(
                f"the {name} has dtype {mask.dtype}",
                needed="a boolean mask",
                cure="compare first: `labels == 2`, `probability > 0.5`",
            )
        if mask.ndim != 3:
            raise UsageError(
                f"the {name} has shape {mask.shape}",
                needed="a mask (Z, Y, X); a 2D picture has Z = 1",
            )
    if prediction.shape != reference.shape:
        raise UsageError(
            f"the prediction has shape {prediction.shape}, the reference {reference.shape}",
            needed="two masks on one grid",
        )


def check_spacing(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the spacing as an array of three, mm along (Z, Y, X).

    Raises:
        UsageError: not three positive finite numbers.
    """
    millimetres = np.asarray(spacing, dtype=np.float64)
    if millimetres.shape != (3,) or not np.isfinite(millimetres).all() or millimetres.min() <= 0:
        raise UsageError(
            f"spacing is {tuple(spacing)}", needed="three positive numbers: mm along (Z, Y, X)"
        )
    return millimetres


def check_picture(picture: bool | None, mask: Mask) -> bool:
    """Return True where a mask (Z, Y, X) is measured in its plane; None: where Z = 1.

    Raises:
        UsageError: a picture of several planes.
    """
    flat = mask.shape[0] == 1 if picture is None else picture
    if flat and mask.shape[0] != 1:
        raise UsageError(
            f"picture=True was given for masks of shape {mask.shape}",
            needed="masks of one plane (Z = 1)",
        )
    return flat


def bounding_box(*masks: Mask) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around every set voxel of masks (Z, Y, X) of one shape.

    None where all are empty.
    """
    spans: list[slice] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        if not occupied.size:
            return None
        spans.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    z, y, x = spans
    return z, y, x


def steps_within(
    distance_mm: float, spacing: Sequence[float], shape: tuple[int, ...]
) -> tuple[int, int, int]:
    """Return the whole steps along (Z, Y, X) within a distance, at most as many as voxels."""
    z, y, x = (int(min(distance_mm / mm, n)) for mm, n in zip(spacing, shape, strict=True))
    return z, y, x


def around(mask: Mask, box: tuple[slice, slice, slice], *, flat: bool) -> Mask:
    """Return the mask in a box and a voxel around it: background where the image ends.

    Args:
        mask: (Z, Y, X).
        box: see `bounding_box`.
        flat: no margin along Z.
    """
    edges = (0 if flat else 1, 1, 1)
    outer = [slice(max(s.start - e, 0), s.stop + e) for s, e in zip(box, edges, strict=True)]
    inner = mask[tuple(outer)]
    before = [
        o.start - s.start + e for o, s, e in zip(outer, box, edges, strict=True)
    ]  # 1 where the image ends at the box
    around = [
        (b, s.stop - s.start + 2 * e - n - b)
        for b, s, e, n in zip(before, box, edges, inner.shape, strict=True)
    ]
    return np.pad(inner, around)
