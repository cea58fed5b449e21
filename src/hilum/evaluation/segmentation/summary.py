"""Means and medians of many scores, each with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.errors import DataError, counted
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.metric_table import DISTANCES, LESION_METRICS, METRICS, metric_of
from hilum.evaluation.records import Number, Record
from hilum.metrics import bootstrap_interval, median_interval
from hilum.metrics.resampling import LEVEL, NO_INTERVAL, RESAMPLES, IntervalMethod
from hilum.metrics.validation import mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.evaluation.segmentation.score import Score
    from hilum.metrics import Resampling


LESION_SHARE = 0.3
"""A liver is one piece in nearly every reference; of liver tumours about half of the patients have
several."""


class MetricSummary(Record):
    """One metric over all cases.

    Args:
        mean: of the defined values.
        median: of the patients' mean values (overall: of those of each case's mean over its
            defined regions).
        median_low: lower end of its exact interval, see `hilum.metrics.median_interval`.
        median_high: upper end.
        low: lower end of the interval of the mean, over patients.
        high: upper end.
        std: standard deviation of the defined values (n - 1); NaN below two.
        n: cases with a defined value.
        undefined: cases without.
        one_sided: of a distance, cases where only the reference or only the prediction has the
            region: they count as the image's diagonal.
        patients: patients with a defined value.
        interval: how the interval was made.
    """

    mean: Number
    median: Number
    median_low: Number = math.nan
    median_high: Number = math.nan
    low: Number
    high: Number
    std: Number
    n: int
    undefined: int
    one_sided: int = 0
    patients: int
    interval: IntervalMethod

    def estimate(self, part: str, metric: str) -> Estimate:
        """Return the mean as a row of the table of estimates."""
        counts = {
            f"undefined in {counted(self.undefined, 'case')}": self.undefined,
            f"{counted(self.one_sided, 'case')} with one surface only: the image's diagonal": (
                self.one_sided
            ),
        }
        notes = "; ".join(note for note, number in counts.items() if number)
        return Estimate(
            part=part,
            metric=metric,
            value=self.mean,
            low=self.low,
            high=self.high,
            method=self.interval,
            n=self.n,
            patients=self.patients,
            note=NO_INTERVAL if self.n and self.interval == "none" else notes,
        )


class RegionSummary(Record):
    """Every metric of one region.

    Args:
        region: its name.
        cases: scored cases.
        present: cases whose reference has the region.
        missed: of those, how many predictions have none of it.
        invented: cases whose prediction has the region though the reference has none.
        metrics: by name, see `hilum.evaluation.METRICS`; then those that were asked for.
        lesions: whether it is something of which a case has any number (lesions, metastases) rather
            than one organ: several components in at least `LESION_SHARE` of the references that
            have it. The lesion metrics of others mean nothing.
    """

    region: str
    cases: int
    present: int
    missed: int
    invented: int
    metrics: dict[str, MetricSummary]
    lesions: bool = True


class Summary(Record):
    """Every region, and the mean of the regions.

    Args:
        level: coverage that the intervals aim at.
        resamples: bootstrap draws.
        regions: one summary a region, in the label table's order.
        overall: by metric, the mean of the regions' means (each region weighs the same), with its
            interval; of the lesion metrics over the regions that are lesions, where any are.
    """

    level: float
    resamples: int
    regions: tuple[RegionSummary, ...]
    overall: dict[str, MetricSummary]

    def __getitem__(self, region: str) -> RegionSummary:
        """Return the summary of one region.

        Raises:
            KeyError: there is no such region.
        """
        return {summary.region: summary for summary in self.regions}[region]

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every metric of every region, then of their mean, as rows of one table."""
        parts = {region.region: region.metrics for region in self.regions} | {"": self.overall}
        return tuple(
            one.estimate(part, metric)
            for part, metrics in parts.items()
            for metric, one in metrics.items()
        )

    def mean(self, metric: str = "dice", *, region: str | None = None) -> float:
        """The mean of a metric, of one region or of all (None); NaN where it is undefined."""
        return (self.overall if region is None else self[region].metrics)[metric].mean


def summarise(scores: Sequence[Score], **how: Unpack[Resampling]) -> Summary:
    """Mean, median and intervals of every metric of every region.

    Intervals are over patients, not cases; a case of no known patient counts as one of its own.

    Args:
        scores: rows of all cases, from `score_labels`.
        how: see `hilum.metrics.Resampling`.

    Raises:
        DataError: no scores, or two of one case and region.
    """
    if not scores:
        raise DataError(
            "there are no scores",
            needed="the score of at least one case",
            cure="score at least one case",
        )
    named = [score for score in scores if score.case]
    if len({(score.case, score.region) for score in named}) < len(named):
        raise DataError(
            "there are two scores of one case and region",
            needed="one score a case and region",
            cure="leave one of them out",
        )
    by_region = _by_region(scores)
    regions = [_summarise_region(region, rows, how) for region, rows in by_region.items()]
    several = {one.region: by_region[one.region] for one in regions if one.lesions} or by_region
    return Summary(
        level=how.get("level", LEVEL),
        resamples=how.get("resamples", RESAMPLES),
        regions=tuple(regions),
        overall={
            metric: _summarise_metric(
                several if metric in LESION_METRICS else by_region, metric, how
            )
            for metric in (*METRICS, *scores[0].further)
        },
    )


def metric_estimates(
    scores: Sequence[Score], metric: str, **how: Unpack[Resampling]
) -> tuple[Estimate, ...]:
    """Estimate the mean of a metric of every region, then (part "") of all regions.

    Args:
        scores: rows of all cases, from `score_labels`.
        metric: see `hilum.evaluation.METRICS`.
        how: see `hilum.metrics.Resampling`.
    """
    by_region = _by_region(scores)
    parts = {region: {region: rows} for region, rows in by_region.items()} | {"": by_region}
    return tuple(
        _summarise_metric(part, metric, how).estimate(name, metric) for name, part in parts.items()
    )


def _by_region(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Sort scores by region."""
    by_region: dict[str, list[Score]] = {}
    for score in scores:
        by_region.setdefault(score.region, []).append(score)
    return by_region


def _summarise_region(region: str, rows: list[Score], how: Resampling) -> RegionSummary:
    """Summarise one region's scores over its cases, with intervals over patients."""
    counts = [row.lesions_reference for row in rows if row.lesions_reference > 0]
    in_reference = np.array([row.volume_reference_ml > 0 for row in rows])
    in_prediction = np.array([row.volume_prediction_ml > 0 for row in rows])
    return RegionSummary(
        region=region,
        cases=len(rows),
        present=int(in_reference.sum()),
        missed=int((in_reference & ~in_prediction).sum()),
        invented=int((~in_reference & in_prediction).sum()),
        metrics={
            m: _summarise_metric({region: rows}, m, how) for m in (*METRICS, *rows[0].further)
        },
        lesions=bool(counts) and sum(n > 1 for n in counts) >= LESION_SHARE * len(counts),
    )


def _summarise_metric(
    by_region: Mapping[str, Sequence[Score]], metric: str, how: Resampling
) -> MetricSummary:
    """Summarise a metric of one region or of several: columns of one table, a row a case."""
    groups: dict[str, str] = {}
    columns: list[dict[str, float]] = []
    for rows in by_region.values():
        keys = [row.case or f"row {i}" for i, row in enumerate(rows)]
        for key, group in zip(keys, _groups(rows), strict=True):
            groups.setdefault(key, group)
        columns.append({k: row[metric] for k, row in zip(keys, rows, strict=True)})
    values = np.array([[column.get(key, np.nan) for column in columns] for key in groups])
    patients = list(groups.values())
    interval = bootstrap_interval(values, patients, "mean", **how)
    means = mean_of_defined(values)  # (N,) of each case
    defined = means[~np.isnan(means)]
    kind = metric_of(metric)
    median = median_interval(means, patients, level=interval.level)
    return MetricSummary(
        mean=interval.estimate,
        median=median.estimate,
        median_low=median.low,
        median_high=median.high,
        low=float(np.clip(interval.low, kind.least, kind.most)),
        high=float(np.clip(interval.high, kind.least, kind.most)),
        std=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        n=int(defined.size),
        undefined=int(means.size - defined.size),
        one_sided=sum(_count_one_sided(rows, metric) for rows in by_region.values()),
        patients=interval.patients,
        interval=interval.method,
    )


def _count_one_sided(rows: Sequence[Score], metric: str) -> int:
    """Count the rows whose distance is the image's diagonal."""
    defined = (row for row in rows if not math.isnan(row[metric]))
    return sum(row.one_sided for row in defined) if metric in DISTANCES else 0


def _groups(rows: Sequence[Score]) -> list[str]:
    """Return the patient of each row; rows of no named case are each their own."""
    return [
        row.group if row.case or row.patient is not None else f"row {i}"
        for i, row in enumerate(rows)
    ]
