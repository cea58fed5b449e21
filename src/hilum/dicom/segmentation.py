"""DICOM segmentations (SEG): binary, fractional and label map, onto the slices they were drawn on.

Frames are placed by their own position in the patient, never by their order, and segments are told
by their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.header import keep_quiet, number_of, numbers_of, read_file, read_until, text_of
from hilum.dicom.painting import Layer, paint
from hilum.dicom.pixels import refuse_bytes_beyond
from hilum.dicom.placing import Place, Plane, own_grid, place_on
from hilum.dicom.referenced import Reference
from hilum.errors import FormatError, LabelError, some
from hilum.files.record import Segment, damage_refused, refuse_size
from hilum.volume import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hilum.dicom.frame_grid import FrameGrid

BACKGROUND = ("125040", "DCM")
"""The code of a segment that is no segment: what is left over."""

HALF = 0.5
"""Part of MaximumFractionalValue from which a voxel of a fractional segmentation belongs to it."""

_PER_FRAME = 0x5200_9230
_NAME = "a DICOM segmentation"
_CURE = "export it again from the program that made it"


@dataclass(frozen=True)
class Segmentation:
    """The header of a SEG.

    Args:
        path: the file.
        kind: BINARY, FRACTIONAL or LABELMAP.
        segments: its segments, `value` being what their voxels become; several numbers of one name
            and code have one value.
        reference: the images that it was drawn on.
        shape: (rows, columns).
        background: what no segment of a label map is: the numbers of its background.
        notes: what had to be assumed.
    """

    path: Path
    kind: str
    segments: tuple[Segment, ...]
    reference: Reference
    shape: tuple[int, int]
    background: frozenset[int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Frame:
    """One frame: its segment's number (None in a label map) and its place (None in a picture)."""

    number: int | None
    plane: Plane | None


def read_header(path: Path) -> Segmentation:
    """Read what a SEG says of its segments and source; frames are not looked at.

    Raises:
        FormatError: it is damaged, of a slide, or of an unknown kind.
    """
    with keep_quiet(), damage_refused(path, _NAME, cure=_CURE):
        data = read_until(path, _PER_FRAME)
        kind = text_of(data, "SegmentationType")
        if kind not in {"BINARY", "FRACTIONAL", "LABELMAP"}:
            raise FormatError(
                f"{path}: a segmentation "
                + (f"of the type {kind}" if kind else "that states no SegmentationType"),
                needed="BINARY, FRACTIONAL or LABELMAP",
                cure="export it again as BINARY or LABELMAP",
            )
        if "TotalPixelMatrixRows" in data:
            raise FormatError(
                f"{path}: a segmentation of a whole slide, stored in tiles",
                needed="a segmentation of slices",
                cure="convert it to a picture of one resolution first",
            )
        background = _background(data)
        segments, notes = _segments(data, background)
        referenced = _items(data, "ReferencedSeriesSequence")
        reference = Reference(
            tuple(text_of(one, "SeriesInstanceUID") for one in referenced),
            text_of(data, "FrameOfReferenceUID"),
            text_of(data, "StudyInstanceUID"),
            frozenset(
                text_of(one, "ReferencedSOPInstanceUID")
                for item in referenced
                for one in _items(item, "ReferencedInstanceSequence")
            ),
        )
        if kind == "FRACTIONAL":
            notes += ("a fractional segmentation: voxels from half of its largest value count",)
        shape = int(data.Rows), int(data.Columns)
    return Segmentation(path, kind, segments, reference, shape, background, notes)


def _items(data: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; () where it is absent."""
    return data.get(keyword) or ()


def _background(data: Dataset) -> frozenset[int]:
    """List the numbers that stand for the background: 0, padding, and segments of that code."""
    numbers = {0}
    padding = number_of(data, "PixelPaddingValue")
    if padding is not None:
        numbers.add(int(padding))
    for item in _items(data, "SegmentSequence"):
        code = _code(item)
        if code is not None and code[:2] == BACKGROUND:
            numbers.add(int(item.SegmentNumber))
    return frozenset(numbers)


def _code(item: Dataset) -> tuple[str, str, str] | None:
    """Read the code of what a segment is: (value, scheme, meaning)."""
    for code in _items(item, "SegmentedPropertyTypeCodeSequence"):
        value = text_of(code, "CodeValue") or text_of(code, "LongCodeValue")
        return value, text_of(code, "CodingSchemeDesignator"), text_of(code, "CodeMeaning")
    return None


def _modifiers(item: Dataset) -> str:
    """Read the words that tell segments of one name apart, such as the side."""
    kinds = [
        *_items(item, "SegmentedPropertyTypeCodeSequence"),
        *_items(item, "AnatomicRegionSequence"),
    ]
    keywords = "SegmentedPropertyTypeModifierCodeSequence", "AnatomicRegionModifierSequence"
    coded = [one for kind in kinds for key in keywords for one in _items(kind, key)]
    found = [text_of(one, "CodeMeaning") for one in coded]
    return " ".join(dict.fromkeys(found))


def _segments(
    data: Dataset, background: frozenset[int]
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Read the segments; those of one name and side are one label, that of the first number."""
    described = _items(data, "SegmentSequence")
    items = [one for one in described if int(one.SegmentNumber) not in background]
    labels = [text_of(one, "SegmentLabel") or (_code(one) or ("", "", ""))[2] for one in items]
    sides: dict[str, set[str]] = {}
    for label, item in zip(labels, items, strict=True):
        sides.setdefault(label.casefold(), set()).add(_modifiers(item))
    found: dict[str, Segment] = {}
    segments = []
    for label, item in zip(labels, items, strict=True):
        number = int(item.SegmentNumber)
        side = _modifiers(item) if len(sides[label.casefold()]) > 1 else ""
        name = f"{label} {side}".strip() or f"segment {number}"
        own = Segment(name, number, number, 0, _code(item), _colour(item))
        first = found.setdefault(" ".join(name.casefold().split()), own)
        segments.append(replace(own, name=first.name, value=first.value))
    return tuple(segments), one_name_note(segments)


def one_name_note(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Note segments or structures of one name, which are read as one label."""
    names: dict[str, int] = {}
    for segment in segments:
        names[segment.name] = names.get(segment.name, 0) + 1
    several = [f"{name} ({count} times)" for name, count in names.items() if count > 1]
    note = f"names that occur several times are one label each: {some(several)}"
    return (note,) if several else ()


def _colour(item: Dataset) -> tuple[int, int, int] | None:
    """Convert the colour that a segment is to be shown in from CIELab to sRGB."""
    stored = item.get("RecommendedDisplayCIELabValue")
    if stored is None or len(stored) != 3:
        return None
    from highdicom.color import CIELabColor

    lightness, a, b = (int(value) for value in stored)
    red, green, blue = CIELabColor.from_dicom_value((lightness, a, b)).to_rgb()
    return int(red), int(green), int(blue)


class SegmentationFrames:
    """The frames of a SEG, with the file read completely.

    Args:
        header: of the file.

    Raises:
        FormatError: it is damaged, or its frames do not say which segment they are of.
    """

    def __init__(self, header: Segmentation) -> None:
        """Read the file completely."""
        self.header = header
        with keep_quiet(), damage_refused(header.path, _NAME, cure=_CURE):
            self._data = read_file(header.path)
            self._frames = tuple(self._read_frames())
            unplaced = [frame.number for frame in self._frames if frame.plane is None]
            several = len({*unplaced}) < len(unplaced)  # of one segment
            if unplaced and (len(unplaced) < len(self._frames) or several):
                raise _no_place(header.path)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The place of each frame; () where the frames are pictures, which have none."""
        return tuple(frame.plane for frame in self._frames if frame.plane is not None)

    def _read_frames(self) -> Iterator[_Frame]:
        """Read the segment and place of each frame."""
        shared = _items(self._data, "SharedFunctionalGroupsSequence")
        groups = _items(self._data, "PerFrameFunctionalGroupsSequence")
        if not groups:
            raise _no_segment(self.header.path)
        count = int(number_of(self._data, "NumberOfFrames") or 1)
        if len(groups) != count:
            raise FormatError(
                f"{self.header.path}: it has {count} frames, and {len(groups)} items that describe"
                " frames",
                needed="one item of PerFrameFunctionalGroupsSequence for each frame",
                cure=_CURE,
            )
        for group in groups:
            holders = [group, *shared]
            number = None
            if self.header.kind != "LABELMAP":
                stated = _group(holders, "SegmentIdentificationSequence")
                if stated is None:
                    raise _no_segment(self.header.path)
                number = int(stated.ReferencedSegmentNumber)
            yield _Frame(number, _plane(holders, self.header))

    def own_grid(self) -> tuple[Geometry, tuple[str, ...]]:
        """Build the grid that the frames span; see `placing.own_grid`.

        Raises:
            GeometryError: they span none.
        """
        planes, header = self.planes, self.header
        if planes:
            frame_of_reference = header.reference.frame_of_reference or None
            return own_grid(planes, header.path, frame_of_reference=frame_of_reference)
        return Geometry.from_spacing((1, *header.shape)), (
            "frames that do not say where they lie: they are read as a picture of 1 mm a pixel",
        )

    def places(self, grid: FrameGrid) -> tuple[Place | None, ...]:
        """Find the place of each frame on a grid; None where it has none there."""
        picture = Place(0, (0, 0), ((1, 0), (0, 1)))
        whole = grid.shape == (1, *self.header.shape)
        return tuple(
            place_on(frame.plane, grid) if frame.plane is not None else picture if whole else None
            for frame in self._frames
        )

    def paint(
        self, places: Sequence[Place], grid: FrameGrid, ids: Mapping[int, int]
    ) -> tuple[NDArray[np.integer], tuple[str, ...]]:
        """Make the label map of the segments.

        Args:
            places: of each frame.
            grid: that they were found on.
            ids: number of a segment to the id of its label; others are left out.

        Returns:
            (slices, rows, columns), and what had to be assumed.

        Raises:
            FormatError: the pixels cannot be decoded.
            LabelError: a number that no segment has.
        """
        count, *size = grid.shape
        names = {segment.stored: segment.name for segment in self.header.segments}
        layers = {
            label: Layer(names.get(number, f"segment {number}"), label, (size[0], size[1]))
            for number, label in ids.items()
        }
        refuse_size(self.header.path, 4 * count * size[0] * size[1], stored=None)
        outside = 0
        for place, (number, mask) in self._masks(places):
            if number in ids:
                placed, lost = place.put(mask, (size[0], size[1]))
                layers[ids[number]].add(place.index, placed)
                outside += lost
        beyond = f"{outside} voxels of it lie outside of the images: left out"
        notes = (beyond,) if outside else ()
        if not layers:
            return np.zeros(grid.shape, dtype=np.uint8), notes
        labels, overlaps = paint(tuple(layers.values()), count)
        return labels, notes + overlaps

    def _masks(
        self, places: Sequence[Place]
    ) -> Iterator[tuple[Place, tuple[int, NDArray[np.bool_]]]]:
        """Decode frame by frame: its place, the number of a segment, and the segment's pixels."""
        path, kind = self.header.path, self.header.kind
        known = {segment.stored for segment in self.header.segments} | self.header.background
        half = HALF * (number_of(self._data, "MaximumFractionalValue") or 255)
        with damage_refused(path, _NAME, cure=_CURE):
            self._refuse_surplus()
            decoded = _decode(self._data)
            for own, place in zip((one.number for one in self._frames), places, strict=True):
                with keep_quiet():
                    pixels = next(decoded)
                numbers = [int(n) for n in np.unique(pixels)] if own is None else [own]
                strange = [number for number in numbers if number not in known]
                if strange:
                    raise LabelError(
                        f"{path}: frames of the segments {some(map(str, strange))}, which it does"
                        " not describe",
                        needed=f"segments among {some(map(str, sorted(known)), shown=20)}",
                        cure=_CURE,
                    )
                for number in numbers:
                    if kind == "LABELMAP":
                        mask = np.equal(pixels, number)
                    elif kind == "FRACTIONAL":
                        mask = np.greater_equal(pixels, half)
                    else:
                        mask = np.not_equal(pixels, 0)
                    if number not in self.header.background:
                        yield place, (number, mask)

    def _refuse_surplus(self) -> None:
        """Raise where there are more plain pixels than the header counts."""
        data = self._data
        if not data.file_meta.TransferSyntaxUID.is_encapsulated:
            pixels = int(data.NumberOfFrames) * int(data.Rows) * int(data.Columns)
            expected = (pixels * int(data.BitsAllocated) + 7) // 8
            refuse_bytes_beyond(self.header.path, data.PixelData, expected)


def _decode(data: Dataset) -> Iterator[NDArray[np.integer]]:
    """Decode the frames one by one, (rows, columns).

    Bits that are not compressed are unpacked here: pydicom 3.0 fails where a frame does not end
    with a byte.
    """
    from pydicom.pixels.utils import iter_pixels

    if int(data.BitsAllocated) > 1 or data.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from iter_pixels(data, raw=True)
        return
    rows, columns = int(data.Rows), int(data.Columns)
    stored = np.frombuffer(data.PixelData, dtype=np.uint8)
    for index in range(int(data.NumberOfFrames)):
        first, skipped = divmod(index * rows * columns, 8)
        last = -(-(skipped + rows * columns) // 8) + first
        bits = np.unpackbits(stored[first:last], bitorder="little")
        yield bits[skipped : skipped + rows * columns].reshape(rows, columns)


def _no_place(path: Path) -> FormatError:
    """Return the error of frames without a position."""
    return FormatError(
        f"{path}: the frames do not say where they lie",
        needed="position, orientation and pixel spacing of each frame",
        cure=_CURE,
    )


def _no_segment(path: Path) -> FormatError:
    """Return the error of frames without a segment."""
    return FormatError(
        f"{path}: the frames do not say which segment they are of",
        needed="PerFrameFunctionalGroupsSequence with SegmentIdentificationSequence",
        cure=_CURE,
    )


def _group(holders: Sequence[Dataset], keyword: str) -> Dataset | None:
    """Return the first item of a functional group: the frame's own, else that of all frames."""
    return next((item for one in holders for item in _items(one, keyword)), None)


def _plane(holders: Sequence[Dataset], header: Segmentation) -> Plane | None:
    """Read where a frame lies; None of a picture, which states no position."""
    position = _group(holders, "PlanePositionSequence")
    orientation = _group(holders, "PlaneOrientationSequence")
    measures = _group(holders, "PixelMeasuresSequence")
    if position is None:
        return None
    if orientation is None or measures is None:
        raise _no_place(header.path)
    spacing = numbers_of(measures, "PixelSpacing")
    return Plane(
        shape=header.shape,
        position=np.array(numbers_of(position, "ImagePositionPatient")).reshape(3),
        orientation=np.array(numbers_of(orientation, "ImageOrientationPatient")).reshape(2, 3),
        pixel_spacing=(spacing[0], spacing[1]),
        step=number_of(measures, "SpacingBetweenSlices") or None,
        thickness=number_of(measures, "SliceThickness") or None,
    )
