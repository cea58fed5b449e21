"""Resamples of patients, and the intervals that are read off them.

A `ResampledStatistic` is anything that can be computed of the cases and of every resample of the
patients at once; a `Resampler` draws the resamples, once for all statistics, and makes intervals of
what they become: BCa (Efron, JASA 82, 1987, jackknife over patients), percentiles, or t with the
jackknife's standard error. `hilum.metrics.bootstrap` says which statistic gets which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from scipy.special import ndtr, ndtri

from hilum.errors import UsageError
from hilum.metrics.validation import check_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hilum.metrics.validation import Integers, Numbers

    Counts = Callable[[np.random.Generator, int, int], Integers]

IntervalMethod = Literal["bca", "percentile", "t", "order statistics", "wilson", "none"]

LEVEL, RESAMPLES = 0.95, 2000
"""Coverage of intervals and number of resamples where none are given."""

BCA_PATIENTS = 10
"""Fewer patients than this get percentile intervals of a metric of all cases: the jackknife's skew
says little."""

T_PATIENTS = 20
"""With fewer patients than this a mean gets a t interval: bootstrap intervals then hold the truth
less often than they say (`scripts/bench coverage`)."""

NO_INTERVAL = "no interval: one patient, or the same in every one"
"""Text in place of an interval that cannot be computed."""

_ALIKE = 1e-12


class Resampling(TypedDict, total=False):
    """Options of intervals, by keyword; the same in every function that gives some.

    Args:
        level: coverage aimed at, between 0 and 1; `LEVEL` where it is not given.
        resamples: how many resamples of the patients; `RESAMPLES`.
        seed: same seed, same intervals; 0.
    """

    level: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Interval:
    """A value and its interval.

    Args:
        estimate: the statistic of the cases; NaN where it is undefined.
        low: lower end; NaN where no interval is defined.
        high: upper end.
        level: coverage aimed at, e.g. 0.95.
        method: "bca", "percentile", of means "t", of medians "order statistics", of shares
            "wilson", or "none" where no interval is defined.
        n: cases with a defined value.
        patients: patients (groups) of these cases.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: IntervalMethod
    n: int
    patients: int


@dataclass(frozen=True, eq=False)
class Block:
    """Resamples (B,) of the patients, and what metrics of the same arrays share in them.

    Args:
        times: (B, G) how often each resample has each patient.
        patient: (N,) whose each case is.
    """

    times: Integers
    patient: Integers
    shared: dict[tuple[object, ...], object] = field(default_factory=dict)

    @cached_property
    def weights(self) -> Numbers:
        """(B, N) how often each resample has each case."""
        own = np.array_equal(self.patient, np.arange(self.times.shape[1]))
        return (self.times if own else self.times[:, self.patient]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class ResampledStatistic:
    """A statistic of the cases.

    Args:
        estimate: its value.
        evaluate: (B,) its values in a block of resamples.
        bca: BCa intervals instead of percentiles.
        student: t intervals instead, with the jackknife's standard error.
        constant: give an interval where all resamples are alike.
    """

    estimate: float
    evaluate: Callable[[Block], Numbers]
    bca: bool
    student: bool = False
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Resampler:
    """Patients of the cases (N,), and options of the intervals."""

    patient: Integers
    patients: int
    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.resamples < 1:
            raise UsageError(f"resamples is {self.resamples}", needed="at least one resample")

    def intervals(
        self, statistics: Sequence[ResampledStatistic], block: int, counts: Counts
    ) -> tuple[Interval, ...]:
        """Return the interval of each statistic; `counts` makes `block` resamples at once."""
        asked = [one for one in statistics if self.patients > 1 and not math.isnan(one.estimate)]
        varied = {}
        for one, values in self.resampled(asked, block, counts).items():
            defined = values[np.isfinite(values)]
            if defined.size and (one.constant or np.ptp(defined) > _ALIKE * abs(one.estimate)):
                varied[one] = defined
        left_out = self.without_each([one for one in varied if one.bca or one.student], block)
        defined_left_out = {one: v[np.isfinite(v)] for one, v in left_out.items()}
        return tuple(self._interval(one, varied, defined_left_out) for one in statistics)

    def resampled(
        self, statistics: Sequence[ResampledStatistic], block: int, counts: Counts
    ) -> dict[ResampledStatistic, Numbers]:
        """Return the values (R,) of each statistic in all resamples; NaN where undefined."""
        random = np.random.default_rng(self.seed)
        return self._evaluate(
            statistics,
            (
                counts(random, self.patients, min(block, self.resamples - start))
                for start in range(0, self.resamples, block)
            ),
        )

    def without_each(
        self, statistics: Sequence[ResampledStatistic], block: int
    ) -> dict[ResampledStatistic, Numbers]:
        """Return the values (G,) of each statistic without each of the patients (the jackknife)."""
        everyone = np.arange(self.patients)
        return self._evaluate(
            statistics,
            (
                (everyone[start : start + block, None] != everyone).astype(np.int64)
                for start in range(0, self.patients, block)
            ),
        )

    def _evaluate(
        self, statistics: Sequence[ResampledStatistic], blocks: Iterable[Integers]
    ) -> dict[ResampledStatistic, Numbers]:
        """Return the values of each statistic in resamples (B, G)."""
        if not statistics:
            return {}
        parts: dict[ResampledStatistic, list[Numbers]] = {one: [] for one in statistics}
        for times in blocks:
            block = Block(times, self.patient)
            for one, part in parts.items():
                part.append(one.evaluate(block))
        return {one: np.concatenate(part) for one, part in parts.items()}

    @property
    def _student_quantile(self) -> float:
        """Number of standard errors that a t interval reaches either way."""
        from scipy.special import stdtrit

        return float(stdtrit(self.patients - 1, (1 + self.level) / 2))

    def _interval(
        self,
        one: ResampledStatistic,
        resampled: Mapping[ResampledStatistic, Numbers],
        left_out: Mapping[ResampledStatistic, Numbers],
    ) -> Interval:
        """Make one statistic's interval: by t where asked for, else BCa, or percentiles without it.

        BCa needs the values without each patient, and a correction that can be computed.
        """
        low = high = math.nan
        method: IntervalMethod = "none"
        if one in resampled and one.student:
            method = "t"
            reach = standard_error(left_out[one]) * self._student_quantile
            low, high = one.estimate - reach, one.estimate + reach
        elif one in resampled:
            method, tails = "percentile", np.array([(1 - self.level) / 2, (1 + self.level) / 2])
            corrected = (
                _bca_tails(resampled[one], one.estimate, left_out[one], tails)
                if one in left_out
                else None
            )
            if corrected is not None:
                method, tails = "bca", corrected
            low, high = map(float, np.quantile(resampled[one], tails))
        n = len(self.patient)
        return Interval(one.estimate, low, high, self.level, method, n, self.patients)


def standard_error(left_out: Numbers) -> float:
    """Return the jackknife's standard error from the values (G,) without each of the patients."""
    return math.sqrt((len(left_out) - 1) * float(np.var(left_out)))


def multinomial_counts(random: np.random.Generator, patients: int, rows: int) -> Integers:
    """Return how often (rows, G) each resample has each patient."""
    return random.multinomial(patients, np.full(patients, 1.0 / patients), size=rows)


def picked_counts(random: np.random.Generator, patients: int, rows: int) -> Integers:
    """Return the same (rows, G) from other random numbers, which is ten times as fast."""
    picks = random.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
    return np.bincount(picks.ravel(), minlength=rows * patients).reshape(rows, patients)


def _bca_tails(
    resampled: Numbers, estimate: float, left_out: Numbers, tails: Numbers
) -> Numbers | None:
    """Return the quantiles that correct bias and skew.

    None where the resamples are too alike for the correction to be defined.
    """
    below = float((np.mean(resampled < estimate) + np.mean(resampled <= estimate)) / 2)
    deviations = float(np.mean(left_out)) - left_out
    spread = float((deviations**2).sum()) ** 1.5
    if not 0 < below < 1 or not np.isfinite(spread) or spread < np.finfo(np.float64).tiny:
        return None
    acceleration = float((deviations**3).sum()) / (6 * spread)
    bias = ndtri(below)
    shifted = bias + ndtri(tails)
    return np.asarray(ndtr(bias + shifted / (1 - acceleration * shifted)))
