"""Bootstrap intervals that resample patients, not cases.

Two studies of one patient are not two independent observations: an interval that resamples cases is
too narrow. Patients are taken with replacement, each with all of its cases (cluster bootstrap;
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Intervals are
BCa (Efron, JASA 82, 1987, jackknife over patients) from ten patients on where they are asked for,
everything else is percentiles. A mean of fewer than twenty patients has a t interval with the
jackknife's standard error, which is the usual t interval where each patient has one case. With
fewer than two patients no interval is defined.

Of values that each case has, such as Dice, `bootstrap_interval` gives the interval of a mean or
median; undefined values (NaN) are left out. Of a metric of all cases, such as the AUROC,
`bootstrap_statistic` does. The metrics of this room compute all resamples at once from how often
each has each case, which takes about a tenth of a second for two thousand resamples of a thousand
cases; any other function is called once a resample. A resample in which a metric is undefined (no
positive case, say) is left out. A metric that is undefined, or the same in every resample, has no
interval, and the method is "none": a sensitivity of 8 in 8 cases would get 1 to 1, which is no
statement about the ninth. Ask `wilson_interval` there, or `delong_interval` of an AUROC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from scipy.special import ndtr, ndtri

from hilum.errors import UsageError
from hilum.metrics import calibration, confusion, decision_curve, roc, scoring_rules
from hilum.metrics.validation import check_level, divide, mean_of_defined, patients_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.metrics.validation import ArrayFunction, Integers, Numbers, ResampledMetric

Statistic = Literal["mean", "median"]
Ends = Literal["bca", "percentile"]
IntervalMethod = Literal["bca", "percentile", "t", "order statistics", "none"]

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

RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    **roc.RESAMPLED,
    **confusion.RESAMPLED,
    **scoring_rules.RESAMPLED,
    **calibration.RESAMPLED,
    **decision_curve.RESAMPLED,
}
"""The metrics that compute all resamples at once."""

_VALUES_IN_BLOCK = 4_000_000  # of one value a case: 32 MB
_WEIGHTS_IN_BLOCK = 2**18  # of a metric of all cases: 2 MB, which a processor's cache holds
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
    """A value and its bootstrap interval.

    Args:
        estimate: the statistic of the cases; NaN where it is undefined.
        low: lower end; NaN where no interval is defined.
        high: upper end.
        level: coverage aimed at, e.g. 0.95.
        method: "bca", "percentile", of means "t", of medians "order statistics", or "none" where no
            interval is defined.
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


class IntervalRequest(NamedTuple):
    """A metric whose interval is wanted, see `bootstrap_statistic`."""

    function: ArrayFunction[float]
    arrays: Sequence[ArrayLike]
    method: Ends = "bca"


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    statistic: Statistic = "mean",
    **how: Unpack[Resampling],
) -> Interval:
    """Interval of a statistic of one value a case, patients resampled with replacement.

    Args:
        values: (N,) one value a case, or (N, R) one a case and region; NaN is undefined and left
            out.
        groups: (N,) whose case it is.
        statistic: "mean" or "median": of each column, then the mean of the columns, so that a rare
            region weighs as much as a common one. Means have BCa intervals, of fewer patients than
            `T_PATIENTS` t intervals. For a function of the values see `bootstrap_statistic`.
        how: see `Resampling`.

    Raises:
        UsageError: lengths that differ, or a level or number of resamples out of range.
    """
    rows, patient, patients = _defined_rows(values, groups)
    once = _Block(np.ones((1, patients), dtype=np.int64), patient)
    asked = _Statistic(
        float(_of_values(rows, statistic, once)[0]) if patients else math.nan,
        partial(_of_values, rows, statistic),
        bca=statistic == "mean" and patients >= T_PATIENTS,
        student=statistic == "mean" and patients < T_PATIENTS,
        constant=True,
    )
    block = max(1, _VALUES_IN_BLOCK // max(1, len(rows)))
    return _Resampling(patient, patients, **how).intervals([asked], block, _multinomial_counts)[0]


def bootstrap_statistics(
    requests: Sequence[IntervalRequest],
    groups: Sequence[Hashable] | None,
    **how: Unpack[Resampling],
) -> tuple[Interval, ...]:
    """Intervals of several metrics of the same cases, all of the same resamples.

    Each is what `bootstrap_statistic` gives, in less time: the resamples are made once, and so is
    what metrics of the very same arrays (the same objects) have in common: the order of the scores
    for all that is read off a ROC curve, the fitted line for slope and intercept.

    Args:
        requests: the metrics.
        groups: (N,) whose case it is; None: each case is a patient.
        how: see `Resampling`.

    Raises:
        UsageError: lengths that differ, a level, method or number of resamples out of range.
    """
    if not requests:
        return ()
    tables = [_check_arrays(one.arrays) for one in requests]
    lengths = [len(arrays[0]) for arrays in tables]
    if len(set(lengths)) > 1:
        raise UsageError(
            f"metrics were given arrays of different lengths: {', '.join(map(str, lengths))}",
            needed="the same cases in each: one row a case",
        )
    resampling = _Resampling(*patients_of(groups, lengths[0]), **how)
    return resampling.of_metrics(
        [
            resampling.metric(one.function, arrays, one.method)
            for one, arrays in zip(requests, tables, strict=True)
        ]
    )


def bootstrap_statistic(
    function: ArrayFunction[float],
    arrays: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None,
    *,
    method: Ends = "bca",
    **how: Unpack[Resampling],
) -> Interval:
    """Interval of a metric of the cases, patients resampled with replacement.

    BCa corrects bias and skew from ten patients on (below, and where it is undefined, the interval
    is a percentile one). Metrics that jump, such as the sensitivity at a fixed specificity, are
    better asked with method "percentile". The ECE of a resample is larger than that of the cases,
    as a resample repeats cases: BCa, and read it beside `calibration_noise`.

    Args:
        function: takes the arrays, gives one number, NaN where undefined; options by
            `functools.partial(f1, positive=2)`.
        arrays: each with one row a case, (N, ...).
        groups: (N,) whose case it is; None: each case is a patient.
        method: how the ends are made.
        how: see `Resampling`.

    Raises:
        UsageError: lengths that differ, a level, method or number of resamples out of range.
    """
    request = IntervalRequest(function, arrays, method)
    return bootstrap_statistics([request], groups, **how)[0]


def bootstrap_difference(
    function: ArrayFunction[float],
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    groups: Sequence[Hashable] | None,
    *,
    method: Ends = "bca",
    **how: Unpack[Resampling],
) -> Interval:
    """Interval of a metric of a minus the same of b, both of the same resamples (paired).

    Args:
        function: as in `bootstrap_statistic`.
        arrays_a: its arguments for the one method.
        arrays_b: its arguments for the other, same cases in the same order.
        groups: (N,) whose case it is; None: each case is a patient.
        method: how the ends are made.
        how: see `Resampling`.

    Raises:
        UsageError: lengths that differ, a level, method or number of resamples out of range.
    """
    tables = _check_arrays([*arrays_a, *arrays_b])
    resampling = _Resampling(*patients_of(groups, len(tables[0])), **how)
    a, b = (
        resampling.metric(function, part, method)
        for part in (tables[: len(arrays_a)], tables[len(arrays_a) :])
    )
    change = _Statistic(
        a.estimate - b.estimate, lambda block: a.evaluate(block) - b.evaluate(block), a.bca
    )
    return resampling.of_metrics([change])[0]


@dataclass(frozen=True, eq=False)
class _Block:
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
class _Statistic:
    """A statistic of the cases.

    Args:
        estimate: its value.
        evaluate: (B,) its values in a block of resamples.
        bca: BCa intervals instead of percentiles.
        student: t intervals instead, with the jackknife's standard error.
        constant: give an interval where all resamples are alike.
    """

    estimate: float
    evaluate: Callable[[_Block], Numbers]
    bca: bool
    student: bool = False
    constant: bool = False


@dataclass(frozen=True, eq=False)
class _Resampling:
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

    def metric(
        self, function: ArrayFunction[float], arrays: Sequence[NDArray[np.generic]], method: Ends
    ) -> _Statistic:
        """The metric of the cases, and of resamples: all at once where it can, else one by one."""
        if method not in ("bca", "percentile"):
            raise UsageError(f"method is {method!r}", needed='"bca" or "percentile"')
        inner, options = function, dict[str, object]()
        if isinstance(function, partial) and not function.args:
            inner, options = function.func, function.keywords
        bca = method == "bca" and self.patients >= BCA_PATIENTS
        estimate = float(function(*arrays)) if len(arrays[0]) else math.nan
        known = RESAMPLED.get(inner)
        if known is None:
            return _Statistic(
                estimate,
                lambda block: np.array(
                    [
                        float(function(*(np.repeat(array, count, axis=0) for array in arrays)))
                        for count in block.times[:, self.patient]
                    ]
                ),
                bca,
            )
        checked, share = known.check(*arrays), known.share

        def evaluate(block: _Block) -> Numbers:
            if share is None:
                return known.values(*checked, block.weights, **options)
            key = (share, *map(id, arrays))  # `arrays` live as long as this function
            if key not in block.shared:
                block.shared[key] = share(*checked, block.weights)
            return known.values(block.shared[key], **options)

        return _Statistic(estimate, evaluate, bca)

    def of_metrics(self, statistics: Sequence[_Statistic]) -> tuple[Interval, ...]:
        """Return the interval of each metric, all of the same resamples."""
        block = max(1, _WEIGHTS_IN_BLOCK // max(1, len(self.patient)))
        return self.intervals(statistics, block, _picked_counts)

    def intervals(
        self,
        statistics: Sequence[_Statistic],
        block: int,
        counts: Callable[[np.random.Generator, int, int], Integers],
    ) -> tuple[Interval, ...]:
        """Return the interval of each statistic; `counts` makes `block` resamples at once."""
        random = np.random.default_rng(self.seed)
        values = self._evaluate(
            [one for one in statistics if self.patients > 1 and not math.isnan(one.estimate)],
            (
                counts(random, self.patients, min(block, self.resamples - start))
                for start in range(0, self.resamples, block)
            ),
        )
        varied = {
            one: resampled
            for one, resampled in values.items()
            if resampled.size and (one.constant or np.ptp(resampled) > _ALIKE * abs(one.estimate))
        }
        everyone = np.arange(self.patients)
        left_out = self._evaluate(
            [one for one in varied if one.bca or one.student],
            (
                (everyone[start : start + block, None] != everyone).astype(np.int64)
                for start in range(0, self.patients, block)
            ),
        )
        return tuple(self._interval(one, varied, left_out) for one in statistics)

    def _evaluate(
        self, statistics: Sequence[_Statistic], blocks: Iterable[Integers]
    ) -> dict[_Statistic, Numbers]:
        """Return the values of each statistic in those resamples (B, G) in which it is defined."""
        if not statistics:
            return {}
        parts: dict[_Statistic, list[Numbers]] = {one: [] for one in statistics}
        for times in blocks:
            block = _Block(times, self.patient)
            for one, part in parts.items():
                part.append(one.evaluate(block))
        together = {one: np.concatenate(part) for one, part in parts.items()}
        return {one: values[np.isfinite(values)] for one, values in together.items()}

    @property
    def _student_quantile(self) -> float:
        """Number of standard errors that a t interval reaches either way."""
        from scipy.special import stdtrit

        return float(stdtrit(self.patients - 1, (1 + self.level) / 2))

    def _interval(
        self,
        one: _Statistic,
        resampled: Mapping[_Statistic, Numbers],
        left_out: Mapping[_Statistic, Numbers],
    ) -> Interval:
        """Make one statistic's interval: BCa where it can be corrected, else percentiles."""
        low = high = math.nan
        method: IntervalMethod = "none"
        if one in resampled and one.student:
            method = "t"
            reach = _standard_error(left_out[one]) * self._student_quantile
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


def _standard_error(left_out: Numbers) -> float:
    """Return the jackknife's standard error from the values (G,) without each of the patients."""
    return math.sqrt((len(left_out) - 1) * float(np.var(left_out)))


def _multinomial_counts(random: np.random.Generator, patients: int, rows: int) -> Integers:
    """Return how often (rows, G) each resample has each patient."""
    return random.multinomial(patients, np.full(patients, 1.0 / patients), size=rows)


def _picked_counts(random: np.random.Generator, patients: int, rows: int) -> Integers:
    """Return the same (rows, G) from other random numbers, which is ten times as fast."""
    picks = random.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
    return np.bincount(picks.ravel(), minlength=rows * patients).reshape(rows, patients)


def _defined_rows(values: ArrayLike, groups: Sequence[Hashable]) -> tuple[Numbers, Integers, int]:
    """Return rows (N, R) with a defined value, the patient (N,) of each, and how many patients."""
    rows = np.asarray(values, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != len(groups):
        raise UsageError(
            f"the values have shape {np.shape(values)}, and there are {len(groups)} groups",
            needed="one row of values and one group a case",
        )
    kept = np.flatnonzero(~np.isnan(rows).all(axis=1))
    return rows[kept], *patients_of([groups[place] for place in kept.tolist()], len(kept))


def _of_values(rows: Numbers, statistic: Statistic, block: _Block) -> Numbers:
    """Return (B,) the statistic of rows (N, R) in each resample."""
    if statistic not in ("mean", "median"):
        raise UsageError(f"statistic is {statistic!r}", needed='"mean" or "median"')
    columns = []
    for column in rows.T:
        defined = ~np.isnan(column)
        values, patient = column[defined], block.patient[defined]
        if statistic == "median":
            columns.append(_medians(values, block.times[:, patient]))
        else:
            patients = block.times.shape[1]
            sums = block.times @ np.bincount(patient, weights=values, minlength=patients)
            counts = block.times @ np.bincount(patient, minlength=patients)
            columns.append(divide(sums, counts))
    return mean_of_defined(np.stack(columns, axis=1))


def _medians(values: Numbers, weights: Integers) -> Numbers:
    """Return (B,) median of the values (N,), each taken `weights` (B, N) times.

    NaN where none is taken.
    """
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values)
    cumulative = np.cumsum(weights[:, order], axis=1)
    total = cumulative[:, -1:]
    # the values at ranks (total + 1) // 2 and total // 2 + 1, counted from 1
    lower, upper = ((cumulative < rank).sum(axis=1) for rank in ((total + 1) // 2, total // 2 + 1))
    ranked = np.append(values[order], np.nan)
    return np.where(total[:, 0] > 0, (ranked[lower] + ranked[upper]) / 2, np.nan)


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


def _check_arrays(arrays: Sequence[ArrayLike]) -> list[NDArray[np.generic]]:
    tables = [np.asarray(array) for array in arrays]
    if not all(table.ndim for table in tables) or len({len(table) for table in tables}) != 1:
        raise UsageError(
            f"the arrays have shapes {[table.shape for table in tables]}",
            needed="one row a case in each",
        )
    return tables
