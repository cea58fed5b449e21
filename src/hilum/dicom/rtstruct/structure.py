"""The contours of one structure on the slices that they were drawn on.

A contour belongs to the slice whose plane it lies in, found by its position and not by the image
that it names. All contours of a plane are filled together.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.rtstruct.fill import coverage
from hilum.errors import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.dicom.frame_grid import FrameGrid
    from hilum.dicom.painting import Layer

HALF = 0.5
"""Covered part of a voxel from which it belongs to a structure."""

_ROUNDING = 1e-6  # of a coverage: a contour through the centres of pixels covers them by half
_FLAT = 0.1  # part of the slice distance that the points of one contour may lie apart along it
_OFF = 0.05  # part of the slice distance from which being off a slice is said; planes are as far
_SHOWN = 5

OBLIQUE = "contours that do not lie in the plane of the slices are left out"
BEYOND = "contours beyond the first or last slice are left out"
BETWEEN = "contours between slices are left out, as others are nearer to the slice"
OFF = "contours that lie beside the middle of their slice are taken for the nearest one"
BESIDE = "contours outside of the image are left out"
CUT = "contours that reach beyond the image's border are cut off there"
TWICE = "contours that are stored twice count once"
SMALL = "contours smaller than a pixel are filled only where they cover half of one"
VANISHED = "structures that cover half of no voxel, so that nothing of them is left"
SPARSE = "structures drawn on every second slice or fewer; the slices between stay empty"


class Remarks:
    """Counts of contours that a mask cannot hold as they are, by kind and structure."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, kind: str, structure: str, count: int) -> None:
        """Count contours; 0 is none."""
        if count:
            self._counts.setdefault(kind, Counter())[structure] += count

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each kind."""
        return tuple(
            f"{kind}: {some((f'{name} ({n})' for name, n in counts.items()), shown=_SHOWN)}"
            for kind, counts in self._counts.items()
        )


def fill_structure(
    name: str,
    contours: Sequence[NDArray[np.float64]],
    grid: FrameGrid,
    layer: Layer,
    remarks: Remarks,
) -> None:
    """Fill the contours of a structure: voxels of which at least half is covered belong to it.

    Args:
        name: of the structure.
        contours: (N, 3) LPS mm each, closed.
        grid: the slices.
        layer: what the voxels are added to.
        remarks: what the contours that cannot be held are counted in.
    """
    shape = grid.shape[1], grid.shape[2]
    before = layer.voxels
    drawn = []
    for index, polygons in _planes(name, contours, grid, remarks):
        inside = _on_image(name, polygons, shape, remarks)
        layer.add(index, coverage(inside, shape) >= HALF - _ROUNDING)
        drawn.append(index)
    remarks.add(VANISHED, name, int(bool(contours) and layer.voxels == before))
    gaps = np.diff(drawn)
    remarks.add(SPARSE, name, int(len(gaps) > 1 and bool((gaps > 1).all())))


def _planes(
    name: str, contours: Sequence[NDArray[np.float64]], grid: FrameGrid, remarks: Remarks
) -> Iterator[tuple[int, list[NDArray[np.float64]]]]:
    """Sort contours by slice: its number, and the polygons of the plane nearest to it, in order.

    Vertices become (row, column).
    """
    slices: dict[int, list[tuple[float, NDArray[np.float64]]]] = {}
    for contour in contours:
        places = grid.index_of(contour)
        if np.ptp(places[:, 0]) > _FLAT:
            remarks.add(OBLIQUE, name, 1)
            continue
        place = float(places[:, 0].mean())
        index = int(np.rint(place))
        if 0 <= index < grid.shape[0]:
            slices.setdefault(index, []).append((place - index, places[:, 1:]))
        else:
            remarks.add(BEYOND, name, 1)
    for index, held in sorted(slices.items()):
        nearest = min((off for off, _ in held), key=abs)
        polygons = [polygon for off, polygon in held if abs(off - nearest) <= _OFF]
        remarks.add(BETWEEN, name, len(held) - len(polygons))
        remarks.add(OFF, name, len(polygons) if abs(nearest) > _OFF else 0)
        yield index, _each_once(name, polygons, remarks)


def _each_once(
    name: str, polygons: Sequence[NDArray[np.float64]], remarks: Remarks
) -> list[NDArray[np.float64]]:
    """Drop the copies of contours, which together would enclose nothing."""
    found: dict[bytes, NDArray[np.float64]] = {}
    for polygon in polygons:
        points = np.unique(np.rint(polygon * 1000).astype(np.int64), axis=0)
        found.setdefault(points.tobytes(), polygon)
    remarks.add(TWICE, name, len(polygons) - len(found))
    return list(found.values())


def _on_image(
    name: str,
    polygons: Sequence[NDArray[np.float64]],
    shape: tuple[int, int],
    remarks: Remarks,
) -> list[NDArray[np.float64]]:
    """Return the polygons that reach into the image; count those beside it, cut by it, or small.

    One that reaches beyond the border is beside the image where it covers no part of a voxel: the
    box around it may reach into the image and the polygon not, such as one across a corner.
    """
    last, inside = np.array(shape) - 0.5, []
    for polygon in polygons:
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        beyond = (low < -0.5 - _ROUNDING).any() or (high > last + _ROUNDING).any()
        if beyond and not coverage([polygon], shape).any():
            remarks.add(BESIDE, name, 1)
            continue
        remarks.add(CUT, name, int(beyond))
        remarks.add(SMALL, name, int(_area(polygon) < 1.0))
        inside.append(polygon)
    return inside


def _area(polygon: NDArray[np.float64]) -> float:
    """Area of a polygon in pixels, by the shoelace rule."""
    rows, columns = polygon.T
    doubled = rows @ np.roll(columns, -1) - columns @ np.roll(rows, -1)
    return float(abs(doubled)) / 2
