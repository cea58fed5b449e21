"""Maps on coarse grids, and the image's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def cell_centres(cells: int, size: int) -> NDArray[np.float64]:
    """Where the centres of `cells` equal cells lie along an axis of `size` voxels, in voxels: half pixels are kept."""
    return (np.arange(cells) + 0.5) * size / cells - 0.5


def upsample(
    coarse: NDArray[np.floating], size: Sequence[int], centres: Sequence[NDArray[np.float64]] | None = None
) -> NDArray[np.float64]:
    """A coarse map (z, y, x) on the image's grid (Z, Y, X), linearly between the cells' centres and constant beyond the last.

    Args:
        coarse: one value a cell.
        size: (Z, Y, X).
        centres: in voxels, one array an axis; equal cells that fill the image where it is not given (then it is torch's
            `interpolate` with `align_corners=False`).
    """
    fine = np.asarray(coarse, np.float64)
    for axis, voxels in enumerate(size):
        cells = fine.shape[axis]
        known = cell_centres(cells, voxels) if centres is None else centres[axis]
        # one column a cell: how much of it each voxel takes
        shares = np.stack([np.interp(np.arange(voxels), known, unit) for unit in np.eye(cells)], axis=1)  # (voxels, cells)
        fine = np.moveaxis(np.tensordot(shares, fine, axes=(1, axis)), 0, axis)
    return fine


def unit_map(signed: NDArray[np.floating]) -> NDArray[np.float32]:
    """What speaks for the class, between 0 and 1: negative values become 0, the largest 1; zeros stay zeros."""
    positive = np.maximum(signed, 0.0)
    largest = positive.max()
    scaled = positive / largest if largest > 0 else positive
    return scaled.astype(np.float32)


def coarsen(fine: NDArray[np.floating], cells: int) -> NDArray[np.float64]:
    """The mean of each cell of a map (Z, Y, X) cut into at most `cells` nearly equal cells along each axis."""
    coarse = np.asarray(fine, np.float64)
    for axis, voxels in enumerate(fine.shape):
        count = min(cells, voxels)
        starts = np.arange(count) * voxels // count
        sums = np.add.reduceat(coarse, starts, axis=axis)
        lengths = np.diff([*starts, voxels])
        coarse = sums / lengths.reshape([-1 if a == axis else 1 for a in range(3)])
    return coarse
