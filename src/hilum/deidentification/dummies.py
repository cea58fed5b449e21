"""Values that say nothing, for attributes that a standard object must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilum.deidentification.coding import Coding

TEXT = b"REMOVED"
_DUMMIES = {
    "AS": b"000D",
    "DA": b"19000101",
    "DS": b"0",
    "DT": b"19000101000000",
    "IS": b"0",
    "TM": b"000000",
    "UR": b"urn:removed",
}
_SIZES = {"AT": 4, "FD": 8, "FL": 4, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "SL": 4} | {
    "SS": 2,
    "SV": 8,
    "UL": 4,
    "US": 2,
    "UV": 8,
    "OB": 2,
    "UN": 2,
}
_COMMENT = (
    (0x0040A010, "CS", b"CONTAINS"),
    (0x0040A040, "CS", b"TEXT"),
    (0x0040A160, "UT", b"Removed by de-identification"),
)
_COMMENT_NAME = (
    (0x00080100, "SH", b"121106"),
    (0x00080102, "SH", b"DCM"),
    (0x00080104, "LO", b"Comment"),
)


def dummy(vr: str) -> bytes:
    """Return a dummy value of a VR that is no sequence."""
    return bytes(_SIZES[vr]) if vr in _SIZES else _DUMMIES.get(vr, TEXT)


def dummy_content(coding: Coding) -> bytes:
    """Return the one item that a report's content becomes: a comment that it was removed."""
    code = b"".join(coding.element(*one) for one in _COMMENT_NAME)
    name = coding.element(0x0040A043, "SQ", _item(code, coding))
    first, second, text = (coding.element(*one) for one in _COMMENT)
    return _item(first + second + name + text, coding)


def _item(content: bytes, coding: Coding) -> bytes:
    return coding.head(0xFFFEE000, "", len(content)) + content
