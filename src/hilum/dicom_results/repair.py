"""Source images as an object about them refers to them: their headers, repaired by one table.

Scanners, archives and anonymisers leave headers that break DICOM's letter, and highdicom refuses
them. What can be said without doubt is put in their place; a patient's name, id, birth date and sex
are never invented: where they are missing or no DICOM values they are empty, as DICOM allows (type
2). Every repair is logged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet, read_header
from hilum.dicom_results.producer import UTF_8
from hilum.dicom_results.remarks import remark
from hilum.dicom_results.source_rules import (
    HEADER_RULES,
    MULTI_FRAME,
    PLANE,
    PLANE_RULES,
    UNREADABLE,
    SourcePlane,
    valid_date,
    valid_time,
)
from hilum.errors import FormatError, counted
from hilum.files.record import damage_refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from hilum.dicom.frames import Frame

NO_DATE = "19000101"
"""Date of an object whose source has none."""
_MOMENTS = ("Content", "Acquisition", "Series", "Study")
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Plane:
    """One source frame.

    Args:
        header: of its file, repaired, without pixels.
        number: of the frame in its file, from 1; None in a single-frame file.
        geometry: the elements `PLANE` as the file writes them, character by character, and repaired
            ones; without position and orientation where the image has none (X-ray, ultrasound).
    """

    header: Dataset
    number: int | None
    geometry: Dataset

    @property
    def key(self) -> str:
        """SOPInstanceUID, with the frame's number in a multi-frame file."""
        return f"{self.header.SOPInstanceUID}{'' if self.number is None else f'#{self.number}'}"

    @property
    def has_position(self) -> bool:
        """Return True if the frame has a place in the patient."""
        return "ImagePositionPatient" in self.geometry


@dataclass(frozen=True)
class SourceImages:
    """The images of one series that a volume was made of.

    Args:
        planes: in the order of the volume's Z axis.
        repairs: what was repaired, one sentence a rule.
    """

    planes: tuple[Plane, ...]
    repairs: tuple[str, ...]

    @property
    def headers(self) -> tuple[Dataset, ...]:
        """The repaired header of each file, in the order of its first plane, without pixels."""
        return tuple({str(p.header.SOPInstanceUID): p.header for p in self.planes}.values())

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return str(self.planes[0].header.StudyInstanceUID)

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        return str(self.planes[0].header.SeriesInstanceUID)

    @property
    def moment(self) -> tuple[str, str]:
        """The latest date and time that a header states: that of everything made of the images.

        It follows from the source, so that an object that is made again is the same.
        """
        found = [moment for header in self.headers for moment in _moments(header)]
        return max(found, default=(NO_DATE, "000000"))


def read_source_images(frames: Sequence[Frame], *, spacing_mm: float) -> SourceImages:
    """Read and repair the headers of the files that frames lie in; each repair is logged.

    Args:
        frames: of one series, in the order of the volume's Z axis, at least one.
        spacing_mm: distance of neighbouring frames.

    Raises:
        FormatError: a file cannot be read, or says not to which study, series or instance it
            belongs.
    """
    headers: dict[Path, Dataset] = {}
    faults: Counter[str] = Counter()
    for frame in frames:
        if frame.path not in headers:
            header, unreadable = _read_header(frame.path)
            faults.update(unreadable)
            headers[frame.path] = header
    planes, mended = [], set()
    for frame in frames:
        header = headers[frame.path]
        several = int(header.get("NumberOfFrames") or 1) > 1
        several = several or header.get("SOPClassUID") in MULTI_FRAME  # which may have several
        geometry = _geometry(header, frame.index if several else None, placed=frame.placed)
        plane = SourcePlane(header, geometry, frame, spacing_mm, len(frames))
        if frame.path not in mended:
            faults.update(rule.sentence for rule in HEADER_RULES if rule.repair(header, plane))
            _refuse_unidentified(header, frame.path)
            mended.add(frame.path)
        faults.update(rule.sentence for rule in PLANE_RULES if rule.repair(geometry, plane))
        planes.append(Plane(header, frame.index + 1 if several else None, geometry))
    faults.update(_share_orientation(planes))
    repairs = tuple(f"{text} ({counted(count, 'time')})" for text, count in faults.items())
    if repairs:
        text = f"repaired in what is written about it: {'; '.join(repairs)}"
        remark(frames[0].path.parent, text, kind=faults)
    return SourceImages(tuple(planes), repairs)


def reference_to(header: Dataset, number: int | None = None) -> Dataset:
    """Refer to a file, or to a frame of it."""
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if number is not None:
        reference.ReferencedFrameNumber = number
    return reference


def _read_header(path: Path) -> tuple[Dataset, list[str]]:
    """Read a file's header as Unicode, without elements that cannot be read, which are listed."""
    from pydicom.datadict import keyword_for_tag

    with keep_quiet(), damage_refused(path, "DICOM"):
        header = read_header(path)
        unreadable = []
        for tag in list(header.keys()):
            try:
                _try_to_write(header[tag])
            except Exception:  # noqa: BLE001  (whatever pydicom stumbles over goes)
                del header[tag]
                name = keyword_for_tag(tag) or str(tag)
                unreadable.append(UNREADABLE.format(name=name))
        header.decode()
        header.SpecificCharacterSet = UTF_8
    return header, unreadable


def _try_to_write(element: DataElement) -> None:
    """Write an element to nowhere, which raises whatever its value is wrong in."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    if element.VR == "SQ":
        return
    if element.VR in {"DS", "IS"}:
        values = element.value if element.VM > 1 else [element.value]
        _ = [float(value) for value in values if value not in (None, "")]
    nowhere = DicomBytesIO()
    nowhere.is_little_endian, nowhere.is_implicit_VR = True, False
    write_data_element(nowhere, element, ["iso8859", "utf8"])


def _geometry(header: Dataset, index: int | None, *, placed: bool) -> Dataset:
    """Copy the elements `PLANE` of a frame, from its functional groups or the header itself.

    Of a picture without a place in the patient only the spacing.
    """
    from pydicom.dataset import Dataset

    copied = Dataset()
    places = [header]
    if index is not None and "PerFrameFunctionalGroupsSequence" in header:
        groups = [header.PerFrameFunctionalGroupsSequence[index]]
        groups += header.get("SharedFunctionalGroupsSequence") or []
        places = [
            item
            for group in groups
            for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures")
            for item in group.get(f"{name}Sequence") or []
        ]
    for place in places:
        for keyword in PLANE if placed else ("PixelSpacing",):
            if keyword not in copied and place.get(keyword) not in (None, ""):
                setattr(copied, keyword, place.get(keyword))
    return copied


def _refuse_unidentified(header: Dataset, path: Path) -> None:
    """Raise where a file says not to which study, series or instance it belongs."""
    missing = [name for name in _IDENTITY if not header.get(name)]
    if missing:
        raise FormatError(
            f"{path} has no {', '.join(missing)}",
            needed="images whose study, series and instance are named: what is written about them"
            " refers to them by these",
            cure="export the series again from the source, or write NIfTI: formats='nifti'",
        )


def _share_orientation(planes: Sequence[Plane]) -> Iterable[str]:
    """Give all planes the first one's orientation, as grids are made of frames that agree in it."""
    first = planes[0].geometry.get("ImageOrientationPatient")
    for plane in planes:
        if first is not None and plane.geometry.get("ImageOrientationPatient") != first:
            plane.geometry.ImageOrientationPatient = first
            yield "ImageOrientationPatient differs by rounding: the first frame's"


def _moments(header: Dataset) -> Iterable[tuple[str, str]]:
    """List the valid dates and times of a header."""
    for name in _MOMENTS:
        date = str(header.get(f"{name}Date") or "").strip()
        time = str(header.get(f"{name}Time") or "").strip()
        if valid_date(date):
            whole = time.partition(".")[0] if valid_time(time) else ""
            yield date, whole.ljust(6, "0")
    moment = str(header.get("AcquisitionDateTime") or "")[:14]
    if len(moment) == 14 and moment.isdecimal() and valid_date(moment[:8]):
        # a scanner's local time
        yield moment[:8], datetime.strptime(moment[8:], "%H%M%S").strftime("%H%M%S")  # noqa: DTZ007
