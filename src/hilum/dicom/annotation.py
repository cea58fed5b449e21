"""Annotations in DICOM: SEG and RTSTRUCT files as label maps on the grid of their images."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dicom import segmentation
from hilum.dicom.frame_grid import FrameGrid
from hilum.dicom.header import keep_quiet, read_until, text_of
from hilum.dicom.referenced import find_source
from hilum.dicom.rtstruct import read as rtstruct
from hilum.dicom.stack import open_stack
from hilum.dicom.start import is_dicom_file
from hilum.errors import FormatError, GeometryError, some
from hilum.files.record import Decoded, FileFacts, Format
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dicom.placing import Place
    from hilum.dicom.referenced import Reference
    from hilum.dicom.stack import OpenedStack
    from hilum.files.record import Segment
    from hilum.volume import Geometry

Kind = Literal["SEG", "RTSTRUCT"]
_MODALITY = 0x0008_0060
_STATED: dict[Kind, frozenset[str]] = {
    "SEG": frozenset(("SEG", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")),
    "RTSTRUCT": frozenset(("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3")),
}
"""By Modality or SOP class: one of them may be lost."""


@dataclass(frozen=True)
class Target:
    """The slices on which an annotation is wanted.

    Args:
        frames: the slices, where they lie.
        geometry: the grid of the volume that they are.
        stack: the series that they come from; None of a bare grid.
    """

    frames: FrameGrid
    geometry: Geometry
    stack: OpenedStack | None = None

    @classmethod
    def of_stack(cls, stack: OpenedStack) -> Target:
        """Take the slices of a series."""
        frames = FrameGrid.of_frames(stack.frames, stack.geometry.spacing[0])
        return cls(frames, stack.geometry, stack)

    @classmethod
    def of_geometry(cls, geometry: Geometry) -> Target:
        """Take the slices of a volume."""
        return cls(FrameGrid.of_geometry(geometry), geometry)

    def volume(self, labels: NDArray[np.integer]) -> Volume:
        """Make the volume of labels (slices, rows, columns)."""
        on_grid = labels if self.stack is None else self.stack.from_frames(labels)
        return Volume(on_grid[None], self.geometry)


def annotation_kind(path: Path) -> Kind | None:
    """Recognise a DICOM file that is an annotation; None for any other file."""
    with suppress(OSError):
        state = path.stat()
        return _kind(path, state.st_mtime_ns, state.st_size)
    return None


@lru_cache(maxsize=100_000)
def _kind(path: Path, *_: int) -> Kind | None:
    """Recognise an annotation by its header; cached by path, time and size of the file."""
    if path.is_file() and is_dicom_file(path):
        with suppress(Exception), keep_quiet():  # reading it says what is wrong with it
            header = read_until(path, _MODALITY + 1)
            stated = {text_of(header, "Modality"), text_of(header, "SOPClassUID")}
            return next((kind for kind, names in _STATED.items() if stated & names), None)
    return None


def segments_in(path: Path) -> tuple[Segment, ...]:
    """Read the segments or structures of an annotation, those that hold something.

    Raises:
        FormatError: it is damaged.
    """
    return _header(path).segments


def reference_of(path: Path) -> Reference:
    """Read which images an annotation was drawn on.

    Raises:
        FormatError: it is damaged.
    """
    return _header(path).reference


def _header(path: Path) -> segmentation.Segmentation | rtstruct.StructureSet:
    if annotation_kind(path) == "SEG":
        return segmentation.read_header(path)
    return rtstruct.read_structures(path)


def read_annotation(
    path: Path,
    *,
    ids: Mapping[int, int] | None = None,
    source: Path | None = None,
    grid: Geometry | None = None,
) -> Decoded:
    """Read an annotation as a label map on the grid of the images that it was drawn on.

    The images are looked for near the file. A SEG without them lies on the grid that its own frames
    span. Where structures overlap, a voxel belongs to the smaller one.

    Args:
        path: a SEG or RTSTRUCT file.
        ids: number of a segment or structure to the id of its label; the others are left out. None
            takes `Segment.value`.
        source: the images, where they are known.
        grid: taken where no images are found.

    Returns:
        Labels (1, Z, Y, X) and what had to be assumed.

    Raises:
        FormatError: it is damaged, or its images are not found and needed.
        GeometryError: the images form no grid, or it does not lie on them.
        LabelError: frames of a segment that is not described.
    """
    header = _header(path)
    wanted = {one.stored: one.value for one in header.segments} if ids is None else ids
    target = _target(path, header.reference, source, grid)
    if isinstance(header, rtstruct.StructureSet):
        if target is None:
            raise _no_images(path, header.reference)
        labels, notes = header.paint(target.frames, wanted)
        elsewhere = _other_frame(header, target.geometry.frame_of_reference)
        return Decoded(target.volume(labels), header.notes + elsewhere + notes)
    frames = segmentation.SegmentationFrames(header)
    placed, target, notes = _place(frames, target)
    labels, more = frames.paint(placed, target.frames, wanted)
    return Decoded(target.volume(labels), header.notes + notes + more)


def _target(
    path: Path, reference: Reference, source: Path | None, grid: Geometry | None
) -> Target | None:
    """Find the slices that an annotation belongs on."""
    near = source or find_source(path, reference)
    if near is not None:
        return Target.of_stack(open_stack(near))
    return None if grid is None else Target.of_geometry(grid)


def _no_images(path: Path, reference: Reference) -> FormatError:
    """Return the error of contours without the images whose pixels they enclose."""
    named = ", ".join(reference.series) or "that it does not name"
    return FormatError(
        f"{path}: contours, and the images of the series {named} are not near",
        needed="the series that they were drawn on",
        cure="copy the images beside the file, or into a folder of its study",
    )


def _other_frame(header: rtstruct.StructureSet, stated: str | None) -> tuple[str, ...]:
    """Note structures that name another frame of reference than that of the images."""
    names = [
        one.segment.name
        for one in header.structures
        if stated and one.frame_of_reference not in {"", stated}
    ]
    place = "another frame of reference than the images; their positions are taken as they are"
    return (f"structures that name {place}: {some(names, shown=8)}",) if names else ()


def _place(
    frames: segmentation.SegmentationFrames, target: Target | None
) -> tuple[tuple[Place, ...], Target, tuple[str, ...]]:
    """Place the frames of a SEG on the wanted slices, or else on the grid that they span."""
    path = frames.header.path
    note: tuple[str, ...] = ()
    if target is not None:
        found = frames.places(target.frames)
        placed = tuple(place for place in found if place is not None)
        if len(placed) == len(found):
            return placed, target, ()
        where = "the images" if target.stack is None else str(target.stack.source)
        off = f"{len(found) - len(placed)} of {len(found)} frames lie on no pixels of {where}"
        note = (f"{off}: the segmentation is read on its own grid",)
    geometry, notes = frames.own_grid()
    own = Target.of_geometry(geometry)
    found = frames.places(own.frames)
    placed = tuple(place for place in found if place is not None)
    if len(placed) < len(found):
        raise GeometryError(
            f"{path}: {len(found) - len(placed)} of {len(found)} frames lie off the even,"
            " perpendicular grid that the others span",
            needed="the series that it was drawn on, beside the file or in a folder of its study",
            cure="copy the images beside it",
        )
    return placed, own, note + notes


def _read(path: Path) -> Decoded:
    """Refuse an annotation where an image is wanted."""
    raise FormatError(
        f"{path}: a DICOM annotation ({annotation_kind(path)}), which is no image",
        needed="an image",
        cure="name the series that it was drawn on",
    )


def _inspect(path: Path) -> FileFacts:
    """Read the grid and the segments of an annotation."""
    header = _header(path)
    segments = header.segments
    target, notes = _target(path, header.reference, None, None), header.notes
    if isinstance(header, rtstruct.StructureSet):
        if target is None:
            raise _no_images(path, header.reference)
    else:
        _, target, more = _place(segmentation.SegmentationFrames(header), target)
        notes += more
    highest = max((one.value for one in segments), default=0)
    dtype = np.min_scalar_type(highest)
    return FileFacts(target.geometry, 1, dtype, notes, segments=segments)


FORMAT = Format(name="DICOM annotation", read=_read, inspect=_inspect, read_indices=read_annotation)
