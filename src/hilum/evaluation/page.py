"""Numbers, tables and notes as Markdown pages show them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.metrics.bootstrap import NO_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = 10

ATTENTION = "Attention: "
"""First word of a note that must not be overlooked: it stands before the tables."""


def decimals(value: float) -> str:
    """Write a number for people; a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Write an interval for people, or that there is none (NaN or None)."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return NO_INTERVAL
    return f"{low:{form}} to {high:{form}}"


def p_value(value: float) -> str:
    """Write a p-value for people: never "0.000"."""
    return "< 0.001" if value < 0.001 else decimals(value)


def some(names: Sequence[str]) -> str:
    """Name the first of many, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def joined_sentence(count: int) -> str:
    """Make the sentence on patients that near-duplicates join; "" where they join none."""
    return (
        f"Near-duplicates join {count} further patients to these: they count, and are drawn, as"
        " one."
        if count
        else ""
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, and a blank line after it; "|" in a cell is escaped."""
    return [
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |"
        for line in (head, ["---"] * len(head), *rows)
    ] + [""]


def evaluation_page(
    notes: Sequence[str], intro: str, body: Sequence[str], left_out: Sequence[str]
) -> str:
    """Arrange a page: notes that call for attention, introduction, body, other notes.

    Args:
        notes: what had to be assumed.
        intro: what was evaluated.
        body: lines of the tables.
        left_out: sentences on the cases that were left out.
    """
    first = [line for note in notes if note.startswith(ATTENTION) for line in (note, "")]
    last = [f"- {note}" for note in notes if not note.startswith(ATTENTION)]
    gone = [line for sentence in left_out for line in (sentence, "")]
    lines = ["# Evaluation", "", intro, "", *first, *body, *gone, *last]
    return "\n".join(lines).rstrip() + "\n"
