"""Surfaces as meshes: the triangles of marching cubes, and exact distances to them.

The mesh runs through the middle between a voxel inside and a voxel outside (level 0.5). Its
triangles have nearly the areas of the surface elements of `hilum.metrics.surface`, which lie in
the middle of their neighbourhoods; of a mesh the true point of the other surface that is nearest
is found, in any triangle. A picture (Z = 1) has a contour of segments instead. Sources: Lewiner et
al., J Graph Tools 8(2), 2003, in scikit-image; the point of a triangle that is nearest: Ericson,
"Real-Time Collision Detection", 2005, section 5.1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask

    Numbers = NDArray[np.float64]

ROUNDING_MM = 1e-9
"""More than the rounding of a distance: corners are multiples of half a voxel, within metres."""

_CANDIDATES = 8
"""Pieces, by their centres, that a distance is first looked for in."""

_CHUNK = 20_000
"""Points whose distances are computed at once: bounds the memory."""


@dataclass(frozen=True)
class Mesh:
    """Triangles of a surface, or segments of an outline, with their areas.

    Args:
        corners: (N, 3, 3) mm along (Z, Y, X) of the corners of N triangles, or (N, 2, 3) of the
            ends of N segments.
        areas: (N,) mm2, of segments mm; 0 where a piece does not count.
    """

    corners: Numbers
    areas: Numbers

    @property
    def centres(self) -> Numbers:
        """Centres of the pieces, (N, 3) mm."""
        return np.asarray(self.corners.mean(axis=1))

    def distances_to(self, other: Mesh) -> Numbers:
        """(N,) mm from each centre to the nearest point of the other mesh; inf where that is empty.

        A piece whose centre is further than the best distance by more than the largest piece's
        radius cannot be nearer; candidates are doubled until all others are such.
        """
        from scipy.spatial import cKDTree

        if not len(other.corners):
            return np.full(len(self.corners), np.inf)
        centres = other.centres
        tree = cKDTree(centres, balanced_tree=False, compact_nodes=False)
        radius = np.linalg.norm(other.corners - centres[:, None], axis=-1).max()
        points, distances = self.centres, np.empty(len(self.corners))
        unsure, count = np.arange(len(points)), _CANDIDATES
        while unsure.size:
            count = min(count, len(centres))
            left = []
            chunk = max(_CHUNK * _CANDIDATES // count, 1)
            for start in range(0, len(unsure), chunk):
                here = unsure[start : start + chunk]
                far, near = map(np.asarray, tree.query(points[here], k=[*range(1, count + 1)]))
                pieces = other.corners[near]  # (n, count, corners, 3)
                distances[here] = _to_pieces(points[here, None], pieces).min(axis=1)
                left.append(here[far[:, -1] - radius < distances[here]])
            unsure = np.concatenate(left) if count < len(centres) else unsure[:0]
            count *= 2
        return distances


def mesh_of(
    mask: Mask, spacing: Numbers, left_out: NDArray[np.uint8] | None, *, flat: bool
) -> Mesh:
    """Return the surface of a mask (Z, Y, X) that has a margin of background.

    Args:
        mask: with a voxel of background around it; of a picture in its plane only.
        spacing: mm along (Z, Y, X).
        left_out: not 0 in neighbourhoods, as `_neighbourhoods` counts them, whose pieces have no
            area.
        flat: the contour of a picture.
    """
    if not mask.any():
        return Mesh(np.zeros((0, 2 if flat else 3, 3)), np.zeros(0))
    places = _contour(mask[0]) if flat else _triangles(mask)
    corners = places * spacing
    if flat:
        areas = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1)
    else:
        sides = corners[:, 1:] - corners[:, :1]
        areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1) / 2
    if left_out is not None:
        cells = np.floor(places.mean(axis=1)).astype(int)
        areas = np.where(left_out[tuple(cells.T)] != 0, 0.0, areas)
    return Mesh(corners, areas)


def _triangles(mask: Mask) -> Numbers:
    """(N, 3, 3) voxel coordinates of the triangles of marching cubes."""
    from skimage.measure import marching_cubes

    places, faces, *_ = marching_cubes(mask.astype(np.float32), 0.5, allow_degenerate=False)
    return np.asarray(places[faces], dtype=np.float64)


def _contour(mask: NDArray[np.bool_]) -> Numbers:
    """(N, 2, 3) pixel coordinates (0, Y, X) of the segments of marching squares."""
    from skimage.measure import find_contours

    lines = find_contours(mask.astype(np.float32), 0.5)
    segments = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
    return np.pad(segments, ((0, 0), (0, 0), (1, 0)))


def _to_pieces(points: Numbers, pieces: Numbers) -> Numbers:
    """(n, k) distances of points (n, 1, 3) to pieces (n, k, corners, 3)."""
    corners = pieces.shape[2]
    pairs = [(0, 1)] if corners == 2 else [(0, 1), (1, 2), (2, 0)]
    squares = np.min(
        [_to_segment(points, pieces[:, :, a], pieces[:, :, b]) for a, b in pairs], axis=0
    )
    if corners == 3:
        squares = np.minimum(squares, _to_plane(points, pieces))
    return np.asarray(np.sqrt(squares))


def _to_segment(points: Numbers, start: Numbers, stop: Numbers) -> Numbers:
    """Return the squared distance of points to segments."""
    along, offset = stop - start, points - start
    length = np.maximum(_dot(along, along), 1e-300)
    share = np.clip(_dot(offset, along) / length, 0, 1)[..., None]
    rest = offset - share * along
    return _dot(rest, rest)


def _to_plane(points: Numbers, triangles: Numbers) -> Numbers:
    """Return the squared distance of points to triangles they lie above; inf to all others."""
    a, b = triangles[:, :, 1] - triangles[:, :, 0], triangles[:, :, 2] - triangles[:, :, 0]
    offset = points - triangles[:, :, 0]
    normal = np.cross(a, b)
    square = np.maximum(_dot(normal, normal), 1e-300)
    u, v = _dot(np.cross(offset, b), normal) / square, _dot(np.cross(a, offset), normal) / square
    above = (u >= 0) & (v >= 0) & (u + v <= 1)
    return np.where(above, _dot(offset, normal) ** 2 / square, np.inf)


def _dot(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.einsum("...i,...i->...", a, b))
