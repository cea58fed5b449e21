"""RT structure sets (RTSTRUCT): closed contours as masks on the slices that they were drawn on.

What no mask can hold (points, open lines, contours between slices, off their plane, beside the
image) is counted and said, never dropped in silence. ADR 19 has the rules.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.header import keep_quiet, numbers_of, read_file, text_of, whole_of
from hilum.dicom.painting import Layer, paint
from hilum.dicom.referenced import Reference
from hilum.dicom.rtstruct.structure import Remarks, fill_structure
from hilum.dicom.segmentation import one_name_note
from hilum.errors import FormatError, counted, some
from hilum.files.record import Segment, damage_refused, refuse_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hilum.dicom.frame_grid import FrameGrid

_SHOWN = 8
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_NAME = "an RT structure set"
_CURE = "export it again from the program that made it"


@dataclass(frozen=True)
class Structure:
    """A region of interest with its contours.

    Args:
        segment: its name, number, colour and code; `value` is what its voxels become.
        frame_of_reference: UID; "" where it is not stated.
        closed: (N, 3) LPS mm of each closed contour.
        others: how many contours there are of each kind that encloses nothing.
    """

    segment: Segment
    frame_of_reference: str
    closed: tuple[NDArray[np.float64], ...] = field(repr=False)
    others: Mapping[str, int]


@dataclass(frozen=True)
class StructureSet:
    """An RTSTRUCT as it is stored.

    Args:
        path: the file.
        structures: those that have closed contours, by number.
        reference: the images that it was drawn on.
        notes: what is in it that no mask can hold, and what had to be assumed.
    """

    path: Path
    structures: tuple[Structure, ...]
    reference: Reference
    notes: tuple[str, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The structures' names and numbers."""
        return tuple(one.segment for one in self.structures)

    def paint(
        self, grid: FrameGrid, ids: Mapping[int, int]
    ) -> tuple[NDArray[np.integer], tuple[str, ...]]:
        """Make the label map of the structures.

        Args:
            grid: the slices that they were drawn on.
            ids: number of a structure to the id of its label; others are left out.

        Returns:
            (slices, rows, columns), and what could not be held.
        """
        count, *size = grid.shape
        shape = size[0], size[1]
        refuse_size(self.path, 4 * count * shape[0] * shape[1], stored=None)
        layers: dict[int, Layer] = {}
        said = Remarks()
        for one in self.structures:
            label = ids.get(one.segment.stored)
            if label is not None:
                layer = layers.setdefault(label, Layer(one.segment.name, label, shape))
                fill_structure(one.segment.name, one.closed, grid, layer, said)
        if not layers:
            return np.zeros(grid.shape, dtype=np.uint8), said.notes
        labels, overlaps = paint(tuple(layers.values()), count)
        return labels, said.notes + overlaps


def read_structures(path: Path) -> StructureSet:
    """Read the structures and contours of an RTSTRUCT.

    Raises:
        FormatError: it is damaged.
    """
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, *_: int) -> StructureSet:
    """Read all structures of a file, and number those that have closed contours."""
    with keep_quiet(), damage_refused(path, _NAME, cure=_CURE):
        data = read_file(path)
        _refuse_incomplete(path, data)
        contours = {
            int(item.ReferencedROINumber): item for item in _items(data, "ROIContourSequence")
        }
        observations = {
            int(item.ReferencedROINumber): item
            for item in _items(data, "RTROIObservationsSequence")
        }
        found = [
            _structure(path, item, contours.get(int(item.ROINumber)), observations)
            for item in _items(data, "StructureSetROISequence")
        ]
        reference = _reference(data)
    filled, numbering = _numbered([one for one in found if one.closed])
    return StructureSet(path, filled, reference, (*_notes(found), *numbering))


def _items(data: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; () where it is absent."""
    return data.get(keyword) or ()


def _refuse_incomplete(path: Path, data: Dataset) -> None:
    """Raise where structures or contours are lost, as of a file without its end."""
    lost = [name for name in ("StructureSetROISequence", "ROIContourSequence") if name not in data]
    described = {int(one.ROINumber) for one in _items(data, "StructureSetROISequence")}
    drawn = {int(one.ReferencedROINumber) for one in _items(data, "ROIContourSequence")}
    faults = {
        f"a structure set without {' and '.join(lost)}": lost,
        f"contours of structures that it does not describe ({some(map(str, drawn - described))})": (
            drawn - described
        ),
    }
    for found, holds in faults.items():
        if holds:
            raise FormatError(
                f"{path}: {found}",
                needed="every structure with its name, its contours and their points",
                cure=_CURE,
            )


def _reference(data: Dataset) -> Reference:
    """Read the series and the frame of reference that the contours were drawn on."""
    frames = _items(data, "ReferencedFrameOfReferenceSequence")
    series = [
        one
        for frame in frames
        for study in _items(frame, "RTReferencedStudySequence")
        for one in _items(study, "RTReferencedSeriesSequence")
    ]
    stated = [text_of(frame, "FrameOfReferenceUID") for frame in frames]
    stated.append(text_of(data, "FrameOfReferenceUID"))
    return Reference(
        tuple(filter(None, (text_of(one, "SeriesInstanceUID") for one in series))),
        next(filter(None, stated), ""),
        text_of(data, "StudyInstanceUID"),
        frozenset(
            text_of(image, "ReferencedSOPInstanceUID")
            for one in series
            for image in _items(one, "ContourImageSequence")
        ),
    )


def _structure(
    path: Path, item: Dataset, contours: Dataset | None, observations: Mapping[int, Dataset]
) -> Structure:
    """Read one structure."""
    number = int(item.ROINumber)
    closed: list[NDArray[np.float64]] = []
    others: Counter[str] = Counter()
    for contour in () if contours is None else _items(contours, "ContourSequence"):
        kind = text_of(contour, "ContourGeometricType")
        points = _points(contour, path)
        if kind not in _CLOSED:
            others[kind or "not stated"] += 1
        elif len(np.unique(points, axis=0)) < 3:
            others["closed of fewer than three points"] += 1
        else:
            closed.append(points)
    colour = () if contours is None else numbers_of(contours, "ROIDisplayColor")
    red, green, blue = (int(value) for value in colour) if len(colour) == 3 else (0, 0, 0)
    segment = Segment(
        text_of(item, "ROIName") or f"structure {number}",
        number,
        number,
        0,
        _code(observations.get(number)),
        (red, green, blue) if len(colour) == 3 else None,
    )
    return Structure(segment, text_of(item, "ReferencedFrameOfReferenceUID"), tuple(closed), others)


def _points(contour: Dataset, path: Path) -> NDArray[np.float64]:
    """Read the points of a contour, (N, 3); as text at once, for there may be a million numbers.

    Raises:
        FormatError: there are not as many as it states, or they lie nowhere.
    """
    element = contour.get_item("ContourData")
    if element is None or not isinstance(element.value, bytes):
        points = np.array(numbers_of(contour, "ContourData")).reshape(-1, 3)
    else:
        texts = element.value.decode("ascii").rstrip("\0 ").split("\\")
        points = np.array(texts if texts != [""] else [], dtype=np.float64).reshape(-1, 3)
    stated = whole_of(contour, "NumberOfContourPoints")
    if stated not in {None, len(points)} or not np.isfinite(points).all():
        raise FormatError(
            f"{path}: a contour of {counted(len(points), 'point')} that states {stated}",
            needed="as many points as NumberOfContourPoints says, three numbers each",
            cure=_CURE,
        )
    return points


def _code(observation: Dataset | None) -> tuple[str, str, str] | None:
    """Read the code of what a structure is."""
    codes = () if observation is None else _items(observation, "RTROIIdentificationCodeSequence")
    for code in codes:
        value = text_of(code, "CodeValue") or text_of(code, "LongCodeValue")
        return value, text_of(code, "CodingSchemeDesignator"), text_of(code, "CodeMeaning")
    return None


def _numbered(
    structures: Sequence[Structure],
) -> tuple[tuple[Structure, ...], tuple[str, ...]]:
    """Give each name its label: the number of its first structure, or from 1 where one is below."""
    first: dict[str, int] = {}
    anew = any(one.segment.stored < 1 for one in structures)
    numbered = []
    for one in structures:
        key = " ".join(one.segment.name.casefold().split())
        value = first.setdefault(key, len(first) + 1 if anew else one.segment.stored)
        numbered.append(replace(one, segment=replace(one.segment, value=value)))
    return tuple(numbered), one_name_note([one.segment for one in numbered])


def _notes(structures: Sequence[Structure]) -> tuple[str, ...]:
    """Note what is in a file that no mask can hold."""
    bare = [one.segment.name for one in structures if not one.closed and not one.others]
    kinds: dict[str, list[str]] = {}
    for one in structures:
        for kind, count in one.others.items():
            kinds.setdefault(kind, []).append(f"{one.segment.name} ({count})")
    notes = [
        f"contours that enclose nothing ({kind}) are left out: {some(names, shown=_SHOWN)}"
        for kind, names in kinds.items()
    ]
    listed = f"structures without contours: {some(bare, shown=_SHOWN)}"
    return (*notes, listed) if bare else tuple(notes)
