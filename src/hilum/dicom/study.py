"""The studies in a folder of DICOM files: series, the volumes that they hold, a verdict each.

Headers only are read, but for the pixels of files that may be copies of each other. Every file is
accounted for: it belongs to a volume, or there is a reason why not.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.frames import frames_of, read_image_file
from hilum.dicom.header import keep_quiet, text_of
from hilum.dicom.phase import phase_of
from hilum.dicom.series import series_header
from hilum.dicom.sources import UNNAMED, files_below, refuse_incomplete
from hilum.dicom.split import Group, kind_of, plane_of, split
from hilum.dicom.stack import stack_frames
from hilum.dicom.start import data_start
from hilum.errors import FormatError, HilumError, readable
from hilum.files.names import SERIES_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from hilum.dicom.frames import Frame, ImageFile
    from hilum.volume import Geometry

NO_DICOM = "no DICOM file"
DAMAGED = "a damaged DICOM file, which spoils the series of its folder"
STRAY = "a damaged DICOM file whose series cannot be read"
_UNPLACED = "a picture without a place in the patient"
_UNSAFE = re.compile(r"[^\w.+-]+")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_A_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}
_OLDEST = 90
_SCANNER = ("Manufacturer", "ManufacturerModelName")


@dataclass(frozen=True)
class SeriesVolume:
    """A volume that a series holds, or images that form none.

    Args:
        source: what `read_volume` reads: "folder#series/UID", with "/KEY" where the series holds
            several volumes; the folder where nothing else is in it.
        uid: SeriesInstanceUID; "" where it is not stated, as every text here.
        key: tells the volume among others of its series; "" where it is the only one.
        label: what is special about it among them, in words.
        study: StudyInstanceUID.
        patient: PatientID.
        date: StudyDate.
        modality: "CT", "MR", ...
        number: SeriesNumber.
        description: SeriesDescription.
        protocol: ProtocolName.
        body_part: BodyPartExamined.
        sex: PatientSex.
        age: PatientAge in years; more than 89 are 90, as few people are so old.
        scanner: Manufacturer and ManufacturerModelName.
        image_type: the values of ImageType.
        plane: axial, coronal, sagittal, oblique.
        kernel: of the CT reconstruction.
        contrast: the contrast agent.
        phase: of the agent in CT; see `phase_of`.
        echo: number of the echo, None where it is not stated.
        b_value: s/mm2.
        slices: number of frames.
        geometry: the grid; None where the images form none.
        pixel_mm: (rows, columns), None where it is not stated.
        frame_of_reference: UID.
        files: its files.
        instances: SOPInstanceUID of each of its images.
        fault: why it cannot be read as a volume; None where it can.
        notes: what had to be assumed or mended.
        shares_number: whether another series of the study has the same number.
        no_volume: whether it is sound, and refused only as it shows scouts or screens.
    """

    source: Path
    uid: str
    key: str = ""
    label: str = ""
    study: str = ""
    patient: str = ""
    date: str = ""
    modality: str = ""
    number: str = ""
    description: str = ""
    protocol: str = ""
    body_part: str = ""
    sex: str = ""
    age: str = ""
    scanner: str = ""
    image_type: tuple[str, ...] = ()
    plane: str = ""
    kernel: str = ""
    contrast: str = ""
    phase: str = ""
    echo: int | None = None
    b_value: float | None = None
    slices: int = 0
    geometry: Geometry | None = None
    pixel_mm: tuple[float, float] | None = None
    frame_of_reference: str | None = None
    files: tuple[Path, ...] = ()
    instances: frozenset[str] = frozenset()
    fault: HilumError | None = None
    notes: tuple[str, ...] = ()
    shares_number: bool = False
    no_volume: bool = False

    @property
    def folder(self) -> Path:
        """The deepest folder that holds all its files."""
        return common_folder(self.files)

    @property
    def spacing_mm(self) -> float | None:
        """Distance of its slices; None where they form no grid."""
        return None if self.geometry is None else self.geometry.spacing[0]

    @property
    def refused(self) -> str:
        """Reason why it cannot be read; "" where it can.

        The place that stands first is left out, but for the name of one of several files.
        """
        text = "" if self.fault is None else self.fault.found
        for place in map(readable, (self.source, *(self.files if len(self.files) == 1 else ()))):
            if text.startswith(place):
                return text[len(place) :].partition(": ")[2] or text
        return text.removeprefix(f"{readable(self.folder)}{os.sep}")

    @property
    def left_out(self) -> str:
        """The reason for which its files are left out where another volume is taken."""
        if self.fault is None:
            return "a DICOM series of the study that was not chosen"
        special = re.search(r"\d", self.refused)  # names or numbers of this series alone
        return "a DICOM series that is no volume" if special else self.refused

    @property
    def title(self) -> str:
        """Series number, description and what is special, for people."""
        words = f"series {self.number}" if self.number else self.modality or "series"
        text = f"{words} {self.description!r}" if self.description else words
        return f"{text} ({self.label})" if self.label else text

    @property
    def choice(self) -> str:
        """The shortest rule that names it: number or UID, and key."""
        name = self.uid if self.shares_number or not self.number.isdigit() else self.number
        return f"{name}/{self.key}" if self.key else name

    @property
    def facts(self) -> Mapping[str, str | float | None]:
        """Its facts by the names in `hilum.dicom.rule.FACTS`."""
        return {
            "modality": self.modality,
            "number": float(self.number) if self.number.isdigit() else self.number,
            "description": self.description,
            "protocol": self.protocol,
            "body": self.body_part,
            "type": " ".join(self.image_type),
            "orientation": self.plane,
            "kernel": self.kernel,
            "contrast": self.contrast,
            "phase": self.phase,
            "echo": None if self.echo is None else float(self.echo),
            "bvalue": self.b_value,
            "slices": float(self.slices),
            "spacing": self.spacing_mm,
            "pixel": None if self.pixel_mm is None else self.pixel_mm[0],
            "uid": self.uid,
            "key": self.key,
        }


@dataclass(frozen=True)
class Study:
    """The series of one study of one patient, in one place.

    Args:
        uid: StudyInstanceUID.
        patient: PatientID.
        date: StudyDate.
        folder: the deepest one that holds all its images.
        volumes: of all its series, in the order of series' numbers.
    """

    uid: str
    patient: str
    date: str
    folder: Path
    volumes: tuple[SeriesVolume, ...]


@dataclass(frozen=True)
class StudyList:
    """The studies below a folder, and the reason for every file that belongs to none."""

    studies: tuple[Study, ...]
    aside: Mapping[Path, str]


def read_studies(root: Path) -> StudyList:
    """Look through a folder at any depth for studies.

    Args:
        root: a folder, or a DICOMDIR in it; hidden files are passed over.
    """
    folder = root if root.is_dir() else root.parent
    found, aside = read_volumes(files_below(folder))
    volumes = []
    for one in found:
        if one.fault is None or one.uid or one.instances:
            volumes.append(one)
        else:
            aside |= dict.fromkeys(one.files, STRAY)
    return StudyList(group_studies(volumes), aside)


def read_volumes(files: Iterable[Path]) -> tuple[tuple[SeriesVolume, ...], dict[Path, str]]:
    """Sort files by series and volume.

    Returns:
        The volumes, by series' numbers, and the reason for each file that belongs to none.
    """
    with keep_quiet():
        images, broken, aside = _headers(files)
        incomplete = _incomplete(images, aside)
        faults = _faults(images, broken, aside)
        damaged: dict[str, list[Path]] = defaultdict(list)
        for one in broken:
            if one.file not in aside:
                damaged[one.series].append(one.file)
        volumes = [
            volume
            for uid in {**images, **damaged}
            for volume in _volumes(
                images.get(uid, ()), faults.get(uid), incomplete.get(uid), damaged[uid], aside
            )
        ]
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for volume in volumes:
        owners[volume.study, volume.number].add(volume.uid)
    volumes = [
        replace(volume, shares_number=len(owners[volume.study, volume.number]) > 1)
        for volume in sorted(volumes, key=_order)
    ]
    return tuple(volumes), aside


@dataclass(frozen=True)
class _Broken:
    """A file that cannot be read, the series that it still states, and the error."""

    file: Path
    series: str
    error: HilumError


def _headers(
    files: Iterable[Path],
) -> tuple[dict[str, list[ImageFile]], list[_Broken], dict[Path, str]]:
    """Read every header: images by series, files that cannot be read, reasons for the others."""
    images: dict[str, list[ImageFile]] = {}
    broken: list[_Broken] = []
    aside: dict[Path, str] = {}
    for file in files:
        if data_start(file) is None:
            aside[file] = NO_DICOM
            continue
        try:
            image = read_image_file(file)
        except HilumError as error:
            header = series_header(file)
            broken.append(_Broken(file, header.uid if header is not None else "", error))
            continue
        if image is None:
            header = series_header(file)
            kind = header.modality if header is not None else "a list of files, as DICOMDIR"
            aside[file] = f"a DICOM object that is no image ({kind or 'kind not stated'})"
        else:
            images.setdefault(image.series, []).append(image)
    return images, broken, aside


def _faults(
    images: Mapping[str, Sequence[ImageFile]], broken: Sequence[_Broken], aside: dict[Path, str]
) -> dict[str, HilumError]:
    """Find the series that a file spoils: its own, or where it states none, all of its folder.

    Any of those may lack it. Such files are added to `aside`.
    """
    faults: dict[str, HilumError] = {}
    for one in broken:
        beside = [
            uid
            for uid, held in images.items()
            if not one.series and any(image.path.parent == one.file.parent for image in held)
        ]
        if beside:
            aside[one.file] = DAMAGED
        for uid in beside or [one.series]:
            faults.setdefault(uid, one.error)
    return faults


def _incomplete(
    images: dict[str, list[ImageFile]], aside: dict[Path, str]
) -> dict[str, HilumError]:
    """Find the series that reading refuses for a file beside them that may be a slice of them.

    Images without SeriesInstanceUID in the folder of a series are moved from `images` to `aside`.
    """
    folders = {image.path.parent for uid, held in images.items() if uid for image in held}
    nameless = images.pop("", [])
    unnamed = [image.path for image in nameless if image.path.parent in folders]
    if alone := [image for image in nameless if image.path.parent not in folders]:
        images[""] = alone
    lost: dict[Path, list[Path]] = defaultdict(list)
    for file, reason in aside.items():
        if reason == NO_DICOM:
            lost[file.parent].append(file)
    aside |= dict.fromkeys(unnamed, UNNAMED)
    errors: dict[str, HilumError] = {}
    for uid, held in images.items():
        own = dict.fromkeys(image.path.parent for image in held)
        try:
            refuse_incomplete(held, [file for one in own for file in lost.get(one, ())], unnamed)
        except HilumError as error:
            errors[uid] = error
    return errors


def group_studies(volumes: Sequence[SeriesVolume]) -> tuple[Study, ...]:
    """Put the volumes of one study together."""
    by_study: dict[tuple[str, str], list[SeriesVolume]] = defaultdict(list)
    for volume in volumes:
        by_study[volume.patient, volume.study].append(volume)
    return tuple(
        Study(
            uid, patient, held[0].date, common_folder(f for v in held for f in v.files), tuple(held)
        )
        for (patient, uid), held in by_study.items()
    )


def volume_of_instances(
    volumes: Sequence[SeriesVolume], instances: AbstractSet[str]
) -> SeriesVolume | None:
    """Find the volume of which the most images are named by their SOPInstanceUIDs.

    Returns:
        None where that is none, or several; the only volume where there is one.
    """
    if len(volumes) == 1:
        return volumes[0]
    named = [len(volume.instances & instances) for volume in volumes]
    most = max(named, default=0)
    return volumes[named.index(most)] if most and named.count(most) == 1 else None


def common_folder(files: Iterable[Path]) -> Path:
    """Return the deepest folder that holds all files."""
    folders = {str(file.parent) for file in files}
    return Path(os.path.commonpath(folders)) if folders else Path()


def _order(volume: SeriesVolume) -> tuple[str, str, float, str, str]:
    number = float(volume.number) if volume.number.isdigit() else float("inf")
    return volume.patient, volume.study, number, volume.uid, volume.key


def _volumes(
    images: Sequence[ImageFile],
    fault: HilumError | None,
    incomplete: HilumError | None,
    broken: Sequence[Path],
    aside: dict[Path, str],
) -> list[SeriesVolume]:
    """Divide the images of a series into volumes; a file that cannot be read spoils them all.

    Files of no volume are added to `aside`. `incomplete` is the error of a file that may be a lost
    slice: pictures are read one by one and do not lack it.
    """
    if not images:
        known = series_header(broken[0])
        bare = SeriesVolume(
            common_folder(broken), "", files=tuple(broken), fault=fault, slices=len(broken)
        )
        if known is None:
            return [bare]
        return [
            replace(
                bare,
                uid=known.uid,
                study=known.study,
                patient=known.patient,
                date=known.date,
                modality=known.modality,
                number=known.number,
                description=known.description,
            )
        ]
    series = _of_series(images[0], [*(image.path for image in images), *broken])
    frames: list[Frame] = []
    for image in images:
        try:
            frames += frames_of(image)
        except HilumError as error:
            fault = fault or error
    placed = [frame for frame in frames if frame.placed]
    if placed or len(frames) == 1:
        fault = fault or incomplete
    if fault is not None:
        files = (*(image.path for image in images), *broken)
        return [replace(_described(series, frames), fault=fault, files=files, slices=len(files))]
    if not placed:
        return [_of_picture(series, frame, alone=len(frames) == 1) for frame in frames]
    parts = split(placed)
    reasons = {frame.path: kind_of(reason) for frame, reason in parts.aside}
    reasons |= dict.fromkeys((frame.path for frame in frames if not frame.placed), _UNPLACED)
    if not parts.groups:
        found = "; ".join(dict.fromkeys(reasons.values()))
        none = FormatError(f"{series.source}: {found}", needed="images that are slices of a volume")
        files = tuple(image.path for image in images)
        described = _described(series, frames)
        return [replace(described, fault=none, files=files, no_volume=True)]
    held = {frame.path for group in parts.groups for frame in group.frames}
    aside |= {path: reason for path, reason in reasons.items() if path not in held}
    return [_of_group(series, group) for group in parts.groups]


def _of_picture(series: SeriesVolume, frame: Frame, *, alone: bool) -> SeriesVolume:
    """Describe a picture, which has no place in the patient: each is an image of its own."""
    number = frame.acquisition.instance_number
    key = "" if alone else f"image{number or frame.path.stem}"
    source = series.source if alone else frame.path
    picture = Group(key, (frame,), "" if alone else f"image {number or frame.path.name}")
    return replace(_of_group(replace(series, source=frame.path), picture), source=source)


def _of_series(image: ImageFile, files: Sequence[Path]) -> SeriesVolume:
    """Describe a series by one of its images."""
    header = image.header
    return SeriesVolume(
        Path(f"{common_folder(files)}{SERIES_MARK}{image.series}"),
        image.series,
        study=image.study,
        patient=text_of(header, "PatientID"),
        date=text_of(header, "StudyDate"),
        modality=image.modality,
        number=image.series_number,
        description=image.description,
        protocol=text_of(header, "ProtocolName"),
        body_part=text_of(header, "BodyPartExamined"),
        sex=text_of(header, "PatientSex"),
        age=_years(text_of(header, "PatientAge")),
        scanner=" ".join(filter(None, map(partial(text_of, header), _SCANNER))),
    )


def _years(age: str) -> str:
    """Write a PatientAge (045Y, 45y, 018M) in years; "" where it is none."""
    found = _AGE.fullmatch(age.upper())
    return f"{min(int(found[1]) / _A_YEAR[found[2]], _OLDEST):.3g}" if found else ""


def _of_group(series: SeriesVolume, group: Group) -> SeriesVolume:
    """Describe a group of a series, and try whether it is a volume."""
    named = group.key and SERIES_MARK in str(series.source)
    source = Path(f"{series.source}/{group.key}") if named else series.source
    files = tuple(dict.fromkeys(frame.path for frame in group.frames))
    described = _described(
        replace(series, source=source, key=group.key, label=group.label, files=files), group.frames
    )
    try:
        built = stack_frames(group.frames, source)
    except HilumError as error:
        return replace(described, fault=error)
    return replace(described, geometry=built.geometry, notes=built.notes)


def _described(series: SeriesVolume, frames: Sequence[Frame]) -> SeriesVolume:
    """Add what the frames of a volume state."""
    if not frames:
        return series
    made, first = [frame.acquisition for frame in frames], frames[0]
    kinds = dict.fromkeys(word for one in made for word in one.image_type)
    echoes, b_values = {one.echo_number for one in made}, {one.b_value for one in made}
    agent = " ".join(dict.fromkeys(one.contrast for one in made if one.contrast))
    phase = phase_of(
        series.description,
        series.protocol,
        agent,
        bolus=text_of(first.file.header, "ContrastBolusStartTime"),
        acquired=min(one.acquisition_time for one in made),
    )
    return replace(
        series,
        image_type=tuple(kinds),
        plane=plane_of(first) if first.placed else "",
        kernel=" ".join(dict.fromkeys(one.kernel for one in made if one.kernel)),
        contrast=agent,
        phase=phase if series.modality == "CT" else "",
        echo=next(iter(echoes)) if len(echoes) == 1 else None,
        b_value=next(iter(b_values)) if len(b_values) == 1 else None,
        slices=len(frames),
        instances=frozenset(frame.instance for frame in frames),
        pixel_mm=first.pixel_spacing,
        frame_of_reference=first.frame_of_reference,
    )
