"""Frames of a segmentation on the slices of a series, by where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError
from hilum.files.record import make_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dicom.frame_grid import FrameGrid
    from hilum.volume import Geometry

_NEAR = 0.1
"""Part of a pixel, or of the distance between slices, that a frame may lie off its place."""
_EVEN = 0.05  # part of a step by which the distance of frames may differ from a whole number
_PARALLEL = 1e-3  # largest difference of a cosine


@dataclass(frozen=True)
class Plane:
    """The place of a frame; see :class:`hilum.dicom.frame_grid.PlaneLike`.

    Args:
        shape: (rows, columns).
        position: LPS mm of the centre of the first pixel.
        orientation: (2, 3) cosines: of the direction in which columns rise, then rows.
        pixel_spacing: mm between (rows, columns).
        step: mm between slices that the file states; None where it does not.
        thickness: mm; None where the file does not say.
    """

    shape: tuple[int, int]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    step: float | None
    thickness: float | None


@dataclass(frozen=True)
class Place:
    """The pixels of a frame on a grid of slices.

    Args:
        index: the slice.
        start: (row, column) of the frame's first pixel.
        steps: ((row, column), (row, column)) by which a row and a column of the frame move.
    """

    index: int
    start: tuple[int, int]
    steps: tuple[tuple[int, int], tuple[int, int]]

    def put(self, mask: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], int]:
        """Bring a frame's mask onto a slice of the grid.

        Returns:
            (rows, columns) of the grid; and how many pixels of the mask lie outside of it.
        """
        turned, (row, column) = mask, self.start
        if self.steps[0][0] == 0:
            turned = turned.T
        down, right = (sum(step[axis] for step in self.steps) for axis in (0, 1))
        if down < 0:
            turned, row = turned[::-1], row - turned.shape[0] + 1
        if right < 0:
            turned, column = turned[:, ::-1], column - turned.shape[1] + 1
        placed = np.zeros(shape, dtype=np.bool_)
        top, left = max(0, row), max(0, column)
        inner = turned[top - row : shape[0] - row, left - column : shape[1] - column]
        if row < shape[0] and column < shape[1] and inner.size:
            placed[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return placed, int(np.count_nonzero(mask)) - int(np.count_nonzero(placed))


def place_on(plane: Plane, grid: FrameGrid) -> Place | None:
    """Find a frame's slice and pixels on a grid; None where its pixels are not pixels of the grid.

    Rows and columns may run in any of the eight ways, and reach beyond the grid.
    """
    column_step, row_step = plane.orientation * np.array(plane.pixel_spacing[::-1])[:, None]
    ends = (np.array(plane.shape) - 1)[:, None] * np.stack([row_step, column_step])
    points = plane.position + np.stack([0 * row_step, row_step, column_step, ends[0], ends[1]])
    first, *steps = grid.index_of(points)
    whole = np.rint([first, steps[0] - first, steps[1] - first]).astype(int)  # (3, 3)
    rows, columns = plane.shape
    expected = whole[0] + np.stack([whole[1] * (rows - 1), whole[2] * (columns - 1)])
    off = max(np.abs(first - whole[0]).max(), np.abs(np.stack(steps[2:]) - expected).max())
    in_plane = np.abs(whole[1:])
    units = np.array_equal(in_plane.sum(axis=0), [0, 1, 1]) and np.array_equal(
        in_plane.sum(axis=1), [1, 1]
    )
    if not units or off > _NEAR or not 0 <= whole[0][0] < grid.shape[0]:
        return None
    (down, across), (down2, across2) = whole[1:, 1:].tolist()
    start = int(whole[0][1]), int(whole[0][2])
    return Place(int(whole[0][0]), start, ((down, across), (down2, across2)))


def own_grid(
    planes: Sequence[Plane], source: Path, *, frame_of_reference: str | None
) -> tuple[Geometry, tuple[str, ...]]:
    """Build the grid that the frames of a segmentation themselves span.

    It reaches from the first to the last of them; slices between them that have no frame are empty.
    Whether every frame lies on it is for :func:`place_on` to say.

    Args:
        planes: at least one.
        source: the file, for errors.
        frame_of_reference: UID or None.

    Returns:
        The grid, and what had to be assumed.

    Raises:
        GeometryError: frames of several orientations or sizes of pixels.
    """
    first = planes[0]
    _refuse_mixture(planes, source)
    columns, rows = first.orientation / np.linalg.norm(first.orientation, axis=1)[:, None]
    normal = np.cross(columns, rows)
    positions = np.array([plane.position for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step, notes = _slice_distance(positions @ normal, first)
    affine = np.eye(4)
    affine[:3, 0] = normal * round(step, 9)
    affine[:3, 1] = rows * first.pixel_spacing[0]
    affine[:3, 2] = columns * first.pixel_spacing[1]
    affine[:3, 3] = positions[0]
    count = round(float((positions[-1] - positions[0]) @ normal) / step) + 1
    geometry, snapped = make_geometry(
        source, (count, *first.shape), affine, frame_of_reference=frame_of_reference
    )
    return geometry, notes + snapped


def _refuse_mixture(planes: Sequence[Plane], source: Path) -> None:
    """Raise where frames differ in orientation or in the size of pixels."""
    first = planes[0]
    alike = all(
        np.abs(plane.orientation - first.orientation).max() <= _PARALLEL
        and np.allclose(plane.pixel_spacing, first.pixel_spacing, rtol=_PARALLEL)
        for plane in planes
    )
    if not alike:
        raise GeometryError(
            f"{source}: frames of several orientations or pixel sizes",
            needed="frames that are parallel and alike",
            cure="export one segmentation for each orientation",
        )


def _slice_distance(depths: NDArray[np.float64], first: Plane) -> tuple[float, tuple[str, ...]]:
    """Find the distance between slices: the stated one, or the smallest between frames."""
    steps = np.diff(depths)
    apart = steps[steps > 1e-3 * max(1.0, float(steps.max(initial=0.0)))]
    if not len(apart):
        stated = first.step or first.thickness
        note = "a single slice whose thickness is not stated; 1 mm is assumed"
        return stated or 1.0, () if stated else (note,)
    least = float(apart.min())
    whole = least / first.step if first.step else 0.0
    step = least / round(whole) if whole > 0.5 and abs(whole - round(whole)) <= _EVEN else least
    span = float(depths[-1] - depths[0])
    return span / round(span / step), ()
