"""The DICOM series of a folder, by the SeriesInstanceUID in each file's header.

No pixels are read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.frames import COMPANIONS
from hilum.dicom.header import keep_quiet, read_file
from hilum.dicom.start import USUAL_START, data_start
from hilum.files.names import SERIES_MARK, image_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

_UNSAFE = re.compile(r"[^\w.+-]+")
_SERIES_TAGS = [
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("StudyInstanceUID", "StudyDate", "PatientID", "SOPInstanceUID"),
]
_LAST_SERIES_TAG = 0x0020_0011  # SeriesNumber


@dataclass(frozen=True)
class SeriesHeader:
    """Facts that a file states about its series; `image` is True for a series of images.

    What the end of a damaged file cuts off in the middle is "".
    """

    uid: str
    number: str
    description: str
    modality: str
    study: str
    date: str
    patient: str
    instance: str
    image: bool


def series_header(path: Path) -> SeriesHeader | None:
    """Read what a file says of its series.

    None where it is no readable DICOM file, or lists others (DICOMDIR).
    """
    from pydicom.filereader import read_partial
    from pydicom.uid import MediaStorageDirectoryStorage

    start = data_start(path)
    if start is None or path.name.upper() == "DICOMDIR":
        return None
    with suppress(Exception), keep_quiet():  # reading the series says what is wrong with it
        if start == USUAL_START:
            with path.open("rb") as stream:
                data = read_partial(stream, stop_when=lambda tag, _, __: tag > _LAST_SERIES_TAG)
        else:
            data = read_file(path, tags=_SERIES_TAGS)
        uid, number, words, kind, study, date, patient, instance = (
            "" if _is_cut_off(data, tag) else str(data.get(tag) or "") for tag in _SERIES_TAGS
        )
        if data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            kind, image = "a list of files, as DICOMDIR", False
        else:
            image = kind not in COMPANIONS
        return SeriesHeader(uid, number, words, kind, study, date, patient, instance, image)
    return None


def _is_cut_off(data: Dataset, tag: str) -> bool:
    """Return True for an element whose value ends before its stated length: a part of a UID."""
    from pydicom.dataelem import RawDataElement

    element: object = data.get_item(tag)
    if not isinstance(element, RawDataElement) or element.value is None:
        return False
    return len(element.value) < element.length


@dataclass(frozen=True)
class Series:
    """The images of one series in one folder.

    Args:
        source: what `read_volume` reads: the folder, or "folder#series/UID" where it holds several
            series.
        name: number and description, safe in a file name; "" where it is the folder's only series.
        files: its images.
        uid: SeriesInstanceUID; "" where it cannot be read.
        study: patient and StudyInstanceUID; "" where it is not stated.
        date: StudyDate.
        instances: SOPInstanceUIDs of its images.
        unread: files of its folder that are no readable DICOM, or state no series while others do:
            any may be a slice that it lacks.
    """

    source: Path
    name: str
    files: tuple[Path, ...]
    uid: str = ""
    study: str = ""
    date: str = ""
    instances: frozenset[str] = frozenset()
    unread: tuple[Path, ...] = ()


def series_in(folder: Path, files: Sequence[Path]) -> tuple[tuple[Series, ...], dict[Path, str]]:
    """Sort the files of a folder by series.

    Args:
        folder: where they lie.
        files: of it, those that may be DICOM; one that is not is passed over: reading the series
            says what is wrong with it.

    Returns:
        The series in the order of their files' names, and the reason for each DICOM file that is no
        image.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    first: dict[str, SeriesHeader] = {}
    instances: dict[str, set[str]] = defaultdict(set)
    reasons: dict[Path, str] = {}
    unread: list[Path] = []
    for file in sorted(files):
        header = series_header(file)
        if header is not None and header.image:
            found[header.uid].append(file)
            first.setdefault(header.uid, header)
            instances[header.uid].add(header.instance)
        elif header is not None:
            reasons[file] = f"a DICOM object that is no image ({header.modality})"
        elif file.name.upper() != "DICOMDIR":
            unread.append(file)
    if len(found) > 1 and "" in found:
        del first[""]
        unread += found.pop("")
    if not found and (
        named := [file for file in files if image_suffix(file) == ".dcm" and file not in reasons]
    ):
        return (Series(folder, "", tuple(named)),), reasons  # reading it says what is wrong
    names, series = [], []
    for header in first.values():
        words = [word for word in (header.number, header.description) if word]
        name = "_".join(words or [header.modality or "series"])
        names.append(_UNSAFE.sub("_", name).strip("_."))
    for name, (uid, held) in zip(names, found.items(), strict=True):
        own = name if names.count(name) == 1 else f"{name}_{uid.rpartition('.')[2]}"
        source = Path(f"{folder}{SERIES_MARK}{uid}")
        if len(found) == 1:
            own, source = "", folder
        study = f"{first[uid].patient} {first[uid].study}" if first[uid].study else ""
        date, ids = first[uid].date, frozenset(instances[uid])
        series.append(Series(source, own, tuple(held), uid, study, date, ids, tuple(unread)))
    return tuple(series), reasons
