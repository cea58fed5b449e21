"""The files of a DICOM source: a folder, a file, or one series of a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.frames import read_image_file
from hilum.dicom.start import USUAL_START, data_start, is_dicom_file
from hilum.errors import FormatError, counted
from hilum.files.names import SERIES_MARK, image_suffix
from hilum.files.placeholder import is_unfetched, refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilum.dicom.frames import ImageFile

UNNAMED = "an image without SeriesInstanceUID, in the folder of a series"


def parts_of(source: Path) -> tuple[Path, str, str]:
    """Split "folder#series/UID/KEY" into folder or file, series UID and key of a group; "" each."""
    place, _, rest = str(source).partition(SERIES_MARK)
    uid, _, key = rest.partition("/")
    return Path(place), uid, key


def series_folder(folder: Path) -> Path | None:
    """Find the folder of the DICOM files: this one, or down a chain of single subfolders.

    Returns:
        None where there is none.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if any(_counts(entry) for entry in entries):
        return folder
    below = [entry for entry in entries if entry.is_dir()]
    return series_folder(below[0]) if len(below) == 1 else None


def files_of(source: Path) -> list[Path]:
    """List the files among which those of a source lie: of a series at any depth below."""
    place, uid, _ = parts_of(source)
    if not place.is_dir():
        return [place]
    if uid:
        return files_below(place)
    entries = (series_folder(place) or place).iterdir()
    return sorted(one for one in entries if not one.is_dir() and one.name[0] != ".")


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder at any depth, hidden files and folders aside."""
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        state = Path(place).stat()
        folders[:] = [] if (state.st_dev, state.st_ino) in entered else folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (state.st_dev, state.st_ino) not in entered:
            found += [Path(place) / name for name in sorted(names) if not name.startswith(".")]
        entered.add((state.st_dev, state.st_ino))
    return found


def image_files(source: Path) -> tuple[list[ImageFile], tuple[str, ...]]:
    """Read the headers of a source's images, with notes on files that were left out.

    Raises:
        FormatError: there is none, or a file that is named like a slice cannot be read.
    """
    files, (_, uid, _) = files_of(source), parts_of(source)
    images, aside, bare = [], 0, 0
    lost: list[Path] = []
    unnamed: list[Path] = []
    for path in files:
        start = data_start(path)
        if start is None:
            if not uid:
                _refuse_lost_slice(path)
            lost.append(path)
            aside += 1
            continue
        image = read_image_file(path)
        if image is None:
            aside += 1
        elif uid in {"", image.series}:
            images.append(image)
            bare += start != USUAL_START
        elif not image.series:
            unnamed.append(path)
    if any(image.series for image in images):
        unnamed += [image.path for image in images if not image.series]
    refuse_incomplete(images, lost, unnamed)
    if not images:
        raise FormatError(
            f"{source}: no DICOM image among {counted(len(files), 'file')}",
            needed="a folder of one CT or MR series",
            cure="name the series' own folder",
        )
    notes = [f"{counted(aside, 'file')} left out: no DICOM image"] if aside else []
    if bare:
        known = "recognised by their first data elements, without DICOM's preamble or prefix"
        notes.append(f"{known}: {counted(bare, 'file')}")
    return images, tuple(notes)


def refuse_incomplete(
    images: Iterable[ImageFile], lost: Iterable[Path], unnamed: Iterable[Path]
) -> None:
    """Raise at files in a series' folders that may be slices of it and cannot be taken.

    Args:
        images: of the series.
        lost: files that are no DICOM.
        unnamed: images without SeriesInstanceUID.

    Raises:
        FormatError: such a file lies beside an image of the series.
    """
    folders = {image.path.parent for image in images}
    for path in lost:
        if path.parent in folders:
            _refuse_lost_slice(path)
    for path in unnamed:
        if path.parent in folders:
            raise FormatError(
                f"{path}: {UNNAMED}",
                needed="images that say of which series they are",
                cure="export the series again; if it belongs to something else, move it elsewhere",
            )


def _refuse_lost_slice(path: Path) -> None:
    """Raise at a file that is named like a slice and is no DICOM."""
    if _is_named_like_an_image(path):
        refuse_placeholder(path)
        raise FormatError(
            f"{path}: not readable as DICOM, in a folder of slices",
            needed="a complete file",
            cure="copy it again; if it belongs to something else, move it elsewhere",
        )


def _is_named_like_an_image(path: Path) -> bool:
    """Recognise a slice's name: .dcm, or a number and no other suffix, but no MD5SUMS."""
    suffix = path.suffix.lower()
    return suffix in {".dcm", ".ima"} or (
        (not suffix or suffix[1:].isdigit())
        and any(c.isdigit() for c in path.name)
        and not path.name.lower().rstrip("s").endswith("sum")
    )


def _counts(path: Path) -> bool:
    """Recognise a file of a DICOM folder by content, or by name where it has none."""
    if path.name == "DICOMDIR" or path.is_dir():
        return False
    return (
        image_suffix(path) == ".dcm"
        or is_dicom_file(path)
        or (is_unfetched(path) and _is_named_like_an_image(path))
    )
