"""Slices of a tilted gantry: moved straight onto a grid, and labels moved back onto them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECIMALS = 6


def straighten(
    slices: NDArray[np.generic], offsets: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.generic]:
    """Move each slice in its plane, linearly between pixels.

    Args:
        slices: (N, rows, columns).
        offsets: (N, 2) rows and columns of the grid at which each first pixel lies.
        shape: (Y, X) of the grid, which holds all slices.

    Returns:
        (N, Y, X) of the same dtype; what lies outside a slice has the lowest value of all.
    """
    lowest = slices.min()
    moved = np.full((len(slices), *shape), lowest, dtype=slices.dtype)
    for target, one, offset in zip(moved, slices, offsets, strict=True):
        whole = np.floor(offset).astype(int)
        rows, columns = offset - whole
        # (rows + 1, columns + 1): each pixel is shared by its two neighbours along each axis
        wide = np.pad(one.astype(np.float64), 1, constant_values=float(lowest))
        wide = (1 - rows) * wide[1:] + rows * wide[:-1]
        wide = (1 - columns) * wide[:, 1:] + columns * wide[:, :-1]
        place = target[whole[0] :, whole[1] :][: wide.shape[0], : wide.shape[1]]
        # what rounding leaves must not decide about halves
        exact = wide if target.dtype.kind == "f" else np.rint(np.round(wide, _DECIMALS))
        place[...] = exact[: place.shape[0], : place.shape[1]]
    return moved


def tilt_back(
    labels: NDArray[np.generic], offsets: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.generic]:
    """Take from a grid (N, Y, X) what lies nearest to each pixel of slices (N, rows, columns)."""
    rows, columns = shape
    back = np.empty((len(labels), rows, columns), dtype=labels.dtype)
    for target, one, offset in zip(back, labels, offsets, strict=True):
        row, column = np.rint(offset).astype(int)
        target[...] = one[row : row + rows, column : column + columns]
    return back


def lay_straight(
    labels: NDArray[np.generic], offsets: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.generic]:
    """Put labels of slices (N, rows, columns) on a grid (N, Y, X), 0 beside them: the way back."""
    laid = np.zeros((len(labels), *shape), dtype=labels.dtype)
    for target, one, offset in zip(laid, labels, offsets, strict=True):
        row, column = np.rint(offset).astype(int)
        target[row : row + one.shape[0], column : column + one.shape[1]] = one
    return laid
