"""Where the patches of a sliding window lie, and how much each of their voxels counts."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Three = tuple[int, int, int]
Slices = tuple[slice, slice, slice]

_SIGMA = 1 / 8  # of the patch size, as in nnU-Net
_SMALLEST_WEIGHT = 1e-3  # of the weight at the centre; keeps corners seen by one patch only well conditioned


def window_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the patches along one axis: evenly spread, first and last flush with the ends.

    Args:
        size: voxels along the axis.
        patch: voxels of a patch.
        overlap: least fraction 0 <= overlap < 1 that neighbours share; the even spread may make it more.

    Returns:
        Rising starts; (0,) where the axis is no longer than the patch.
    """
    span = size - patch
    if span <= 0:
        return (0,)
    step = max(1.0, patch * (1.0 - overlap))
    gaps = math.ceil(span / step - 1e-9)
    return tuple((2 * i * span + gaps) // (2 * gaps) for i in range(gaps + 1))


def all_windows(shape: Sequence[int], patch: Three, overlap: float) -> tuple[Slices, ...]:
    """The windows over a volume (Z, Y, X), those with the same Z together and Z rising."""
    starts = [window_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    return tuple((slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2])) for z, y, x in product(*starts))


def count_windows(shape: Sequence[int], patch: Three, overlap: float) -> int:
    """How many windows a volume (Z, Y, X) has."""
    return math.prod(len(window_starts(n, p, overlap)) for n, p in zip(shape, patch, strict=True))


@lru_cache(maxsize=4)
def gaussian_weights(patch: Three) -> NDArray[np.float32]:
    """Weights of a patch's voxels, (Z, Y, X) float32, 1 at the centre and never below 0.001; not to be written to."""
    weights = np.ones((), dtype=np.float64)
    for size in patch:
        offsets = np.arange(size, dtype=np.float64) - (size - 1) / 2
        weights = weights[..., None] * np.exp(-0.5 * (offsets / (size * _SIGMA)) ** 2)
    made = np.maximum(weights, _SMALLEST_WEIGHT).astype(np.float32)
    made.setflags(write=False)
    return made
