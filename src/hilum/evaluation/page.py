"""Figures as people read them, and p-values as many tests need them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.metrics.bootstrap import NO_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 10

ATTENTION = "Attention: "
"""How a note begins that must not be overlooked: it stands before the figures."""


def figure(value: float) -> str:
    """A number for people; a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Say an interval for people, its ends in that format, or that there is none (NaN or None)."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return NO_INTERVAL
    return f"{low:{form}} to {high:{form}}"


def split_notes(notes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Notes as lines of a page: those that stand before the figures, with blank lines, and the list of the rest."""
    before = [line for note in notes if note.startswith(ATTENTION) for line in (note, "")]
    return before, [f"- {note}" for note in notes if not note.startswith(ATTENTION)]


def p_value(value: float) -> str:
    """A p-value for people: never "0.000"."""
    return "< 0.001" if value < 0.001 else figure(value)


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for many tests.

    Undefined p-values (NaN) are no tests and stay undefined.
    """
    order = sorted(
        (i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i]
    )
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
