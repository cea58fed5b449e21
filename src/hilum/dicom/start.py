"""Recognition of DICOM by a file's first bytes, also without preamble or prefix."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC_AT, _MAGIC = 128, b"DICM"
PREAMBLE = bytes(_MAGIC_AT) + _MAGIC
USUAL_START = len(PREAMBLE)
UNUSUAL_STARTS = (0, len(_MAGIC), _MAGIC_AT)  # neither preamble nor prefix; no preamble; no prefix
_LOOK = 4096  # bytes in which the first data elements lie
_FIRST_GROUPS = {0x0002, 0x0008}
_LONG_VRS = {
    *(b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
}


def is_dicom_file(path: Path) -> bool:
    """Recognise DICOM by a file's first bytes, also without preamble or prefix."""
    return data_start(path) is not None


def data_start(path: Path) -> int | None:
    """Find the byte at which DICOM's data elements begin; None where the file is no DICOM."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_LOOK)
    except OSError:
        return None
    if head[_MAGIC_AT:USUAL_START] == _MAGIC:
        return USUAL_START
    return next((start for start in UNUSUAL_STARTS if _begins_data_set(head[start:])), None)


def _begins_data_set(head: bytes) -> bool:
    """Recognise data elements in rising order, little endian, explicit or implicit."""
    from pydicom.datadict import dictionary_has_tag

    at, last, found = 0, 0, 0
    while at + 12 <= len(head) and found < 3:
        group, element, length = struct.unpack_from("<HHL", head, at)
        tag = group << 16 | element
        if (
            tag <= last
            or (not found and group not in _FIRST_GROUPS)
            or not (element == 0 or dictionary_has_tag(tag))
        ):
            return False
        size = 8
        if head[at + 4 : at + 6].isalpha() and head[at + 4 : at + 6].isupper():  # explicit
            long = head[at + 4 : at + 6] in _LONG_VRS
            size, length = (
                (12, struct.unpack_from("<L", head, at + 8)[0]) if long else (8, length >> 16)
            )
        at, last, found = at + size + length, tag, found + 1
    return found >= 2
