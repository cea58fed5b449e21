"""Names of the DICOM files of a case, and which cases can have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilum.dataset.case import Case
    from hilum.dicom_results.seg import Kind

DICOM = "dicom-"
"""Begins the names of formats that are written about DICOM images."""
SEGMENTATION = "_seg.dcm"
SEGMENTATIONS: dict[str, Kind] = {
    "dicom-seg": "auto",
    "dicom-seg-binary": "binary",
    "dicom-seg-labelmap": "labelmap",
}
"""Kind of the DICOM Segmentation that each format writes, all under one name."""
REPORT = "_sr.dcm"
KEY_IMAGES = ("_key1.dcm", "_key2.dcm", "_key3.dcm")
PAGE = "_pdf.dcm"
STRUCTURES = "_rtstruct.dcm"


def segmentation_among(formats: Iterable[str]) -> Kind | None:
    """Return the kind of DICOM Segmentation that is among formats; None where none is.

    Raises:
        UsageError: several kinds, which would be one file.
    """
    found = [name for name in dict.fromkeys(formats) if name in SEGMENTATIONS]
    if len(found) > 1:
        raise UsageError(
            f"the formats {' and '.join(found)} were given together",
            needed="one kind of DICOM Segmentation, as all have the same file name",
            cure=f"formats={found[0]!r} alone",
        )
    return SEGMENTATIONS[found[0]] if found else None


def refuse_for_formats(case: Case, formats: Iterable[str]) -> None:
    """Refuse a case that is no DICOM where a DICOM format is asked for.

    Raises:
        DataError: naming what it is.
    """
    if any(name.startswith(DICOM) for name in formats):
        from hilum.inference.dicom.source import refuse_other_than_dicom

        refuse_other_than_dicom(case.id, tuple(case.images.values()))
