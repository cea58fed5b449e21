"""Damage to DICOM files: bytes, ends, and data elements with their tags, lengths and values."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from io_mutants import mutant_of
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword

if TYPE_CHECKING:
    import numpy as np

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA, ITEM = 0x7FE00010, 0xFFFEE000
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}
DEFLATED, BIG, IMPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "Modality", "SOPClassUID"),
    *("SeriesInstanceUID", "FrameOfReferenceUID", "TransferSyntaxUID", "ImageType", "Units"),
    *("PatientWeight", "DecayCorrection", "SeriesTime", "RadionuclideTotalDose", "PixelData"),
    *("RadionuclideHalfLife", "RadiopharmaceuticalStartTime", "ImagerPixelSpacing"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SegmentationType"),
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("SegmentSequence", "SegmentNumber", "SegmentLabel", "ReferencedSegmentNumber"),
    *("SegmentIdentificationSequence", "MaximumFractionalValue", "StructureSetROISequence"),
    *("ROINumber", "ROIName", "ROIContourSequence", "ReferencedROINumber", "ContourSequence"),
    *("ContourData", "ContourGeometricType", "NumberOfContourPoints"),
)
WEIGHTY = {tag_for_keyword(keyword) for keyword in KEYWORDS}
SIZES = [tag_for_keyword(one) for one in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")]
TEXTS = (
    *(b"", b" ", b"nan", b"inf", b"-inf", b"1e400", b"-1", b"0", b"1e-30", b"9" * 20, b"abc"),
    *(b"1\\2", b"1\\2\\3\\4\\5\\6\\7", b"\0", "Ä".encode(), b"\xff\xfe", b"1,5", b"0x10", b"3e4"),
)
NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 255, 4096, 32767, 32768, 65535)


@dataclass(frozen=True)
class Element:
    """A data element, item or delimiter at its place in the bytes.

    Args:
        tag: its number.
        vr: two letters; b"" of items and delimiters.
        at: where it begins.
        length_at: where its length stands.
        width: bytes of its length.
        value_at: where its value begins.
        length: that is stated.
    """

    tag: int
    vr: bytes
    at: int
    length_at: int
    width: int
    value_at: int
    length: int

    @property
    def holds_others(self) -> bool:
        """True if its value is items or elements, which follow in the list by themselves."""
        return self.vr == b"SQ" or self.tag == ITEM or self.length == UNDEFINED

    @property
    def end(self) -> int:
        """The place where the next element begins: in a holder of others its first one."""
        return self.value_at if self.holds_others else self.value_at + self.length


@dataclass(frozen=True)
class Sound:
    """An undamaged file: its bytes, inflated, with the elements in them.

    Args:
        data: the bytes.
        elements: in their order.
        deflated_from: the byte from which the file is deflated; None where it is not.
        order: "<" or ">".
        implicit: whether VRs are not written.
    """

    data: bytes
    elements: tuple[Element, ...]
    deflated_from: int | None
    order: str
    implicit: bool


def read_sound(data: bytes) -> Sound:
    """Find the elements of a file."""
    start = 132 if data[128:132] == b"DICM" else 0
    meta = _walk(data, start, len(data), "<", implicit=False, group=2)
    syntax = next(
        data[one.value_at : one.end].rstrip(b"\0").decode() for one in meta if one.tag == 0x00020010
    )
    end, deflated = meta[-1].end, None
    if syntax == DEFLATED:
        data, deflated = data[:end] + zlib.decompress(data[end:], -zlib.MAX_WBITS), end
    order, implicit = ">" if syntax == BIG else "<", syntax == IMPLICIT
    rest = _walk(data, end, len(data), order, implicit=implicit)
    return Sound(data, (*meta, *rest), deflated, order, implicit)


def _walk(
    data: bytes, at: int, end: int, order: str, *, implicit: bool, group: int | None = None
) -> list[Element]:
    """List elements one after another, those in sequences and items too."""
    found: list[Element] = []
    compressed = False
    while at + 8 <= end:
        high, low = struct.unpack_from(f"{order}HH", data, at)
        if group is not None and high != group:
            break
        tag = high << 16 | low
        if high == 0xFFFE or implicit:
            known = high != 0xFFFE and dictionary_has_tag(tag)
            vr = dictionary_VR(tag)[:2].encode() if known else b""
            place, width, value_at = at + 4, 4, at + 8
        else:
            vr = data[at + 4 : at + 6]
            long = vr in LONG
            place, width, value_at = (at + 8, 4, at + 12) if long else (at + 6, 2, at + 8)
        (length,) = struct.unpack_from(order + ("L" if width == 4 else "H"), data, place)
        if compressed and tag == ITEM:
            vr = b"OB"  # a fragment of pixels
            one = Element(PIXEL_DATA, vr, at, place, width, value_at, length)
        else:
            one = Element(tag, vr, at, place, width, value_at, length)
        compressed = compressed or (tag == PIXEL_DATA and length == UNDEFINED)
        found.append(one)
        at = one.end
    return found


def damaged(sound: Sound, rng: np.random.Generator) -> tuple[bytes, str]:
    """Damage a file in one to three ways.

    Returns:
        The bytes, and the way.
    """
    data, elements, ways = sound.data, sound.elements, []
    count = int(rng.choice([1, 1, 1, 2, 3]))
    chosen = [_choose(elements, rng) for _ in range(count)]
    for one in sorted(chosen, key=lambda one: -one.at):  # places before it stay what they are
        way = WAYS[int(rng.integers(len(WAYS)))]
        before = data
        data = way(sound, data, one, rng)
        ways.append(f"{way.__name__[1:]} at {one.tag:08x}")
        if way in {_bytes, _cut}:
            break
        if len(data) != len(before) and rng.random() < 0.7:
            data = _with_lengths(sound, data, one.at, len(data) - len(before))
    start = sound.deflated_from
    if start is not None and rng.random() < 0.9:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = data[:start] + packer.compress(data[start:]) + packer.flush()
    return data, ", ".join(ways)


def _choose(elements: tuple[Element, ...], rng: np.random.Generator) -> Element:
    """Choose an element, more often one that the image hangs on."""
    weighty = [one for one in elements if one.tag in WEIGHTY]
    among = weighty if weighty and rng.random() < 0.7 else elements
    return among[int(rng.integers(len(among)))]


def _with_lengths(sound: Sound, data: bytes, at: int, more: int) -> bytes:
    """Correct the stated lengths of what encloses a place that has grown or shrunk."""
    changed = bytearray(data)
    for one in sound.elements:
        holds = one.holds_others and one.length != UNDEFINED
        if holds and one.value_at <= at < one.value_at + one.length:
            length = min(max(0, one.length + more), UNDEFINED - 1)
            struct.pack_into(f"{sound.order}L", changed, one.length_at, length)
    return bytes(changed)


# --- ways: each changes the bytes at an element or behind it


def _bytes(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Change bytes anywhere."""
    return mutant_of(data, rng)


def _cut(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Take the file's end away, from a place in an element or from its beginning."""
    return data[: one.at + int(rng.choice([0, 4, 8, 10, max(0, one.end - one.at - 2)]))]


def _without(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    return data[: one.at] + data[one.end :]


def _twice(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    return data[: one.end] + data[one.at : one.end] + data[one.end :]


def _other_tag(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    tag = _choose(sound.elements, rng).tag if rng.random() < 0.5 else int(rng.integers(2**32))
    new = struct.pack(f"{sound.order}HH", tag >> 16, tag & 0xFFFF)
    return data[: one.at] + new + data[one.at + 4 :]


def _other_vr(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    if one.length_at == one.at + 4:  # none is written
        return _length(sound, data, one, rng)
    names = (b"SQ", b"UN", b"US", b"FD", b"DS", b"IS", b"LO", b"OB", b"UI", b"AT", b"ZZ", b"\0\0")
    return data[: one.at + 4] + names[int(rng.integers(len(names)))] + data[one.at + 6 :]


def _length(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    most = (1 << 8 * one.width) - 1
    own = 0 if one.length == UNDEFINED else one.length
    lengths = (0, 1, own + 1, own + 2, own - 2, own * 2, 64, most, most - 1, most >> 1)
    new = min(max(0, lengths[int(rng.integers(len(lengths)))]), most)
    packed = struct.pack(sound.order + ("L" if one.width == 4 else "H"), new)
    return data[: one.length_at] + packed + data[one.length_at + one.width :]


def _value(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Write another value, with its length; or one digit of it."""
    if one.holds_others or not one.length:
        return _length(sound, data, one, rng)
    old = data[one.value_at : one.end]
    if one.vr in {b"US", b"SS"}:
        return _with_value(sound, data, one, _number(sound, rng, "H"))
    if one.vr in {b"UL", b"SL", b"FL"}:
        return _with_value(sound, data, one, _number(sound, rng, "L"))
    if one.vr in {b"OB", b"OW", b"UN", b""}:
        return _with_value(sound, data, one, rng.bytes(int(rng.integers(0, len(old) + 8))))
    if rng.random() < 0.4:
        place = int(rng.integers(len(old)))
        digit = b"0123456789.-\\ e"[int(rng.integers(15))]
        return _with_value(sound, data, one, old[:place] + bytes([digit]) + old[place + 1 :])
    return _with_value(sound, data, one, TEXTS[int(rng.integers(len(TEXTS)))])


def _digit(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Change one character of a text or one bit of a number, so that most stay what they are."""
    if one.holds_others or not one.length:
        return _length(sound, data, one, rng)
    place = one.value_at + int(rng.integers(one.length))
    binary = one.vr in {b"US", b"SS", b"UL", b"OB", b"OW", b"UN", b""}
    new = data[place] ^ (1 << int(rng.integers(8))) if binary else b"0123456789"[rng.integers(10)]
    return data[:place] + bytes([new]) + data[place + 1 :]


def _swapped(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Write the value of another element of the same VR."""
    alike = [other for other in sound.elements if other.vr == one.vr and not other.holds_others]
    if not alike or one.holds_others:
        return _length(sound, data, one, rng)
    other = alike[int(rng.integers(len(alike)))]
    return _with_value(sound, data, one, sound.data[other.value_at : other.end])


def _huge(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """State dimensions that nothing can hold; of the last of them that stands before here."""
    sizes = [other for other in sound.elements if other.tag in SIZES and other.at <= one.at]
    if not sizes:
        return _value(sound, data, one, rng)
    target = sizes[int(rng.integers(len(sizes)))]
    if target.vr == b"IS":
        text = (b"2147483647", b"65536", b"1000000", b"-4", b"99999999999")[int(rng.integers(5))]
        return _with_value(sound, data, target, text)
    number = (65535, 65534, 32768, 30000, 4096)[int(rng.integers(5))]
    return _with_value(sound, data, target, struct.pack(f"{sound.order}H", number))


def _deep(sound: Sound, data: bytes, one: Element, rng: np.random.Generator) -> bytes:
    """Insert sequences in sequences, closed or not."""
    depth = int(rng.choice([3, 50, 500, 5000, 20000]))
    tag = int(rng.choice([0x00081115, 0x00400275, 0x00091010, 0x52009229]))
    head = struct.pack(f"{sound.order}HH", tag >> 16, tag & 0xFFFF)
    undefined = struct.pack(f"{sound.order}L", UNDEFINED)
    head += undefined if sound.implicit else b"SQ\0\0" + undefined
    item = struct.pack(f"{sound.order}HHL", 0xFFFE, 0xE000, UNDEFINED)
    ends = b"".join(struct.pack(f"{sound.order}HHL", 0xFFFE, low, 0) for low in (0xE00D, 0xE0DD))
    closed = depth if rng.random() < 0.6 else int(rng.integers(depth))
    return data[: one.at] + (head + item) * depth + ends * closed + data[one.at :]


def _with_value(sound: Sound, data: bytes, one: Element, value: bytes) -> bytes:
    """Write a value and its length."""
    value += b" " * (len(value) % 2)
    value = value[: (1 << 8 * one.width) - 2]
    packed = struct.pack(sound.order + ("L" if one.width == 4 else "H"), len(value))
    head = data[: one.length_at] + packed
    return head + value + data[one.end :]


def _number(sound: Sound, rng: np.random.Generator, kind: str) -> bytes:
    return struct.pack(sound.order + kind, NUMBERS[int(rng.integers(len(NUMBERS)))])


WAYS = (
    *(_bytes, _bytes, _cut, _without, _twice, _other_tag, _other_vr, _length, _length),
    *(_value, _value, _value, _digit, _digit, _digit, _swapped, _huge, _deep),
)
