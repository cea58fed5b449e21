"""All removed values, searched for in all files that were written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hilum.deidentification.search.raw import Index, search
from hilum.deidentification.search.values import Needle, decode, needles_of
from hilum.deidentification.search.walk import Forms, find, is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.deidentification.removed import Attribute, Kind, Removed

_WALKED = 1 << 17
"""Bytes before the pixels up to which every file is read by pydicom, too."""
_DAY = 8
_PIXELS = b"\xe0\x7f\x10\x00"
IN_BYTES = "in the bytes, outside of what pydicom reads as text"


@dataclass(frozen=True)
class Sought:
    """A value that is searched for.

    Args:
        attribute: where it stood.
        text: the value.
    """

    attribute: Attribute
    text: str


@dataclass(frozen=True)
class Question:
    """The removed values that the output is searched for, in every form as bytes.

    Args:
        values: by their number.
        common: number of values that are not searched for, by kind.
        needles: their forms as bytes.
    """

    values: tuple[Sought, ...]
    common: Mapping[Kind, int]
    needles: tuple[Needle, ...]


@dataclass
class Finder:
    """A question, made ready for searching.

    Args:
        question: what is searched for.
    """

    question: Question
    walked: int = 0
    _index: Index = field(init=False)
    _forms: Forms = field(init=False)

    def __post_init__(self) -> None:
        needles = self.question.needles
        self._index = Index.build(needles)
        self._forms = Forms.build(
            (needle.raw.decode("utf-8"), needle.value) for needle in needles if _is_utf8(needle.raw)
        )

    def search(self, path: Path) -> dict[int, tuple[str, ...]]:
        """Return the places in a file at which values stand, by their numbers.

        Every file is searched as bytes. It is read by pydicom, too, where that may see more: where
        texts are deflated or in a coding with escapes, where its header is short, and where bytes
        were found, to name their attribute.
        """
        data = path.read_bytes()
        found = search(data, self._index)
        pixels = data.find(_PIXELS)
        short = (pixels if pixels >= 0 else len(data)) < _WALKED
        if not (found or short or not is_plain(data)):
            return {}
        self.walked += 1
        places = find(data, self._forms)
        places |= {value: [IN_BYTES] for value in found if value not in places}
        return {value: tuple(dict.fromkeys(held)) for value, held in places.items()}


def ask(removed: Removed, *, times: bool) -> Question:
    """Make the question of what a first pass removed.

    Args:
        removed: by the first pass.
        times: all times of day were removed, so that they are searched for, too.
    """
    moved = {one[:_DAY] for one in removed.written if one[:_DAY].isdigit()}
    values: dict[Sought, int] = {}
    common: Counter[Kind] = Counter(removed.common)
    needles: set[Needle] = set()
    for (attribute, charset), raws in removed.values.items():
        for raw in raws:
            forms = needles_of(attribute, raw.strip(b" \0"), charset)
            if not times and attribute.kind == "time":
                forms = set()
            if not forms or (attribute.kind == "date" and raw[:_DAY] in moved):
                common[attribute.kind] += 1
                continue
            text = decode(raw, charset).strip(" \0")
            if attribute.kind == "date":  # the time of day is not what identifies
                text = text[:_DAY]
            number = values.setdefault(Sought(attribute, text), len(values))
            needles |= {Needle(form, number) for form in forms}
    return Question(tuple(values), {kind: n for kind, n in common.items() if n}, tuple(needles))


def _is_utf8(raw: bytes) -> bool:
    """Return True if the bytes are text in UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
