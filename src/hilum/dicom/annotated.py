"""A folder of DICOM studies with annotations: its volumes, and the volume of each SEG or RTSTRUCT.

Volumes are those of `hilum.dicom.study`, the one listing of images; here each folder is listed
by itself, so that copies of a study stay apart.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.annotation import annotation_kind, reference_of, segments_in
from hilum.dicom.referenced import files_in
from hilum.dicom.study import NO_DICOM, common_folder, read_volumes, volume_of_instances
from hilum.errors import DataError, ResourceError
from hilum.files.names import SERIES_MARK
from hilum.files.output import is_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hilum.dicom.study import SeriesVolume
    from hilum.files.record import Segment


@dataclass(frozen=True)
class AnnotationFile:
    """A SEG or RTSTRUCT.

    Args:
        path: the file.
        segments: its segments or structures.
        volume: the images that it was drawn on; None where they are not here.
        fault: why it cannot be used; "" where it can.
        missing: SeriesInstanceUIDs that it names, where none of them is here.
    """

    path: Path
    segments: tuple[Segment, ...]
    volume: SeriesVolume | None
    fault: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnnotatedStudies:
    """All volumes and annotations below a folder, in the order of their paths.

    Args:
        volumes: of images, by folder.
        annotations: each with its volume.
        aside: reasons for the DICOM files that belong to neither.
    """

    volumes: tuple[SeriesVolume, ...]
    annotations: tuple[AnnotationFile, ...]
    aside: Mapping[Path, str] = field(default_factory=dict)


def holds_annotations(root: Path) -> bool:
    """Return True if a DICOM annotation lies below a folder; it is looked for no further."""
    folders = sorted(_folders(root), key=lambda folder: len(_entries(folder)))
    return any(annotation_kind(file) for folder in folders for file in files_in(folder))


def read_annotated(root: Path) -> AnnotatedStudies:
    """Read the headers of all DICOM files below a folder."""
    volumes: list[SeriesVolume] = []
    drawn: list[Path] = []
    aside: dict[Path, str] = {}
    for folder in _folders(root):
        files = files_in(folder)
        kinds = [annotation_kind(file) for file in files]
        drawn += [file for file, kind in zip(files, kinds, strict=True) if kind]
        images = [file for file, kind in zip(files, kinds, strict=True) if not kind]
        held, reasons = read_volumes(images)
        volumes += [replace(held[0], source=folder)] if len(held) == 1 else held
        aside |= {file: reason for file, reason in reasons.items() if reason != NO_DICOM}
    return AnnotatedStudies(
        tuple(volumes), tuple(_annotation(file, volumes) for file in drawn), aside
    )


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


def _annotation(path: Path, volumes: Sequence[SeriesVolume]) -> AnnotationFile:
    """Read an annotation's names, and find the volume that it was drawn on."""
    try:
        reference, segments = reference_of(path), segments_in(path)
    except (DataError, ResourceError) as error:
        return AnnotationFile(path, (), None, fault=error.found)
    named = [one for uid in reference.series for one in volumes if one.uid == uid]
    if not named:
        named = [
            one
            for one in volumes
            if reference.frame_of_reference
            and (one.study, one.frame_of_reference)
            == (reference.study, reference.frame_of_reference)
        ]
        if len({one.uid for one in named}) > 1:
            listed = ", ".join(str(one.source) for one in named)
            fault = f"it names no series that is here, and several have its frame: {listed}"
            return AnnotationFile(path, segments, None, fault, reference.series)
    if not named:
        fault = "the images that it was drawn on are not here"
        return AnnotationFile(path, segments, None, fault, reference.series)
    nearest = max(named, key=lambda one: len(common_folder([path, *one.files]).parts))
    together = [one for one in named if one.folder == nearest.folder]
    volume = volume_of_instances(together, reference.instances)
    if volume is None:  # nothing tells the volumes of the series apart: it is taken itself
        source = Path(f"{nearest.folder}{SERIES_MARK}{nearest.uid}")
        volume = replace(together[0], source=source, key="")
    return AnnotationFile(path, segments, volume)
