"""Records of what was removed or replaced: values for the second pass, numbers for the report."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_keyword

from hilum.deidentification.profile import UID_PARTS, load_table

if TYPE_CHECKING:
    from hilum.deidentification.profile import Action

Kind = Literal[
    "name",
    "id",
    "date",
    "time",
    "uid",
    "address",
    "institution",
    "device",
    "patient",
    "description",
    "private",
    "text",
    "binary",
]
BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "FD", "FL", "SL", "SS", "UL", "US"}) | {
    *("AT", "SV", "UV")
}
_BY_VR: dict[str, Kind] = {"PN": "name", "UI": "uid", "DA": "date", "DT": "date", "TM": "time"}
_ID_ENDINGS = ("ID", "IDs", "Number", "Identifier", "Numbers")
_ADDRESS_PARTS = ("Address", "Telephone", "Telecom", "CountryOfResidence", "RegionOfResidence")
_BY_OPTION: tuple[tuple[str, Kind], ...] = (
    ("institution", "institution"),
    ("device", "device"),
    ("patient", "patient"),
    ("descriptors", "description"),
)
_LEAST, _LETTER = 6, re.compile(rb"[A-Za-z\x80-\xff]")


class Attribute(NamedTuple):
    """An attribute that was removed or replaced.

    Args:
        kind: of information.
        tag: group and element; 0 for the preamble.
        vr: value representation.
    """

    kind: Kind
    tag: int
    vr: str


Source = tuple[Attribute, str]
"""An attribute, and the Specific Character Set of the file that it was in."""


@dataclass
class Removed:
    """Values and numbers of what one or more files lost.

    Args:
        values: bytes as they were, each once.
        counts: number of attributes by what was done and kind of information.
        common: number of values that say too little to be searched for, by kind.
        written: values that were put in place of removed ones: moved dates, new UIDs and ids.
    """

    values: dict[Source, set[bytes]] = field(default_factory=dict)
    counts: Counter[tuple[Action, Kind]] = field(default_factory=Counter)
    common: Counter[Kind] = field(default_factory=Counter)
    written: set[bytes] = field(default_factory=set)

    def note(self, attribute: Attribute, charset: str, raw: bytes) -> None:
        """Note a value, unless it is binary or nothing."""
        value = strip_padding(raw)
        if value and attribute.vr not in BINARY_VRS and (attribute.vr != "UN" or is_text(value)):
            self.values.setdefault((attribute, charset), set()).add(value)

    def add(self, other: Removed) -> None:
        """Add the values that were removed from another file."""
        for source, values in other.values.items():
            self.values.setdefault(source, set()).update(values)
        self.counts.update(other.counts)
        self.common.update(other.common)
        self.written |= other.written

    def drop_common(self) -> None:
        """Drop texts of private blocks that say too little; count them.

        A scanner writes thousands of numbers and short codes into each file.
        """
        for (attribute, charset), values in list(self.values.items()):
            if attribute.kind == "private":
                worth = {raw for raw in values if len(raw) >= _LEAST and _LETTER.search(raw)}
                self.common[attribute.kind] += len(values) - len(worth)
                self.values[attribute, charset] = worth


def kind_of(tag: int, vr: str) -> Kind:
    """Return the kind of information that an attribute holds."""
    keyword = dictionary_keyword(tag) if dictionary_has_tag(tag) else ""
    if (tag >> 16) & 1:
        return "private"
    if vr == "UI" and tag not in load_table().attributes and not keyword.endswith(UID_PARTS):
        return "text"  # of classes, codings and templates
    if vr in _BY_VR:
        return _BY_VR[vr]
    return _by_keyword(tag, vr, keyword)


def _by_keyword(tag: int, vr: str, keyword: str) -> Kind:
    """Return the kind that an attribute's name, or a column of the table, says."""
    if any(part in keyword for part in _ADDRESS_PARTS):
        return "address"
    rule = load_table().attributes.get(tag)
    for column, kind in _BY_OPTION:
        if rule is not None and column in rule.options:
            return kind
    if keyword.endswith(_ID_ENDINGS) or vr == "AE":
        return "id"
    return "binary" if vr in BINARY_VRS else "text"


def strip_padding(raw: bytes) -> bytes:
    """Return a value without the spaces and zeros that fill it up."""
    return raw.strip(b" \0")


def is_text(raw: bytes) -> bool:
    """Return True for bytes that read as text: no control characters but line ends and escapes."""
    return all(one >= 0x20 or one in b"\t\n\r\f\x1b" for one in raw)
