"""A folder of DICOM studies: its image series, and the annotations with the series of each."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from hilum.dicom.annotation import annotation_kind, reference_of, segments_in
from hilum.dicom.header import keep_quiet, read_file, text_of
from hilum.dicom.referenced import files_in, series_of, volume_of
from hilum.errors import DataError, ResourceError
from hilum.files.output import is_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hilum.dicom.series import Series
    from hilum.files.record import Segment

_IDENTITY = (
    *("StudyInstanceUID", "PatientID", "Modality", "SeriesDescription", "SeriesNumber"),
    "FrameOfReferenceUID",
)


@dataclass(frozen=True)
class StudySeries:
    """A series of images in a folder.

    Args:
        series: its files, and what `read_volume` reads.
        folder: where they lie.
        study: StudyInstanceUID; "" where it is not stated, as every text here.
        patient: PatientID.
        modality: "CT", "MR".
        description: SeriesDescription.
        number: SeriesNumber.
        frame_of_reference: UID.
    """

    series: Series
    folder: Path
    study: str
    patient: str
    modality: str
    description: str
    number: str
    frame_of_reference: str

    @property
    def source(self) -> Path:
        """The source that `read_volume` reads."""
        return self.series.source


@dataclass(frozen=True)
class AnnotationFile:
    """A SEG or RTSTRUCT.

    Args:
        path: the file.
        segments: its segments or structures.
        series: the images that it was drawn on; None where they are not here.
        source: the volume of the series that it was drawn on, as `read_volume` reads it.
        fault: why it cannot be used; "" where it can.
    """

    path: Path
    segments: tuple[Segment, ...]
    series: StudySeries | None
    source: Path | None = None
    fault: str = ""


@dataclass(frozen=True)
class Studies:
    """All series and annotations below a folder, in the order of their paths."""

    series: tuple[StudySeries, ...]
    annotations: tuple[AnnotationFile, ...]


def holds_annotations(root: Path) -> bool:
    """Return True if a DICOM annotation lies below a folder; it is looked for no further."""
    folders = sorted(_folders(root), key=lambda folder: len(_entries(folder)))
    return any(annotation_kind(file) for folder in folders for file in files_in(folder))


def find_studies(root: Path) -> Studies:
    """Read the headers of all DICOM files below a folder."""
    folders = list(_folders(root))
    series = tuple(
        _identify(one, folder)
        for folder in folders
        if any(annotation_kind(file) is None for file in files_in(folder))
        for one in series_of(folder)
    )
    files = [file for folder in folders for file in files_in(folder) if annotation_kind(file)]
    return Studies(series, tuple(_annotation(file, series) for file in files))


def _folders(root: Path) -> Iterator[Path]:
    """List a folder and all below it, links followed, but no hidden ones and none of hilum's."""
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):
            state = folder.stat()
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            below = [entry for entry in _entries(folder) if entry.is_dir()]
            kept = [entry for entry in below if entry.name[0] != "." and not is_output(entry)]
            waiting += sorted(kept, reverse=True)
            yield folder


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries]
    return []


def _identify(series: Series, folder: Path) -> StudySeries:
    """Read what the first file of a series says of study and patient."""
    file = series.files[0]
    state = file.stat()
    texts = _texts(file, state.st_mtime_ns, state.st_size)
    study, patient, modality, description, number, frame_of_reference = texts
    return StudySeries(
        series, folder, study, patient, modality, description, number, frame_of_reference
    )


@lru_cache(maxsize=100_000)
def _texts(file: Path, *_: int) -> tuple[str, ...]:
    with suppress(Exception), keep_quiet():  # reading the series says what is wrong with it
        data = read_file(file, tags=_IDENTITY)
        return tuple(text_of(data, keyword) for keyword in _IDENTITY)
    return ("",) * len(_IDENTITY)


def _annotation(path: Path, series: Sequence[StudySeries]) -> AnnotationFile:
    """Read an annotation's names, and find the series that it was drawn on."""
    try:
        reference, segments = reference_of(path), segments_in(path)
    except (DataError, ResourceError) as error:
        return AnnotationFile(path, (), None, fault=error.found)
    named = [one for uid in reference.series for one in series if one.series.uid == uid]
    if not named:
        named = [
            one
            for one in series
            if reference.frame_of_reference
            and (one.study, one.frame_of_reference)
            == (reference.study, reference.frame_of_reference)
        ]
        if len({one.series.uid for one in named}) > 1:
            listed = ", ".join(str(one.source) for one in named)
            fault = f"it names no series that is here, and several have its frame: {listed}"
            return AnnotationFile(path, segments, None, fault=fault)
    if not named:
        fault = "the images that it was drawn on are not here"
        return AnnotationFile(path, segments, None, fault=fault)
    nearest = max(named, key=lambda one: len(_common(path.parent, one.folder)))
    return AnnotationFile(path, segments, nearest, volume_of(nearest.series, reference))


def _common(first: Path, second: Path) -> list[str]:
    """Return the parts that two folders' paths begin with alike."""
    pairs = zip(first.parts, second.parts, strict=False)
    shared: list[str] = []
    for one, other in pairs:
        if one != other:
            break
        shared.append(one)
    return shared
