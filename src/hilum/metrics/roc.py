"""ROC and precision-recall curves, the areas under them, and operating points.

A case is called positive when its score is at least the threshold. Empty-case rules
(docs/explanation/metrics.md); undefined is NaN:

==========================  ==========  ============  ============  ==================
metric                      no case     no positive   no negative   all scores equal
==========================  ==========  ============  ============  ==================
AUROC                       undefined   undefined     undefined     0.5
AUPRC                       undefined   undefined     1             the prevalence
macro AUROC                 undefined   class is left out           0.5
sensitivity at a            undefined   undefined     undefined     0 (or 1, where
specificity                                                         specificity 0 will do)
specificity at a            undefined   undefined     undefined     0 (or 1, where
sensitivity                                                         sensitivity 0 will do)
==========================  ==========  ============  ============  ==================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.validation import (
    ResampledMetric,
    check_scores,
    divide,
    flags,
    mean_of_defined,
    once,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hilum.metrics.validation import ArrayFunction, Flags, Numbers

_ROUNDING = 1e-9  # of a case: 0.7 of 10 cases is 7 cases, whatever the binary fraction says


@dataclass(frozen=True, eq=False)
class Roc:
    """A ROC curve: one point a distinct score, the highest first.

    Before them stands the point where nothing is positive.

    Args:
        thresholds: (T,) falling; the first is inf.
        sensitivity: (T,) rising from 0 to 1; NaN where there is no positive case.
        specificity: (T,) falling from 1 to 0; NaN where there is no negative case.
    """

    thresholds: Numbers = field(repr=False)
    sensitivity: Numbers = field(repr=False)
    specificity: Numbers = field(repr=False)


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """A precision-recall curve: one point a distinct score, the highest first.

    None is invented at recall 0.

    Args:
        thresholds: (T,) falling.
        recall: (T,) rising to 1 (recall is sensitivity); NaN where there is no positive case.
        precision: (T,) share of the cases called positive that are.
        prevalence: precision of a score that knows nothing, the curve's baseline.
    """

    thresholds: Numbers = field(repr=False)
    recall: Numbers = field(repr=False)
    precision: Numbers = field(repr=False)
    prevalence: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does.

    Args:
        threshold: a case is positive when its score is at least this; inf: none is.
        sensitivity: share of the positive cases that are called so.
        specificity: share of the negative cases that are called so.
    """

    threshold: float
    sensitivity: float
    specificity: float


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive case scores above a negative, ties half.

    Args:
        scores: (N,) higher is more positive; probabilities or any other numbers.
        positive: (N,) whether each case is positive.

    Returns:
        0..1; NaN where there is no positive or no negative case.

    Raises:
        UsageError: shapes that differ, NaN among the scores.

    Source: Bamber, J Math Psychol 12 (1975); Hanley and McNeil, Radiology 143 (1982).
    """
    values, truth = check_scores(scores, positive)
    return float(_auroc(_Ranked.of(values, truth, once(values)))[0])


def macro_auroc(scores: ArrayLike, present: ArrayLike) -> float:
    """Mean over the classes of the AUROC of each class against the rest.

    Args:
        scores: (N, K) one column a class.
        present: (N, K) which classes each case has; of exclusive classes `indicator(index, K)`.

    Returns:
        0..1; a class that no case has, or that every case has, is left out; NaN where all are.

    Raises:
        UsageError: shapes that differ, NaN among the scores.
    """
    values, truth = _check_columns(scores, present)
    return float(_macro_auroc(values, truth, once(values))[0])


def auprc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the precision-recall curve as average precision.

    Steps are summed, not trapezoids, which are too kind.

    A score that knows nothing has the prevalence, not 0.5: compare areas of one data set only.

    Args:
        scores: (N,) higher is more positive.
        positive: (N,) whether each case is positive.

    Returns:
        0..1; NaN where there is no positive case.

    Raises:
        UsageError: shapes that differ, NaN among the scores.

    Source: Davis and Goadrich, ICML 2006; the numbers are those of sklearn's
    average_precision_score.
    """
    values, truth = check_scores(scores, positive)
    return float(_auprc(_Ranked.of(values, truth, once(values)))[0])


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> Roc:
    """Return the ROC curve of scores (N,) whose cases are positive (N,) or not.

    Raises:
        UsageError: shapes that differ, NaN among the scores.
    """
    values, truth = check_scores(scores, positive)
    ranked = _Ranked.of(values, truth, once(values))
    found, alarms = (
        np.append(0.0, np.cumsum(count[0])) for count in (ranked.positives, ranked.negatives)
    )
    return Roc(
        thresholds=np.append(np.inf, ranked.scores),
        sensitivity=divide(found, found[-1]),
        specificity=divide(alarms[-1] - alarms, alarms[-1]),
    )


def precision_recall_curve(scores: ArrayLike, positive: ArrayLike) -> PrecisionRecall:
    """Return the precision-recall curve of scores (N,) whose cases are positive (N,) or not.

    Raises:
        UsageError: shapes that differ, NaN among the scores.
    """
    values, truth = check_scores(scores, positive)
    ranked = _Ranked.of(values, truth, once(values))
    found, called = (
        np.cumsum(ranked.positives[0]),
        np.cumsum((ranked.positives + ranked.negatives)[0]),
    )
    return PrecisionRecall(
        thresholds=ranked.scores,
        recall=divide(found, np.asarray(float(truth.sum()))),
        precision=divide(found, called),
        prevalence=float(truth.mean()) if truth.size else math.nan,
    )


def point_at_specificity(
    scores: ArrayLike, positive: ArrayLike, *, specificity: float
) -> OperatingPoint:
    """Return the most sensitive threshold of at least this specificity; never interpolated.

    Thresholds are the scores that occur, and inf, whose specificity is 1: there always is one. All
    three are NaN where a class has no case. The figures are those of the cases given: a threshold
    chosen here is to be tested elsewhere.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a specificity outside 0..1.
    """
    _check_share(specificity, "specificity")
    curve = roc_curve(scores, positive)
    negatives = np.count_nonzero(~np.asarray(positive, dtype=np.bool_))
    enough = curve.specificity * negatives >= specificity * negatives - _ROUNDING
    best = np.where(enough, curve.sensitivity, -1.0)
    return _point(curve, best)


def point_at_sensitivity(
    scores: ArrayLike, positive: ArrayLike, *, sensitivity: float
) -> OperatingPoint:
    """Return the most specific threshold of at least this sensitivity; never interpolated.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a sensitivity outside 0..1.
    """
    _check_share(sensitivity, "sensitivity")
    curve = roc_curve(scores, positive)
    positives = np.count_nonzero(positive)
    enough = curve.sensitivity * positives >= sensitivity * positives - _ROUNDING
    best = np.where(enough, curve.specificity, -1.0)
    return _point(curve, best)


def youden_point(scores: ArrayLike, positive: ArrayLike) -> OperatingPoint:
    """Return the threshold with the largest sensitivity + specificity; of several the highest.

    NaN where a class has no case.

    The sum is optimistic on the cases that chose the threshold.

    Raises:
        UsageError: shapes that differ, NaN among the scores.

    Source: Youden, Cancer 3 (1950).
    """
    curve = roc_curve(scores, positive)
    return _point(curve, curve.sensitivity + curve.specificity)


def sensitivity_at_specificity(
    scores: ArrayLike, positive: ArrayLike, *, specificity: float
) -> float:
    """Return the sensitivity of `point_at_specificity`; NaN where a class has no case.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a specificity outside 0..1.
    """
    return point_at_specificity(scores, positive, specificity=specificity).sensitivity


def specificity_at_sensitivity(
    scores: ArrayLike, positive: ArrayLike, *, sensitivity: float
) -> float:
    """Return the specificity of `point_at_sensitivity`; NaN where a class has no case.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a sensitivity outside 0..1.
    """
    return point_at_sensitivity(scores, positive, sensitivity=sensitivity).specificity


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Resamples (B, T): positive and negative cases at each distinct score, the highest first."""

    positives: Numbers
    negatives: Numbers
    scores: Numbers

    @classmethod
    def of(cls, scores: Numbers, positive: Flags, weights: Numbers) -> _Ranked:
        """Count positive and negative cases of each resample at each distinct score."""
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        first = np.flatnonzero(np.append(True, falling[1:] != falling[:-1])[: len(falling)])
        taken = weights[:, order]
        positives = taken * positive[order]
        negatives = taken - positives
        if len(first) < len(falling):  # ties share a column
            positives, negatives = (
                np.add.reduceat(counts, first, axis=1) for counts in (positives, negatives)
            )
        return cls(positives, negatives, falling[first])


def _auroc(ranked: _Ranked) -> Numbers:
    """Return the AUROC (B,) of the ranked resamples."""
    above = np.cumsum(ranked.positives, axis=1) - ranked.positives / 2
    pairs = ranked.positives.sum(axis=1) * ranked.negatives.sum(axis=1)
    return divide(np.einsum("bt,bt->b", ranked.negatives, above), pairs)


def _macro_auroc(scores: Numbers, truth: Flags, weights: Numbers) -> Numbers:
    columns = [
        _auroc(_Ranked.of(scores[:, k], truth[:, k], weights)) for k in range(scores.shape[1])
    ]
    return mean_of_defined(np.stack(columns, axis=1))


def _auprc(ranked: _Ranked) -> Numbers:
    """Compute the average precision of each resample from cases in the order of their scores."""
    found, called = (
        np.cumsum(ranked.positives, axis=1),
        np.cumsum(ranked.positives + ranked.negatives, axis=1),
    )
    precision = np.divide(
        found, called, out=np.zeros_like(found), where=called > 0
    )  # where none is called, none is found
    return divide(np.einsum("bt,bt->b", ranked.positives, precision), ranked.positives.sum(axis=1))


def _sensitivity_at(ranked: _Ranked, *, specificity: float) -> Numbers:
    return _share_at(ranked.positives, ranked.negatives, specificity)


def _specificity_at(ranked: _Ranked, *, sensitivity: float) -> Numbers:
    """Return the specificity at a sensitivity, by turning scores and classes round."""
    return _share_at(ranked.negatives[:, ::-1], ranked.positives[:, ::-1], sensitivity)


def _share_at(hits: Numbers, alarms: Numbers, least: float) -> Numbers:
    """(B,) largest share of the hits (B, T) at a threshold that spares enough alarms (B, T)."""
    total = alarms.sum(axis=1)
    spared = total[:, None] - np.cumsum(alarms, axis=1)
    thresholds = (spared >= least * total[:, None] - _ROUNDING).sum(
        axis=1
    )  # those that will do come first
    found = np.pad(np.cumsum(hits, axis=1), ((0, 0), (1, 0)))
    share = divide(found[np.arange(len(found)), thresholds], hits.sum(axis=1))
    return np.where(total > 0, share, np.nan)


def _point(curve: Roc, merit: Numbers) -> OperatingPoint:
    """Return the point of the largest merit (T,).

    Of equal ones the one that gives up nothing: the last that loses no specificity.
    """
    if np.isnan(curve.sensitivity).any() or np.isnan(curve.specificity).any():
        return OperatingPoint(math.nan, math.nan, math.nan)
    best = np.flatnonzero(merit >= merit.max() - 1e-12)
    first = best[0]
    same = best[curve.specificity[best] == curve.specificity[first]]
    return OperatingPoint(
        float(curve.thresholds[same[-1]]),
        float(curve.sensitivity[same[-1]]),
        float(curve.specificity[first]),
    )


def _check_columns(scores: ArrayLike, present: ArrayLike) -> tuple[Numbers, Flags]:
    """Return scores and labels (N, K) as arrays; refuse other shapes and NaN."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or np.isnan(values).any():
        raise UsageError(
            f"the scores have shape {values.shape}, or some are NaN",
            needed="a row a case and a column a class (N, K), none of them NaN",
        )
    return values, flags(present, values.shape, "present")


def _check_share(share: float, name: str) -> None:
    if not 0 <= share <= 1:
        raise UsageError(f"{name} is {share}", needed="a share between 0 and 1")


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    auroc: ResampledMetric(check_scores, _auroc, _Ranked.of),
    macro_auroc: ResampledMetric(_check_columns, _macro_auroc),
    auprc: ResampledMetric(check_scores, _auprc, _Ranked.of),
    sensitivity_at_specificity: ResampledMetric(check_scores, _sensitivity_at, _Ranked.of),
    specificity_at_sensitivity: ResampledMetric(check_scores, _specificity_at, _Ranked.of),
}
"""The same for many resamples at once, which bootstrap_statistic asks for."""
