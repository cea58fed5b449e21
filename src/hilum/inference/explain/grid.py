"""Maps on coarse grids, and the image's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def upsample(
    coarse: NDArray[np.floating], size: Sequence[int], centres: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Interpolate a coarse map (z, y, x) to the image's grid (Z, Y, X), linearly between centres.

    Args:
        coarse: one value a cell.
        size: (Z, Y, X).
        centres: of the cells, in voxels, one array an axis. Half pixels count: that of voxels 0 and
            1 is 0.5.
    """
    fine = np.asarray(coarse, np.float64)
    for axis, (voxels, known) in enumerate(zip(size, centres, strict=True)):
        # one column a cell: how much of it each voxel takes
        shares = np.stack(
            [np.interp(np.arange(voxels), known, unit) for unit in np.eye(len(known))], axis=1
        )  # (voxels, cells)
        fine = np.moveaxis(np.tensordot(shares, fine, axes=(1, axis)), 0, axis)
    return fine


def scale_to_one(signed: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale a map to 0..1: negative values become 0, the largest 1; zeros stay zeros."""
    positive = np.maximum(signed, 0.0)
    largest = positive.max()
    scaled: NDArray[np.float32] = (positive / largest if largest > 0 else positive).astype(
        np.float32
    )
    return scaled


def coarsen(fine: NDArray[np.floating], cells: int) -> NDArray[np.float64]:
    """Average a map (Z, Y, X) in at most `cells` nearly equal cells along each axis."""
    coarse = np.asarray(fine, np.float64)
    for axis, voxels in enumerate(fine.shape):
        count = min(cells, voxels)
        starts = np.arange(count) * voxels // count
        sums = np.add.reduceat(coarse, starts, axis=axis)
        lengths = np.diff([*starts, voxels])
        coarse = sums / lengths.reshape([-1 if a == axis else 1 for a in range(3)])
    return coarse
