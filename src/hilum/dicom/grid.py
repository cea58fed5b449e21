"""Grid of the slices of a DICOM series, or a clear refusal.

A grid exists when all slices share orientation, size and frame of reference and lie evenly along
the normal of their plane (DICOM PS3.3 C.7.6.2.1.1). What readers do otherwise (averaging uneven
distances, dropping copies, ignoring a tilt) moves anatomy by centimetres without a word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError, counted
from hilum.files.record import make_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dicom.frames import Frame
    from hilum.volume import Geometry

_SAME_DIRECTION = 1e-3  # largest difference of a cosine; what rounding leaves is below 1e-4
_UNEVEN = 0.1  # part of the slice distance that a slice may lie off its even place
_SHIFTED = 0.1  # part of a pixel that a slice may lie off in its plane
_SAY = 0.01  # the same parts, from which it is said
_SHEAR = 1e-3  # sine of the tilt that a Geometry still takes
_MOST_TILTED = 45.0  # degrees; gantries tilt by 30
_THICKER = 1.1  # times the thinnest slice, from which thicknesses differ
_DECIMALS = 4  # of pixels and mm, beyond which is rounding


@dataclass(frozen=True)
class Stack:
    """Frames in the order of the Z axis, the grid they form, and what had to be assumed.

    Args:
        frames: in the order of the Z axis.
        geometry: of the grid.
        notes: one sentence each.
        offsets: (N, 2) rows and columns of the grid at which each frame's first pixel lies, with
            fractions; None where all lie at (0, 0).
    """

    frames: tuple[Frame, ...]
    geometry: Geometry
    notes: tuple[str, ...]
    offsets: NDArray[np.float64] | None = None


def stack(slices: Sequence[Frame], source: Path | str) -> Stack:
    """Sort slices along their common normal and build their grid.

    Slices of a tilted gantry lie on a grid that is perpendicular to them and holds all their
    pixels.

    Args:
        slices: at least one.
        source: the folder or file they came from, for errors.

    Raises:
        GeometryError: they do not form one even grid; every reason is given.
    """
    _refuse_mixture(slices, source)
    normal = slices[0].normal
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(ordered) == 1:
        thickness = ordered[0].thickness
        note = "a single slice without thickness; 1 mm is assumed"
        assumed = () if thickness or not ordered[0].placed else (note,)
        return _assemble(ordered, thickness or 1.0, assumed, source)
    positions = np.array([s.position for s in ordered])  # (N, 3)
    depths = positions @ normal
    steps = np.diff(depths)
    faults = _uneven_steps(ordered, steps)
    shift = _shift_in_plane(ordered, positions, normal)
    if faults or shift.fault:
        raise GeometryError(
            f"{source}: the {len(ordered)} slices form no even grid:"
            f" {'; '.join([*faults, *filter(None, [shift.fault])])}",
            needed="slices at even distances along the normal of their plane, each once",
            cure=(
                "export the complete series again; of several time points or echoes keep one in a"
                " folder; resample an uneven series first"
            ),
        )
    spacing = float(depths[-1] - depths[0]) / (len(ordered) - 1)
    off = float(np.abs(depths - depths[0] - spacing * np.arange(len(depths))).max())
    uneven = f"slices lie up to {off:.2g} mm off even distances; {spacing:.6g} mm is taken"
    notes = (*((uneven,) if off > _SAY * spacing else ()), *filter(None, [shift.note]))
    return _assemble(ordered, spacing, notes, source, offsets=shift.offsets)


def _refuse_mixture(slices: Sequence[Frame], source: Path | str) -> None:
    """Raise where slices differ in what a grid has only once."""
    first = slices[0].orientation
    thinnest = min((one.thickness for one in slices if one.thickness), default=1.0)

    def orientation(one: Frame) -> str:
        turned = np.abs(one.orientation - first).max() > _SAME_DIRECTION
        return f"orientation {np.round(one.orientation if turned else first, 3).ravel().tolist()}"

    def pixels(one: Frame) -> str:
        (rows, columns), (row_mm, column_mm) = one.shape, one.pixel_spacing
        return f"{rows} x {columns} pixels of {row_mm:g} x {column_mm:g} mm"

    def frame(one: Frame) -> str:
        return f"frame of reference {one.frame_of_reference}"

    def thickness(one: Frame) -> str:
        thick = one.thickness or thinnest
        return f"a thickness of {thick if thick > _THICKER * thinnest else thinnest:.3g} mm"

    for kind_of in (orientation, pixels, frame, thickness):
        kinds = Counter(map(kind_of, slices))
        if len(kinds) > 1:
            listed = "; ".join(f"{count} with {kind}" for kind, count in kinds.items())
            raise GeometryError(
                f"{source}: the slices differ: {listed}",
                needed="one orientation, size, thickness and frame of reference",
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
    return [*faults, f"{counted(missing, 'slice')} missing, first gap between {first} and {second}"]


@dataclass(frozen=True)
class _Shift:
    """Places of slices in their common plane.

    Args:
        fault: why they form no grid; "" where they do.
        note: what is said about it; "" for nothing.
        offsets: (N, 2) pixels along rows and columns by which each slice lies off a line along the
            normal; None where that is rounding.
    """

    fault: str = ""
    note: str = ""
    offsets: NDArray[np.float64] | None = None


def _shift_in_plane(
    ordered: Sequence[Frame], positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> _Shift:
    """Find how slices are shifted in their plane: not at all, evenly by a tilt, or otherwise."""
    moved = positions - positions[0]
    in_plane = moved - np.outer(moved @ normal, normal)  # (N, 3)
    pixel = min(ordered[0].pixel_spacing)
    depth, drift = (float(np.linalg.norm(one[-1])) for one in (moved, in_plane))
    along = moved @ normal / float(moved[-1] @ normal or 1.0)
    jitter = float(np.linalg.norm(in_plane - np.outer(along, in_plane[-1]), axis=1).max())
    if jitter > _SHIFTED * pixel:
        return _Shift(fault=f"slices shifted in their plane by up to {jitter:.3g} mm")
    if depth == 0 or drift / depth <= _SHEAR or drift <= _SHIFTED * pixel:
        off = max(jitter, drift)
        if off <= _SAY * pixel:
            return _Shift()
        kept = "in their plane (rounding); the normal is followed"
        return _Shift(note=f"slices lie up to {off:.2g} mm off {kept}")
    angle = float(np.degrees(np.arcsin(min(1.0, drift / depth))))
    if angle > _MOST_TILTED:
        return _Shift(fault=f"slices that lie beside each other ({angle:.0f} degrees off)")
    directions = ordered[0].orientation[::-1]  # in which rows rise, then columns
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    offsets = in_plane @ directions.T / np.array(ordered[0].pixel_spacing)
    reach = float(np.abs(offsets[-1]).max())
    return _Shift(
        note=(
            f"the gantry was tilted by {angle:.1f} degrees, as the positions of the slices show;"
            f" each slice was moved in its plane, by up to {reach:.1f} pixels, onto a perpendicular"
            " grid, and what is outside the slices has the lowest value"
        ),
        offsets=offsets,
    )


def _assemble(
    ordered: Sequence[Frame],
    spacing: float,
    notes: tuple[str, ...],
    source: Path | str,
    *,
    offsets: NDArray[np.float64] | None = None,
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
    shape = first.shape
    if offsets is not None:
        offsets = np.round(offsets - offsets[_lowest_end(ordered)], _DECIMALS)
        begin = np.floor(offsets.min(axis=0))
        affine[:3, 3] += affine[:3, 1:3] @ (begin - offsets[0])
        offsets = offsets - begin
        extra = np.ceil(offsets.max(axis=0)).astype(int)
        shape = (shape[0] + int(extra[0]), shape[1] + int(extra[1]))
    geometry, snapped = make_geometry(
        source, (len(ordered), *shape), affine, frame_of_reference=first.frame_of_reference
    )
    return Stack(tuple(ordered), geometry, notes + snapped, offsets)


def _lowest_end(ordered: Sequence[Frame]) -> int:
    """Choose the first or the last frame: the one whose middle lies lowest.

    The pixels of the grid are those of this frame, however the series is turned in its files.
    """

    def middle(index: int) -> tuple[float, ...]:
        frame = ordered[index]
        rows, columns = (np.array(frame.shape) - 1) / 2 * frame.pixel_spacing
        centre = frame.position + columns * frame.orientation[0] + rows * frame.orientation[1]
        return tuple(np.round(centre, _DECIMALS)[::-1])

    return min(0, len(ordered) - 1, key=middle)
