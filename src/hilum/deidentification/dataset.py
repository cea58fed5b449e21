"""One DICOM file as bytes: its preamble, file meta information and data set."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hilum.deidentification.coding import IMPLICIT, Coding, elements
from hilum.deidentification.removed import strip_padding
from hilum.dicom.start import PREAMBLE
from hilum.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPLICIT = Coding()
_META_END = 0x00030000
_SYNTAX = 0x00020010
_WANTED_TO = 0x0028FFFF
_SOFTWARE_UID = "2.25.302043790172249692526321623266752743501"


@dataclass(frozen=True)
class DicomFile:
    """A file that was taken apart, its data set inflated.

    Args:
        data: the bytes that hold the data set.
        start: where it begins in them.
        syntax: transfer syntax UID.
        coding: of the data elements.
        meta: values of the file meta information by tag.
        top: values of the outermost data set by tag, up to group 0028, without sequences.
    """

    data: bytes
    start: int
    syntax: str
    coding: Coding
    meta: Mapping[int, bytes]
    top: Mapping[int, bytes]

    def text(self, tag: int) -> str:
        """Return a value as text, "" where there is none."""
        return self.top.get(tag, b"").decode("latin-1")


def coding_of(syntax: str) -> Coding:
    """Return how data elements are written in a transfer syntax."""
    if syntax == ImplicitVRLittleEndian:
        return IMPLICIT
    return Coding(big=syntax == ExplicitVRBigEndian)


def take_apart(raw: bytes, start: int) -> DicomFile:
    """Find the data set in a file.

    Args:
        raw: the file.
        start: where its data elements begin, by `hilum.dicom.start.data_start`.

    Raises:
        FormatError: damaged, or cut short.
    """
    meta: dict[int, bytes] = {}
    at = start
    while at < len(raw) and raw[at : at + 2] == b"\x02\0":
        one = next(elements(raw, at, len(raw), EXPLICIT))
        meta[one.tag] = strip_padding(raw[one.value : one.value + one.length])
        at = one.value + one.length
    syntax = meta.get(_SYNTAX, b"").decode("latin-1")
    if not syntax:
        syntax = ExplicitVRLittleEndian if _is_explicit(raw, at) else ImplicitVRLittleEndian
    data = raw
    if syntax == DeflatedExplicitVRLittleEndian:
        data, at = _inflate(raw[at:]), 0
    coding = coding_of(syntax)
    if coding.explicit and not _is_explicit(data, at):  # some writers say the one, do the other
        coding = IMPLICIT
    return DicomFile(data, at, syntax, coding, meta, _top(data, at, coding))


def _is_explicit(data: bytes, at: int) -> bool:
    """Return True if a VR stands at the first element."""
    vr = data[at + 4 : at + 6]
    return vr.isalpha() and vr.isupper()


def _inflate(raw: bytes) -> bytes:
    """Decompress a deflated data set."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw)
    except zlib.error as error:
        raise FormatError(
            f"the deflated data set cannot be inflated: {error}",
            needed="the whole file",
            cure="export or copy the file again",
        ) from error


def _top(data: bytes, start: int, coding: Coding) -> dict[int, bytes]:
    """Return the values of the outermost elements that say what the file is and whose."""
    found = {}
    for one in elements(data, start, len(data), coding):
        if one.tag > _WANTED_TO:
            break
        if one.vr != "SQ" and one.length < 1 << 16:
            found[one.tag] = strip_padding(data[one.value : one.value + one.length])
    return found


def put_together(data_set: bytes, syntax: str, sop_class: str, instance: str) -> bytes:
    """Write a file: an empty preamble, file meta information of hilum's own, the data set.

    Nothing of the source's preamble and meta information but the transfer syntax is in it.
    """
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data_set = deflate.compress(data_set) + deflate.flush()
        data_set += b"\0" * (len(data_set) % 2)
    values = (
        (0x00020001, "OB", b"\0\1"),
        (0x00020002, "UI", sop_class.encode("latin-1")),
        (0x00020003, "UI", instance.encode("latin-1")),
        (_SYNTAX, "UI", syntax.encode("latin-1")),
        (0x00020012, "UI", _SOFTWARE_UID.encode("ascii")),
        (0x00020013, "SH", b"HILUM"),
    )
    meta = b"".join(EXPLICIT.element(*one) for one in values)
    length = EXPLICIT.element(0x00020000, "UL", struct.pack("<L", len(meta)))
    return PREAMBLE + length + meta + data_set
