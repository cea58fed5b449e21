"""The Basic Application Level Confidentiality Profile of DICOM PS3.15 Annex E, with its options."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_keyword

from hilum.deidentification.private import is_safe

Dates = Literal["shift", "keep", "remove"]

UID_PARTS = ("InstanceUID", "FrameOfReferenceUID", "EventUID", "AssertionUID", "FiducialUID")
_TEMPORAL = {"DA", "DT", "TM"}
_PSEUDONYMS = {"PatientID", "PatientName"}
_STUDY_ID = 0x00200010
_OUTSIDE = {"GroupLength", "PrivateDataElementCharacteristicsSequence"}
_NEVER = {"DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence"}


class Action(Enum):
    """One thing that is done to an attribute; the letters are those of table E.1-1a."""

    KEEP = "K"
    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"
    CLEAN = "C"
    SHIFT = "moved date"
    PSEUDONYM = "new patient id"
    AGE = "age limited"


@dataclass(frozen=True)
class Options:
    """Options of the profile (PS3.15 E.3). Without any, as little as the profile allows is kept.

    Args:
        dates: "shift": all dates of a patient are moved by the same number of days, times stay;
            "remove": the basic profile, after which no SUV and no interval can be computed;
            "keep": dates stay.
        retain_uids: UIDs stay.
        retain_device: serial numbers, station names and the like stay.
        retain_institution: name and address of the institution stay.
        retain_patient: sex, age, size, weight and the like stay; ages over 89 become 90.
        retain_safe_private: private attributes that the standard lists as safe stay.
        clean_descriptors: descriptions stay, without words that identify somebody.
        clean_graphics: graphic annotations stay, with their texts cleaned; overlays go.
        clean_structured_content: the content of reports stays, with its texts cleaned.
    """

    dates: Dates = "shift"
    retain_uids: bool = False
    retain_device: bool = False
    retain_institution: bool = False
    retain_patient: bool = False
    retain_safe_private: bool = False
    clean_descriptors: bool = False
    clean_graphics: bool = False
    clean_structured_content: bool = False

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """Return value and meaning of each code of CID 7050 that applies."""
        chosen = {"113100"}
        chosen |= {code for name, code in _CODES.items() if getattr(self, name, False) is True}
        chosen |= {_DATE_CODES[self.dates]} if self.dates in _DATE_CODES else set()
        return tuple((code, _MEANINGS[code]) for code in sorted(chosen))

    def __str__(self) -> str:
        chosen = [one.name for one in fields(self) if getattr(self, one.name) is True]
        return ", ".join([f"dates={self.dates}", *chosen])


_CODES = {
    "clean_graphics": "113103",
    "clean_structured_content": "113104",
    "clean_descriptors": "113105",
    "retain_patient": "113108",
    "retain_device": "113109",
    "retain_uids": "113110",
    "retain_safe_private": "113111",
    "retain_institution": "113112",
}
_DATE_CODES = {"keep": "113106", "shift": "113107"}
_MEANINGS = {
    "113100": "Basic Application Confidentiality Profile",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
_COLUMNS = {
    "uids": "retain_uids",
    "device": "retain_device",
    "institution": "retain_institution",
    "patient": "retain_patient",
    "descriptors": "clean_descriptors",
    "structured": "clean_structured_content",
    "graphics": "clean_graphics",
}


class Rule(NamedTuple):
    """One row of table E.1-1.

    Args:
        code: of the basic profile, such as "X/Z/D".
        options: action by option.
    """

    code: str
    options: dict[str, str]


class Place(NamedTuple):
    """An attribute's place, on which its type depends.

    Args:
        iod: kind of object, as highdicom names it; "" where the SOP class is not known.
        parent: keyword of the sequence around it; "" for none.
    """

    iod: str = ""
    parent: str = ""


_NOWHERE = Place()


@dataclass(frozen=True)
class _Table:
    """Contents of table.json."""

    edition: str
    attributes: dict[int, Rule]
    groups: dict[int, Rule]
    types: dict[int, dict[str, dict[str, str]]]
    iods: dict[str, str]
    parents: frozenset[str]


@cache
def load_table() -> _Table:
    """Read table.json, which scripts/deidentification_table.py makes."""
    raw = json.loads((files(__package__) / "table.json").read_text(encoding="utf-8"))
    types = {int(tag, 16): places for tag, places in raw["types"].items()}
    return _Table(
        edition=raw["edition"],
        attributes={int(tag, 16): _rule(row) for tag, row in raw["attributes"].items()},
        groups={int(group, 16): _rule(row) for group, row in raw["groups"].items()},
        types=types,
        iods=raw["iods"],
        parents=frozenset(parent for places in types.values() for parent in places),
    )


def _rule(row: list[str]) -> Rule:
    return Rule(row[0], dict(entry.split("=") for entry in row[1:]))


def action_of(
    tag: int, vr: str, options: Options, place: Place = _NOWHERE, creator: str = ""
) -> Action:
    """Decide what is done to an attribute.

    Args:
        tag: group and element.
        vr: value representation.
        options: of the profile.
        place: where it stands.
        creator: of a private attribute's block; "" for none.
    """
    if (tag >> 16) & 1:
        safe = options.retain_safe_private and is_safe(tag, creator)
        return Action.KEEP if safe else Action.REMOVE
    rule = load_table().attributes.get(tag) or load_table().groups.get(tag >> 24)
    if rule is None:
        return _unlisted(tag, vr, options)
    return _by_option(tag, vr, rule, options) or _by_code(tag, vr, rule.code, place, options)


def _unlisted(tag: int, vr: str, options: Options) -> Action:
    """Decide on an attribute that the table does not name: mostly it stays.

    Attributes that pydicom does not know go, as do names and dates of attributes that the table
    has not yet; UIDs of instances are replaced.
    """
    if tag >> 16 < 0x0008 or not dictionary_has_tag(tag):  # group lengths have no entry either
        return Action.REMOVE
    keyword = dictionary_keyword(tag)
    if keyword in _OUTSIDE | _NEVER:
        return Action.REMOVE
    if vr == "UI" and keyword.endswith(UID_PARTS):
        return Action.KEEP if options.retain_uids else Action.UID
    if vr in _TEMPORAL:
        return _temporal(vr, options) or Action.EMPTY
    return Action.EMPTY if vr in {"PN", "AE"} else Action.KEEP


def _by_option(tag: int, vr: str, rule: Rule, options: Options) -> Action | None:
    """Return the action that a chosen option asks for; None where none does."""
    if "full_dates" in rule.options and (action := _temporal(vr, options)) is not None:
        return action
    for column, code in rule.options.items():
        name = _COLUMNS.get(column, "")
        if not name or not getattr(options, name):
            continue
        if code == "C" and vr == "OB":  # only texts can be cleaned of words
            continue
        if vr == "AS":
            return Action.AGE
        if vr == "SQ":  # its elements have rules of their own
            return Action.KEEP if code in {"K", "C"} else Action.REMOVE
        if column == "graphics" and tag >> 24 in load_table().groups:
            return Action.REMOVE  # bits and curves: no program can clean them
        return Action(code)
    return None


def _temporal(vr: str, options: Options) -> Action | None:
    """Return the action on a date or time; None for the basic profile's."""
    if options.dates == "remove" or vr not in _TEMPORAL:
        return None
    if options.dates == "keep" or vr == "TM":
        return Action.KEEP
    return Action.SHIFT


def _by_code(tag: int, vr: str, code: str, place: Place, options: Options) -> Action:
    """Return the action of the basic profile; the attribute's type decides between several."""
    if dictionary_has_tag(tag) and dictionary_keyword(tag) in _PSEUDONYMS:
        return Action.PSEUDONYM
    if vr == "UI" and code != "X":
        return Action.KEEP if options.retain_uids else Action.UID
    if code == "X/Z/U*":  # the references in it get new UIDs
        return Action.KEEP
    if tag == _STUDY_ID:  # a directory of media needs one
        return Action.DUMMY
    if "/" not in code:
        return Action(code)
    codes = code.split("/")
    # X where it may be absent, Z where it may be empty, else D
    wanted = {"3": "XZD", "2": "ZD", "1": "DZ"}[type_of(tag, place)]
    return Action(next((one for one in wanted if one in codes), codes[-1]))


def type_of(tag: int, place: Place) -> str:
    """Return "1", "2" or "3"; "3" where the standard does not have the attribute in that place."""
    types = load_table().types.get(tag, {}).get(place.parent, {})
    return types.get(place.iod, types.get("*", "3"))


def iod_of(sop_class: str) -> str:
    """Return the kind of object of a SOP class, as highdicom names it; "" for an unknown one."""
    return load_table().iods.get(sop_class, "")
