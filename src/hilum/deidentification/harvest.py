"""Texts of a sequence that is removed whole: the second pass searches the output for them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hilum.deidentification.coding import (
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    Coding,
    cut_short,
    known_vr,
    no_item,
)
from hilum.deidentification.profile import Action, Options, action_of
from hilum.deidentification.removed import BINARY_VRS, Attribute, kind_of
from hilum.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.deidentification.removed import Removed

_ITEM_START = b"\xfe\xff\x00\xe0"
_STRICTEST = Options(dates="remove")
_SHORT, _LONG, _SEQUENCE, _END = range(4)
_Head = tuple[int, Attribute | None]
_Taker = tuple[int, "Callable[[bytes], None] | None"]


@dataclass
class Heads:
    """Meanings of headers, found once for their first bytes."""

    _found: dict[tuple[bytes, Coding, bool], _Head] = field(default_factory=dict)

    def make(self, key: bytes, coding: Coding, *, private: bool) -> _Head:
        """Return the length of a header, and the attribute whose text is noted, from a cache."""
        if (key, coding, private) not in self._found:
            self._found[key, coding, private] = self._make(key, coding, private=private)
        return self._found[key, coding, private]

    def _make(self, key: bytes, coding: Coding, *, private: bool) -> _Head:
        """Say how long a header is, and whether its value is a text."""
        tag = coding.tag(key)
        if tag == ITEM_END:
            return _END, None
        written = coding.vr(key)
        vr = known_vr(tag) if written == "UN" and not (tag >> 16) & 1 else written
        if vr == "SQ":
            return _SEQUENCE, None
        length = _LONG if coding.explicit and written in LONG_VRS else _SHORT
        own = private or bool((tag >> 16) & 1)
        kept = not (tag >> 16) & 1 and action_of(tag, vr, _STRICTEST) is Action.KEEP
        if vr in BINARY_VRS or kept:  # what stays elsewhere is no secret here
            return length, None
        return length, Attribute("private" if own else kind_of(tag, vr), tag, vr)


@dataclass
class Harvest:
    """Collects the texts of sequences that are removed.

    Args:
        data: bytes of the file.
        charset: Specific Character Set.
        heads: kept from file to file.
        removed: takes the texts.
    """

    data: bytes
    charset: str
    heads: Heads
    removed: Removed
    _takers: dict[tuple[Coding, bool], dict[bytes, _Taker]] = field(default_factory=dict)

    def sequence(self, at: int, length: int, coding: Coding, *, private: bool) -> int:
        """Note the texts of a sequence's items, and return where it ends."""
        data = self.data
        tag, long = coding.tag_struct.unpack_from, coding.long.unpack_from
        end = len(data) if length == UNDEFINED else at + length
        while at < end:
            if len(data) - at < 8:
                raise cut_short(at, len(data) - at)
            group, element = tag(data, at)
            inside = long(data, at + 4)[0]
            if (group << 16 | element) == SEQUENCE_END:
                return at + 8
            if (group << 16 | element) != ITEM:
                raise no_item(group << 16 | element, at)
            at = self._elements(at + 8, inside, coding, private=private)
        return at

    def unknown(self, at: int, length: int) -> bool:
        """Note the texts of a private value that may be a sequence whose VR was lost.

        Returns:
            True if it is one.
        """
        try:
            end = self.sequence(at, length, IMPLICIT, private=True)
        except (FormatError, struct.error):
            return False
        return end == at + length

    def _elements(self, at: int, length: int, coding: Coding, *, private: bool) -> int:
        """Note the texts of one item, and return where it ends."""
        data, size, explicit = self.data, coding.key_bytes, coding.explicit
        short, long = coding.short.unpack_from, coding.long.unpack_from
        takers = self._takers.setdefault((coding, private), {})
        end = len(data) if length == UNDEFINED else at + length
        while at < end:
            key = data[at : at + size]
            if key not in takers:
                kind, attribute = self.heads.make(key, coding, private=private)
                take = None
                if attribute is not None:
                    take = self.removed.values.setdefault((attribute, self.charset), set()).add
                takers[key] = kind, take
            kind, take = takers[key]
            if kind == _SHORT:
                value = at + 8
                count = short(data, at + 6)[0] if explicit else long(data, at + 4)[0]
            elif kind == _END:
                return at + 8
            else:
                start = 8 if explicit else 4
                value, count = at + start + 4, long(data, at + start)[0]
            if kind == _SEQUENCE or count == UNDEFINED:
                inner = IMPLICIT if key[4:] == b"UN" else coding
                at = self.sequence(value, count, inner, private=private)
                continue
            at = value + count
            if take is not None and count:
                if data.startswith(_ITEM_START, value) and self.unknown(value, count):
                    continue
                take(data[value:at])
        if length == UNDEFINED or at > end:
            raise cut_short(at, len(data) - at)
        return at
