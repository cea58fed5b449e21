"""The grid of an image in the patient's space: the one type that knows the axis convention.

The world is LPS millimetres (x to the patient's Left, y to Posterior, z to Superior: DICOM PS3.3
C.7.6.2.1.1). Array axes are (Z, Y, X); column *n* of the affine is the step, in millimetres, along
axis *n* of the array.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

CANONICAL = "SPL"
"""Orientation in which axis 0 runs to Superior, axis 1 to Posterior and axis 2 to Left: the LPS
axes, z first."""

_POSITIVE, _NEGATIVE = "LPS", "RAI"  # letters of world axes x, y, z
_SHEAR_TOLERANCE = 1e-3
"""Cosine between two axes; header rounding stays below, gantry tilt of 0.1 degree above."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape, affine and frame of reference of an image grid.

    Args:
        shape: voxels along (Z, Y, X); a 2D picture has Z = 1.
        affine: (4, 4); maps the array index (z, y, x, 1) to LPS millimetres (x, y, z, 1).
        frame_of_reference: the DICOM Frame of Reference UID where one is known.

    Raises:
        GeometryError: the affine is not finite, is singular, or its axes are not perpendicular.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)
    frame_of_reference: str | None = None

    def __post_init__(self) -> None:
        """Freeze the affine and refuse what no image grid can be."""
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(
                f"the grid has shape {shape}", needed="three positive sizes (Z, Y, X)"
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"the affine is {affine.tolist()}", needed="a finite 4 x 4 matrix")
        steps = affine[:3, :3]
        lengths = np.linalg.norm(steps, axis=0)
        if lengths.min() < 1e-6:
            raise GeometryError(
                f"the spacing is {lengths.tolist()} mm along (Z, Y, X)",
                needed="more than 0 mm along every axis",
                cure="convert the image again, or write its true spacing into its header",
            )
        cosines = (steps / lengths).T @ (steps / lengths)
        shear = float(np.abs(cosines - np.eye(3)).max())
        if shear > _SHEAR_TOLERANCE:
            raise GeometryError(
                f"the axes are not perpendicular (cosine {shear:.4f} between two of"
                " them), as from a tilted gantry or a sheared affine",
                needed="perpendicular axes",
                cure="resample the image onto a perpendicular grid first (SimpleITK's Resample)",
            )
        affine[3] = (0.0, 0.0, 0.0, 1.0)
        affine += 0.0  # -0.0 becomes 0.0: equal geometries must have equal bytes, for their hash
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        """Exact equality of every field.

        For headers that differ by rounding use :meth:`is_close`.
        """
        if not isinstance(other, Geometry):
            return NotImplemented
        same = (self.shape, self.frame_of_reference) == (other.shape, other.frame_of_reference)
        return same and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        """Hash of the fields that equality compares."""
        return hash((self.shape, self.affine.tobytes(), self.frame_of_reference))

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        *,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        directions: ArrayLike | None = None,
        frame_of_reference: str | None = None,
    ) -> Geometry:
        """Build a geometry from spacing in array order.

        Args:
            shape: (Z, Y, X).
            spacing: mm along (Z, Y, X).
            origin: LPS mm (x, y, z) of the centre of voxel (0, 0, 0).
            directions: (3, 3), unit column *n* is the LPS direction of array axis *n*; the
                canonical "SPL" if None.
            frame_of_reference: DICOM UID or None.
        """
        affine = np.eye(4)
        columns = np.eye(3)[:, ::-1] if directions is None else directions
        affine[:3, :3] = np.asarray(columns, dtype=np.float64) * np.asarray(spacing)
        affine[:3, 3] = np.asarray(origin, dtype=np.float64)
        z, y, x = (int(n) for n in shape)
        return cls((z, y, x), affine, frame_of_reference)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along (Z, Y, X)."""
        z, y, x = (float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        return z, y, x

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS millimetres (x, y, z) of the centre of voxel (0, 0, 0)."""
        x, y, z = (float(v) for v in self.affine[:3, 3])
        return x, y, z

    @property
    def directions(self) -> NDArray[np.float64]:
        """(3, 3): unit column *n* is the LPS direction of array axis *n*."""
        steps = self.affine[:3, :3]
        return np.asarray(steps / np.linalg.norm(steps, axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in cubic millimetres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def is_2d(self) -> bool:
        """True if this is a single picture (Z = 1)."""
        return self.shape[0] == 1

    @property
    def unscaled(self) -> bool:
        """True for a picture without a physical scale: readers then set 1 mm a pixel."""
        return self.is_2d and self.spacing[1:] == (1.0, 1.0)

    @property
    def orientation(self) -> str:
        """The anatomical direction of each array axis in three letters ("SPL" is canonical)."""
        letters = []
        for array_axis, world_axis in enumerate(self.world_axes):
            up = self.directions[world_axis, array_axis] > 0
            letters.append((_POSITIVE if up else _NEGATIVE)[world_axis])
        return "".join(letters)

    @property
    def world_axes(self) -> tuple[int, int, int]:
        """For each array axis the world axis (0 x, 1 y, 2 z) it runs along most nearly.

        A permutation.
        """
        remaining = np.abs(self.directions).copy()  # (world, array)
        axes = [0, 0, 0]
        for _ in range(3):
            world, array = np.unravel_index(int(remaining.argmax()), (3, 3))
            axes[int(array)] = int(world)
            remaining[world, :] = -1.0
            remaining[:, array] = -1.0
        return axes[0], axes[1], axes[2]

    def index_to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """Map indices (..., 3) in array order (z, y, x) to LPS millimetres (..., 3)."""
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def world_to_index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Map LPS millimetres (..., 3) to fractional indices (..., 3) in array order (z, y, x)."""
        points = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(points @ np.linalg.inv(self.affine[:3, :3]).T)

    def is_close(self, other: Geometry, *, tolerance_voxels: float = 0.01) -> bool:
        """Return True if shapes are equal and voxel centres agree to a fraction of a voxel.

        The frame of reference is not compared: most formats cannot store it.
        """
        return self.shape == other.shape and self.distance_voxels(other) <= tolerance_voxels

    def distance_voxels(self, other: Geometry) -> float:
        """Return the largest distance of corresponding corners in this grid's smallest spacings."""
        corners = self.corner_indices()
        gap = self.index_to_world(corners) - other.index_to_world(corners)
        return float(np.linalg.norm(gap, axis=-1).max() / min(self.spacing))

    def corner_indices(self) -> NDArray[np.float64]:
        """Return the eight corner voxels' indices, (8, 3)."""
        ends = np.meshgrid(*[(0.0, n - 1.0) for n in self.shape], indexing="ij")
        return np.reshape(ends, (3, 8)).T

    def shifted(self, start: Sequence[float], shape: Sequence[int]) -> Geometry:
        """Return the grid whose first voxel is this grid's (fractional) index `start`."""
        affine = self.affine.copy()
        affine[:3, 3] = self.index_to_world(start)
        z, y, x = (int(n) for n in shape)
        return replace(self, shape=(z, y, x), affine=affine)

    def resized(self, shape: Sequence[int]) -> Geometry:
        """Return the grid of another shape over the same block of space (outer faces stay)."""
        z, y, x = (int(n) for n in shape)
        factors = np.array(self.shape, dtype=np.float64) / np.array((z, y, x), dtype=np.float64)
        affine = self.affine.copy()
        affine[:3, :3] = affine[:3, :3] * factors
        affine[:3, 3] = self.index_to_world(factors / 2 - 0.5)
        return replace(self, shape=(z, y, x), affine=affine)
