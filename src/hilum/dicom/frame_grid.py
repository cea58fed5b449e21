"""The grid of an annotation's planes: slices in order, each at its own position.

Unlike a :class:`Geometry` it also holds slices of a tilted gantry, and uneven ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.volume import Geometry


class PlaneLike(Protocol):
    """The place of one image plane, as :class:`hilum.dicom.grid.Frame` states it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    @property
    def position(self) -> NDArray[np.float64]:
        """LPS mm of the centre of the first pixel."""

    @property
    def orientation(self) -> NDArray[np.float64]:
        """(2, 3) cosines: of the direction in which columns rise, of that in which rows rise."""

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Mm between (rows, columns)."""


@dataclass(frozen=True)
class FrameGrid:
    """Parallel slices along their normal.

    Args:
        origins: (N, 3) LPS mm of the centre of each slice's first pixel.
        directions: (3, 3) unit rows: the normal along which slices rise, then the directions in
            which rows and columns rise.
        pixel_spacing: mm between (rows, columns).
        thickness: mm that the only slice stands for, where there is one.
        shape: (slices, rows, columns).
    """

    origins: NDArray[np.float64]
    directions: NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    thickness: float
    shape: tuple[int, int, int]

    @classmethod
    def of_frames(cls, frames: Sequence[PlaneLike], thickness: float) -> FrameGrid:
        """Take the slices of a series, in the order of its volume's Z axis.

        Args:
            frames: at least one, parallel, each at another place along the normal.
            thickness: mm of a single slice.
        """
        first = frames[0]
        columns, rows = first.orientation / np.linalg.norm(first.orientation, axis=1)[:, None]
        origins = np.array([frame.position for frame in frames])
        normal = np.cross(columns, rows)
        normal *= 1.0 if (origins[-1] - origins[0]) @ normal >= 0 else -1.0
        return cls(
            origins,
            np.array([normal, rows, columns]),
            first.pixel_spacing,
            thickness,
            (len(frames), *first.shape),
        )

    @classmethod
    def of_geometry(cls, geometry: Geometry) -> FrameGrid:
        """Take the slices of a volume's grid."""
        count = geometry.shape[0]
        places = np.zeros((count, 3))
        places[:, 0] = np.arange(count)
        thickness, *pixel = geometry.spacing
        origins, directions = geometry.index_to_world(places), geometry.directions.T
        return cls(origins, directions, (pixel[0], pixel[1]), thickness, geometry.shape)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Mm from each slice to the next along the normal, (N,); the last step is repeated."""
        if len(self.origins) == 1:
            return np.array([self.thickness])
        steps = np.diff(self.origins @ self.directions[0])
        return np.append(steps, steps[-1])

    def index_of(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map LPS millimetres (..., 3) to fractional (slice, row, column).

        Between slices, and beyond the first and last one, the origin is drawn on straight.
        """
        world = np.asarray(points, dtype=np.float64)
        depths, steps = self.origins @ self.directions[0], self.steps
        depth = world @ self.directions[0]
        below = np.clip(
            np.searchsorted(depths, depth, side="right") - 1, 0, max(0, len(depths) - 2)
        )
        place = below + (depth - depths[below]) / steps[below]  # (...)
        moves = np.zeros_like(self.origins)  # from a slice's origin to the next one's
        if len(depths) > 1:
            moves[:-1] = np.diff(self.origins, axis=0)
            moves[-1] = moves[-2]
        origin = self.origins[below] + (place - below)[..., None] * moves[below]
        in_plane = (world - origin) @ self.directions[1:].T / np.array(self.pixel_spacing)
        return np.concatenate([place[..., None], in_plane], axis=-1)

    def points_of(self, index: int, places: ArrayLike) -> NDArray[np.float64]:
        """Map (row, column) of a slice, (N, 2), to LPS millimetres (N, 3)."""
        in_mm = np.asarray(places, dtype=np.float64) * np.array(self.pixel_spacing)
        return np.asarray(self.origins[index] + in_mm @ self.directions[1:])
