"""Reorient volumes exactly between the 48 orientations, and clean rounded directions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.volume.geometry import CANONICAL, Geometry
from hilum.volume.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = "source"
"""The orientation code that means: leave every volume as it was acquired."""

_WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_ALIGNED = 1e-5
"""Radians: below it the far corner of a 1000-voxel axis moves by a hundredth of a voxel."""


def reorient(volume: Volume, code: str = CANONICAL) -> Volume:
    """Flip and permute the array axes so that they run in the anatomical directions of `code`.

    No voxel is interpolated.

    Args:
        volume: (C, Z, Y, X), any dtype.
        code: one letter an array axis, e.g. "SPL"; "source" changes nothing. In an oblique volume
            each axis takes the letter of its nearest anatomical direction.

    Returns:
        The same voxels at the same places in space. The array is a view of the given one (perhaps
        with negative strides).

    Raises:
        UsageError: `code` is none of the 48 orientations, nor "source".
    """
    if code in (SOURCE, volume.geometry.orientation):
        return volume
    order, flips = _moves(volume.geometry, code)
    array = np.flip(
        volume.array.transpose(0, *(axis + 1 for axis in order)),
        axis=tuple(i + 1 for i in range(3) if flips[i]),
    )
    return Volume(array, reorient_geometry(volume.geometry, code))


def reorient_geometry(geometry: Geometry, code: str = CANONICAL) -> Geometry:
    """Return the grid of the same voxels in another order.

    See :func:`reorient` for `code` and errors.
    """
    if code in (SOURCE, geometry.orientation):
        return geometry
    order, flips = _moves(geometry, code)
    start = [0.0, 0.0, 0.0]
    affine = geometry.affine.copy()
    for new_axis, old_axis in enumerate(order):
        sign = -1.0 if flips[new_axis] else 1.0
        affine[:3, new_axis] = sign * geometry.affine[:3, old_axis]
        start[old_axis] = geometry.shape[old_axis] - 1.0 if flips[new_axis] else 0.0
    affine[:3, 3] = geometry.index_to_world(start)
    z, y, x = (geometry.shape[axis] for axis in order)
    return replace(geometry, shape=(z, y, x), affine=affine)


def snap(geometry: Geometry) -> tuple[Geometry, bool]:
    """Remove what rounding did to the directions of a header.

    Directions that are not exactly perpendicular unit vectors (headers store 4 to 6 decimals;
    `Geometry` accepts cosines up to 1e-3 between two axes) become the nearest orthonormal ones
    (polar decomposition), and directions within 1e-5 radians of the world axes become exactly those
    axes. Spacing, shape and frame of reference stay; the image turns about its own centre, so that
    no voxel moves by more than half the correction at the far corner.

    Returns:
        The clean geometry, and whether a direction changed by more than 1e-6 (headers in float32
        are always off by less).
    """
    directions = geometry.directions
    left, _, right = np.linalg.svd(directions)
    clean: NDArray[np.float64] = left @ right
    nearest = np.zeros((3, 3))
    for array_axis, world_axis in enumerate(geometry.world_axes):
        nearest[world_axis, array_axis] = np.sign(directions[world_axis, array_axis])
    if np.abs(clean - nearest).max() <= _ALIGNED:
        clean = nearest
    if np.array_equal(clean, directions) or np.abs(clean - directions).max() < 1e-12:
        return geometry, False
    affine = geometry.affine.copy()
    affine[:3, :3] = clean * np.asarray(geometry.spacing)
    middle = (np.asarray(geometry.shape) - 1.0) / 2
    affine[:3, 3] = geometry.index_to_world(middle) - affine[:3, :3] @ middle
    return replace(geometry, affine=affine), bool(np.abs(clean - directions).max() > 1e-6)


def _moves(geometry: Geometry, code: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each new array axis the old one it comes from, and whether that is walked backwards."""
    if sorted(_WORLD_AXIS.get(letter, -1) for letter in code) != [0, 1, 2]:
        raise UsageError(
            f"code={code!r} is no orientation",
            needed=(
                'three letters, one each out of L|R, P|A and S|I, or "source" to leave volumes as'
                " they are"
            ),
            cure="code='SPL'",
        )
    now = geometry.orientation
    places = [_WORLD_AXIS[letter] for letter in now]
    a, b, c = (places.index(_WORLD_AXIS[letter]) for letter in code)
    return (a, b, c), (now[a] != code[0], now[b] != code[1], now[c] != code[2])
