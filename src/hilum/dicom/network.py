"""DICOM instances as they go over a network: their UIDs, their files, reports about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

NO_SUCH_INSTANCE = 0x0112

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_STUDY, _SERIES, _CLASS, _INSTANCE = 0x0020000D, 0x0020000E, 0x00080016, 0x00080018


@dataclass(frozen=True)
class InstanceKey:
    """UIDs of an instance."""

    study: str
    series: str
    instance: str
    sop_class: str


def checked_uid(value: object) -> str:
    """Return a UID that is safe as a name of a file; "" for anything that is no UID."""
    text = str(value or "").strip("\0 ")
    return text if len(text) <= 64 and _UID.fullmatch(text) else ""


def holds_image(sop_class: str) -> bool:
    """Return whether a SOP class is one of images; one that pydicom does not know may be.

    Reports, segmentations, presentation states and the like are none.
    """
    from pydicom._uid_dict import UID_dictionary
    from pydicom.uid import UID

    return sop_class not in UID_dictionary or "Image Storage" in UID(sop_class).name


def read_key(path: Path) -> InstanceKey | None:
    """Read the UIDs of a DICOM file, none of its pixels; None where one is missing or no UID.

    Raises:
        OSError: the file cannot be read.
    """
    from pydicom.filereader import read_partial

    try:
        with path.open("rb") as stream:
            data = read_partial(
                stream,
                stop_when=lambda tag, _vr, _length: tag > _SERIES,
                specific_tags=[_STUDY, _SERIES, _CLASS, _INSTANCE],
            )
        tags = (_STUDY, _SERIES, _INSTANCE, _CLASS)
        values = [checked_uid(data[tag].value) if tag in data else "" for tag in tags]
    except OSError:
        raise
    except Exception:  # noqa: BLE001  (whatever pydicom raises at damaged bytes)
        return None
    return InstanceKey(*values) if all(values) else None


def file_header(sop_class: str, instance: str, transfer_syntax: str) -> bytes:
    """Write the preamble and the file meta information of a DICOM file."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta)
    return buffer.getvalue()


def read_instance(path: Path) -> tuple[Dataset, str, str]:
    """Read a DICOM file whole, with its SOP class and its transfer syntax."""
    from pydicom import dcmread

    data = dcmread(path)
    return data, str(data.SOPClassUID), str(data.file_meta.TransferSyntaxUID)


def commitment_report(
    transaction: str, kept: Sequence[tuple[str, str]], missing: Sequence[tuple[str, str]]
) -> Dataset:
    """Make the report of a storage commitment (DICOM PS3.4 J.3.3).

    Args:
        transaction: UID of the request.
        kept: SOP class and instance of each that is kept.
        missing: of each that is not here.
    """
    from pydicom.dataset import Dataset

    report = Dataset()
    report.TransactionUID = transaction
    if kept:
        report.ReferencedSOPSequence = [_reference(one) for one in kept]
    if missing:
        report.FailedSOPSequence = [_reference(one) for one in missing]
        for item in report.FailedSOPSequence:
            item.FailureReason = NO_SUCH_INSTANCE
    return report


def _reference(pair: tuple[str, str]) -> Dataset:
    """Make the item that refers to an instance, given by SOP class and instance UID."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = pair
    return item
