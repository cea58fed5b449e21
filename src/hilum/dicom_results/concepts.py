"""Coded concepts of a segment, found by a label's name or code.

Names are looked up word by word in DICOM's own list of segmented properties (PS3.16 CID 7151, as
pydicom has it): nothing is translated, and no code is made up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilum.volume import Label

Concept = tuple[str, str, str]
"""Value, scheme and meaning, as in :class:`~hilum.volume.Label`."""
ANATOMY: Concept = ("91723000", "SCT", "Anatomical Structure")
ABNORMAL: Concept = ("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE: Concept = ("85756007", "SCT", "Tissue")
_CATEGORIES = {7192: ANATOMY, 7194: ABNORMAL, 7191: TISSUE}
"""Category of each list of property types; the first one that has a name counts."""
_PARTS = ("Left", "Right", "Bilateral", "Anterior", "Posterior", "Superior", "Inferior")
_SAME = {
    **dict.fromkeys(("tumor", "tumour", "cancer", "carcinoma", "neoplasia"), "neoplasm"),
    **dict.fromkeys(("lesions",), "lesion"),
    **dict.fromkeys(("vertebrae", "vertebral"), "vertebra"),
    **dict.fromkeys(("oesophagus",), "esophagus"),
    **dict.fromkeys(("bowel",), "intestine"),
    **dict.fromkeys(("oedema",), "edema"),
    **dict.fromkeys(("haemorrhage",), "hemorrhage"),
    **dict.fromkeys(("hepatic",), "liver"),
    **dict.fromkeys(("pulmonary",), "lung"),
    **dict.fromkeys(("renal",), "kidney"),
    **dict.fromkeys(("urinary", "of", "the", "structure", "and"), ""),
}
"""Words that mean the same here, and those that mean nothing."""
_SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NUMBERED = re.compile(r"\b([A-Za-z]+\d+)\b")
_CHARACTERS = 64
"""Most characters of a meaning."""


@dataclass(frozen=True)
class SegmentConcepts:
    """Codes of a segment.

    Args:
        category: kind of property: anatomy, abnormal structure, tissue.
        kind: the property itself.
        modifiers: side, or part of it.
        region: the anatomy in which an abnormal structure lies; None where it is not named.
        generic: True where no code was found, and the name stands in the segment's label alone.
    """

    category: Concept
    kind: Concept
    modifiers: tuple[Concept, ...] = ()
    region: Concept | None = None
    generic: bool = False


def concepts_of(label: Label) -> SegmentConcepts:
    """Find the concepts of a label: by its code if it has one, else by its name.

    A name is the words of a property ("left atrium"), or those of one and of a side or part ("left
    kidney", "hippocampus, anterior"), or an abnormal structure and where it lies ("lung nodule").
    """
    if label.code is not None:
        value, scheme, meaning = label.code
        words = _words(meaning)
        category = _category_of(value, words)
        return SegmentConcepts(category, (value, scheme, meaning[:_CHARACTERS]))
    words = _words(label.name)
    parts = _parts()
    named = _properties().get(words)
    modifiers = tuple(parts[word] for word in sorted(words & parts.keys()))
    rest = frozenset(words - parts.keys())
    if named is None and modifiers:
        named = _properties().get(rest)
    elif named is not None:
        modifiers = ()
    if named is not None:
        return SegmentConcepts(*named, modifiers)
    for word in sorted(rest):
        category, kind = _properties().get(frozenset({word}), (TISSUE, TISSUE))
        region = _properties().get(rest - {word})
        if category == ABNORMAL and region is not None and region[0] != ABNORMAL:
            return SegmentConcepts(category, kind, modifiers, region[1])
    return SegmentConcepts(TISSUE, TISSUE, generic=True)


def _category_of(value: str, words: frozenset[str]) -> Concept:
    """Find the category of a code that is given, else by the words of its meaning."""
    if value in _values():
        return _values()[value]
    abnormal = any(_properties().get(frozenset({word}), (None,))[0] == ABNORMAL for word in words)
    return ABNORMAL if abnormal else ANATOMY


def _words(name: str) -> frozenset[str]:
    """Split a name into the words that count, without plural of "s" and synonyms.

    A name like "L1Vertebra" or "vertebrae_L1" gives {"l1", "vertebra"}.
    """
    found = set()
    for piece in re.split(r"[^A-Za-z0-9]+", name):
        numbered = bool(_NUMBERED.fullmatch(piece))
        for word in [piece] if numbered else _SPLIT.findall(piece):
            small = word.lower()
            single = (
                small[:-1]
                if small.endswith("s") and not small.endswith(("ss", "us", "is"))
                else small
            )
            found.add(_SAME.get(small, _SAME.get(single, single)))
    return frozenset(found - {""})


@cache
def _properties() -> Mapping[frozenset[str], tuple[Concept, Concept]]:
    """List property types by their words, with category; words of several types are left out."""
    from pydicom.sr.codedict import codes

    found: dict[frozenset[str], set[tuple[Concept, Concept]]] = {}
    known: set[str] = set()
    for cid, category in _CATEGORIES.items():
        for code in getattr(codes, f"cid{cid}").concepts.values():
            if code.scheme_designator == "SCT" and code.value not in known:
                known.add(code.value)
                entry = category, (code.value, "SCT", code.meaning[:_CHARACTERS])
                found.setdefault(_words(code.meaning), set()).add(entry)
    return {words: entries.pop() for words, entries in found.items() if len(entries) == 1}


@cache
def _values() -> Mapping[str, Concept]:
    """List the category of each property type by the value of its code."""
    return {kind[0]: category for category, kind in _properties().values()}


@cache
def _parts() -> Mapping[str, Concept]:
    """List the sides and parts by their word."""
    from pydicom.sr.codedict import codes

    named = {name: getattr(codes.SCT, name) for name in _PARTS}
    return {name.lower(): (code.value, "SCT", code.meaning) for name, code in named.items()}
