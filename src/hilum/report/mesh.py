"""Surfaces of masks in few polygons, for looking at and not for measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Numbers = NDArray[np.float64]
    Indices = NDArray[np.integer]

MOST_CELLS = 40
"""Cells along the longest side of a coarse grid."""
_MOST_VERTICES = 65535
"""Vertices that 16 bits can number."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface.

    Args:
        vertices: (V, 3) voxel coordinates (z, y, x) of the mask.
        triangles: (T, 3) vertices of each face, all seen from outside in the same direction.
    """

    vertices: Numbers
    triangles: Indices


def linear_weights(old: int, new: int) -> Numbers:
    """Return the matrix (new, old) that brings `old` samples to `new`, centre to centre.

    Linear where there are more, a weighted mean (triangle as wide as two new samples) where there
    are fewer; every row sums to one.
    """
    width = max(1.0, old / new)
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(old)) / width, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def coarse_shape(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int, int]:
    """Return how many cubic cells cover a grid (Z, Y, X), at most `MOST_CELLS` along a side.

    A cell is at least half as long as the shortest side of a voxel.
    """
    sides = [n * mm for n, mm in zip(shape, spacing, strict=True)]
    cell_mm = max(max(sides) / MOST_CELLS, min(spacing) / 2)
    z, y, x = (max(1, round(side / cell_mm)) for side in sides)
    return z, y, x


def mask_mesh(mask: Mask, cells: tuple[int, int, int]) -> Mesh | None:
    """Make the surface of a mask (Z, Y, X) on a grid of so many cells; None of an empty mask.

    Marching cubes (Lewiner et al., J. Graph. Tools 8, 2003). The surface runs where half of a cell
    belongs to the mask, or half of what the fullest cell has where the mask is thinner than a cell.
    It is closed where the mask touches the grid's border. A mask with so much surface that its
    vertices are more than 16 bits can number is taken on half as many cells.
    """
    from skimage.measure import marching_cubes

    share = mask.astype(np.float64)
    for axis, count in enumerate(cells):
        weights = linear_weights(mask.shape[axis], count)
        share = np.moveaxis(np.tensordot(weights, share, (1, axis)), 0, axis)
    if not share.any():
        return None
    level = min(0.5, float(share.max()) / 2)
    vertices, triangles, _, _ = marching_cubes(np.pad(share, 1), level)
    if len(vertices) > _MOST_VERTICES:
        return mask_mesh(mask, (-(-cells[0] // 2), -(-cells[1] // 2), -(-cells[2] // 2)))
    old, new = np.array(mask.shape), np.array(cells)
    return Mesh((vertices - 1 + 0.5) * old / new - 0.5, triangles)
