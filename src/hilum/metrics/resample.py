"""Bootstrap intervals of any metric of classification, patients resampled.

A draw is how often it has each case. The metrics of this room compute all draws at once from these
counts (their dictionaries `DRAWS`), which takes about a tenth of a second for two thousand draws of
a thousand cases; any other function is called once a draw. A draw in which a figure is undefined
(no positive case, say) is left out.

No interval is defined, and the method is "none", where there are fewer than two patients, where the
figure is undefined, and where it is the same in every draw: a sensitivity of 8 in 8 cases would get
1 to 1, which is no statement about the ninth. Ask `wilson_interval` there, or `delong_interval` of
an AUROC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.bootstrap import BCA_PATIENTS, Interval, interval_ends
from hilum.metrics.calibration import DRAWS as OF_CALIBRATION
from hilum.metrics.cases import check_level, patients_of
from hilum.metrics.confusion import DRAWS as OF_CONFUSION
from hilum.metrics.decision import DRAWS as OF_DECISIONS
from hilum.metrics.proper import DRAWS as OF_PROBABILITIES
from hilum.metrics.roc import DRAWS as OF_SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.metrics.cases import Integers, Numbers, OfDraws

    Made = dict[Any, Any]
    """What figures of one block of draws have in common, made once."""
    Evaluate = Callable[[Numbers, Made], Numbers]
    """(B,) figures of draws (B, N)."""

DRAWS: dict[Callable[..., Any], OfDraws] = {
    **OF_SCORES,
    **OF_CONFUSION,
    **OF_PROBABILITIES,
    **OF_CALIBRATION,
    **OF_DECISIONS,
}
"""The metrics that compute all draws at once."""

_CHUNK = 2**18  # numbers in one block of draws: 2 MB, which a processor's cache holds
_ALIKE = 1e-12


class IntervalRequest(NamedTuple):
    """A figure whose interval is wanted, see `bootstrap_statistic`."""

    function: Callable[..., float]
    arrays: Sequence[ArrayLike]
    method: Literal["bca", "percentile"] = "bca"


def bootstrap_statistics(
    requests: Sequence[IntervalRequest],
    groups: Sequence[Hashable] | None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Intervals of several metrics of the same cases, all of the same resamples.

    Each is what `bootstrap_statistic` gives, in less time.

    The draws are made once. So is what figures of the very same arrays (the same objects) have in
    common: the order of the scores for all that is read off a ROC curve, the fitted line for slope
    and intercept.

    Args:
        requests: the figures.
        groups: (N,) whose case it is; None: each case is a patient.
        resamples: number of draws.
        level: coverage aimed at, between 0 and 1.
        seed: same seed, same intervals.

    Raises:
        UsageError: lengths that differ, a level, method or number of draws out of range.
    """
    if not requests:
        return ()
    checked = [_check(one.arrays, groups, one.method, resamples, level) for one in requests]
    _, patient, patients = checked[0]
    if len({len(whose) for _, whose, _ in checked}) > 1:
        raise UsageError(
            f"figures of {', '.join(str(len(whose)) for _, whose, _ in checked)} cases",
            needed="the same cases in each",
        )
    figures = [
        _statistic_of(one.function, tables, bca=one.method == "bca" and patients >= BCA_PATIENTS)
        for one, (tables, _, _) in zip(requests, checked, strict=True)
    ]
    return _Resampling(patient, patients, resamples, level, seed).intervals(figures)


def bootstrap_statistic(
    function: Callable[..., float],
    arrays: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None,
    *,
    method: Literal["bca", "percentile"] = "bca",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a figure of the cases, patients resampled with replacement.

    BCa corrects bias and skew from ten patients on (below, and where it is undefined, the interval
    is a percentile one). Figures that jump, such as the sensitivity at a fixed specificity, are
    better asked with method "percentile". The ECE of a draw is larger than that of the cases, as a
    draw repeats cases: BCa, and read it beside `calibration_noise`.

    Args:
        function: takes the arrays, gives one number, NaN where undefined; options by
            `functools.partial(f1, positive=2)`.
        arrays: each with one row a case, (N, ...).
        groups: (N,) whose case it is; None: each case is a patient.
        method: how the ends are made.
        resamples: number of draws.
        level: coverage aimed at, between 0 and 1.
        seed: same seed, same interval; figures of the same groups share their draws.

    Raises:
        UsageError: lengths that differ, a level, method or number of draws out of range.
    """
    (interval,) = bootstrap_statistics(
        [IntervalRequest(function, arrays, method)],
        groups,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    return interval


def bootstrap_difference(
    function: Callable[..., float],
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None,
    *,
    method: Literal["bca", "percentile"] = "bca",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a metric of a minus the same of b, both of the same resamples (paired).

    Args:
        function: as in `bootstrap_statistic`.
        arrays_a: its arguments for the one method.
        arrays_b: its arguments for the other, same cases in the same order.
        groups: (N,) whose case it is; None: each case is a patient.
        method: how the ends are made.
        resamples: number of draws.
        level: coverage aimed at, between 0 and 1.
        seed: same seed, same interval.

    Raises:
        UsageError: lengths that differ, a level, method or number of draws out of range.
    """
    tables, patient, patients = _check([*arrays_a, *arrays_b], groups, method, resamples, level)
    bca = method == "bca" and patients >= BCA_PATIENTS
    a, b = (
        _statistic_of(function, part, bca=bca)
        for part in (tables[: len(arrays_a)], tables[len(arrays_a) :])
    )
    change = _Statistic(
        a.estimate - b.estimate,
        lambda weights, made: a.evaluate(weights, made) - b.evaluate(weights, made),
        bca,
    )
    (interval,) = _Resampling(patient, patients, resamples, level, seed).intervals([change])
    return interval


@dataclass(frozen=True, eq=False)
class _Statistic:
    """A figure of the cases, what computes it of draws, and whether its interval is to be BCa."""

    estimate: float
    evaluate: Evaluate
    bca: bool


@dataclass(frozen=True, eq=False)
class _Resampling:
    """Whose the cases are (N,), and how intervals are made."""

    patient: Integers
    patients: int
    resamples: int
    level: float
    seed: int

    def intervals(self, statistics: Sequence[_Statistic]) -> tuple[Interval, ...]:
        """The interval of each figure, all of the same draws."""
        n, step = len(self.patient), max(1, _CHUNK // max(1, len(self.patient)))
        found = [
            Interval(one.estimate, math.nan, math.nan, self.level, "none", n, self.patients)
            for one in statistics
        ]
        defined = [
            place
            for place, one in enumerate(statistics)
            if self.patients > 1 and not math.isnan(one.estimate)
        ]
        blocks = _patient_counts(
            self.patients, self.resamples, step, np.random.default_rng(self.seed)
        )
        draws = self._of_blocks({place: statistics[place] for place in defined}, blocks)
        varied = {
            p: statistics[p]
            for p, drawn in draws.items()
            if drawn.size and np.ptp(drawn) > _ALIKE * abs(statistics[p].estimate)
        }
        corrected = {place: one for place, one in varied.items() if one.bca}
        left_out = self._of_blocks(corrected, _without_each(self.patients, step))
        for place, one in varied.items():
            low, high, method = interval_ends(
                draws[place], left_out.get(place), estimate=one.estimate, level=self.level
            )
            found[place] = Interval(one.estimate, low, high, self.level, method, n, self.patients)
        return tuple(found)

    def _of_blocks(
        self, statistics: Mapping[int, _Statistic], blocks: Iterator[Integers]
    ) -> dict[int, Numbers]:
        """The figures, by place, of those draws (B, G) in which each is defined."""
        if not statistics:
            return {}
        own = np.array_equal(self.patient, np.arange(self.patients))
        parts: dict[int, list[Numbers]] = {place: [] for place in statistics}
        for times in blocks:
            weights = (times if own else times[:, self.patient]).astype(np.float64)
            made: Made = {}
            for place, one in statistics.items():
                parts[place].append(one.evaluate(weights, made))
        together = {place: np.concatenate(part) for place, part in parts.items()}
        return {place: drawn[np.isfinite(drawn)] for place, drawn in together.items()}


def _patient_counts(
    patients: int, resamples: int, step: int, random: np.random.Generator
) -> Iterator[Integers]:
    """Blocks (B, G): how often each draw has each patient.

    Picks, counted, are ten times as fast as a multinomial.
    """
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = (
            random.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
        )
        yield np.bincount(picks.ravel(), minlength=rows * patients).reshape(rows, patients)


def _without_each(patients: int, step: int) -> Iterator[Integers]:
    """Blocks (B, G) of the jackknife: every patient once but one."""
    for start in range(0, patients, step):
        out = np.arange(start, min(start + step, patients))
        yield (out[:, None] != np.arange(patients)).astype(np.int64)


def _statistic_of(
    function: Callable[..., float], tables: Sequence[NDArray[Any]], *, bca: bool
) -> _Statistic:
    """The metric of the cases, and its function of resamples.

    That computes all at once where the metric can, else calls it once a resample.
    """
    inner, options = (
        (function.func, function.keywords)
        if isinstance(function, partial) and not function.args
        else (function, {})
    )
    estimate = float(function(*tables)) if len(tables[0]) else math.nan
    of_draws = DRAWS.get(inner)
    if of_draws is None:
        return _Statistic(
            estimate,
            lambda weights, _: np.array([float(function(*_rows(tables, one))) for one in weights]),
            bca,
        )
    checked = of_draws.check(*tables)
    common = of_draws.common
    if common is None:
        return _Statistic(
            estimate, lambda weights, _: of_draws.figures(*checked, weights, **options), bca
        )

    def evaluate(weights: Numbers, made: Made) -> Numbers:
        held = (
            common,
            *(id(table) for table in tables),
        )  # `tables` lives as long as this function: no id is given twice
        if held not in made:
            made[held] = common(*checked, weights)
        return of_draws.figures(made[held], **options)

    return _Statistic(estimate, evaluate, bca)


def _rows(tables: Sequence[NDArray[Any]], count: Numbers) -> list[NDArray[Any]]:
    times = count.astype(np.int64)
    return [np.repeat(table, times, axis=0) for table in tables]


def _check(
    arrays: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None,
    method: str,
    resamples: int,
    level: float,
) -> tuple[list[NDArray[Any]], Integers, int]:
    check_level(level)
    if method not in ("bca", "percentile") or resamples < 1:
        raise UsageError(
            f"method {method!r}, {resamples} resamples",
            needed='"bca" or "percentile", and at least one resample',
        )
    tables = [np.asarray(array) for array in arrays]
    lengths = {len(table) for table in tables if table.ndim}
    if len(lengths) != 1 or not all(table.ndim for table in tables):
        raise UsageError(
            f"arrays of shapes {[table.shape for table in tables]}", needed="one row a case in each"
        )
    patient, patients = patients_of(groups, lengths.pop())
    return tables, patient, patients
