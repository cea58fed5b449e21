"""The table of rules by which headers of source images are repaired."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hilum.dicom_results.uids import derive_uid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    from hilum.dicom.frames import Frame

    Value = str | float | list[float]

PLANE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices"),
)
"""Elements that say where a frame lies."""
MULTI_FRAME = frozenset(
    (
        *("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),  # CT
        *("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),  # MR
        *("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"),  # PET
        *("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.2"),  # ultrasound
        "1.2.840.10008.5.1.4.1.1.20",  # nuclear medicine
    )
)
"""SOP classes whose frames are numbered, also where there is one."""
_NOT_STATED = "not stated by the source"
UNREADABLE = "{name} cannot be read: left out"
_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}
"""Compression of transfer syntaxes that always lose something."""
_MAY_LOSE = {"1.2.840.10008.1.2.4.91": "ISO_15444_1", "1.2.840.10008.1.2.4.203": "ISO_15444_15"}
_DATE = re.compile(r"[0-9]{8}")
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_FAR = 0.01
"""Part of the slice distance by which SpacingBetweenSlices may be off."""


@dataclass(frozen=True)
class SourcePlane:
    """A frame and all that a rule may ask of it.

    Args:
        header: of its file.
        geometry: its elements `PLANE`.
        frame: what the reader of the volume made of it.
        spacing_mm: distance of neighbouring frames.
        frames: number of them.
    """

    header: Dataset
    geometry: Dataset
    frame: Frame
    spacing_mm: float
    frames: int


@dataclass(frozen=True)
class Rule:
    """One repair of one element.

    Args:
        keyword: the element.
        fault: what is wrong with it.
        cure: what is put in its place, in words.
        applies: returns True where it is wrong.
        value: what is put in its place; None removes the element.
    """

    keyword: str
    fault: str
    cure: str
    applies: Callable[[SourcePlane], bool]
    value: Callable[[SourcePlane], Value | None]

    @property
    def sentence(self) -> str:
        """The rule for people."""
        return f"{self.keyword} {self.fault}: {self.cure}"

    def repair(self, target: Dataset, plane: SourcePlane) -> bool:
        """Apply the rule; gives whether anything was wrong."""
        if not self.applies(plane):
            return False
        value = self.value(plane)
        if value is None:
            del target[self.keyword]
        else:
            setattr(target, self.keyword, value)
        return True


def valid_date(text: str) -> bool:
    """Return True for a date as DICOM writes it."""
    with suppress(ValueError):
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007  (a date has no zone)
        return bool(_DATE.fullmatch(text))  # strptime also takes shorter ones
    return False


def valid_time(text: str) -> bool:
    """Return True for a time as DICOM writes it."""
    return bool(_TIME.fullmatch(text))


def _text(plane: SourcePlane, keyword: str) -> str:
    """Return an element of the file as a text; "" where it is missing or empty."""
    return str(plane.header.get(keyword) or "").strip()


def _missing(keyword: str) -> Rule:
    """Make the rule for a missing element that DICOM wants, if empty (type 2)."""
    return Rule(keyword, "is missing", "empty", lambda p: keyword not in p.header, lambda _: "")


def _no_value(
    keyword: str, kind: str, is_valid: Callable[[str], bool], *, optional: bool = False
) -> Rule:
    """Make the rule for a value that is none of its kind; an optional element goes with it."""

    def applies(plane: SourcePlane) -> bool:
        text = _text(plane, keyword)
        return text != "" and not is_valid(text)

    if optional:
        return Rule(keyword, f"is {kind}", "left out", applies, lambda _: None)
    return Rule(keyword, f"is {kind}", "empty", applies, lambda _: "")


def _is_image_class(uid: str) -> bool:
    """Recognise a SOP class of images."""
    from pydicom.uid import UID

    return "Image Storage" in UID(uid).name


def _sop_class(plane: SourcePlane) -> str:
    """Return the SOP class of the file's meta information, else the usual one of the modality."""
    stated = str(plane.header.file_meta.get("MediaStorageSOPClassUID") or "")
    if _is_image_class(stated):
        return stated
    return _CLASSES.get(_text(plane, "Modality"), _SECONDARY_CAPTURE)


def _syntax(plane: SourcePlane) -> str:
    return str(plane.header.file_meta.get("TransferSyntaxUID") or "")


def _is_compression_unclear(plane: SourcePlane) -> bool:
    """Return True where it is stated wrongly whether pixels lost something, or not at all."""
    if "LossyImageCompression" in plane.header:
        return _text(plane, "LossyImageCompression") not in {"00", "01"}
    return _syntax(plane) in _METHODS  # without a word nothing was lost


def _is_lossy(plane: SourcePlane) -> bool:
    return _text(plane, "LossyImageCompression") == "01"


def _ratio(plane: SourcePlane) -> float:
    """Return the size of the pixels by that of the file."""
    size = 1.0
    for name in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"):
        size *= float(_text(plane, name) or 1)
    size *= float(_text(plane, "BitsAllocated") or 16) / 8
    return max(1.0, round(size / plane.frame.path.stat().st_size, 2))


def _decimal(value: float) -> float:
    from pydicom.valuerep import DSfloat

    return DSfloat(value, auto_format=True)


def _is_distance(plane: SourcePlane) -> bool:
    """Return True where SpacingBetweenSlices is the distance of the frames, or nothing is said."""
    stated = plane.geometry.get("SpacingBetweenSlices")
    return stated is None or abs(float(stated) - plane.spacing_mm) <= _FAR * plane.spacing_mm


HEADER_RULES: tuple[Rule, ...] = (
    *(_no_value(keyword, "no date", valid_date) for keyword in ("PatientBirthDate", "StudyDate")),
    _no_value("StudyTime", "no time", valid_time),
    _no_value("PatientAge", "no age", lambda text: bool(_AGE.fullmatch(text)), optional=True),
    _no_value("PatientSex", "not M, F or O", lambda text: text in {"M", "F", "O"}),
    *map(
        _missing,
        (
            *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate"),
            *("StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        ),
    ),
    Rule(
        "DeidentificationMethod",
        "is missing though the patient's identity was removed",
        "not stated by the source",
        lambda p: (
            _text(p, "PatientIdentityRemoved") == "YES"
            and not _text(p, "DeidentificationMethod")
            and not p.header.get("DeidentificationMethodCodeSequence")
        ),
        lambda _: "not stated by the source",
    ),
    Rule("Modality", "is missing", "OT", lambda p: not _text(p, "Modality"), lambda _: "OT"),
    Rule(
        "SOPInstanceUID",
        "is missing",
        "that of the file's meta information",
        lambda p: (
            not _text(p, "SOPInstanceUID")
            and bool(p.header.file_meta.get("MediaStorageSOPInstanceUID"))
        ),
        lambda p: str(p.header.file_meta.MediaStorageSOPInstanceUID),
    ),
    Rule(
        "SOPClassUID",
        "is no class of images",
        "that of the file's meta information, else that of the modality",
        lambda p: not _is_image_class(_text(p, "SOPClassUID")),
        _sop_class,
    ),
    Rule(
        "DeidentificationMethod",
        "is missing beside PatientIdentityRemoved",
        _NOT_STATED,
        lambda p: (
            _text(p, "PatientIdentityRemoved") == "YES"
            and not _text(p, "DeidentificationMethod")
            and not p.header.get("DeidentificationMethodCodeSequence")
        ),
        lambda _: _NOT_STATED,
    ),
    Rule(
        "FrameOfReferenceUID",
        "is missing",
        "one for the series, derived from its UID",
        lambda p: p.frame.placed and not _text(p, "FrameOfReferenceUID"),
        lambda p: derive_uid("frame of reference", _text(p, "SeriesInstanceUID")),
    ),
    Rule(
        "LossyImageCompression",
        "is not 00 or 01",
        "01 where the pixels are stored with loss, else 00",
        _is_compression_unclear,
        lambda p: "01" if _syntax(p) in _METHODS else "00",
    ),
    Rule(
        "LossyImageCompressionRatio",
        "is missing",
        "size of the pixels by that of the file",
        lambda p: _is_lossy(p) and not _text(p, "LossyImageCompressionRatio"),
        lambda p: _decimal(_ratio(p)),
    ),
    Rule(
        "LossyImageCompressionMethod",
        "is missing",
        "that of the file's encoding, else UNKNOWN",
        lambda p: _is_lossy(p) and not _text(p, "LossyImageCompressionMethod"),
        lambda p: (_METHODS | _MAY_LOSE).get(_syntax(p), "UNKNOWN"),
    ),
)
"""Repairs of a file's header, in their order."""
PLANE_RULES: tuple[Rule, ...] = (
    Rule(
        "ImagePositionPatient",
        "is missing",
        "the position that the volume was read with",
        lambda p: p.frame.placed and "ImagePositionPatient" not in p.geometry,
        lambda p: [_decimal(v) for v in p.frame.position],
    ),
    Rule(
        "ImageOrientationPatient",
        "is missing",
        "the orientation that the volume was read with",
        lambda p: p.frame.placed and "ImageOrientationPatient" not in p.geometry,
        lambda p: [_decimal(v) for v in p.frame.orientation.ravel()],
    ),
    Rule(
        "PixelSpacing",
        "is missing",
        "the spacing that the volume was read with",
        lambda p: p.frame.placed and "PixelSpacing" not in p.geometry,
        lambda p: [_decimal(v) for v in p.frame.pixel_spacing],
    ),
    Rule(
        "SliceThickness",
        "is missing or 0",
        "the distance of the slices",
        lambda p: p.frame.placed and not float(p.geometry.get("SliceThickness") or 0) > 0,
        lambda p: _decimal(p.spacing_mm),
    ),
    Rule(
        "SpacingBetweenSlices",
        "is not the distance of the slices",
        "that distance",
        lambda p: p.frame.placed and p.frames > 1 and not _is_distance(p),
        lambda p: _decimal(p.spacing_mm),
    ),
)
"""Repairs of the elements `PLANE` of a frame, in their order."""
