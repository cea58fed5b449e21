"""Metrics of a classification in subgroups of the cases: by sex, view, site, age."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.evaluation.classification.arrays import ClassRows
from hilum.evaluation.classification.measures import measures
from hilum.evaluation.classification.summary import estimate
from hilum.evaluation.covariates import choose_columns
from hilum.evaluation.subgroups import SMALL, CaseSubgroup, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import ClassTable
    from hilum.evaluation.estimates import Estimate
    from hilum.metrics import Resampling
    from hilum.targets.class_score import ClassScore

SUBGROUP_METRICS = (
    "auroc",
    "accuracy",
    "sensitivity",
    "specificity",
    "ece",
    "calibration_in_the_large",
)
"""Metrics that subgroups are compared by, where classes of their kind have it."""


class Subgroup(CaseSubgroup):
    """The cases that have one value of a column; estimates see `SUBGROUP_METRICS`.

    Small is one in which one of two classes has fewer than `SMALL` patients, or several classes
    fewer than that on average.

    Args:
        counts: cases that have each class.
    """

    counts: tuple[int, ...]

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
