"""Metrics of label maps in subgroups of the cases: by sex, site, age, scanner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from hilum.evaluation.covariates import choose_columns
from hilum.evaluation.segmentation.summary import metric_estimates
from hilum.evaluation.subgroups import SMALL, CaseSubgroup, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.evaluation.estimates import Estimate
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
                        one
                        for metric in SUBGROUP_METRICS
                        for one in metric_estimates(part, metric, **how)
                    ),
                    present=len(present),
                    missed=sum(score.one_sided for score in present),
                )
            )
    return tuple(groups)
