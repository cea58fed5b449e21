"""The first pass: a data set is copied, and what the profile removes or replaces is left out.

Bytes of attributes that stay are never decoded. `_Rewriter.elements` is the only loop over them; it
is written for speed, and all that is rare is in other methods.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hilum.deidentification.coding import (
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    Coding,
    Element,
    cut_short,
    elements,
    end_of,
    is_sequence,
    items,
    no_item,
)
from hilum.deidentification.dummies import dummy, dummy_content
from hilum.deidentification.harvest import Harvest
from hilum.deidentification.plans import FREE_TEXT, PIXELS, Level, Plan, Plans
from hilum.deidentification.private import is_safe
from hilum.deidentification.profile import Action, Place
from hilum.deidentification.removed import BINARY_VRS, Removed, strip_padding
from hilum.deidentification.subject import Subject, age

if TYPE_CHECKING:
    import re

_CONTENT_SEQUENCE = 0x0040A730
_MULTI_BYTE = ("2022", "GB", "ISO_IR 13", "87", "159", "149", "58")
_REPEATED, _REMEMBERED = 2048, 20_000
"""Longest content of a sequence that is remembered, in bytes, and how many of them."""
_DEEPEST = 60


class Source(NamedTuple):
    """A data set and what is known about it.

    Args:
        data: the file, or its inflated data set.
        start: where the data set begins.
        coding: of the data set.
        iod: kind of object.
        charset: Specific Character Set.
    """

    data: bytes
    start: int
    coding: Coding
    iod: str = ""
    charset: str = ""


def rewrite(
    source: Source,
    plans: Plans,
    subject: Subject,
    *,
    cut: re.Pattern[bytes] | None = None,
    sweep: bool = False,
) -> tuple[bytes, Removed]:
    """Write a data set without what identifies somebody.

    Args:
        source: the data set.
        plans: decisions by options.
        subject: the patient.
        cut: words that are cut out of texts that stay.
        sweep: cut them out of all free texts, also where the profile lets these be.

    Raises:
        FormatError: the bytes are no data set.
    """
    rewriter = _Rewriter(source, plans, subject, cut)
    level = plans.level(Place(source.iod), source.coding, sweep=sweep)
    try:
        pieces, _ = rewriter.elements(source.start, len(source.data), level)
    except struct.error:  # a length reaches beyond the last byte
        raise cut_short(len(source.data), 0) from None
    by_id = {id(plan): plan for plan in rewriter.acted}
    for one, number in Counter(map(id, rewriter.acted)).items():
        rewriter.removed.counts[by_id[one].action, by_id[one].attribute.kind] += number
    return (source.data[source.start :] if pieces is None else b"".join(pieces)), rewriter.removed


@dataclass
class _Rewriter:
    """The rewriting of one data set, element by element."""

    source: Source
    plans: Plans
    subject: Subject
    cut: re.Pattern[bytes] | None
    removed: Removed = field(default_factory=Removed)
    acted: list[Plan] = field(default_factory=list)
    creators: dict[int, str] = field(default_factory=dict)
    depth: int = 0

    def __post_init__(self) -> None:
        self.data = self.source.data
        self.harvest = Harvest(self.data, self.source.charset, self.plans.heads, self.removed)

    def elements(
        self, at: int, end: int, level: Level, *, delimited: bool = False
    ) -> tuple[list[bytes] | None, int]:
        """Copy the elements from `at` to `end`, or to the delimiter of an item.

        Returns:
            The pieces, None where nothing changed, and where the elements end.
        """
        data, coding, plans = self.data, level.coding, level.plans
        size, explicit = coding.key_bytes, coding.explicit
        short, long = coding.short.unpack_from, coding.long.unpack_from
        pieces: list[bytes] = []
        copied = at  # everything before it is in pieces
        outer, self.creators = self.creators, {}
        while at < end - 7:
            key = data[at : at + size]
            plan = plans.get(key)
            if plan is None:
                if not data[at:end].strip(b"\0"):
                    break
                plan = plans[key] = self.plans.make(key, level)
            if isinstance(plan, int):
                if plan == 12:
                    at += 12 + long(data, at + 8)[0]
                elif explicit:
                    at += 8 + short(data, at + 6)[0]
                else:
                    at += 8 + long(data, at + 4)[0]
                continue
            if plan.same and (after := self._skip(plan.same, at + plan.start, coding)):
                at = after
                continue
            if plan.attribute.tag >> 16 == ITEM >> 16:
                break
            new, after = self._apply(plan, at, coding)
            if new is not None:
                pieces += (data[copied:at], new)
                copied = after
            at = after
        self.creators = outer
        return self._finish(pieces, copied, at, None if delimited else end, coding)

    def _finish(
        self, pieces: list[bytes], copied: int, at: int, end: int | None, coding: Coding
    ) -> tuple[list[bytes] | None, int]:
        """Copy what is left, and refuse elements that do not end where they should.

        Args:
            pieces: what was copied.
            copied: where they end in the source.
            at: where the elements end.
            end: where they should; None for an item that a delimiter ends.
            coding: of the elements.
        """
        rest = b"" if end is None else self.data[at:end]
        is_item_end = self.data[at : at + 4] == coding.item_end[:4]
        if is_item_end != (end is None) or rest.strip(b"\0") or at > (end or at):
            raise cut_short(at, len(self.data) - at)
        if not pieces and not rest:
            return None, at
        pieces.append(self.data[copied:at])  # without zeros that fill a block
        return pieces, at if end is None else end

    def _apply(self, plan: Plan, at: int, coding: Coding) -> tuple[bytes | None, int]:
        """Return what takes an element's place, None for itself, and where it ends."""
        element = self._element(plan, at, coding)
        holds_items = plan.items is not None and (
            plan.attribute.vr == "SQ" or element.length == UNDEFINED
        )
        if plan.action is Action.KEEP:
            if holds_items:
                return self._sequence(plan, element, coding)
            return self._keep(plan, element, coding)
        if (plan.attribute.tag >> 16) & 1 and self._is_safe(element):
            return None, end_of(self.data, element, coding)
        if holds_items:
            self.acted.append(plan)
            private = plan.attribute.kind == "private"
            inner = plan.items.coding if plan.items else coding
            after = self.harvest.sequence(element.value, element.length, inner, private=private)
            removed = plan.action is Action.REMOVE
            return b"" if removed else self._dummy_sequence(plan.action, element, coding), after
        return self._value(plan, element, coding)

    def _element(self, plan: Plan, at: int, coding: Coding) -> Element:
        """Read a header whose plan says how long it is."""
        data, value = self.data, at + plan.start
        if value > len(data):
            raise cut_short(at, len(data) - at)
        if plan.start == 8 and coding.explicit:
            length = coding.short.unpack_from(data, at + 6)[0]
        else:
            length = coding.long.unpack_from(data, value - 4)[0]
        element = Element(plan.attribute.tag, plan.written, value, length)
        if length != UNDEFINED and value + length > len(data):
            raise cut_short(value, len(data) - value, element)
        return element

    def _value(self, plan: Plan, element: Element, coding: Coding) -> tuple[bytes | None, int]:
        """Remove or replace the value of an element, and note what was removed."""
        attribute, after = plan.attribute, end_of(self.data, element, coding)
        raw = self.data[element.value : after]
        new = b"" if plan.action is Action.REMOVE else self._replace(plan, raw)
        if plan.action is not Action.REMOVE and new == strip_padding(raw):
            return None, after
        self.acted.append(plan)
        lost = attribute.vr == "UN" and raw.startswith(coding.item_start)
        if lost and self.harvest.unknown(element.value, element.length):
            return b"", after  # a private sequence
        if plan.action not in {Action.CLEAN, Action.AGE}:
            self.removed.note(attribute, self.source.charset, raw)
        if plan.action is Action.REMOVE:
            return b"", after
        return coding.element(attribute.tag, attribute.vr, new), after

    def _is_safe(self, element: Element) -> bool:
        """Return True for a private attribute that stays, and for the creator of its block."""
        tag = element.tag
        if not self.plans.options.retain_safe_private or element.length == UNDEFINED:
            return False
        if tag & 0xFF00:
            return is_safe(tag, self.creators.get(tag >> 8, ""))
        value = self.data[element.value : element.value + element.length]
        creator = strip_padding(value).decode("latin-1")
        block = (tag & 0xFFFF0000) | (tag & 0xFF) << 8
        self.creators[block >> 8] = creator
        return any(is_safe(block | number, creator) for number in range(0x100))

    def _keep(self, plan: Plan, element: Element, coding: Coding) -> tuple[bytes | None, int]:
        """Copy an attribute that stays; known words are cut out of a free text."""
        after = end_of(self.data, element, coding)
        if plan.attribute.vr not in FREE_TEXT or self.cut is None or element.tag in PIXELS:
            return None, after
        raw = self.data[element.value : after]
        new = self._clean(raw)
        if new == raw:
            return None, after
        self.removed.counts[Action.CLEAN, plan.attribute.kind] += 1
        return coding.element(plan.attribute.tag, plan.attribute.vr, new), after

    def _sequence(self, plan: Plan, element: Element, coding: Coding) -> tuple[bytes | None, int]:
        """Copy a sequence; lengths that are written are those of the new content."""
        level = plan.items
        if level is None:
            raise no_item(element.tag, element.value)
        open_ended = element.length == UNDEFINED
        self.depth += 1
        if self.depth > _DEEPEST:
            raise no_item(element.tag, element.value)
        pieces, after = self._items(element, level)
        self.depth -= 1
        if pieces is None:
            stop = after - (8 if open_ended else 0)
            if stop - element.value <= _REPEATED and len(level.unchanged) < _REMEMBERED:
                level.unchanged.add(self.data[element.value : stop])
            return None, after
        new = b"".join(pieces)
        if open_ended:
            new += level.coding.head(SEQUENCE_END, "", 0)
        length = UNDEFINED if open_ended else len(new)
        return coding.head(element.tag, element.vr, length) + new, after

    def _skip(self, same: set[bytes], start: int, coding: Coding) -> int:
        """Return where a sequence ends whose content is known to stay; 0 for any other.

        Of undefined length it is compared up to the first end of a sequence. If that belongs to a
        sequence within, the content is not known.
        """
        length = coding.long.unpack_from(self.data, start - 4)[0]
        if length <= _REPEATED:
            stop = after = start + length
        elif length == UNDEFINED:
            stop = self.data.find(coding.sequence_end, start, start + _REPEATED + 8)
            after = stop + 8
        else:
            return 0
        return after if self.data[start:stop] in same else 0

    def _items(self, element: Element, level: Level) -> tuple[list[bytes] | None, int]:
        """Copy the items of a sequence; None where nothing changed."""
        data, coding = self.data, level.coding
        tag, long = coding.tag_struct.unpack_from, coding.long.unpack_from
        pieces: list[bytes] = []
        changed, at = False, element.value
        end = len(data) if element.length == UNDEFINED else element.value + element.length
        while at < end:
            if len(data) - at < 8:
                raise cut_short(at, len(data) - at)
            group, number = tag(data, at)
            if (group, number) == (0xFFFE, 0xE0DD):
                return (pieces if changed else None), at + 8
            if (group, number) != (0xFFFE, 0xE000):
                raise no_item(group << 16 | number, at)
            new, after = self._item(at + 8, long(data, at + 4)[0], level)
            changed |= new is not None
            pieces.append(data[at:after] if new is None else new)
            at = after
        if element.length == UNDEFINED or at > end:
            raise cut_short(at, end - at)
        return (pieces if changed else None), at

    def _item(self, at: int, length: int, level: Level) -> tuple[bytes | None, int]:
        """Copy an item whose elements begin at a byte."""
        head, open_ended = level.coding.head, length == UNDEFINED
        end = len(self.data) if open_ended else at + length
        pieces, at = self.elements(at, end, level, delimited=open_ended)
        after = at + 8 if open_ended else at
        if pieces is None:
            return None, after
        if open_ended:
            pieces.append(level.coding.item_end)
        content = b"".join(pieces)
        return head(ITEM, "", UNDEFINED if open_ended else len(content)) + content, after

    def _replace(self, plan: Plan, raw: bytes) -> bytes:
        """Return an attribute's new value, and note what may be found in the output again."""
        value, vr = strip_padding(raw), plan.attribute.vr
        if plan.action is Action.CLEAN:
            return strip_padding(self._clean(raw))
        if plan.action is Action.AGE:
            return age(value)
        if not value or plan.action is Action.EMPTY:
            return b""
        if plan.action is Action.UID:
            new = self.subject.uid(raw)
        elif plan.action is Action.PSEUDONYM:
            new = self.subject.pseudonym(raw, vr)
        elif plan.action is Action.SHIFT:
            moved = self.subject.moved(raw, vr)
            new = dummy(vr) if moved is None else moved
        else:
            new = dummy(vr)
        self.removed.written.add(new)
        return new

    def _clean(self, raw: bytes) -> bytes:
        """Cut known words out of a text; in codings of several bytes the whole text goes."""
        if self.cut is None or self.cut.search(raw) is None:
            return raw
        if any(part in self.source.charset for part in _MULTI_BYTE):
            return dummy("LO")
        return b" ".join(self.cut.sub(b"", raw).split()) or dummy("LO")

    def _dummy_sequence(self, action: Action, element: Element, coding: Coding) -> bytes:
        """Return an empty sequence, or, where it may not be empty, one that says nothing."""
        content = b""
        if action is Action.DUMMY and element.tag == _CONTENT_SEQUENCE:
            content = dummy_content(coding)
        elif action is Action.DUMMY:
            first = next(iter(items(self.data, element, coding)), None)
            content = b"" if first is None else self._dummy_item(*first, coding)
        return coding.element(element.tag, "SQ", content)

    def _dummy_item(self, start: int, end: int, coding: Coding) -> bytes:
        """Return an item with dummies for values, replaced UIDs, and no private elements."""
        pieces = []
        for one in elements(self.data, start, end, coding):
            if (one.tag >> 16) & 1:
                continue
            if is_sequence(one):
                pieces.append(self._dummy_sequence(Action.DUMMY, one, coding))
            elif one.vr == "UI":
                raw = self.data[one.value : one.value + one.length]
                pieces.append(coding.element(one.tag, one.vr, self.subject.uid(raw)))
            else:
                many = one.length if one.vr in BINARY_VRS else 0  # as many zeros as there were
                pieces.append(coding.element(one.tag, one.vr, bytes(many) or dummy(one.vr)))
        content = b"".join(pieces)
        return coding.head(ITEM, "", len(content)) + content
