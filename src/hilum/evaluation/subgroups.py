"""Parts of the cases by the values of a column: sex, view, site, age, scanner."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.columns import is_numeric, number
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.records import Record
from hilum.files.text import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SMALL = 10
"""Fewer patients than this (of classes: of one of two classes) make a small subgroup, whose metrics
say little."""

CAUTION = (
    "Intervals are not corrected for the number of subgroups: of twenty, one is expected to look"
    " unlike the others by chance."
)
"""Sentence that stands above every table of subgroups."""

_MISSING, _OTHERS = "not known", "other"
_FEW_NUMBERS, _MOST_WORDS = 5, 12


class CaseSubgroup(Record):
    """The cases that have one value of a column.

    Args:
        column: its name.
        value: the word, the range of numbers ("45 to 61"), or "not known".
        cases: how many there are.
        patients: how many patients they are of.
        small: few patients, see `SMALL`.
        figures: the estimates.
    """

    column: str
    value: str
    cases: int
    patients: int
    small: bool
    figures: tuple[Estimate, ...]


def split(values: Sequence[str]) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    """Name the subgroups that a column (N,) makes, each with its cases (N,); none is empty."""
    missing = np.array([not is_known(value) for value in values])
    words = np.array([*values], dtype=object)
    known = words[~missing].tolist()
    parts: list[tuple[str, NDArray[np.bool_]]]
    if is_numeric(values) and len(set(known)) > _FEW_NUMBERS:
        numbers = np.array([number(value) for value in values])
        low, high = np.nanquantile(numbers, [1 / 3, 2 / 3])
        parts = [
            (f"up to {low:.4g}", numbers <= low),
            (f"above {low:.4g}, up to {high:.4g}", (numbers > low) & (numbers <= high)),
            (f"above {high:.4g}", numbers > high),
        ]
    else:
        frequent = sorted(word for word, _ in Counter(sorted(known)).most_common(_MOST_WORDS))
        order = sorted(frequent, key=number) if is_numeric(frequent) else frequent
        parts = [(word, np.asarray(words == word)) for word in order]
        parts += [(_OTHERS, ~missing & ~np.isin(words.astype(str), order))]
    return tuple((name, cases) for name, cases in (*parts, (_MISSING, missing)) if cases.any())
