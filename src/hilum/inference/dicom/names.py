"""Names of the DICOM files of a case, and which cases can have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilum.dataset.case import Case

DICOM = "dicom-"
"""Begins the names of formats that are written about DICOM images."""
REPORT = "_sr.dcm"
KEY_IMAGES = ("_key1.dcm", "_key2.dcm", "_key3.dcm")
PAGE = "_pdf.dcm"
STRUCTURES = "_rtstruct.dcm"


def refuse_for_formats(case: Case, formats: Iterable[str]) -> None:
    """Refuse a case that is no DICOM where a DICOM format is asked for.

    Raises:
        DataError: naming what it is.
    """
    if any(name.startswith(DICOM) for name in formats):
        from hilum.inference.dicom.source import refuse_other_than_dicom

        refuse_other_than_dicom(case.id, tuple(case.images.values()))
