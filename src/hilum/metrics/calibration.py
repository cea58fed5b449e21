"""Calibration of probabilities: expected calibration error, calibration curve, slope and intercept.

All are about two classes: the probability that a case is positive. Of several classes ask about one
at a time, or about the largest probability and whether its class was right (`top_class`).
Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

============================  =========  =============  =====================================
metric                        no case    one class      else undefined
============================  =========  =============  =====================================
expected calibration error    undefined  as defined     never
calibration noise             undefined  as defined     never
calibration curve             no bin     as defined     a bin without a case is left out
slope, intercept              undefined  undefined      where the classes do not overlap: the
                                                        slope grows without end
calibration in the large      undefined  undefined      never
============================  =========  =============  =====================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit, logit

from hilum.errors import UsageError
from hilum.metrics.proportion import wilson_interval
from hilum.metrics.scoring_rules import CLIP
from hilum.metrics.validation import (
    ResampledMetric,
    check_probabilities,
    check_probability,
    divide,
    once,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hilum.metrics.validation import ArrayFunction, Flags, Integers, Numbers

Bins = Literal["mass", "width"]

_STEPS = 100
_STILL = 1e-10  # a step that changes no case's logit by more is the last


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Cases in bins of their probability; a calibrated model lies on the diagonal.

    Args:
        predicted: (T,) mean probability of the bin, rising.
        observed: (T,) share of its cases that are positive.
        low: (T,) lower end of the Wilson interval of the share, which takes cases as independent.
        high: (T,) upper end.
        cases: (T,) cases of the bin.
        level: coverage of the intervals.
    """

    predicted: Numbers = field(repr=False)
    observed: Numbers = field(repr=False)
    low: Numbers = field(repr=False)
    high: Numbers = field(repr=False)
    cases: Numbers = field(repr=False)
    level: float


def expected_calibration_error(
    probability: ArrayLike, positive: ArrayLike, *, bins: int = 10, equal: Bins = "mass"
) -> float:
    """Mean distance, over the bins, of the mean probability from the share that is positive.

    Each bin counts by its cases.

    It is above 0 even for a calibrated model, the more so the fewer cases a bin has:
    `calibration_noise` says by how much. Compare it only between the same bins and like numbers of
    cases.

    Args:
        probability: (N,) that the case is positive.
        positive: (N,) whether it is.
        bins: number of bins.
        equal: "mass": bins of as many cases each, equal probabilities together (steadier; Nixon
            2019); "width": bins of equal width.

    Raises:
        UsageError: shapes that differ, no probabilities, no bins.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015; Nixon et al., CVPR workshops 2019.
    """
    values, truth = check_probability(probability, positive)
    _check_bins(bins, equal)
    return float(
        _expected_calibration_error(values, truth, once(values), bins=bins, equal=equal)[0]
    )


def calibration_noise(probability: ArrayLike, *, bins: int = 10, equal: Bins = "mass") -> float:
    """Expected calibration error that these probabilities (N,) would show if they were right.

    In each bin the difference is then nearly normal with variance sum p (1 - p) / n^2, and its mean
    size sqrt(2 / pi) of that deviation. An error that is not clearly above this noise is no
    evidence of bad calibration.

    Raises:
        UsageError: no probabilities, no bins.
    """
    values, _ = check_probability(
        probability, np.zeros(len(np.atleast_1d(np.asarray(probability))), dtype=np.bool_)
    )
    _check_bins(bins, equal)
    if not len(values):
        return math.nan
    binned = _Binned.of(values, once(values), bins, equal)
    spread = np.sqrt(binned.total(values * (1 - values)))
    return float(np.sqrt(2 / np.pi) * spread.sum() / len(values))


def calibration_curve(
    probability: ArrayLike,
    positive: ArrayLike,
    *,
    bins: int = 10,
    equal: Bins = "mass",
    level: float = 0.95,
) -> CalibrationCurve:
    """Mean probability against the share of positive cases, bin by bin, with Wilson intervals.

    Args:
        probability: (N,) that the case is positive.
        positive: (N,) whether it is.
        bins: number of bins; those without a case are left out.
        equal: "mass" or "width", as in `expected_calibration_error`.
        level: coverage of the intervals.

    Raises:
        UsageError: shapes that differ, no probabilities, no bins, a level out of range.
    """
    values, truth = check_probability(probability, positive)
    _check_bins(bins, equal)
    binned = _Binned.of(values, once(values), bins, equal)
    cases, hits, sums = (
        binned.total(each)[0] for each in (np.ones(len(values)), truth.astype(np.float64), values)
    )
    cases, hits, sums = (totals[cases > 0] for totals in (cases, hits, sums))
    low, high = wilson_interval(hits, cases, level=level)
    return CalibrationCurve(divide(sums, cases), divide(hits, cases), low, high, cases, level)


def calibration_slope(probability: ArrayLike, positive: ArrayLike) -> float:
    """The slope of logit(observed) = intercept + slope * logit(probability), most likely fitted.

    1 is right; below 1 the probabilities are too extreme (overfitted), above 1 too timid.
    Probabilities are clipped at 1e-7.

    Args:
        probability: (N,) that the case is positive.
        positive: (N,) whether it is.

    Source: Cox, Biometrika 45 (1958); Van Calster et al., BMC Med 17 (2019).

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, truth = check_probability(probability, positive)
    return float(_recalibrate(values, truth, once(values))[0, 1])


def calibration_intercept(probability: ArrayLike, positive: ArrayLike) -> float:
    """Return the intercept of that line; 0 is right, read together with the slope.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, truth = check_probability(probability, positive)
    return float(_recalibrate(values, truth, once(values))[0, 0])


def recalibrate_counts(
    probability: ArrayLike, positive: ArrayLike, total: ArrayLike
) -> tuple[float, float]:
    """Return that intercept and slope for counted observations.

    NaN where the slope grows without end, or all are of one class.

    Args:
        probability: (N,) of each kind of observation.
        positive: (N,) how many of each kind are positive.
        total: (N,) how many there are.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    hits, counts = np.asarray(positive, dtype=np.float64), np.asarray(total, dtype=np.float64)
    values, truth = check_probability(np.tile(probability, 2), np.repeat([True, False], len(hits)))
    weights = np.concatenate([hits, counts - hits])
    fitted = _recalibrate(values, truth, weights[None] / max(1.0, weights.sum()))
    return float(fitted[0, 0]), float(fitted[0, 1])


def calibration_in_the_large(probability: ArrayLike, positive: ArrayLike) -> float:
    """The intercept where the slope is held at 1: above 0 the probabilities are too low overall.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, truth = check_probability(probability, positive)
    return float(_in_the_large(values, truth, once(values))[0])


def top_class(probabilities: ArrayLike, index: ArrayLike) -> tuple[Numbers, Flags]:
    """Return the largest probability of each case (N, K), and whether its class is the case's (N,).

    Of equal probabilities the first class is taken.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, numbers = check_probabilities(probabilities, index)
    best = values.argmax(axis=1)
    return values[np.arange(len(values)), best], np.asarray(best == numbers)


@dataclass(frozen=True, eq=False)
class _Binned:
    """Resamples in the order of rising probability.

    Args:
        weights: (B, N) how often each resample has each case, in that order.
        order: (N,) the order.
        first: (T,) where each distinct probability begins.
        bin: (B, T) the bin of each.
        bins: how many there are.
    """

    weights: Numbers
    order: Integers
    first: Integers
    bin: Integers
    bins: int

    @classmethod
    def of(cls, probability: Numbers, weights: Numbers, bins: int, equal: Bins) -> _Binned:
        """Sort resamples by probability, and give each distinct one its bin."""
        order = np.argsort(probability, kind="stable")
        rising, taken = probability[order], weights[:, order]
        first = np.flatnonzero(np.append(True, rising[1:] != rising[:-1])[: len(rising)])
        if equal == "width":
            place = rising[first] * bins
        else:  # the mid-rank (0..1) of each distinct probability; ties share a bin
            counts = np.add.reduceat(taken, first, axis=1) if len(first) else taken
            ranks = np.cumsum(counts, axis=1) - counts / 2
            place = divide(ranks, counts.sum(axis=1, keepdims=True)) * bins
        number = np.clip(np.nan_to_num(place).astype(np.int64), 0, bins - 1)
        return cls(taken, order, first, np.broadcast_to(number, (len(weights), len(first))), bins)

    def total(self, values: Numbers) -> Numbers:
        """Return (B, bins) sums over the resampled cases of each bin of what a case (N,) has."""
        if not len(self.first):
            return np.zeros((len(self.weights), self.bins))
        sums = np.add.reduceat(self.weights * values[self.order], self.first, axis=1)
        cells = self.bin + np.arange(len(sums))[:, None] * self.bins
        flat = np.bincount(cells.ravel(), weights=sums.ravel(), minlength=len(sums) * self.bins)
        return np.asarray(flat.reshape(len(sums), self.bins))


def _check_bins(bins: int, equal: Bins) -> None:
    """Refuse no bins, and bins equal in something unknown."""
    if bins < 1 or equal not in ("mass", "width"):
        raise UsageError(
            f"bins is {bins}, equal is {equal!r}",
            needed='at least one bin, equal in "mass" or in "width"',
        )


def _expected_calibration_error(
    probability: Numbers, positive: Flags, weights: Numbers, *, bins: int = 10, equal: Bins = "mass"
) -> Numbers:
    gaps = _Binned.of(probability, weights, bins, equal).total(probability - positive)
    return divide(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def _in_the_large(probability: Numbers, positive: Flags, weights: Numbers) -> Numbers:
    truth = positive.astype(np.float64)
    both = (weights @ truth > 0) & (weights @ (1 - truth) > 0)
    return _maximise(np.ones((len(truth), 1)), _logit(probability), truth, weights, both)[:, 0]


def _recalibrate(probability: Numbers, positive: Flags, weights: Numbers) -> Numbers:
    """Return (B, 2) intercept and slope of each resample."""
    logits, truth = _logit(probability), positive.astype(np.float64)
    if not len(logits):
        return np.full((len(weights), 2), np.nan)
    spread = float(logits.std()) or 1.0
    scaled = (logits - logits.mean()) / spread
    design = np.stack([np.ones_like(scaled), scaled], axis=1)
    fitted = _maximise(
        design, np.zeros_like(scaled), truth, weights, _overlap(logits, positive, weights)
    )
    slope = fitted[:, 1] / spread
    return np.stack([fitted[:, 0] - slope * logits.mean(), slope], axis=1)


def _logit(probability: Numbers) -> Numbers:
    return np.asarray(logit(np.clip(probability, CLIP, 1 - CLIP)))


def _overlap(logits: Numbers, positive: Flags, weights: Numbers) -> Flags:
    """Return whether (B,) the classes of a resample overlap.

    Only then is there a finite best slope (Albert and Anderson 1984).
    """
    (least_positive, most_positive), (least_negative, most_negative) = (
        (np.where(own, logits, np.inf).min(axis=1), np.where(own, logits, -np.inf).max(axis=1))
        for own in ((weights > 0) & positive, (weights > 0) & ~positive)
    )
    return np.asarray((least_positive < most_negative) & (least_negative < most_positive))


def _maximise(
    design: Numbers, offset: Numbers, truth: Numbers, weights: Numbers, solvable: Flags
) -> Numbers:
    """Return (B, D) coefficients of the most likely logistic regression of each resample.

    NaN where it is not solvable.

    Newton's steps are shortened to log(1 + r) / r where r is the largest change of a case's logit:
    the likelihood then never falls, from wherever it starts (Sun and Tran-Dinh, Math Program 178,
    2019). Resamples start from the answer of all of them together.
    """
    answer = np.full((len(weights), design.shape[1]), np.nan)
    left = np.flatnonzero(solvable)
    if not left.size:
        return answer
    answer[left] = 0.0
    if left.size > 1:
        answer[left] = _maximise(
            design, offset, truth, weights[left].sum(axis=0, keepdims=True), np.array([True])
        )
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for _ in range(_STEPS):
        drawn = weights[left]
        fitted = expit(answer[left] @ design.T + offset)
        slope = (drawn * (truth - fitted)) @ design
        curvature = ((drawn * fitted * (1 - fitted)) @ squares).reshape(
            len(left), *2 * design.shape[1:]
        )
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        reach = np.maximum(np.abs(step @ design.T).max(axis=1), 1e-300)
        answer[left] += step * (np.log1p(reach) / reach)[:, None]
        left = left[reach > _STILL]
        if not left.size:
            return answer
    answer[left] = np.nan
    return answer


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    expected_calibration_error: ResampledMetric(check_probability, _expected_calibration_error),
    calibration_slope: ResampledMetric(check_probability, lambda lines: lines[:, 1], _recalibrate),
    calibration_intercept: ResampledMetric(
        check_probability, lambda lines: lines[:, 0], _recalibrate
    ),
    calibration_in_the_large: ResampledMetric(check_probability, _in_the_large),
}
"""The same for many resamples at once, which bootstrap_statistic asks for."""
