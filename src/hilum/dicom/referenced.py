"""The series that an annotation was drawn on: looked for beside it, and in folders of its study."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet, read_file, text_of
from hilum.dicom.series import Series, series_in
from hilum.dicom.start import is_dicom_file
from hilum.dicom.study import read_volumes, volume_of_instances
from hilum.errors import FormatError
from hilum.files.names import SERIES_MARK, file_of, image_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH = 2
"""Levels below the annotation's folder and below the one above it in which images may lie:
STUDY/SEG/1.dcm, STUDY/CT/1.dcm."""


@dataclass(frozen=True)
class Reference:
    """The images that an annotation was drawn on, as far as it names them.

    Args:
        series: SeriesInstanceUID of each series, () where none is named.
        frame_of_reference: UID; "" where it is not stated.
        study: StudyInstanceUID of the annotation; "" where it is not stated.
        instances: SOPInstanceUID of each image that is named.
    """

    series: tuple[str, ...]
    frame_of_reference: str
    study: str
    instances: frozenset[str] = frozenset()


def find_source(annotation: Path, reference: Reference) -> Path | None:
    """Find the images of an annotation on disk.

    A series that it names counts, else the only one of its study and frame of reference.

    Returns:
        What `read_volume` reads; None where the images are not near.

    Raises:
        FormatError: it names no series, and several have its frame of reference.
    """
    folders = tuple(_folders_near(annotation))
    for uid in reference.series:
        found = _find_series(folders, uid)
        if found is not None:
            return volume_of(found, reference)
    return None if reference.series else _find_frame_of_reference(annotation, folders, reference)


def _folders_near(annotation: Path) -> Iterator[Path]:
    """List the annotation's folder, those below it, the one above it, and those below that."""
    home = annotation.absolute().parent
    met: set[Path] = set()
    for top in (home, home.parent):
        for folder in _walk(top, _DEPTH):
            if folder not in met:
                met.add(folder)
                yield folder


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those below it, down to a depth."""
    yield folder
    with suppress(OSError):
        for entry in sorted(folder.iterdir()) if depth else ():
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _walk(entry, depth - 1)


def _find_series(folders: tuple[Path, ...], uid: str) -> Series | None:
    """Find a series by its UID, first by the first file of each folder, then by all of them."""
    for folder in folders:
        files = files_in(folder)[:1]
        if any(one.uid == uid for one in series_in(folder, files)[0]):
            return _source_in(folder, uid)
    return next((found for folder in folders if (found := _source_in(folder, uid))), None)


def _source_in(folder: Path, uid: str) -> Series | None:
    return next((one for one in series_of(folder) if one.uid == uid), None)


def _find_frame_of_reference(
    annotation: Path, folders: tuple[Path, ...], reference: Reference
) -> Path | None:
    """Find the only series of a frame of reference."""
    if not reference.frame_of_reference:
        return None
    found = [
        one
        for folder in folders
        for one in series_of(folder)
        if belonging(one.files[0]) == (reference.study, reference.frame_of_reference)
    ]
    if len({one.uid for one in found}) > 1:
        listed = ", ".join(str(one.source) for one in found)
        raise FormatError(
            f"{annotation} names no series, and {len(found)} have its frame of reference: {listed}",
            needed="one series of images that it was drawn on",
            cure="keep only that series beside it",
        )
    return volume_of(found[0], reference) if found else None


def volume_of(series: Series, reference: Reference) -> Path:
    """Find the volume of a series that an annotation was drawn on, where the series holds several.

    It is the one of which the annotation names the most images. They are looked at only where it
    names fewer than the series has.

    Returns:
        What `read_volume` reads; the series itself where nothing tells its volumes apart.
    """
    if not 0 < len(reference.instances) < len(series.files):
        return series.source
    volumes, _ = read_volumes(series.files)
    found = volume_of_instances(volumes, reference.instances)
    if found is None or not found.key:
        return series.source
    return Path(f"{file_of(series.source)}{SERIES_MARK}{series.uid}/{found.key}")


def series_of(folder: Path) -> tuple[Series, ...]:
    """List the image series of a folder; read again only when the folder has changed."""
    return _series_at(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _series_at(folder: Path, _: int) -> tuple[Series, ...]:
    return series_in(folder, files_in(folder))[0]


def files_in(folder: Path) -> list[Path]:
    """List the DICOM files of a folder, by name; read again only when the folder has changed."""
    with suppress(OSError):
        return list(_files_at(folder, folder.stat().st_mtime_ns))
    return []


@lru_cache(maxsize=4096)
def _files_at(folder: Path, _: int) -> tuple[Path, ...]:
    """List the DICOM files of a folder; cached by the folder and a number of its state."""
    return tuple(
        one
        for one in sorted(folder.iterdir())
        if one.name[0] != "."
        and image_suffix(one) in {"", ".dcm"}
        and one.is_file()
        and is_dicom_file(one)
    )


def belonging(file: Path) -> tuple[str, str]:
    """Read the UIDs of an image's study and frame of reference, "" each where it has none."""
    tags = ("StudyInstanceUID", "FrameOfReferenceUID")
    with suppress(Exception), keep_quiet():  # reading the series says what is wrong with it
        data = read_file(file, tags=tags)
        return text_of(data, tags[0]), text_of(data, tags[1])
    return "", ""
