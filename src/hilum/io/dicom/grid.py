"""From the slices of a DICOM series to one grid, or a clear refusal.

A grid exists when all slices share orientation, size and frame of reference and lie evenly along
the normal of their plane (DICOM PS3.3 C.7.6.2.1.1). What readers do otherwise (averaging uneven
distances, dropping copies, ignoring a tilt) moves anatomy by centimetres without a word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError
from hilum.io.record import make_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.io.dicom.frames import Frame
    from hilum.volume import Geometry

_SAME_DIRECTION = 1e-3  # largest difference of a cosine; what rounding leaves is below 1e-4
_UNEVEN = 0.1  # part of the slice distance that a slice may lie off its even place
_SHIFTED = 0.1  # part of a pixel that a slice may lie off in its plane
_SAY = 0.01  # the same parts, from which it is said
_SHEAR = 1e-3  # sine of the tilt that a Geometry still takes


@dataclass(frozen=True)
class Stack:
    """Frames in the order of the Z axis, the grid they form, and what had to be assumed."""

    frames: tuple[Frame, ...]
    geometry: Geometry
    notes: tuple[str, ...]


def stack(slices: Sequence[Frame], source: Path) -> Stack:
    """Sort slices along their common normal and build their grid.

    Args:
        slices: at least one.
        source: the folder or file they came from, for errors.

    Raises:
        GeometryError: they do not form one even, perpendicular grid; every reason is given.
    """
    _refuse_mixture(slices, source)
    normal = slices[0].normal
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(ordered) == 1:
        thickness = ordered[0].thickness
        note = "a single slice without thickness; 1 mm is assumed"
        return _assemble(ordered, thickness or 1.0, () if thickness else (note,), source)
    positions = np.array([s.position for s in ordered])  # (N, 3)
    depths = positions @ normal
    steps = np.diff(depths)
    faults = _uneven_steps(ordered, steps)
    tilt, tilt_notes = _tilt(ordered, positions, normal)
    if faults or tilt:
        raise GeometryError(
            f"{source}: {len(ordered)} slices that form no even grid:"
            f" {'; '.join([*faults, *tilt])}",
            needed="slices at even distances along the normal of their plane, each once",
            cure=(
                "export the complete series again; of several time points or echoes keep one in a"
                " folder; resample a tilted or uneven series first (e.g. dcm2niix)"
            ),
        )
    spacing = float(depths[-1] - depths[0]) / (len(ordered) - 1)
    off = float(np.abs(depths - depths[0] - spacing * np.arange(len(depths))).max())
    uneven = f"slices lie up to {off:.2g} mm off even distances; {spacing:.6g} mm is taken"
    notes = ((uneven,) if off > _SAY * spacing else ()) + tilt_notes
    return _assemble(ordered, spacing, notes, source)


def _refuse_mixture(slices: Sequence[Frame], source: Path) -> None:
    """Raise where slices differ in what a grid has only once."""
    first = slices[0].orientation

    def orientation(one: Frame) -> str:
        turned = np.abs(one.orientation - first).max() > _SAME_DIRECTION
        return f"orientation {np.round(one.orientation if turned else first, 3).ravel().tolist()}"

    def pixels(one: Frame) -> str:
        (rows, columns), (row_mm, column_mm) = one.shape, one.pixel_spacing
        return f"{rows} x {columns} pixels of {row_mm:g} x {column_mm:g} mm"

    def frame(one: Frame) -> str:
        return f"frame of reference {one.frame_of_reference}"

    for kind_of in (orientation, pixels, frame):
        kinds = Counter(map(kind_of, slices))
        if len(kinds) > 1:
            listed = "; ".join(f"{count} with {kind}" for kind, count in kinds.items())
            raise GeometryError(
                f"{source}: slices that differ: {listed}",
                needed="one orientation, size and frame of reference",
                cure="put the slices of each kind into a folder of its own",
            )


def _uneven_steps(ordered: Sequence[Frame], steps: NDArray[np.float64]) -> list[str]:
    """List the faults of distances: slices at one place, missing ones, uneven ones."""
    faults, least = [], max(1e-3, 1e-3 * float(steps.max()))
    same = np.flatnonzero(steps <= least)
    if len(same):
        first, second = (ordered[int(same[0]) + n].path.name for n in (0, 1))
        faults.append(f"{len(same)} slices at a place already taken, first {first} and {second}")
    apart = steps[steps > least]
    if len(apart) < 2:
        return faults
    even = np.concatenate([[0.0], np.cumsum(apart)])
    spacing = even[-1] / (len(even) - 1)
    if np.abs(even - spacing * np.arange(len(even))).max() <= _UNEVEN * spacing:
        return faults
    multiples = apart / apart.min()
    if np.abs(multiples - np.rint(multiples)).max() > _UNEVEN:
        shown = f"{apart.min():.4g} to {apart.max():.4g} mm"
        return [*faults, f"distances of {shown} between slices"]
    first, second = (ordered[int(np.argmax(steps)) + n].path.name for n in (0, 1))
    missing = int((np.rint(multiples) - 1).sum())
    return [*faults, f"{missing} slices missing, first gap between {first} and {second}"]


def _tilt(
    ordered: Sequence[Frame], positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Faults and notes of slices that are shifted in their plane from one to the next."""
    moved = positions - positions[0]
    in_plane = moved - np.outer(moved @ normal, normal)  # (N, 3)
    pixel = min(ordered[0].pixel_spacing)
    depth = float(np.linalg.norm(moved[-1]))
    drift = float(np.linalg.norm(in_plane[-1]))
    if depth > 0 and drift / depth > _SHEAR and drift > _SHIFTED * pixel:
        angle = np.degrees(np.arcsin(min(1.0, drift / depth)))
        return (f"a tilted gantry ({angle:.1f} degrees)",), ()
    along = (
        (moved @ normal) / float(moved[-1] @ normal) if moved[-1] @ normal else np.zeros(len(moved))
    )
    jitter = float(np.linalg.norm(in_plane - np.outer(along, in_plane[-1]), axis=1).max())
    if jitter > _SHIFTED * pixel:
        return (f"slices shifted in their plane by up to {jitter:.3g} mm",), ()
    off = max(jitter, drift)
    note = f"slices lie up to {off:.2g} mm off in their plane (rounding); the normal is followed"
    return (), (note,) if off > _SAY * pixel else ()


def _assemble(
    ordered: Sequence[Frame], spacing: float, notes: tuple[str, ...], source: Path
) -> Stack:
    """Build the stack of slices that form a grid."""
    first = ordered[0]
    columns, rows = first.orientation / np.linalg.norm(first.orientation, axis=1, keepdims=True)
    affine = np.eye(4)
    # nanometres are the rounding of decimal strings
    affine[:3, 0] = first.normal * round(spacing, 9)
    affine[:3, 1] = rows * first.pixel_spacing[0]
    affine[:3, 2] = columns * first.pixel_spacing[1]
    affine[:3, 3] = first.position
    geometry, snapped = make_geometry(
        source, (len(ordered), *first.shape), affine, frame_of_reference=first.frame_of_reference
    )
    return Stack(tuple(ordered), geometry, notes + snapped)
