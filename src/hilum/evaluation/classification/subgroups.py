"""Metrics of a classification in subgroups of the cases: by sex, view, site, age."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.columns import is_numeric, number
from hilum.errors import UsageError
from hilum.evaluation.classification.estimates import Estimate, Estimator
from hilum.evaluation.classification.measures import measures
from hilum.evaluation.classification.metadata import choose_columns
from hilum.evaluation.classification.rows import ClassRows
from hilum.evaluation.records import Record
from hilum.io.text import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import ClassTable
    from hilum.tasks.class_score import ClassScore, Flags

SMALL = 10
"""Fewer patients of a class than this make a small subgroup, whose figures say little."""

SUBGROUP_METRICS = (
    "auroc",
    "accuracy",
    "sensitivity",
    "specificity",
    "ece",
    "calibration_in_the_large",
)
"""What subgroups are compared by, where classes of their kind have it."""

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
        figures: see `SUBGROUP_METRICS`.
    """

    column: str
    value: str
    cases: int
    patients: int
    counts: tuple[int, ...]
    small: bool
    figures: tuple[Estimate, ...]

    def __getitem__(self, metric: str) -> Estimate:
        """The figure of a metric.

        Raises:
            KeyError: it has no such figure.
        """
        for figure in self.figures:
            if figure.metric == metric:
                return figure
        raise KeyError(metric)


def subgroups_of(
    scores: Sequence[ClassScore],
    table: ClassTable,
    columns: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """The figures of each subgroup.

    Words are taken as they are, those beyond the twelve most frequent together; numbers are split
    into thirds where there are more than five different ones. Intervals are not corrected for the
    number of subgroups: with twenty of them one is expected to look unlike the rest by chance.

    Args:
        scores: one a case, each with its reference and columns.
        table: what the classes are.
        columns: names of columns; None takes those that describe a case, see `choose_columns`.
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.

    Raises:
        UsageError: there is no such column.
        DataError: see `ClassRows.of`.
    """
    rows = ClassRows.of(scores, table)
    cells = [score.columns for score in scores]
    if columns is None:
        columns = choose_columns(cells, [score.reference or "" for score in scores]).names
    strange = [name for name in columns if not any(name in row for row in cells)]
    if strange:
        raise UsageError(
            f"no column {strange[0]!r}",
            needed=f"columns among {', '.join(sorted({n for row in cells for n in row}))}",
        )
    estimator = Estimator(level, resamples, seed)
    return tuple(
        _subgroup(column, value, rows.take(members), estimator)
        for column in dict.fromkeys(columns)
        for value, members in split([row.get(column, "").strip() for row in cells])
    )


def split(values: Sequence[str]) -> tuple[tuple[str, Flags], ...]:
    """Name the subgroups that a column (N,) makes, each with its cases (N,); none is empty."""
    missing = np.array([not is_known(value) for value in values])
    different = {value for value, gone in zip(values, missing, strict=True) if not gone}
    parts = (
        _thirds(values)
        if is_numeric(values) and len(different) > _FEW_NUMBERS
        else _words(values, missing)
    )
    return tuple(
        (name, members) for name, members in (*parts, (_MISSING, missing)) if members.any()
    )


def _thirds(values: Sequence[str]) -> tuple[tuple[str, Flags], ...]:
    numbers = np.array([number(value) for value in values])
    low, high = np.nanquantile(numbers, [1 / 3, 2 / 3])
    return (
        (f"up to {low:.4g}", numbers <= low),
        (f"above {low:.4g}, up to {high:.4g}", (numbers > low) & (numbers <= high)),
        (f"above {high:.4g}", numbers > high),
    )


def _words(values: Sequence[str], missing: Flags) -> tuple[tuple[str, Flags], ...]:
    words = np.array([*values], dtype=object)
    known = words[~missing].tolist()
    frequent = sorted(word for word, _ in Counter(sorted(known)).most_common(_MOST_WORDS))
    order = sorted(frequent, key=number) if is_numeric(frequent) else frequent
    others = ~missing & ~np.isin(words.astype(str), order)
    return (*((word, np.asarray(words == word)) for word in order), (_OTHERS, others))


def _subgroup(column: str, value: str, rows: ClassRows, estimator: Estimator) -> Subgroup:
    figures = estimator.estimate(
        (m for m in measures(rows) if not m.part and m.metric in SUBGROUP_METRICS), rows.groups
    )
    return Subgroup(
        column=column,
        value=value,
        cases=len(rows.groups),
        patients=rows.patients,
        counts=tuple(rows.members.sum(axis=0).tolist()),
        small=_is_small(rows),
        figures=figures,
    )


def _is_small(rows: ClassRows) -> bool:
    if not rows.table.binary:
        return rows.patients < SMALL * len(rows.table.names)
    return any(len(np.unique(rows.groups[members])) < SMALL for members in rows.members.T)
