"""The point to look at in each case, from three columns of a table.

The columns are centre_x, centre_y, centre_z (or center_x, centre_x_mm, coordX, x_mm, ...) in LPS
millimetres, the world of DICOM and of :class:`hilum.volume.Geometry`: x to the patient's left, y to
posterior, z to superior. LUNA16 and LIDC tables write coordX, coordY, coordZ like that. A picture
needs no z. Columns whose points lie outside of the images are something else (voxels, another
convention), and are left alone; a note says what they could be.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import DataError, some
from hilum.io import read_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Case, Dataset
    from hilum.volume import Geometry

    Point = tuple[float, float, float]

_NAMES = (
    *("centre_{}", "center_{}", "coord{}", "centre_{}_mm", "center_{}_mm", "coord_{}", "centre{}"),
    *("center{}", "{}_mm"),
)
_INSIDE_SHARE = 0.9
"""Share of the points that must lie in their images for the columns to be what their names say."""


def with_centres(dataset: Dataset) -> Dataset:
    """Set `Case.centre_mm` from columns of a table, where the point lies in the image.

    No column is used where most points lie outside. Only the images' headers are read.
    """
    axes = _axes(dataset)
    points = {case.id: found for case in dataset.every if (found := _point(case, axes))}
    if not points:
        return dataset
    inside = {case for case, (point, grid) in points.items() if _is_inside(point, grid)}
    if len(inside) < _INSIDE_SHARE * len(points):
        return dataset.with_notes(_elsewhere_note(axes, [*points.values()], len(inside)))
    note = (
        f"{', '.join(axes)} are the point to look at, in LPS millimetres: {len(inside)} cases"
        " have it"
    )
    outside = sorted(set(points) - inside)
    if outside:
        note += f"; that of {some(outside)} lies outside of its image and is left out"
    cases = (
        replace(case, centre_mm=points[case.id][0]) if case.id in inside else case
        for case in dataset.every
    )
    return dataset.with_cases(cases).with_notes(note)


def _axes(dataset: Dataset) -> tuple[str, ...]:
    """Return the columns of x, y and, where there is one, z; () where there are none."""
    lower = {name.lower(): name for case in dataset.cases for name in case.columns}
    for pattern in _NAMES:
        found = tuple(lower[name] for axis in "xyz" if (name := pattern.format(axis)) in lower)
        if len(found) == 3 or (len(found) == 2 and pattern.format("z") not in lower):
            return found
    return ()


def _point(case: Case, axes: tuple[str, ...]) -> tuple[Point, Geometry] | None:
    """Return a case's point and its image's grid.

    None where a number is missing, or the header cannot be read (the doctor says so).
    """
    if case.fault is not None or not axes:
        return None
    try:
        numbers = [float(case.columns.get(name, "")) for name in axes]
        grid = read_geometry(next(iter(case.images.values())))
    except (ValueError, DataError):
        return None
    if not all(map(math.isfinite, numbers)) or (len(numbers) == 2 and not grid.is_2d):
        return None
    x, y, *z = numbers
    return (x, y, z[0] if z else grid.origin[2]), grid


def _is_inside(point: Point, grid: Geometry) -> bool:
    return _has_index(grid.world_to_index(np.array(point)), grid)


def _has_index(index: np.ndarray, grid: Geometry) -> bool:
    return bool(((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all())


def _elsewhere_note(
    axes: tuple[str, ...], points: Sequence[tuple[Point, Geometry]], inside: int
) -> str:
    """Say why the columns are left alone, and in which convention the points would fit."""
    needed = _INSIDE_SHARE * len(points)
    cure = ""
    if sum(_is_inside((-x, -y, z), grid) for (x, y, z), grid in points) >= needed:
        cure = (
            "; with x and y negated they do, so write them so (they are right-anterior, as NIfTI"
            " has it)"
        )
    elif sum(_has_index(np.array(point)[::-1], grid) for point, grid in points) >= needed:
        cure = "; they look like voxels, so write millimetres (Geometry.index_to_world)"
    return (
        f"{', '.join(axes)} are left alone: as LPS millimetres {inside} of {len(points)} points lie"
        f" in their images{cure}"
    )
