"""Data elements as bytes: headers, lengths and ends, in the four codings that DICOM has.

Reading a multi-frame file of 20,000 nested elements into objects takes pydicom about a second;
what de-identification keeps, nearly all of them, it copies without looking at the value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pydicom.datadict import dictionary_VR

from hilum.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_SHORT_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT"}
    | {"PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
)


@dataclass(frozen=True)
class Coding:
    """Way in which data elements are written.

    Args:
        explicit: value representations stand in the file.
        big: big endian.
    """

    explicit: bool = True
    big: bool = False

    @cached_property
    def key_bytes(self) -> int:
        """Return how many bytes of a header say tag and, where it is written, the VR."""
        return 6 if self.explicit else 4

    @cached_property
    def tag_struct(self) -> struct.Struct:
        """Return the struct of group and element."""
        return struct.Struct(">HH" if self.big else "<HH")

    @cached_property
    def short(self) -> struct.Struct:
        """Return the struct of a length of two bytes."""
        return struct.Struct(">H" if self.big else "<H")

    @cached_property
    def long(self) -> struct.Struct:
        """Return the struct of a length of four bytes."""
        return struct.Struct(">L" if self.big else "<L")

    @cached_property
    def item_start(self) -> bytes:
        """Return the tag of an item."""
        return self.tag_struct.pack(ITEM >> 16, ITEM & 0xFFFF)

    @cached_property
    def item_end(self) -> bytes:
        """Return the delimiter of an item."""
        return self.head(ITEM_END, "", 0)

    @cached_property
    def sequence_end(self) -> bytes:
        """Return the delimiter of a sequence."""
        return self.head(SEQUENCE_END, "", 0)

    def tag(self, key: bytes) -> int:
        """Return the tag at the start of a header."""
        group, element = self.tag_struct.unpack_from(key)
        return int(group) << 16 | int(element)

    def vr(self, key: bytes) -> str:
        """Return the VR of a header's first bytes, by the dictionary where it is not written.

        Raises:
            FormatError: what stands there is no VR.
        """
        tag = self.tag(key)
        if not self.explicit or tag in {ITEM, ITEM_END, SEQUENCE_END}:
            return known_vr(tag)
        vr = key[4:6].decode("latin-1")
        if vr not in LONG_VRS and vr not in _SHORT_VRS:
            raise FormatError(
                f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has {key[4:6]!r} where its value"
                " representation should stand",
                needed="a file whose data elements follow each other without a gap",
                cure="export the file again; it may be damaged or cut",
            )
        return vr

    def head(self, tag: int, vr: str, length: int) -> bytes:
        """Write the header of a data element: tag, value representation and length."""
        start = self.tag_struct.pack(tag >> 16, tag & 0xFFFF)
        if not self.explicit or tag >> 16 == ITEM >> 16:
            return start + self.long.pack(length)
        if vr in LONG_VRS:
            return start + vr.encode("ascii") + b"\0\0" + self.long.pack(length)
        return start + vr.encode("ascii") + self.short.pack(length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Write an element; text is padded to an even length, UIDs and binary values by zeros."""
        if len(value) % 2:
            value += b"\0" if vr in {"UI", "OB", "UN"} else b" "
        return self.head(tag, vr, len(value)) + value


IMPLICIT = Coding(explicit=False)


class Element(NamedTuple):
    """Header of a data element, and where its value lies.

    Args:
        tag: group and element.
        vr: value representation.
        value: where the value begins.
        length: of the value in bytes; UNDEFINED where delimiters end it.
    """

    tag: int
    vr: str
    value: int
    length: int


def known_vr(tag: int) -> str:
    """Return the VR of a tag by the dictionary, "UN" for an unknown or private one."""
    if (tag >> 16) & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    if not tag & 0xFFFF:
        return "UL"
    try:
        return dictionary_VR(tag).partition(" or ")[0]
    except KeyError:
        return "UN"


def read_head(data: bytes, at: int, coding: Coding) -> Element:
    """Read the header of the data element at a place.

    Raises:
        FormatError: the file ends before the value does, or this is no header.
    """
    if len(data) - at < 8:
        raise cut_short(at, len(data) - at)
    key = data[at : at + coding.key_bytes]
    vr = coding.vr(key)
    tag = coding.tag(key)
    if not coding.explicit or tag >> 16 == ITEM >> 16:
        element = Element(tag, vr, at + 8, coding.long.unpack_from(data, at + 4)[0])
    elif vr not in LONG_VRS:
        element = Element(tag, vr, at + 8, coding.short.unpack_from(data, at + 6)[0])
    elif len(data) - at < 12:
        raise cut_short(at, len(data) - at)
    else:
        element = Element(tag, vr, at + 12, coding.long.unpack_from(data, at + 8)[0])
    if element.length != UNDEFINED and element.value + element.length > len(data):
        raise cut_short(element.value, len(data) - element.value, element)
    return element


def cut_short(at: int, there: int, element: Element | None = None) -> FormatError:
    """Make the error for a file that ends within an element."""
    what = (
        f"({element.tag >> 16:04X},{element.tag & 0xFFFF:04X}) says {element.length:,} bytes"
        if element is not None
        else "a data element begins"
    )
    return FormatError(
        f"the file ends too early: {what} at byte {at:,}, and {there:,} are there",
        needed="the whole file",
        cure="export or copy the file again",
    )


def end_of(data: bytes, element: Element, coding: Coding) -> int:
    """Return where an element ends, also one of undefined length."""
    if element.length != UNDEFINED:
        return element.value + element.length
    inner = IMPLICIT if element.vr == "UN" else coding
    at = element.value
    while True:
        one = read_head(data, at, inner)
        if one.tag == SEQUENCE_END:
            return one.value
        if one.tag != ITEM:
            raise no_item(one.tag, at)
        at = one.value + one.length if one.length != UNDEFINED else _item_end(data, one, inner)


def _item_end(data: bytes, item: Element, coding: Coding) -> int:
    """Return where an item of undefined length ends."""
    at = item.value
    while True:
        one = read_head(data, at, coding)
        if one.tag == ITEM_END:
            return one.value
        at = end_of(data, one, coding)


def no_item(tag: int, at: int) -> FormatError:
    """Make the error for a sequence that holds something else than items."""
    return FormatError(
        f"({tag >> 16:04X},{tag & 0xFFFF:04X}) stands at byte {at:,} where an item of a sequence"
        " should begin",
        needed="a sequence of items",
        cure="export the file again; it may be damaged",
    )


def is_sequence(element: Element) -> bool:
    """Return True for an element that holds items, also one whose VR was lost on the way."""
    return element.vr == "SQ" or (element.vr == "UN" and element.length == UNDEFINED)


def items(data: bytes, element: Element, coding: Coding) -> Iterator[tuple[int, int]]:
    """Yield start and end of each item's elements."""
    at, end = element.value, end_of(data, element, coding)
    while at < end:
        one = read_head(data, at, coding)
        if one.tag == SEQUENCE_END:
            return
        if one.tag != ITEM:
            raise no_item(one.tag, at)
        if one.length == UNDEFINED:
            at = _item_end(data, one, coding)
            yield one.value, at - 8
        else:
            at = one.value + one.length
            yield one.value, at


def elements(data: bytes, at: int, end: int, coding: Coding) -> Iterator[Element]:
    """Yield the elements of one data set without those within its sequences."""
    while at < end:
        one = read_head(data, at, coding)
        yield one
        at = end_of(data, one, coding)
