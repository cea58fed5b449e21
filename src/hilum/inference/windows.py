"""Positions of a sliding window's patches, and the weight of each of their voxels."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Three = tuple[int, int, int]
Slices = tuple[slice, slice, slice]
Weighting = Literal["gaussian", "nnunet"]

_SIGMA = 1 / 8  # of the patch size, as in nnU-Net
_SMALLEST_WEIGHT = (
    1e-3  # of the weight at the centre; keeps corners seen by one patch only well conditioned
)


def window_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the patches along an axis: evenly spread, first and last flush with the ends.

    Args:
        size: voxels along the axis.
        patch: voxels of a patch.
        overlap: least fraction 0 <= overlap < 1 that neighbours share; the even spread may make it
            more.

    Returns:
        Rising starts; (0,) where the axis is no longer than the patch.
    """
    span, gaps = size - patch, _gaps(size, patch, overlap)
    if not gaps:
        return (0,)
    return tuple(
        round(span / gaps * i) for i in range(gaps + 1)
    )  # halves to the even number: nnU-Net's patches


def _gaps(size: int, patch: int, overlap: float) -> int:
    """Return the number of steps from the first patch along an axis to the last."""
    return max(0, math.ceil((size - patch) / max(1.0, patch * (1.0 - overlap)) - 1e-9))


def all_windows(shape: Sequence[int], patch: Three, overlap: float) -> tuple[Slices, ...]:
    """List the windows over a volume (Z, Y, X), those with the same Z together and Z rising."""
    starts = [window_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    return tuple(
        (slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2]))
        for z, y, x in product(*starts)
    )


def count_windows(shape: Sequence[int], patch: Three, overlap: float) -> int:
    """Count the windows of a volume (Z, Y, X)."""
    return math.prod(_gaps(n, p, overlap) + 1 for n, p in zip(shape, patch, strict=True))


@lru_cache(maxsize=4)
def gaussian_weights(patch: Three, weighting: Weighting = "gaussian") -> NDArray[np.float32]:
    """Weigh a patch's voxels, (Z, Y, X) float32, 1 at the centre; not to be written to.

    Args:
        patch: (Z, Y, X).
        weighting: "gaussian" is symmetrical and never below 0.001. "nnunet" is the map that
            nnU-Net's models are run with: its centre is voxel n // 2, it is cut off at four
            standard deviations and kept in float16, and what has become 0 takes the least weight
            that is not (nnU-Net 2.8, compute_gaussian).
    """
    weights = np.ones((), dtype=np.float64)
    for size in patch:
        middle = size // 2 if weighting == "nnunet" else (size - 1) / 2
        offsets = np.arange(size, dtype=np.float64) - middle
        line = np.exp(-0.5 * (offsets / (size * _SIGMA)) ** 2)
        if weighting == "nnunet":
            line[np.abs(offsets) > int(4 * size * _SIGMA + 0.5)] = 0
        weights = weights[..., None] * line
    if weighting == "nnunet":
        half = (weights * 10).astype(np.float16).astype(np.float32)
        made = np.where(half == 0, half[half > 0].min(), half) / np.float32(10)
    else:
        made = np.maximum(weights, _SMALLEST_WEIGHT).astype(np.float32)
    made.setflags(write=False)
    return np.asarray(made, dtype=np.float32)  # the very array
