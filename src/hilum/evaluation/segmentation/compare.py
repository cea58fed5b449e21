"""Evaluations of label maps of the same cases: the rows by which models are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum import metrics
from hilum.dataset import match_labels
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.comparison import (
    defined,
    deviation_of_interval,
    make_difference,
    over_runs,
)
from hilum.evaluation.metric_table import (
    HIGHER_IS_BETTER,
    LESION_METRICS,
    METRICS,
    NOT_COMPARED,
)
from hilum.evaluation.study import Study
from hilum.metrics import IntervalRequest, Resampling
from hilum.metrics.resampling import LEVEL
from hilum.metrics.validation import mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.evaluation.comparison import Difference
    from hilum.evaluation.segmentation.evaluation import Evaluation
    from hilum.evaluation.segmentation.score import Score
    from hilum.metrics.validation import Flags, Numbers

COMPARED = tuple(metric for metric in METRICS if metric not in NOT_COMPARED)
"""Metrics of label maps that models are compared by."""

HEADLINE = "dice"
"""Metric by which models of several regions are ranked by the mean of the regions' means."""


@dataclass(frozen=True, eq=False)
class LabelMapRow:
    """One metric of one region of several models.

    Args:
        part: the region.
        metric: a member of `COMPARED`.
        values: of each model the values (N, S) of the cases in its runs; NaN where undefined.
        whose: (N,) patient of each case.
        how: see `hilum.metrics.Resampling`.
    """

    part: str
    metric: str
    values: tuple[Numbers, ...]
    whose: tuple[str, ...]
    how: Resampling = field(default_factory=Resampling)

    @property
    def groups(self) -> list[str]:
        """(N,) patients of the cases that every run of every model has a value of."""
        return [group for group, kept in zip(self.whose, self._defined, strict=True) if kept]

    @property
    def runs(self) -> tuple[tuple[IntervalRequest, ...], ...]:
        """The mean of these cases, for each model and each of its runs."""
        kept = self._defined
        return tuple(
            tuple(IntervalRequest(metrics.mean_of_columns, (run[kept, None],)) for run in values.T)
            for values in self.values
        )

    @property
    def of_patients(self) -> Numbers:
        """(M, G) mean of each model over runs and the patient's cases."""
        kept, whose = self._defined, np.array(self.whose)
        groups = whose[kept]
        means = [values[kept].mean(axis=1) for values in self.values]
        names = dict.fromkeys(groups.tolist())
        return np.array([[one[groups == name].mean() for name in names] for one in means])

    def difference(self, a: int, b: int) -> Difference:
        """Test the mean difference on the cases of which all runs of both have a value."""
        sides = (self.values[a], self.values[b])
        in_a, in_b = (~np.isnan(side).any(axis=1) for side in sides)
        both = in_a & in_b
        first, second = (side.mean(axis=1) for side in sides)
        test = metrics.paired_test(first, second, self.whose, **self.how)
        means = [float(one[both].mean()) if both.any() else np.nan for one in (first, second)]
        change = test.difference
        found = make_difference(
            self,
            (means[0], means[1]),
            (change.estimate, change.low, change.high),
            p_value=test.p_value,
            test=None,
            deviation=defined(test.deviation),
        ).model_copy(
            update={
                "n": int(both.sum()),
                "patients": change.patients,
                "p_permutation": defined(test.p_permutation),
                "only_a": int((in_a & ~in_b).sum()),
                "only_b": int((in_b & ~in_a).sum()),
            }
        )
        if max(side.shape[1] for side in sides) == 1 or not both.any():
            return found
        pair = LabelMapRow(self.part, self.metric, sides, self.whose)
        level, runs = self.how.get("level", LEVEL), pair.runs
        return over_runs(found, runs[0], runs[1], pair.groups, level)

    @property
    def _defined(self) -> Flags:
        """(N,) whether every run of every model has a value of the case."""
        return np.asarray(~np.isnan(np.concatenate(self.values, axis=1)).any(axis=1))


@dataclass(frozen=True, eq=False)
class RegionMeansRow(LabelMapRow):
    """The mean of the regions' means of several models, as evaluations have it.

    A region of few cases weighs as much as one of many. `values` are the means of each case's
    regions, by which models are ranked in each patient.

    Args:
        regions: of each model the values (R, N, S); NaN where any run of any model has none.
    """

    regions: tuple[Numbers, ...] = ()

    @property
    def runs(self) -> tuple[tuple[IntervalRequest, ...], ...]:
        """The mean of the regions' means, for each model and each of its runs."""
        kept = self._defined
        return tuple(
            tuple(IntervalRequest(metrics.mean_of_columns, (run[kept],)) for run in model.T)
            for model in self.regions
        )

    def difference(self, a: int, b: int) -> Difference:
        """Test the difference by flips of whole patients, as no single case has this metric."""
        kept, groups, level = self._defined, self.groups, self.how.get("level", LEVEL)
        first, second = (self.regions[side].mean(axis=-1).T[kept] for side in (a, b))  # (N, R)
        of_a, of_b = (metrics.mean_of_columns(side) for side in (first, second))
        tested = metrics.bootstrap_interval(first - second, groups, "mean", **self.how)
        seed = self.how.get("seed", 0)
        p = metrics.permutation_p_of_columns(first - second, groups, seed=seed)
        ends = tested.low, tested.high
        found = make_difference(
            self,
            (of_a, of_b),
            (of_a - of_b, *ends),
            p_value=p,
            test="permutation",
            deviation=deviation_of_interval(
                *ends, tested.patients, level, student=tested.method == "t"
            ),
        ).model_copy(
            update={
                "n": int(kept.sum()),
                "patients": tested.patients,
                "p_permutation": defined(p),
                "only_a": 0,
                "only_b": 0,
            }
        )
        if max(self.values[side].shape[1] for side in (a, b)) == 1 or not kept.any():
            return found
        runs = self.runs
        return over_runs(found, runs[a], runs[b], groups, level)


def label_map_study(models: Sequence[Sequence[Evaluation]], how: Resampling) -> Study:
    """Lay evaluations of label maps side by side, case by case.

    Lesion metrics are compared of regions that are lesions only (see `RegionSummary.lesions`);
    metrics of `NOT_COMPARED` are not. Of more than two models or several runs, the first row is the
    mean of the regions' mean Dice, where there are several.

    Args:
        models: of each model the evaluations of its runs.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: evaluations by different rules of scoring.
        DataError: they share no case.
        LabelError: they do not score the same regions.
    """
    runs = [run for model in models for run in model]
    first, *others = runs
    for other in others:
        _refuse_other_rules(first, other)
    tables = [{(score.region, score.case): score for score in first.scores}]
    for other in others:
        names = _region_names(first, other)
        tables.append({(names[score.region], score.case): score for score in other.scores})
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared:
        raise DataError(
            "the evaluations have no case and region in common",
            needed="evaluations of the same cases",
            cure="evaluate all models on the same cases, with the same label table",
        )
    further = [
        name
        for name in first.scores[0].further
        if all(name in run.scores[0].further for run in others)
    ]
    lesions = {region.region for region in first.summary.regions if region.lesions}
    ends = np.cumsum([len(model) for model in models])[:-1]
    rows = []
    for region in dict.fromkeys(region for region, _ in shared):
        keys = [key for key in shared if key[0] == region]
        for metric in (*COMPARED, *further):
            if region in lesions or metric not in LESION_METRICS:
                values = _values(tables, keys, metric)
                split = tuple(np.split(values, ends, axis=1))
                rows.append(LabelMapRow(region, metric, split, _patients(tables, keys), how))
    if len(runs) > 2 and len({region for region, _ in shared}) > 1:
        rows.insert(0, _mean_over_regions(rows, shared, how))
    cases = {case for _, case in shared}
    return Study(
        models=tuple(tuple(run.record.predictions for run in model) for model in models),
        rows=tuple(rows),
        cases=len(cases),
        patients=len(set(_patients(tables, shared))),
        left_out=tuple(sorted({case for table in tables for _, case in table} - cases)),
        scaled=any(run.record.scaled for run in runs),
    )


def _mean_over_regions(
    rows: Sequence[LabelMapRow], shared: Sequence[tuple[str, str]], how: Resampling
) -> RegionMeansRow:
    """Make the row of the regions' means over the cases that every run has a value of."""
    places = {case: place for place, case in enumerate(dict.fromkeys(case for _, case in shared))}
    chosen = [row for row in rows if row.metric == HEADLINE]
    runs = sum(values.shape[1] for values in chosen[0].values)
    columns = np.full((len(chosen), len(places), runs), np.nan)  # (R, N, T)
    whose = [""] * len(places)
    for column, row in zip(columns, chosen, strict=True):
        values = np.concatenate(row.values, axis=1)
        values[np.isnan(values).any(axis=1)] = np.nan
        here = [places[case] for region, case in shared if region == row.part]
        column[here] = values
        for place, group in zip(here, row.whose, strict=True):
            whose[place] = group
    ends = np.cumsum([values.shape[1] for values in chosen[0].values])[:-1]
    means = mean_of_defined(np.moveaxis(columns, 0, -1))  # (N, T)
    return RegionMeansRow(
        part="",
        metric=HEADLINE,
        values=tuple(np.split(means, ends, axis=1)),
        whose=tuple(whose),
        how=how,
        regions=tuple(np.split(columns, ends, axis=-1)),
    )


def _values(
    tables: Sequence[Mapping[tuple[str, str], Score]], keys: Sequence[tuple[str, str]], metric: str
) -> Numbers:
    """Return a metric (N, T) of cases in all runs; errors that may be of either sign by size."""
    values = np.array([[table[key][metric] for table in tables] for key in keys])
    return values if metric in HIGHER_IS_BETTER else np.abs(values)


def _patients(
    tables: Sequence[Mapping[tuple[str, str], Score]], keys: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """Name the patient of each case, as the first run that knows it does."""
    scores = ([table[key] for table in tables] for key in keys)
    return tuple(
        next((one for one in each if one.patient is not None), each[0]).group for each in scores
    )


def _refuse_other_rules(first: Evaluation, other: Evaluation) -> None:
    """Refuse evaluations that were scored by different rules."""
    for rule in ("tolerance_mm", "surface", "lesion_overlap", "instances"):
        ours, theirs = (getattr(one.record, rule) for one in (first, other))
        if ours != theirs:
            raise UsageError(
                f"the two evaluations have a {rule} of {ours} and of {theirs}",
                needed="evaluations made alike: one tolerance, surface, overlap of lesions",
                cure=f"evaluate the second again with {rule}={ours}",
            )


def _region_names(a: Evaluation, b: Evaluation) -> dict[str, str]:
    """Find the name in `a` of each region of `b`.

    Labels are matched by name, or by id where one side has no names.

    Raises:
        LabelError: the two do not score the same regions.
    """
    ours, theirs = a.record.labels, b.record.labels
    ids = match_labels(
        ours,
        theirs,
        where=b.record.predictions,
        holder=a.record.predictions,
        afterwards=", then evaluate again",
    )
    known = {frozenset(region.labels): region.name for region in ours.scored}
    names = {
        region.name: known.pop(frozenset(ids[i] for i in region.labels), "")
        for region in theirs.scored
    }
    if known or "" in names.values():
        sides = [
            f"{side.record.predictions}: {', '.join(r.name for r in side.record.labels.scored)}"
            for side in (a, b)
        ]
        raise LabelError(
            f"the two evaluations score different regions; {'; '.join(sides)}",
            needed="evaluations of the same labels and regions",
            cure=(
                "evaluate both again against references whose labels and regions have the same"
                " names (labels.json beside the label maps)"
            ),
        )
    return names
