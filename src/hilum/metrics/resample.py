"""Intervals of any figure of classification: patients are drawn with replacement, and the figure is computed of each draw.

A draw is how often it has each case. The metrics of this room compute all draws at once from these counts (their dictionaries
`DRAWS`), which takes about a tenth of a second for two thousand draws of a thousand cases; any other function is called once a
draw. A draw in which a figure is undefined (no positive case, say) is left out.

No interval is defined, and the method is "none", where there are fewer than two patients, where the figure is undefined, and
where it is the same in every draw: a sensitivity of 8 in 8 cases would get 1 to 1, which is no statement about the ninth. Ask
`wilson_interval` there, or `delong_interval` of an AUROC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

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
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.metrics.cases import Integers, Numbers, OfDraws

    Evaluate = Callable[[Numbers], Numbers]
    """(B,) figures of draws (B, N)."""

DRAWS: dict[Callable[..., Any], OfDraws] = {**OF_SCORES, **OF_CONFUSION, **OF_PROBABILITIES, **OF_CALIBRATION, **OF_DECISIONS}
"""The metrics that compute all draws at once."""

_CHUNK = 2**18  # numbers in one block of draws: 2 MB, which a processor's cache holds
_ALIKE = 1e-12


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

    BCa corrects bias and skew from ten patients on (below, and where it is undefined, the interval is a percentile one). Figures
    that jump, such as the sensitivity at a fixed specificity, are better asked with method "percentile". The ECE of a draw is
    larger than that of the cases, as a draw repeats cases: BCa, and read it beside `calibration_noise`.

    Args:
        function: takes the arrays, gives one number, NaN where undefined; options by `functools.partial(f1, positive=2)`.
        arrays: each with one row a case, (N, ...).
        groups: (N,) whose case it is; None: each case is a patient.
        method: how the ends are made.
        resamples: number of draws.
        level: coverage aimed at, between 0 and 1.
        seed: same seed, same interval; figures of the same groups share their draws.

    Raises:
        UsageError: lengths that differ, a level, method or number of draws out of range.
    """
    tables, patient, patients = _check(arrays, groups, method, resamples, level)
    how = _Resampling(patient, patients, method == "bca", resamples, level, seed)
    return how.interval(*_evaluator(function, tables))


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
    """Interval of a figure of a minus the same of b on the same cases, both of the same draws (paired).

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
    how = _Resampling(patient, patients, method == "bca", resamples, level, seed)
    a, of_draws_a = _evaluator(function, tables[: len(arrays_a)])
    b, of_draws_b = _evaluator(function, tables[len(arrays_a) :])
    return how.interval(a - b, lambda weights: of_draws_a(weights) - of_draws_b(weights))


@dataclass(frozen=True, eq=False)
class _Resampling:
    """Whose the cases are (N,), and how intervals are made."""

    patient: Integers
    patients: int
    bca: bool
    resamples: int
    level: float
    seed: int

    def interval(self, estimate: float, evaluate: Evaluate) -> Interval:
        """The interval of a figure that is computed of draws (B, N)."""
        n = len(self.patient)
        undefined = Interval(estimate, math.nan, math.nan, self.level, "none", n, self.patients)
        if self.patients < 2 or math.isnan(estimate):
            return undefined
        step = max(1, _CHUNK // n)
        draws = self._figures(evaluate, _drawn(self.patients, self.resamples, step, np.random.default_rng(self.seed)))
        if not draws.size or np.ptp(draws) <= _ALIKE * abs(estimate):
            return undefined
        left_out = None
        if self.bca and self.patients >= BCA_PATIENTS:
            left_out = self._figures(evaluate, _without_each(self.patients, step))
        low, high, method = interval_ends(draws, left_out, estimate=estimate, level=self.level)
        return Interval(estimate, low, high, self.level, method, n, self.patients)

    def _figures(self, evaluate: Evaluate, blocks: Iterator[Integers]) -> Numbers:
        """The figures of the draws (B, G) in which it is defined."""
        own = np.array_equal(self.patient, np.arange(self.patients))
        figures = [evaluate((times if own else times[:, self.patient]).astype(np.float64)) for times in blocks]
        together = np.concatenate(figures)
        return together[np.isfinite(together)]


def _drawn(patients: int, resamples: int, step: int, random: np.random.Generator) -> Iterator[Integers]:
    """Blocks (B, G): how often each draw has each patient; picks, counted, are ten times as fast as a multinomial."""
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = random.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
        yield np.bincount(picks.ravel(), minlength=rows * patients).reshape(rows, patients)


def _without_each(patients: int, step: int) -> Iterator[Integers]:
    """Blocks (B, G) of the jackknife: every patient once but one."""
    for start in range(0, patients, step):
        out = np.arange(start, min(start + step, patients))
        yield (out[:, None] != np.arange(patients)).astype(np.int64)


def _evaluator(function: Callable[..., float], tables: Sequence[NDArray[Any]]) -> tuple[float, Evaluate]:
    """The figure of the cases, and what computes it of draws: all at once where the metric can, else one call a draw."""
    inner, options = (function.func, function.keywords) if isinstance(function, partial) and not function.args else (function, {})
    estimate = float(function(*tables)) if len(tables[0]) else math.nan
    of_draws = DRAWS.get(inner)
    if of_draws is None:
        return estimate, lambda weights: np.array([float(function(*_rows(tables, count))) for count in weights])
    checked = of_draws.check(*tables)
    return estimate, lambda weights: of_draws.figures(*checked, weights, **options)


def _rows(tables: Sequence[NDArray[Any]], count: Numbers) -> list[NDArray[Any]]:
    times = count.astype(np.int64)
    return [np.repeat(table, times, axis=0) for table in tables]


def _check(
    arrays: Sequence[ArrayLike], groups: Sequence[Hashable] | None, method: str, resamples: int, level: float
) -> tuple[list[NDArray[Any]], Integers, int]:
    check_level(level)
    if method not in ("bca", "percentile") or resamples < 1:
        raise UsageError(f"method {method!r}, {resamples} resamples", needed='"bca" or "percentile", and at least one resample')
    tables = [np.asarray(array) for array in arrays]
    lengths = {len(table) for table in tables if table.ndim}
    if len(lengths) != 1 or not all(table.ndim for table in tables):
        raise UsageError(f"arrays of shapes {[table.shape for table in tables]}", needed="one row a case in each")
    patient, patients = patients_of(groups, lengths.pop())
    return tables, patient, patients
