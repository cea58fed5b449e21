"""Decisions, made once for each header and place and kept from file to file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_keyword

from hilum.deidentification.coding import IMPLICIT, ITEM, LONG_VRS, Coding, known_vr
from hilum.deidentification.harvest import Heads
from hilum.deidentification.profile import Action, Options, Place, action_of, load_table
from hilum.deidentification.removed import Attribute, kind_of

FREE_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})


class Plan(NamedTuple):
    """Action on data elements of this header.

    Args:
        attribute: kind, tag and value representation; by the dictionary where the latter was lost.
        written: value representation in the file.
        action: what is done.
        start: length of the header.
        items: what is decided about elements of its items; None for what has no items.
        same: contents that stay as they are, of a sequence that stays; None for anything else.
    """

    attribute: Attribute
    written: str
    action: Action
    start: int
    items: Level | None
    same: set[bytes] | None = None


@dataclass
class Level:
    """Decisions about elements of one place.

    Args:
        place: kind of object, and sequence around them.
        coding: how they are written.
        sweep: known words are cut out of all free texts.
        plans: by the first bytes of a header; a number is the length of the header of an attribute
            that stays.
        unchanged: contents of sequences in which nothing was changed: most frames of a file have
            most of their sequences in common.
    """

    place: Place
    coding: Coding
    sweep: bool
    plans: dict[bytes, int | Plan] = field(default_factory=dict)
    unchanged: set[bytes] = field(default_factory=set)


@dataclass
class Plans:
    """Decisions about data elements, each made once for the same header in the same place.

    Args:
        options: of the profile.
        heads: what stands in sequences that are removed.
    """

    options: Options
    heads: Heads = field(default_factory=Heads)
    _levels: dict[tuple[Place, Coding, bool], Level] = field(default_factory=dict)

    def level(self, place: Place, coding: Coding, *, sweep: bool) -> Level:
        """Return the decisions that were made so far about a place."""
        if (place, coding, sweep) not in self._levels:
            self._levels[place, coding, sweep] = Level(place, coding, sweep)
        return self._levels[place, coding, sweep]

    def make(self, key: bytes, level: Level) -> int | Plan:
        """Decide what is done with data elements of this header.

        Raises:
            FormatError: it is none.
        """
        coding = level.coding
        tag, written = coding.tag(key), coding.vr(key)
        odd = bool((tag >> 16) & 1)
        vr = known_vr(tag) if written == "UN" and not odd else written
        action = action_of(tag, vr, self.options, level.place)
        start = 12 if coding.explicit and written in LONG_VRS else 8
        looked_at = vr in {"SQ", "UN"} or tag in PIXELS or tag >> 16 == ITEM >> 16 or odd
        if action is Action.KEEP and not looked_at and not (level.sweep and vr in FREE_TEXT):
            return start
        items = None
        if vr in {"SQ", "UN"} and tag not in PIXELS:
            keyword = dictionary_keyword(tag) if dictionary_has_tag(tag) else ""
            parent = keyword if keyword in load_table().parents else "other"
            inner = IMPLICIT if written == "UN" else coding
            items = self.level(Place(level.place.iod, parent), inner, sweep=level.sweep)
        kept = action is Action.KEEP and written == "SQ" and items is not None
        same = items.unchanged if items is not None and kept else None
        return Plan(Attribute(kind_of(tag, vr), tag, vr), written, action, start, items, same)
