"""The order of classes: natural, the positive one of two last, grades from low to high."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hilum.errors import UsageError, unknown_name
from hilum.files.text import name_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from hilum.dataset.classes import ClassKind

NO_FINDING = "No Finding"
"""Written for a case that has none of the findings."""
_NONE_WORDS = {
    *("normal", "healthy", "none", "nothing", "negative", "absent", "clear"),
    *("no finding", "no findings", "nofinding", "no abnormality", "unremarkable", "no disease"),
}
_NEGATIVE_WORDS = _NONE_WORDS | {
    *("benign", "control", "controls", "neg", "no", "false", "well", "without"),
}
_NEGATIVE_STARTS = ("no ", "non ", "not ", "without ")
_SCALE = (
    ("no", "none", "absent", "normal", "negative", "healthy"),
    ("minimal", "trace", "doubtful", "very low", "very mild"),
    ("mild", "low", "slight", "small", "early"),
    ("moderate", "medium", "intermediate"),
    ("severe", "high", "large", "marked", "advanced"),
    ("very severe", "very high", "very large", "extreme", "critical", "proliferative"),
)
_ROMAN = ("", *["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"])


def natural(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key that puts 2 before 10, stage 2 before stage 10, and -1 before 0."""
    try:
        return [(0, float(text), "")]
    except ValueError:
        parts = re.split(r"(\d+)", text.lower())
        return [
            (0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in parts if part
        ] + [(1, 0.0, text)]


def by_number(names: Collection[str]) -> dict[str, float] | None:
    """Return the number that each name is; None unless all are numbers."""
    try:
        return {name: float(name) for name in names}
    except ValueError:
        return None


def is_none_word(name: str) -> bool:
    """Return True if a class is named like none: No Finding, normal, none."""
    return _plain(name) in _NONE_WORDS


def is_grade_word(name: str) -> bool:
    """Return True if a class is a grade above none: mild, moderate, severe, high."""
    return any(_plain(name) in words for words in _SCALE[1:])


def class_order(
    names: Collection[str], kind: ClassKind, positive: str | None
) -> tuple[tuple[str, ...], str]:
    """Order exclusive or ordinal classes as the outputs are; of two the positive one last.

    The positive one of two exclusive classes is the one asked for; else, where exactly one is named
    like a negative (normal, benign, no, control, non-...), the other; else the later one in natural
    order.

    Args:
        names: at least two.
        kind: "exclusive" or "ordinal".
        positive: which of two is the positive one.

    Returns:
        The ordered classes, and a sentence on the order, or "".

    Raises:
        UsageError: no such class, or not two; grades whose names do not say their order.
    """
    if positive is not None and (kind == "ordinal" or len(names) != 2):
        raise UsageError(
            f"{len(names)} {kind} classes have no positive class, and {positive!r} was named as"
            " one",
            needed="two exclusive classes",
            cure=f"leave positive={positive!r} out",
        )
    ordered = sorted(names, key=natural)
    spelled = {name_key(name): name for name in names}
    if positive is not None and name_key(positive) not in spelled:
        raise unknown_name("positive class", "positive", positive, ordered)
    if kind == "ordinal":
        grades = _grades(names)
        return grades, f"the grades are, lowest first: {', '.join(grades)}"
    if len(ordered) != 2:
        return tuple(ordered), ""
    if positive is not None:
        last = spelled[name_key(positive)]
        return tuple(sorted(ordered, key=lambda name: name == last)), ""
    if _is_negative(ordered[1]) and not _is_negative(ordered[0]):
        ordered.reverse()
    negative, positive = ordered
    return (negative, positive), (
        f"{positive} is the positive class, {negative} the negative one; positive={negative!r}"
        " turns it round"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _is_negative(name: str) -> bool:
    plain = _plain(name)
    return plain in _NEGATIVE_WORDS or plain.startswith(_NEGATIVE_STARTS)


def _grades(names: Collection[str]) -> tuple[str, ...]:
    """Order names by numbers, a number in each, I II III, single letters, or a scale's words."""
    ranks = by_number(names) or {}
    for rule in (_number_in, _roman_in, _letter, _word_in):
        if len(set(ranks.values())) < len(names):  # each needs a rank of its own
            ranks = {name: rank for name in names if (rank := rule(name)) is not None}
    if len(set(ranks.values())) < len(names):
        raise UsageError(
            f"the names {', '.join(sorted(names, key=natural))} do not say which grade is lower",
            needed=(
                "numbers, a number in each name, I II III, or words such as none, mild, moderate,"
                " severe"
            ),
            cure="write e.g. 1_low, 2_high in the column, or leave classes='ordinal' out",
        )
    return tuple(sorted(names, key=lambda name: ranks[name]))


def _number_in(name: str) -> float | None:
    numbers = re.findall(r"\d+(?:\.\d+)?", name)
    return float(numbers[0]) if len(numbers) == 1 else None


def _roman_in(name: str) -> float | None:
    found = [part for part in re.findall(r"[A-Za-z]+", name) if part in _ROMAN]
    return float(_ROMAN.index(found[0])) if len(found) == 1 else None


def _letter(name: str) -> float | None:
    return float(ord(name.lower())) if len(name) == 1 and name.isalpha() else None


def _word_in(name: str) -> float | None:
    """Return the rank of a word of severity in a class name; None where it has none."""
    plain = f" {_plain(name)} "
    found = [
        rank for rank, words in enumerate(_SCALE) if any(f" {word} " in plain for word in words)
    ]
    return float(max(found)) if found else None  # very severe is severe too
