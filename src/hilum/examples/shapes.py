"""Signed distances of simple solids in millimetres, negative inside.

Points are (3, ...) arrays (x, y, z) of LPS millimetres; every function returns an array of the
trailing shape. Distances are exact for capsules and close to the surface for ellipsoids, which is
where they decide anything. Source of the formulas: Quilez, "Distance functions", first-order
ellipsoid bound and polynomial smooth minimum.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Field = NDArray[np.float32]


def rotation(about_x: float = 0, about_y: float = 0, about_z: float = 0) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) from angles in degrees, about x first, then y, then z."""
    angles = np.deg2rad([about_x, about_y, about_z])
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(z @ y @ x)


def ellipsoid(
    points: Field,
    centre: Sequence[float],
    radii: Sequence[float],
    *,
    axes: NDArray[np.float64] | None = None,
) -> Field:
    """Distance to an ellipsoid with semi-axes `radii` along the columns of `axes`."""
    local = _minus(points, centre)
    if axes is not None:
        local = np.einsum("ij,i...->j...", axes.astype(np.float32), local)
    scaled = local / _column(radii, local.ndim)
    k0 = np.sqrt((scaled * scaled).sum(axis=0))
    gradient = scaled / _column(radii, local.ndim)
    k1 = np.sqrt((gradient * gradient).sum(axis=0))
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, 1e-6), dtype=np.float32)


def capsule(points: Field, start: Sequence[float], stop: Sequence[float], radius: float) -> Field:
    """Distance to a cylinder with round ends around the segment from `start` to `stop`."""
    local = _minus(points, start)
    axis = np.asarray(stop, dtype=np.float32) - np.asarray(start, dtype=np.float32)
    along = np.einsum("i,i...->...", axis, local) / np.float32(max(float(axis @ axis), 1e-6))
    along = np.clip(along, 0, 1)
    gap = local - axis.reshape(-1, *[1] * along.ndim) * along
    return np.asarray(np.sqrt((gap * gap).sum(axis=0)) - np.float32(radius), dtype=np.float32)


def tube(points: Field, path: Sequence[Sequence[float]], radius: float) -> Field:
    """Distance to a tube of one radius along a polyline of at least two points."""
    parts = [capsule(points, a, b, radius) for a, b in itertools.pairwise(path)]
    return np.asarray(np.minimum.reduce(parts), dtype=np.float32)


def cylinder(points: Field, centre_xy: Sequence[float], radii_xy: Sequence[float]) -> Field:
    """Distance to an endless elliptic cylinder along z."""
    x, y = ((points[n] - np.float32(centre_xy[n])) / np.float32(radii_xy[n]) for n in (0, 1))
    reach = np.hypot(x, y)
    return np.asarray((reach - 1) * np.float32(min(radii_xy)), dtype=np.float32)


def smooth_union(first: Field, second: Field, blend_mm: float) -> Field:
    """Union of two solids whose seam is rounded over `blend_mm`."""
    mix = np.clip(0.5 + 0.5 * (second - first) / blend_mm, 0, 1)
    union = second + (first - second) * mix - blend_mm * mix * (1 - mix)
    return np.asarray(union, dtype=np.float32)


def intersection(*solids: Field) -> Field:
    """Distance to the part that is inside of all solids."""
    return np.asarray(np.maximum.reduce(solids), dtype=np.float32)


def occupancy(distance: Field, blur_mm: float) -> Field:
    """Return the share of a voxel inside, 0..1, of an edge that is blurred over `blur_mm`."""
    return np.asarray(np.clip(0.5 - distance / np.float32(blur_mm), 0, 1), dtype=np.float32)


def _minus(points: Field, centre: Sequence[float]) -> Field:
    """Subtract a point from all points."""
    return np.asarray(points - _column(centre, points.ndim), dtype=np.float32)


def _column(values: Sequence[float], ndim: int) -> Field:
    """Shape three numbers so that they broadcast over points."""
    return np.asarray(values, dtype=np.float32).reshape(3, *[1] * (ndim - 1))
