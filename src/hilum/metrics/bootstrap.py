"""Bootstrap intervals and paired tests that resample patients, not cases.

Two studies of one patient are not two independent observations: an interval that resamples cases is
too narrow. Patients are drawn with replacement, each with all of its cases (cluster bootstrap;
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Undefined values
(NaN) are left out. Means get BCa intervals (Efron, JASA 82, 1987, jackknife over patients) from ten
patients on, everything else percentile intervals. With fewer than two patients no interval is
defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.cases import divide, mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

Statistic = Literal["mean", "median"] | Callable[["Numbers"], float]

BCA_PATIENTS = 10
"""Fewer patients than this get percentile intervals: the jackknife's skew says little."""

NO_INTERVAL = "no interval: one patient, or the same in every one"
"""What people read in place of an interval that cannot be computed."""

_CHUNK = 4_000_000  # numbers in one block of resampling weights: 32 MB


@dataclass(frozen=True)
class Interval:
    """A figure and its bootstrap interval.

    Args:
        estimate: the statistic of the values; NaN where all are undefined.
        low: lower end; NaN where no interval is defined.
        high: upper end.
        level: coverage aimed at, e.g. 0.95.
        method: "bca", "percentile", or "none" where no interval is defined (fewer than two patients
            with a defined value).
        n: defined values.
        patients: patients (groups) that have a defined value.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: Literal["bca", "percentile", "none"]
    n: int
    patients: int


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same cases.

    Args:
        difference: mean of a minus b with its interval, patients resampled.
        p_value: Wilcoxon signed-rank test over the patients' mean differences, two-sided; 1 where
            no patient differs, NaN where there is no pair at all.
    """

    difference: Interval
    p_value: float


@dataclass(frozen=True)
class _Clusters:
    """Rows of values (N, R), and the number 0..G-1 of the patient that each row belongs to."""

    values: Numbers
    patient: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, values: ArrayLike, groups: Sequence[Hashable]) -> _Clusters:
        rows = np.asarray(values, dtype=np.float64)
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or len(rows) != len(groups):
            raise UsageError(
                f"values of shape {np.shape(values)} for {len(groups)} groups",
                needed="one row of values and one group a case",
            )
        defined = np.asarray(~np.isnan(rows).all(axis=1))
        numbers: dict[Hashable, int] = {}
        patient = [
            numbers.setdefault(g, len(numbers)) for g, d in zip(groups, defined, strict=True) if d
        ]
        return cls(rows[defined], np.asarray(patient, dtype=np.int64), len(numbers))


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    statistic: Statistic = "mean",
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a statistic, patients resampled with replacement.

    Args:
        values: (N,) one value a case, or (N, R) one a case and region; NaN is undefined and left
            out.
        groups: (N,) whose case it is.
        statistic: "mean" or "median": of each column, then the mean of the columns, so that a rare
            region weighs as much as a common one. Or a function of the drawn values ((n,) for one
            column, (n, R) for several).
        resamples: number of draws.
        level: coverage aimed at, between 0 and 1.
        seed: same seed, same interval.

    Raises:
        UsageError: lengths that differ, or a level or number of draws out of range.
    """
    if not 0 < level < 1 or resamples < 1:
        raise UsageError(
            f"level {level}, {resamples} resamples",
            needed="a level between 0 and 1 and at least one resample",
        )
    clusters = _Clusters.of(values, groups)
    n, patients = len(clusters.values), clusters.count
    if not n:
        return Interval(math.nan, math.nan, math.nan, level, "none", 0, 0)
    estimate = float(_evaluate(clusters, statistic, np.ones((1, patients), dtype=np.int64))[0])
    if patients < 2:
        return Interval(estimate, math.nan, math.nan, level, "none", n, patients)
    draws = _resample(clusters, statistic, resamples, np.random.default_rng(seed))
    left_out = None
    if statistic == "mean" and patients >= BCA_PATIENTS:
        left_out = _evaluate(
            clusters,
            statistic,
            np.ones((patients, patients), dtype=np.int64) - np.eye(patients, dtype=np.int64),
        )
    low, high, method = interval_ends(draws, left_out, estimate=estimate, level=level)
    return Interval(estimate, low, high, level, method, n, patients)


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    groups: Sequence[Hashable],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Compare two methods on the same cases.

    A case where either value is undefined (NaN) is left out.

    Args:
        a: (N,) values of the one method.
        b: (N,) values of the other, same cases in the same order.
        groups: (N,) whose case it is.
        resamples: number of bootstrap draws.
        level: coverage aimed at.
        seed: same seed, same interval.

    Raises:
        UsageError: lengths that differ.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise UsageError(
            f"values of shapes {first.shape} and {second.shape}",
            needed="one value a case from each method",
        )
    differences = first - second
    interval = bootstrap_interval(
        differences, groups, "mean", resamples=resamples, level=level, seed=seed
    )
    clusters = _Clusters.of(differences, groups)
    sums = np.bincount(clusters.patient, weights=clusters.values[:, 0], minlength=clusters.count)
    return PairedTest(
        interval, _wilcoxon(sums / np.bincount(clusters.patient, minlength=clusters.count))
    )


def interval_ends(
    draws: Numbers, left_out: Numbers | None, *, estimate: float, level: float
) -> tuple[float, float, Literal["bca", "percentile"]]:
    """Ends of an interval, and its method: BCa where wanted and defined, else percentile.

    Args:
        draws: (R,) the statistic of each draw; NaN is left out.
        left_out: (G,) the statistic without each patient, for BCa; None: percentile.
        estimate: the statistic of the cases.
        level: coverage aimed at.
    """
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    method: Literal["bca", "percentile"] = "percentile"
    corrected = None if left_out is None else _bca_tails(draws, estimate, left_out, tails)
    if corrected is not None:
        method, tails = "bca", corrected
    low, high = np.nanquantile(draws, tails)
    return float(low), float(high), method


def _wilcoxon(differences: Numbers) -> float:
    from scipy import stats

    if not differences.size:
        return math.nan
    changed = differences[differences != 0]
    if not changed.size:
        return 1.0
    return float(stats.wilcoxon(changed).pvalue)


def _resample(
    clusters: _Clusters, statistic: Statistic, resamples: int, random: np.random.Generator
) -> Numbers:
    """(resamples,) the statistic of each draw."""
    even = np.full(clusters.count, 1.0 / clusters.count)
    step = max(1, _CHUNK // max(len(clusters.values), clusters.count))
    parts = [
        _evaluate(
            clusters,
            statistic,
            random.multinomial(clusters.count, even, size=min(step, resamples - start)),
        )
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def _evaluate(clusters: _Clusters, statistic: Statistic, times: NDArray[np.int64]) -> Numbers:
    """(B,) the statistic when each patient is taken `times` (B, G) times."""
    if callable(statistic):
        return np.array([float(statistic(drawn)) for drawn in _rows(clusters, times)])
    columns = [
        _column(clusters, column, statistic, times) for column in range(clusters.values.shape[1])
    ]
    return mean_of_defined(np.stack(columns, axis=1))


def _rows(clusters: _Clusters, times: NDArray[np.int64]) -> Iterator[Numbers]:
    values = clusters.values[:, 0] if clusters.values.shape[1] == 1 else clusters.values
    for count in times:
        yield np.repeat(values, count[clusters.patient], axis=0)


def _column(clusters: _Clusters, column: int, statistic: str, times: NDArray[np.int64]) -> Numbers:
    """(B,) mean or median of one column; NaN where a draw has no defined value in it."""
    values = clusters.values[:, column]
    defined = ~np.isnan(values)
    values, patient = values[defined], clusters.patient[defined]
    if statistic == "mean":
        sums = times @ np.bincount(patient, weights=values, minlength=clusters.count)
        return divide(sums, times @ np.bincount(patient, minlength=clusters.count))
    if statistic == "median":
        return _medians(values, times[:, patient])
    raise UsageError(f"statistic {statistic!r}", needed='"mean", "median" or a function')


def _medians(values: Numbers, weights: NDArray[np.int64]) -> Numbers:
    """(B,) median of the values (N,), each taken `weights` (B, N) times.

    NaN where none is taken.
    """
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values)
    cumulative = np.cumsum(weights[:, order], axis=1)
    total = cumulative[:, -1:]
    lower = (cumulative < (total + 1) // 2).sum(
        axis=1
    )  # the value at rank (total + 1) // 2, counted from 1
    upper = (cumulative < total // 2 + 1).sum(axis=1)
    ranked = np.append(values[order], np.nan)
    middle = (ranked[lower] + ranked[upper]) / 2
    return np.where(total[:, 0] > 0, middle, np.nan)


def _bca_tails(
    draws: Numbers, estimate: float, left_out: Numbers, tails: Numbers
) -> Numbers | None:
    """The quantiles that correct bias and skew.

    None where the draws are too alike for the correction to be defined.
    """
    from scipy.special import ndtr, ndtri

    below = float((np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2)
    deviations = float(np.mean(left_out)) - left_out
    spread = float((deviations**2).sum()) ** 1.5
    if not 0 < below < 1 or not np.isfinite(spread) or spread < np.finfo(np.float64).tiny:
        return None
    acceleration = float((deviations**3).sum()) / (6 * spread)
    bias = ndtri(below)
    shifted = bias + ndtri(tails)
    return np.asarray(ndtr(bias + shifted / (1 - acceleration * shifted)))
