"""Metrics of a classification in subgroups of the cases: by sex, view, site, age."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.dataset.columns import is_numeric, number
from hilum.evaluation.classification.arrays import ClassRows
from hilum.evaluation.classification.covariates import choose_columns
from hilum.evaluation.classification.measures import measures
from hilum.evaluation.classification.summary import estimate
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.records import Record
from hilum.files.text import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import ClassTable
    from hilum.metrics import Resampling
    from hilum.targets.class_score import ClassScore, Flags

SMALL = 10
"""Fewer patients of a class than this make a small subgroup, whose metrics say little."""

SUBGROUP_METRICS = (
    "auroc",
    "accuracy",
    "sensitivity",
    "specificity",
    "ece",
    "calibration_in_the_large",
)
"""Metrics that subgroups are compared by, where classes of their kind have it."""

_MISSING, _OTHERS = "not known", "other"
_FEW_NUMBERS, _MOST_WORDS = 5, 12


class Subgroup(Record):
    """The cases that have one value of a column.

    Args:
        column: its name.
        value: the word, the range of numbers ("45 to 61"), or "not known".
        cases: how many there are.
        patients: how many patients they are of.
        counts: cases that have each class.
        small: whether one of two classes has fewer than `SMALL` patients here, or several fewer
            than that on average.
        figures: the estimates, see `SUBGROUP_METRICS`.
    """

    column: str
    value: str
    cases: int
    patients: int
    counts: tuple[int, ...]
    small: bool
    figures: tuple[Estimate, ...]

    def __getitem__(self, metric: str) -> Estimate:
        """Return the estimate of a metric.

        Raises:
            KeyError: it has no such estimate.
        """
        return {one.metric: one for one in self.figures}[metric]


def subgroups_of(
    scores: Sequence[ClassScore],
    table: ClassTable,
    columns: Sequence[str] | None = None,
    **how: Unpack[Resampling],
) -> tuple[Subgroup, ...]:
    """Return the estimates of each subgroup.

    Words are taken as they are, those beyond the twelve most frequent together; numbers are split
    into thirds where there are more than five different ones. Intervals are not corrected for the
    number of subgroups: with twenty of them one is expected to look unlike the rest by chance.

    Args:
        scores: one a case, each with its reference and columns.
        table: what the classes are.
        columns: names of columns; None takes those that describe a case, see `choose_columns`.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: there is no such column.
        DataError: see `ClassRows.of`.
    """
    rows = ClassRows.of(scores, table)
    cells = [score.columns for score in scores]
    chosen = choose_columns(cells, [score.reference or "" for score in scores], columns=columns)
    groups = []
    for column in dict.fromkeys(chosen.names if columns is None else columns):
        for value, members in split([row.get(column, "").strip() for row in cells]):
            part = rows.take(members)
            wanted = [m for m in measures(part) if not m.part and m.metric in SUBGROUP_METRICS]
            small = (
                any(len(np.unique(part.groups[own])) < SMALL for own in part.members.T)
                if table.binary
                else part.patients < SMALL * len(table.names)
            )
            groups.append(
                Subgroup(
                    column=column,
                    value=value,
                    cases=len(part.groups),
                    patients=part.patients,
                    counts=tuple(part.members.sum(axis=0).tolist()),
                    small=small,
                    figures=estimate(wanted, part.groups, **how),
                )
            )
    return tuple(groups)


def split(values: Sequence[str]) -> tuple[tuple[str, Flags], ...]:
    """Name the subgroups that a column (N,) makes, each with its cases (N,); none is empty."""
    missing = np.array([not is_known(value) for value in values])
    words = np.array([*values], dtype=object)
    known = words[~missing].tolist()
    parts: list[tuple[str, Flags]]
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
