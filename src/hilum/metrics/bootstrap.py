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
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import numpy as np

from hilum.errors import UsageError
from hilum.metrics import calibration, confusion, decision_curve, roc, scoring_rules
from hilum.metrics.resampling import (
    BCA_PATIENTS,
    T_PATIENTS,
    Block,
    Interval,
    ResampledStatistic,
    Resampler,
    multinomial_counts,
    picked_counts,
)
from hilum.metrics.validation import ResampledMetric, divide, mean_of_defined, once, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.metrics.resampling import Resampling
    from hilum.metrics.validation import ArrayFunction, Integers, Numbers

Statistic = Literal["mean", "median"]
Ends = Literal["bca", "percentile"]

_VALUES_IN_BLOCK = 4_000_000  # of one value a case: 32 MB
_WEIGHTS_IN_BLOCK = 2**18  # of a metric of all cases: 2 MB, which a processor's cache holds


def mean_of_columns(values: ArrayLike) -> float:
    """Mean of the columns' means of values (N, R), undefined ones (NaN) left out.

    Where it is resampled, as a metric of all cases, no column loses a case with the others.
    """
    (rows,) = _columns(values)
    return float(_means_of_columns(rows, once(rows))[0])


def _columns(values: ArrayLike) -> tuple[Numbers]:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise UsageError(f"the values have shape {rows.shape}", needed="a row a case (N, R)")
    return (rows,)


def _means_of_columns(rows: Numbers, weights: Numbers) -> Numbers:
    defined = ~np.isnan(rows)
    sums, counts = weights @ np.where(defined, rows, 0.0), weights @ defined  # (B, R)
    return mean_of_defined(divide(sums, counts))


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    mean_of_columns: ResampledMetric(_columns, _means_of_columns),
    **roc.RESAMPLED,
    **confusion.RESAMPLED,
    **scoring_rules.RESAMPLED,
    **calibration.RESAMPLED,
    **decision_curve.RESAMPLED,
}
"""The metrics that compute all resamples at once."""


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
    as_is = Block(np.ones((1, patients), dtype=np.int64), patient)
    asked = ResampledStatistic(
        float(_of_values(rows, statistic, as_is)[0]) if patients else math.nan,
        partial(_of_values, rows, statistic),
        bca=statistic == "mean" and patients >= T_PATIENTS,
        student=statistic == "mean" and patients < T_PATIENTS,
        constant=True,
    )
    block = max(1, _VALUES_IN_BLOCK // max(1, len(rows)))
    return Resampler(patient, patients, **how).intervals([asked], block, multinomial_counts)[0]


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
    resampler, asked = _prepare(requests, groups, **how)
    return resampler.intervals(asked, _block_of(resampler), picked_counts)


def resampled_statistics(
    requests: Sequence[IntervalRequest],
    groups: Sequence[Hashable] | None,
    **how: Unpack[Resampling],
) -> Numbers:
    """Return several metrics (Q, R) of the same cases in all resamples of the patients.

    NaN where a metric is undefined in a resample.

    Args:
        requests: the metrics (Q,).
        groups: (N,) whose case it is; None: each case is a patient.
        how: see `Resampling`.

    Raises:
        UsageError: as `bootstrap_statistics`.
    """
    resampler, asked = _prepare(requests, groups, **how)
    values = resampler.resampled(asked, _block_of(resampler), picked_counts)
    return np.stack([values[one] for one in asked])


def pseudo_values(
    requests: Sequence[IntervalRequest], groups: Sequence[Hashable] | None
) -> Numbers:
    """Return each patient's contribution (Q, G) to several metrics of the same cases.

    The jackknife's pseudo-value of a patient is G times the metric minus G - 1 times the metric
    without the patient. Of a mean of one case a patient it is the patient's value; of an AUROC, a
    number that can be averaged and compared as if it were one (Dorfman, Berbaum and Metz, Invest
    Radiol 27, 1992). They are moved so that their mean is the metric itself (Hillis, Berbaum and
    Metz, Acad Radiol 15, 2008). NaN where the metric is undefined without a patient.

    Args:
        requests: the metrics (Q,).
        groups: (N,) whose case it is; None: each case is a patient.

    Raises:
        UsageError: as `bootstrap_statistics`.
    """
    resampler, asked = _prepare(requests, groups)
    without = resampler.without_each(asked, _block_of(resampler))
    less = resampler.patients - 1
    return np.stack([one.estimate + less * (without[one].mean() - without[one]) for one in asked])


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
    _check_arrays([*arrays_a, *arrays_b])
    requests = [IntervalRequest(function, arrays, method) for arrays in (arrays_a, arrays_b)]
    resampler, (a, b) = _prepare(requests, groups, **how)
    change = ResampledStatistic(
        a.estimate - b.estimate, lambda block: a.evaluate(block) - b.evaluate(block), a.bca
    )
    return resampler.intervals([change], _block_of(resampler), picked_counts)[0]


def _prepare(
    requests: Sequence[IntervalRequest],
    groups: Sequence[Hashable] | None,
    **how: Unpack[Resampling],
) -> tuple[Resampler, list[ResampledStatistic]]:
    """Check metrics of the same cases, and make them ready to be resampled."""
    tables = [_check_arrays(one.arrays) for one in requests]
    lengths = [len(arrays[0]) for arrays in tables]
    if len(set(lengths)) > 1:
        raise UsageError(
            f"metrics were given arrays of different lengths: {', '.join(map(str, lengths))}",
            needed="the same cases in each: one row a case",
        )
    resampler = Resampler(*patients_of(groups, lengths[0]), **how)
    return resampler, [
        _metric(resampler, one.function, arrays, one.method)
        for one, arrays in zip(requests, tables, strict=True)
    ]


def _block_of(resampler: Resampler) -> int:
    """Count the resamples whose weights fit a processor's cache."""
    return max(1, _WEIGHTS_IN_BLOCK // max(1, len(resampler.patient)))


def _metric(
    resampler: Resampler,
    function: ArrayFunction[float],
    arrays: Sequence[NDArray[np.generic]],
    method: Ends,
) -> ResampledStatistic:
    """Make a metric ready for resamples: all at once where it can, else one by one."""
    if method not in ("bca", "percentile"):
        raise UsageError(f"method is {method!r}", needed='"bca" or "percentile"')
    inner, options = function, dict[str, object]()
    if isinstance(function, partial) and not function.args:
        inner, options = function.func, function.keywords
    bca = method == "bca" and resampler.patients >= BCA_PATIENTS
    estimate = float(function(*arrays)) if len(arrays[0]) else math.nan
    known = RESAMPLED.get(inner)
    if known is None:
        return ResampledStatistic(
            estimate,
            lambda block: np.array(
                [
                    float(function(*(np.repeat(array, count, axis=0) for array in arrays)))
                    for count in block.times[:, resampler.patient]
                ]
            ),
            bca,
        )
    checked, share = known.check(*arrays), known.share

    def evaluate(block: Block) -> Numbers:
        if share is None:
            return known.values(*checked, block.weights, **options)
        key = (share, *map(id, arrays))  # `arrays` live as long as this function
        if key not in block.shared:
            block.shared[key] = share(*checked, block.weights)
        return known.values(block.shared[key], **options)

    return ResampledStatistic(estimate, evaluate, bca)


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


def _of_values(rows: Numbers, statistic: Statistic, block: Block) -> Numbers:
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


def _check_arrays(arrays: Sequence[ArrayLike]) -> list[NDArray[np.generic]]:
    """Return the inputs as arrays; refuse other than one row a case in each."""
    tables = [np.asarray(array) for array in arrays]
    if not all(table.ndim for table in tables) or len({len(table) for table in tables}) != 1:
        raise UsageError(
            f"the arrays have shapes {[table.shape for table in tables]}",
            needed="one row a case in each",
        )
    return tables
