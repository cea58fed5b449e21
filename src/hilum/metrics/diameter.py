"""The two diameters that are measured of a lesion on one slice, and the slice where it is widest.

The long diameter is the largest distance between two points of the mask's outline, the short one
the longest line across the outline's convex hull that is perpendicular to it, as callipers measure
both. The outline runs through the middle of the edges between pixels inside and outside, as
outlines are drawn: one pixel is as wide and as high as its spacing. The result is exact: the ends
of the long diameter are corners of the hull, and the width of a convex polygon across a direction
is largest at one of its corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask

    Point = tuple[float, float]

_EQUAL_MM = 1e-9
"""Lengths that differ by no more are equal: the first one counts, on every machine."""


@dataclass(frozen=True)
class Diameter:
    """One measured line.

    Args:
        start: (row, column) of one end; the centre of a pixel has whole numbers.
        end: (row, column) of the other end.
        length_mm: the distance between them.
    """

    start: Point
    end: Point
    length_mm: float


@dataclass(frozen=True)
class Diameters:
    """The longest line across a mask, and the longest one perpendicular to it."""

    long: Diameter
    short: Diameter


def diameters(mask: Mask, spacing: Sequence[float]) -> Diameters:
    """Measure the long and the short diameter of a mask on one slice.

    Args:
        mask: (Y, X), not empty; several pieces are measured as one.
        spacing: mm along (Y, X).

    Raises:
        UsageError: not a boolean mask (Y, X), an empty one, or an impossible spacing.
    """
    millimetres = np.asarray(spacing, dtype=np.float64)
    if millimetres.shape != (2,) or not np.isfinite(millimetres).all() or millimetres.min() <= 0:
        raise UsageError(
            f"spacing is {tuple(spacing)}", needed="two positive numbers: mm along (Y, X)"
        )
    if mask.dtype != np.bool_ or mask.ndim != 2 or not mask.any():
        raise UsageError(
            f"a mask of {mask.dtype} and shape {mask.shape} with {np.count_nonzero(mask)} pixels",
            needed="a boolean mask (Y, X) with one pixel or more",
        )
    hull = _hull(mask, millimetres)
    distances = squareform(pdist(hull))
    first, second = np.argwhere(distances >= distances.max() - _EQUAL_MM)[0]
    long = hull[first], hull[second]
    short = _widest_across(hull, *long)
    return Diameters(_diameter(*long, millimetres), _diameter(*short, millimetres))


def widest_slice(mask: Mask, spacing: Sequence[float]) -> tuple[int, Diameters]:
    """Find the slice on which the long diameter is largest, and measure both there.

    Of slices with equal diameters the first is taken.

    Args:
        mask: (Z, Y, X), not empty.
        spacing: mm along (Y, X).

    Raises:
        UsageError: not a boolean mask (Z, Y, X), an empty one, or an impossible spacing.
    """
    if mask.ndim != 3 or not mask.any():
        raise UsageError(
            f"a mask of shape {mask.shape} with {np.count_nonzero(mask)} voxels",
            needed="a boolean mask (Z, Y, X) with one voxel or more",
        )
    found = [(int(z), diameters(mask[z], spacing)) for z in np.flatnonzero(mask.any(axis=(1, 2)))]
    longest = max(one.long.length_mm for _, one in found)
    return next(pair for pair in found if pair[1].long.length_mm >= longest - _EQUAL_MM)


def _hull(mask: Mask, millimetres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners (N, 2) of the outline's convex hull, in mm along (Y, X), in turn.

    Of a row only the first and the last pixel can be at the hull.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    ends = [
        *((first - 0.5, rows), (last + 0.5, rows)),
        *((column, rows + side) for column in (first, last) for side in (-0.5, 0.5)),
    ]
    points = np.concatenate([np.stack([row, column], axis=1) for column, row in ends])
    points = np.unique(points, axis=0) * millimetres
    return np.asarray(points[ConvexHull(points).vertices])


def _widest_across(
    hull: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the longest line across a hull that is perpendicular to another line."""
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    t, s = (hull - start) @ along, (hull - start) @ across  # (N,) each
    following, edge = np.roll(t, -1), np.roll(s, -1) - s
    length = following - t  # along the line; 0 of an edge that is perpendicular to it
    # (corner, edge): where each edge passes the place of each corner, as a share of the edge
    flat = np.abs(length) < _EQUAL_MM
    share = (t[:, None] - t) / np.where(flat, 1.0, length)
    passes = (share >= -_EQUAL_MM) & (share <= 1 + _EQUAL_MM) & ~flat
    sides = s + np.clip(share, 0, 1) * edge
    low = np.where(passes, sides, np.inf).min(axis=1)
    high = np.where(passes, sides, -np.inf).max(axis=1)
    widest = int(np.flatnonzero(high - low >= (high - low).max() - _EQUAL_MM)[0])
    at = start + t[widest] * along
    return at + low[widest] * across, at + high[widest] * across


def _diameter(
    start: NDArray[np.float64], end: NDArray[np.float64], millimetres: NDArray[np.float64]
) -> Diameter:
    """Make the record of a line whose ends are in mm."""
    (y0, x0), (y1, x1) = (start / millimetres).tolist(), (end / millimetres).tolist()
    return Diameter((y0, x0), (y1, x1), float(np.linalg.norm(end - start)))
