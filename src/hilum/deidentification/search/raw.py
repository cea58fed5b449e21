"""Search of a file's bytes for many values at once, without reading it as DICOM."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.deidentification.search.values import Needle

_TEXTS = re.compile(rb"[\x20-\x7e\x80-\xff\x1b]{3,}")
_WIDE = re.compile(rb"(?:[\x20-\x7e]\x00){4,}")
_MULTIPLIER, _SHIFT = np.uint32(2654435761), np.uint32(8)
_KEY, _LEAST_IN_NOISE = 4, 6
_PIXELS = b"\xe0\x7f\x10\x00"
_NUMBER, _DOT = re.compile(rb"[0-9.]+"), 0x2E


def is_word(byte: int) -> bool:
    """Return True for an ASCII letter or digit."""
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A


_NO_WORD = [bytes([one]) for one in range(256) if not is_word(one)]


@dataclass(frozen=True)
class Index:
    """Index of the values that are searched for, by their first four bytes.

    Args:
        by_start: needles that begin with four bytes.
        filter: True at the hash of each of these.
    """

    by_start: Mapping[bytes, tuple[Needle, ...]]
    filter: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def build(cls, needles: Iterable[Needle]) -> Index:
        """Build an index; a needle of three bytes is entered with every byte that may follow."""
        by_start: dict[bytes, list[Needle]] = {}
        for needle in needles:
            start = needle.raw[:_KEY]
            starts = [start] if len(start) == _KEY else [start + one for one in _NO_WORD]
            for one in starts:
                by_start.setdefault(one, []).append(needle)
        marked = np.zeros(1 << 24, dtype=np.bool_)
        keys = np.frombuffer(b"".join(by_start), dtype="<u4")
        marked[(keys * _MULTIPLIER) >> _SHIFT] = True
        return cls({start: tuple(held) for start, held in by_start.items()}, marked)


def search(data: bytes, index: Index) -> set[int]:
    """Return the numbers of the values that stand in a file's bytes, as whole words.

    Texts of one or two bytes a letter are found, in either case. Pixels that are stored as they are
    hold numbers and are left out. In compressed ones, which may have comments, only forms of six
    bytes and more count: shorter ones stand in any noise.
    """
    start, end = _pixels(data)
    found = _search(_texts(data[:start]), index, 0)
    return found | _search(_texts(data[end:]), index, _LEAST_IN_NOISE)


def _pixels(data: bytes) -> tuple[int, int]:
    """Return where pixels begin, and where those end that are stored as they are.

    Compressed ones end, for this purpose, where they begin.
    """
    start = data.find(_PIXELS)
    if start < 0:
        return len(data), len(data)
    explicit = data[start + 4 : start + 6] in {b"OB", b"OW"}
    value = start + (12 if explicit else 8)
    end = value + int.from_bytes(data[value - 4 : value], "little")
    return start, end if end <= len(data) else start


def _search(text: bytes, index: Index, least: int) -> set[int]:
    """Return the numbers of the needles that stand in a text as whole words."""
    if len(text) < _KEY or not index.by_start:
        return set()
    windows: np.ndarray[tuple[int], np.dtype[np.uint32]] = np.ndarray(
        (len(text) - _KEY + 1,), dtype="<u4", buffer=text, strides=(1,)
    )
    places = np.flatnonzero(index.filter[(windows * _MULTIPLIER) >> _SHIFT])
    found: set[int] = set()
    for at in places.tolist():
        for needle in index.by_start.get(text[at : at + _KEY], ()):
            if (
                needle.value not in found
                and len(needle.raw) >= least
                and _stands(text, needle.raw, at)
            ):
                found.add(needle.value)
    return found


def _texts(data: bytes) -> bytes:
    """Return each run of readable bytes once, in lower case, each ended by a zero."""
    low = data.lower()
    runs = set(_TEXTS.findall(low))
    runs |= {wide.replace(b"\0", b"") for wide in _WIDE.findall(low)}
    return b"\0".join(runs) + b"\0\0"


def _stands(text: bytes, needle: bytes, at: int) -> bool:
    """Return True if a needle is a whole word there.

    The byte after it may be the first of the next element's tag, which ends the run.
    """
    if not text.startswith(needle, at):
        return False
    end = at + len(needle)
    if at and is_word(text[at - 1]) and is_word(needle[0]):
        return False
    if _NUMBER.fullmatch(needle) and _DOT in {text[at - 1] if at else 0, text[end]}:
        return False  # a part of a longer UID or decimal
    return not (is_word(needle[-1]) and is_word(text[end])) or text[end + 1] == 0
