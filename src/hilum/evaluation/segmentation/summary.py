"""Many scores in a few figures, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import DataError
from hilum.evaluation.metric_table import METRICS
from hilum.evaluation.records import Number, Record
from hilum.metrics import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.evaluation.segmentation.score import Score


LESION_METRICS = ("lesion_recall", "lesion_precision", "lesion_f1")
LESION_SHARE = 0.3
"""A liver is one piece in nearly every reference; of liver tumours about half of the patients have
several."""


class MetricSummary(Record):
    """One metric over all cases.

    Args:
        mean: of the defined values.
        median: of the defined values (overall: of each case's mean over its defined regions).
        low: lower end of the bootstrap interval of the mean, patients resampled.
        high: upper end.
        std: standard deviation of the defined values (n - 1); NaN below two.
        n: cases with a defined value.
        undefined: cases without.
        patients: patients with a defined value.
        interval: how the interval was made.
    """

    mean: Number
    median: Number
    low: Number
    high: Number
    std: Number
    n: int
    undefined: int
    patients: int
    interval: Literal["bca", "percentile", "none"]


class RegionSummary(Record):
    """Every metric of one region.

    Args:
        region: its name.
        cases: scored cases.
        present: cases whose reference has the region.
        missed: of those, how many predictions have none of it.
        invented: cases whose prediction has the region though the reference has none.
        metrics: by name, see `hilum.evaluation.METRICS`.
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
        """The summary of one region.

        Raises:
            KeyError: there is no such region.
        """
        for summary in self.regions:
            if summary.region == region:
                return summary
        raise KeyError(region)

    def mean(self, metric: str = "dice", *, region: str | None = None) -> float:
        """The mean of a metric, of one region or of all (None); NaN where it is undefined."""
        return (self.overall if region is None else self[region].metrics)[metric].mean


def summarise(
    scores: Sequence[Score], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Summary:
    """Mean, median and bootstrap interval of every metric of every region.

    Patients are resampled, not cases; a case of no known patient counts as a patient of its own.

    Args:
        scores: rows of all cases, from `score_labels`.
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.

    Raises:
        DataError: no scores, or two of one case and region.
    """
    if not scores:
        raise DataError("no scores", needed="the score of at least one case")
    named = [score for score in scores if score.case]
    if len({(score.case, score.region) for score in named}) < len(named):
        raise DataError("two scores of one case and region", needed="one score a case and region")
    regions = tuple(dict.fromkeys(score.region for score in scores))
    by_region = {
        region: [score for score in scores if score.region == region] for region in regions
    }
    options = _Options(level, resamples, seed)
    several = {
        region: rows for region, rows in by_region.items() if _are_lesions(rows)
    } or by_region
    return Summary(
        level=level,
        resamples=resamples,
        regions=tuple(
            _summarise_region(region, rows, options) for region, rows in by_region.items()
        ),
        overall={
            metric: _summarise_overall(
                several if metric in LESION_METRICS else by_region, metric, options
            )
            for metric in METRICS
        },
    )


@dataclass(frozen=True)
class _Options:
    """Options of intervals."""

    level: float
    resamples: int
    seed: int

    def summarise(self, values: NDArray[np.float64], groups: list[str]) -> MetricSummary:
        """Values (N,) of one region, or (N, R) of all, and whose they are."""
        interval = bootstrap_interval(
            values, groups, "mean", level=self.level, resamples=self.resamples, seed=self.seed
        )
        flat = _case_means(values)
        defined = flat[~np.isnan(flat)]
        return MetricSummary(
            mean=interval.estimate,
            median=float(np.median(defined)) if defined.size else math.nan,
            low=interval.low,
            high=interval.high,
            std=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
            n=int(defined.size),
            undefined=int(flat.size - defined.size),
            patients=interval.patients,
            interval=interval.method,
        )


def _case_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) each case's mean over its defined regions, NaN where it has none."""
    if values.ndim == 1:
        return values
    defined = ~np.isnan(values)
    counts = defined.sum(axis=1)
    sums = np.where(defined, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


def _groups(rows: Sequence[Score]) -> list[str]:
    """Whose each row is; rows of no named case are each their own."""
    return [
        row.group if row.case or row.patient is not None else f"row {i}"
        for i, row in enumerate(rows)
    ]


def _summarise_region(region: str, rows: list[Score], options: _Options) -> RegionSummary:
    groups = _groups(rows)
    metrics = {
        m: options.summarise(np.array([getattr(row, m) for row in rows], dtype=np.float64), groups)
        for m in METRICS
    }
    return RegionSummary(
        region=region,
        cases=len(rows),
        present=sum(row.volume_reference_ml > 0 for row in rows),
        missed=sum(row.volume_reference_ml > 0 and row.volume_prediction_ml == 0 for row in rows),
        invented=sum(row.volume_reference_ml == 0 and row.volume_prediction_ml > 0 for row in rows),
        metrics=metrics,
        lesions=_are_lesions(rows),
    )


def _are_lesions(rows: list[Score]) -> bool:
    """See `RegionSummary.lesions`."""
    counts = [row.lesions_reference for row in rows if row.lesions_reference > 0]
    return bool(counts) and sum(count > 1 for count in counts) >= LESION_SHARE * len(counts)


def _summarise_overall(
    by_region: dict[str, list[Score]], metric: str, options: _Options
) -> MetricSummary:
    """The regions as the columns of one table, a row a case."""
    cases: dict[str, int] = {}
    groups: list[str] = []
    cells: list[tuple[int, int, float]] = []
    for column, rows in enumerate(by_region.values()):
        for i, (row, group) in enumerate(zip(rows, _groups(rows), strict=True)):
            key = row.case or f"row {i}"
            if key not in cases:
                cases[key] = len(cases)
                groups.append(group)
            cells.append((cases[key], column, float(getattr(row, metric))))
    values = np.full((len(cases), len(by_region)), np.nan)
    for line, column, value in cells:
        values[line, column] = value
    return options.summarise(values, groups)
