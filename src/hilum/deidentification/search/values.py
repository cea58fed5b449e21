"""Removed values as they may stand in a file again: parts, other orders, other encodings.

A value is searched for if it says enough: the rules are those of `too_common`, and whatever they
leave out is counted as not searchable, by kind, in the report.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from pydicom.charset import convert_encodings, decode_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hilum.deidentification.removed import Attribute

_LEAST_DIFFERENT = 2
LEAST_NAME, LEAST_ID, LEAST_TEXT, LEAST_DIGITS = 3, 4, 6, 6
RULE = (
    "Some values are not searched for, as they stand in any file: parts of names under"
    f" {LEAST_NAME} letters and titles (Dr, van); numbers under {LEAST_DIGITS} digits; ids under"
    f" {LEAST_ID} and other texts under {LEAST_TEXT} characters; one repeated character; numbers in"
    " private attributes; dates that are also moved dates of another study; times of day, unless"
    " all times were removed; UIDs of the standard itself; binary values. Pixels that are not"
    " compressed are not searched."
)
"""The rule of what is searched for, in words."""
TITLES = frozenset(
    {"dr", "med", "prof", "mrs", "miss", "phd", "von", "van", "der", "den", "del", "jun", "sen"}
    | {"anonymous", "anonymized", "anonymised", "unknown", "none", "removed", "name", "patient"}
)
_SEPARATORS = re.compile(r"[\^=\\ ,;/\n\r\t]+")
_NAME_DELIMITERS = {0x5E, 0x3D}
_STANDARD = "1.2.840.10008."
_DIGITS = re.compile(r"\D+")
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Needle(NamedTuple):
    """Bytes to be searched for, in lower case.

    Args:
        raw: the bytes.
        value: number of the value that they are a form of.
    """

    raw: bytes
    value: int


def decode(raw: bytes, charset: str) -> str:
    """Decode a value by the Specific Character Set of its file; what does not fit stays visible."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says which unknown name it takes for which
        try:
            names = convert_encodings(charset.split("\\") if charset else None)
            return decode_bytes(raw, names, _NAME_DELIMITERS)
        except (LookupError, UnicodeDecodeError, ValueError):
            return raw.decode("latin-1")


def needles_of(attribute: Attribute, raw: bytes, charset: str) -> set[bytes]:
    """Return every form in which a value is searched for; none where it is too common."""
    text = decode(raw, charset).strip(" \0")
    forms = {form for form in _forms(attribute, text) if form}
    found = {form.lower().encode("utf-8") for form in forms}
    if not raw.isascii() or b"\x1b" in raw:
        plain = [unicodedata.normalize("NFKD", form).lower() for form in forms]
        found |= {form.encode("ascii", "ignore") for form in plain}
        found |= {form.lower().encode("latin-1", "replace") for form in forms}
        parts = re.split(rb"[\^=\\]", raw) if attribute.kind == "name" else [raw]
        found |= {part.strip(b" \0").lower() for part in parts}  # in the file's own coding
    least = LEAST_NAME if attribute.kind == "name" else LEAST_ID
    return {form for form in found if len(form) >= least and b"?" * 3 not in form}


def too_common(kind: str, text: str) -> bool:
    """Return True for a text that says too little to be searched for."""
    letters = sum(one.isalpha() for one in text)
    digits = len(_DIGITS.sub("", text))
    if len(set(text)) < _LEAST_DIFFERENT:
        return True
    if kind == "name":
        return letters < LEAST_NAME or text.lower() in TITLES
    if kind in {"uid", "date", "time"}:
        return digits < LEAST_DIGITS or text.startswith(_STANDARD)
    if kind in {"id", "address", "institution", "device"}:
        return len(text) < LEAST_ID or (not letters and digits < LEAST_DIGITS)
    return len(text) < LEAST_TEXT or not (letters or (kind != "private" and digits >= LEAST_DIGITS))


def _forms(attribute: Attribute, text: str) -> Iterator[str]:
    """Yield every way in which a value may be written, but for those that are too common."""
    kind = attribute.kind
    if kind == "name":
        for part in _SEPARATORS.split(text):
            if not too_common(kind, part):
                yield part
        return
    for whole in text.split("\\"):
        value = " ".join(whole.split())
        if kind == "date":
            yield from _dates(value)
        elif not too_common(kind, value):
            yield value
            yield from _variants(kind, value)


def _variants(kind: str, value: str) -> Iterator[str]:
    """Yield other ways to write ids, numbers and times."""
    if kind in {"id", "address"}:
        joined = re.sub(r"[^0-9A-Za-z]", "", value)
        if joined != value and not too_common("id", joined):
            yield joined
    if kind == "time":
        yield f"{value[:2]}:{value[2:4]}:{value[4:6]}"


def _dates(value: str) -> Iterator[str]:
    """Yield the ways in which people write a date."""
    found = _DATE.match(value)
    try:
        day = date(*map(int, found.groups())) if found else None
    except ValueError:
        return
    if day is None:
        return
    year, month, number = f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}"
    for parts in ((year, month, number), (number, month, year), (month, number, year)):
        for between in ("", "-", ".", "/", " ", "_"):
            yield between.join(parts)
    name = _MONTHS[day.month - 1]
    for number_text in {number, str(day.day)}:
        for between in (" ", "-"):
            yield between.join((number_text, name, year))
        yield f"{name} {number_text}, {year}"
        yield f"{name} {number_text} {year}"
