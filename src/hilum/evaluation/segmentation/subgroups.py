"""Metrics of label maps in subgroups of the cases: by sex, site, age, scanner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.evaluation.covariates import choose_columns
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.metric_table import LABEL_METRICS
from hilum.evaluation.subgroups import SMALL, CaseSubgroup, split
from hilum.metrics import bootstrap_interval
from hilum.metrics.resampling import NO_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.evaluation.segmentation.score import Score
    from hilum.metrics import Resampling

SUBGROUP_METRICS = ("dice", "nsd", "hd95")
"""Metrics that subgroups are compared by."""


class LabelMapSubgroup(CaseSubgroup):
    """The cases that have one value of a column.

    Estimates are those of `SUBGROUP_METRICS`: of every region, and (part "") the mean of the
    regions.

    Args:
        present: structures in the references of these cases.
        missed: of those, how many the predictions have nothing of.
    """

    present: int
    missed: int

    def estimate(self, metric: str, part: str = "") -> Estimate:
        """Return the estimate of a metric of a region; "" is the mean of the regions.

        Raises:
            KeyError: there is no such estimate.
        """
        return {(one.metric, one.part): one for one in self.figures}[metric, part]


def label_map_subgroups(
    scores: Sequence[Score],
    cells: Mapping[str, Mapping[str, str]],
    columns: Sequence[str] | None = None,
    **how: Unpack[Resampling],
) -> tuple[LabelMapSubgroup, ...]:
    """Return the estimates of each subgroup, as `hilum.evaluation.subgroups_of` splits them.

    Args:
        scores: rows of all cases, each with its case id.
        cells: further columns of each case by its id.
        columns: names of columns; None takes those that describe a case, see `choose_columns`.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: there is no such column.
    """
    cases = list(dict.fromkeys(score.case for score in scores))
    rows = [cells.get(case, {}) for case in cases]
    chosen = choose_columns(rows, [""] * len(cases), columns=columns)
    groups = []
    for column in dict.fromkeys(chosen.names if columns is None else columns):
        for value, flags in split([row.get(column, "").strip() for row in rows]):
            among = {case for case, here in zip(cases, flags, strict=True) if here}
            part = [score for score in scores if score.case in among]
            present = [score for score in part if score.volume_reference_ml > 0]
            patients = len({score.group for score in part})
            groups.append(
                LabelMapSubgroup(
                    column=column,
                    value=value,
                    cases=len(among),
                    patients=patients,
                    small=patients < SMALL,
                    figures=tuple(
                        one for m in SUBGROUP_METRICS for one in _estimates(m, part, how)
                    ),
                    present=len(present),
                    missed=sum(score.one_sided for score in present),
                )
            )
    return tuple(groups)


def _estimates(metric: str, scores: Sequence[Score], how: Resampling) -> list[Estimate]:
    """Estimate the mean of a metric of every region, then of all regions."""
    groups = {score.case: score.group for score in scores}
    regions = list(dict.fromkeys(score.region for score in scores))
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (groups, regions))
    values = np.full((len(rows), len(columns)), np.nan)
    for score in scores:
        values[rows[score.case], columns[score.region]] = getattr(score, metric)
    parts = [(region, values[:, [column]]) for region, column in columns.items()] + [("", values)]
    return [_estimate(metric, part, table, list(groups.values()), how) for part, table in parts]


def _estimate(
    metric: str, part: str, values: NDArray[np.float64], groups: Sequence[str], how: Resampling
) -> Estimate:
    """Estimate the mean of values (N, R), whose cases are of patients `groups` (N,)."""
    kind, interval = LABEL_METRICS[metric], bootstrap_interval(values, groups, "mean", **how)
    return Estimate(
        part=part,
        metric=metric,
        value=interval.estimate,
        low=float(np.clip(interval.low, kind.least, kind.most)),
        high=float(np.clip(interval.high, kind.least, kind.most)),
        method=interval.method,
        n=interval.n,
        patients=interval.patients,
        note="" if interval.method != "none" or not interval.n else NO_INTERVAL,
    )
