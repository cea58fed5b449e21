"""The patient of a file, and the values that take the place of theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword

from hilum.deidentification.dates import limit_age, shift_date, shift_date_time
from hilum.deidentification.removed import strip_padding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.deidentification.key import Key
    from hilum.deidentification.removed import Source

_NAMES = {
    tag_for_keyword(keyword)
    for keyword in (
        "PatientName",
        "OtherPatientNames",
        "PatientBirthName",
        "PatientMotherBirthName",
    )
}
_IDS = {tag_for_keyword(keyword) for keyword in ("PatientID", "OtherPatientIDs", "AccessionNumber")}
_PARTS = re.compile(rb"[\^=\\ ,;/]+")
_LEAST_NAME, _LEAST_ID = 3, 4
_PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_GUESSES = (
    rb"\d{5,}",  # a number or date
    rb"\d{1,4}([./-])\d{1,2}\1\d{2,4}",  # a date
    rb"(?:dr|prof|mr|mrs|ms|frau|herr|mme)\b\.? *[a-z\x80-\xff-]+",  # somebody's name
)


@dataclass
class Subject:
    """Replacements for one patient.

    Args:
        key: the user's.
        patient: what the patient is known by in the source.
    """

    key: Key
    patient: str
    _uids: dict[bytes, bytes] = field(default_factory=dict)
    _dates: dict[tuple[str, bytes], bytes | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.days = self.key.days(self.patient)

    def uid(self, raw: bytes) -> bytes:
        """Replace one or more UIDs."""
        if raw not in self._uids:
            parts = strip_padding(raw).decode("latin-1").split("\\")
            new = "\\".join(self.key.uid(part.strip()) for part in parts)
            self._uids[raw] = new.encode("latin-1")
        return self._uids[raw]

    def pseudonym(self, raw: bytes, vr: str) -> bytes:
        """Replace the patient's id or name; nothing stays nothing."""
        value = strip_padding(raw).decode("latin-1")
        if not value:
            return b""
        return self.key.patient(self.patient if vr == "PN" else value).encode("ascii")

    def moved(self, raw: bytes, vr: str) -> bytes | None:
        """Move one or more dates; None where one of them is no date."""
        if (vr, raw) not in self._dates:
            shift = shift_date if vr == "DA" else shift_date_time
            parts = strip_padding(raw).decode("latin-1").split("\\")
            new = [shift(part, self.days) if part.strip() else "" for part in parts]
            whole = None if None in new else "\\".join(filter(None, new)).encode("latin-1")
            self._dates[vr, raw] = whole
        return self._dates[vr, raw]


def age(raw: bytes) -> bytes:
    """Return an age, at most 90 years."""
    return limit_age(raw.decode("latin-1")).encode("latin-1")


def identifying_words(
    values: Mapping[Source, Iterable[bytes]], *, everybody: bool = False
) -> frozenset[bytes]:
    """Return the words, in lower case, that identify the patient: parts of names, whole ids.

    Args:
        values: what was removed.
        everybody: take the names of physicians and others, too.
    """
    words = set()
    for (attribute, _), raws in values.items():
        if attribute.tag in _NAMES or (everybody and attribute.vr == "PN"):
            parts = [part for raw in raws for part in _PARTS.split(strip_padding(raw))]
            words |= {part.lower() for part in parts if len(part) >= _LEAST_NAME}
        elif attribute.tag in _IDS:
            parts = [strip_padding(part) for raw in raws for part in raw.split(b"\\")]
            words |= {part.lower() for part in parts if len(part) >= _LEAST_ID}
    return frozenset(words)


def word_pattern(
    words: frozenset[bytes], *, with_guesses: bool = False
) -> re.Pattern[bytes] | None:
    """Compile a pattern of whole words, in either case; None without any.

    Args:
        words: to be found.
        with_guesses: find what looks like a date, an id or a name, too.
    """
    listed = [re.escape(word) for word in sorted(words, key=len, reverse=True)]
    if with_guesses:
        listed += _GUESSES
    if not listed:
        return None
    return re.compile(
        rb"(?<![0-9A-Za-z])(?:" + b"|".join(listed) + rb")(?![0-9A-Za-z])", re.IGNORECASE
    )


def holds_word(data_set: bytes, words: frozenset[bytes]) -> bool:
    """Return True if one of the words stands in a data set, before its pixels."""
    stop = max(data_set.rfind(pixels) for pixels in _PIXELS)
    header = (data_set[:stop] if stop > 0 else data_set).lower()
    found = frozenset(word for word in words if word in header)
    pattern = word_pattern(found)
    return pattern is not None and pattern.search(header) is not None
