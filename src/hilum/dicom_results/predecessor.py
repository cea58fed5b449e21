"""The earlier version of an object, which a new version names.

DICOM has Predecessor Documents Sequence for reports alone. An image, as a segmentation is to DICOM,
refers to its earlier version in Referenced Image Sequence (General Reference Module, PS3.3 C.12.4)
with the purpose "Temporal Predecessor" (CID 7201).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

_TEMPORAL_PREDECESSOR = "121348"


@dataclass(frozen=True)
class Predecessor:
    """The earlier DICOM result that a new one replaces.

    Args:
        instance: its SOPInstanceUID.
        series: its SeriesInstanceUID; "" where it is not known.
        sop_class: its SOPClassUID.
    """

    instance: str
    series: str
    sop_class: str


def predecessor_of(path: Path, new: Dataset) -> Predecessor | None:
    """Find the predecessor of an object in the file that it will replace.

    Args:
        path: where an earlier version may lie.
        new: the object, which names no predecessor yet.

    Returns:
        The object there if it is of the same kind, model and source series; its own predecessor if
        it is this very object, which is then written as it was; else None.
    """
    import pydicom

    if not path.is_file():
        return None
    with suppress(Exception), keep_quiet():  # whatever lies there, it is no earlier version
        found = pydicom.dcmread(path, stop_before_pixels=True)
        if found.SOPInstanceUID == new.SOPInstanceUID:
            return _named_in(found)
        if _subject(found) == _subject(new):
            series = str(found.SeriesInstanceUID)
            return Predecessor(str(found.SOPInstanceUID), series, str(found.SOPClassUID))
    return None


def _subject(data: Dataset) -> tuple[str, ...]:
    """Return what versions of one object have in common."""
    if "CurrentRequestedProcedureEvidenceSequence" in data:  # of a report; the source comes first
        sources = data.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[:1]
        what = str(data.SeriesDescription)
    else:
        sources, what = data.ReferencedSeriesSequence, ""
    series = sorted({str(item.SeriesInstanceUID) for item in sources})
    kind = str(data.Modality), what
    return (*kind, str(data.StudyInstanceUID), str(data.DeviceSerialNumber), *series)


def _named_in(data: Dataset) -> Predecessor | None:
    """Read which earlier result an object says it replaces; None where it names none."""
    for study in data.get("PredecessorDocumentsSequence") or ():
        for series in study.ReferencedSeriesSequence:
            (item,) = series.ReferencedSOPSequence
            uid = str(series.SeriesInstanceUID)
            return Predecessor(
                str(item.ReferencedSOPInstanceUID), uid, str(item.ReferencedSOPClassUID)
            )
    for item in data.get("ReferencedImageSequence") or ():
        return Predecessor(str(item.ReferencedSOPInstanceUID), "", str(item.ReferencedSOPClassUID))
    return None


def name_predecessor(data: Dataset, earlier: Predecessor) -> None:
    """Name the predecessor of a segmentation."""
    from pydicom.dataset import Dataset

    purpose, reference = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = _TEMPORAL_PREDECESSOR, "DCM"
    purpose.CodeMeaning = "Temporal Predecessor"
    reference.ReferencedSOPClassUID = earlier.sop_class
    reference.ReferencedSOPInstanceUID = earlier.instance
    reference.PurposeOfReferenceCodeSequence = [purpose]
    data.ReferencedImageSequence = [reference]


def name_preceding_report(data: Dataset, earlier: Predecessor) -> None:
    """Name the predecessor of a report, which is of the same study."""
    from pydicom.dataset import Dataset

    study, series, reference = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = earlier.sop_class
    reference.ReferencedSOPInstanceUID = earlier.instance
    series.SeriesInstanceUID = earlier.series
    series.ReferencedSOPSequence = [reference]
    study.StudyInstanceUID = data.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    data.PredecessorDocumentsSequence = [study]
