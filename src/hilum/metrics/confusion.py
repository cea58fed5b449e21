"""The confusion matrix, and the metrics that are computed from it.

Rows are the reference's classes, columns the predicted ones. `positive` names the class that a
metric is about, all others together being negative; of two classes it is the second. A metric takes
one matrix (K, K), or the matrices of many resamples (..., K, K), and gives a value for each.
Empty-case rules (docs/explanation/metrics.md); undefined is NaN, as all are without a case:

=================  =============================================================================
metric             where else it has no value
=================  =============================================================================
accuracy           never
balanced accuracy  a class that the reference does not have is left out
sensitivity        no positive case
specificity        no negative case
PPV                nothing is called positive
NPV                nothing is called negative
F1                 nothing is positive, in reference and prediction alike; 0 where it is so in
                   one of them
macro F1           a class that neither has is left out
MCC                the reference has one class only; 0 where only the prediction has (a constant
                   knows nothing)
quadratic kappa    reference and prediction have one and the same class only
=================  =============================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.validation import ResampledMetric, check_index, divide, mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import ArrayFunction, Integers, Numbers

    OfMatrix = Callable[[Numbers], Numbers]
    """Values (...) of matrices (..., K, K)."""


def confusion(reference: ArrayLike, predicted: ArrayLike, classes: int) -> Integers:
    """Count the cases of each pair of classes.

    Args:
        reference: (N,) number of each case's class, 0..K-1.
        predicted: (N,) number of the class it was given.
        classes: K.

    Returns:
        (K, K) counts, rows the reference.

    Raises:
        UsageError: lengths that differ, a class that there is not.
    """
    truth, given = _check_numbers(reference, predicted, classes)
    return np.bincount(truth * classes + given, minlength=classes * classes).reshape(
        classes, classes
    )


def confusion_statistic(
    reference: ArrayLike, predicted: ArrayLike, *, statistic: OfMatrix, classes: int
) -> float:
    """Compute a metric of the confusion matrix from the cases, as `bootstrap_statistic` needs it.

    Args:
        reference: (N,) number of each case's class.
        predicted: (N,) number of the class it was given.
        statistic: a metric of matrices (..., K, K), e.g. `mcc`, or `functools.partial(sensitivity,
            positive=2)`.
        classes: K.

    Raises:
        UsageError: lengths that differ, a class that there is not.
    """
    return float(statistic(confusion(reference, predicted, classes).astype(np.float64)))


def accuracy(matrix: ArrayLike) -> Numbers:
    """Share of the cases (..., K, K) that were given their own class.

    Says little where one class is common.

    Raises:
        UsageError: not square matrices of counts.
    """
    counts = _counts(matrix)
    return divide(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def balanced_accuracy(matrix: ArrayLike) -> Numbers:
    """Mean over the classes (..., K, K) of the share that was given its own class; 1 / K is chance.

    Raises:
        UsageError: not square matrices of counts.
    """
    counts = _counts(matrix)
    return mean_of_defined(divide(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1)))


def sensitivity(matrix: ArrayLike, *, positive: int = 1) -> Numbers:
    """Share of the positive cases (..., K, K) that were called so (recall).

    Raises:
        UsageError: not square matrices of counts, a class that there is not.
    """
    hits, _, missed, _ = _cells(matrix, positive)
    return divide(hits, hits + missed)


def specificity(matrix: ArrayLike, *, positive: int = 1) -> Numbers:
    """Share of the negative cases (..., K, K) that were called so.

    Raises:
        UsageError: not square matrices of counts, a class that there is not.
    """
    _, alarms, _, spared = _cells(matrix, positive)
    return divide(spared, spared + alarms)


def ppv(matrix: ArrayLike, *, positive: int = 1) -> Numbers:
    """Positive predictive value (precision): share of those called positive (..., K, K) that are.

    It moves with the prevalence.

    Raises:
        UsageError: not square matrices of counts, a class that there is not.
    """
    hits, alarms, _, _ = _cells(matrix, positive)
    return divide(hits, hits + alarms)


def npv(matrix: ArrayLike, *, positive: int = 1) -> Numbers:
    """Negative predictive value: share of those called negative (..., K, K) that are.

    It moves with the prevalence.

    Raises:
        UsageError: not square matrices of counts, a class that there is not.
    """
    _, _, missed, spared = _cells(matrix, positive)
    return divide(spared, spared + missed)


def f1(matrix: ArrayLike, *, positive: int = 1) -> Numbers:
    """Harmonic mean of sensitivity and PPV of one class (..., K, K).

    Raises:
        UsageError: not square matrices of counts, a class that there is not.
    """
    hits, alarms, missed, _ = _cells(matrix, positive)
    return divide(2 * hits, 2 * hits + alarms + missed)


def macro_f1(matrix: ArrayLike) -> Numbers:
    """Mean over the classes (..., K, K) of their F1.

    Raises:
        UsageError: not square matrices of counts.
    """
    counts = _counts(matrix)
    each = [f1(counts, positive=k) for k in range(counts.shape[-1])]
    return mean_of_defined(np.stack(each, axis=-1))


def mcc(matrix: ArrayLike) -> Numbers:
    """Matthews correlation coefficient of two or more classes (..., K, K), -1..1; 0 is chance.

    Raises:
        UsageError: not square matrices of counts.

    Source: Gorodkin, Comput Biol Chem 28 (2004).
    """
    counts = _counts(matrix)
    total, right = counts.sum(axis=(-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    of_class, called = counts.sum(axis=-1), counts.sum(axis=-2)
    spread, spread_called = (total**2 - (sums**2).sum(axis=-1) for sums in (of_class, called))
    covariance = right * total - (of_class * called).sum(axis=-1)
    value = divide(covariance, np.sqrt(spread * spread_called))
    return np.where((spread > 0) & (spread_called == 0), 0.0, value)


def quadratic_kappa(matrix: ArrayLike) -> Numbers:
    """Cohen's kappa of ordinal classes (..., K, K) with quadratic weights.

    A grade off counts 1, two off 4; 1 is agreement, 0 chance.

    Raises:
        UsageError: not square matrices of counts.

    Source: Cohen, Psychol Bull 70 (1968).
    """
    counts = _counts(matrix)
    grades = np.arange(counts.shape[-1])
    penalty = (grades[:, None] - grades) ** 2.0
    total = counts.sum(axis=(-2, -1))
    by_chance = np.einsum("...i,...j,ij->...", counts.sum(axis=-1), counts.sum(axis=-2), penalty)
    return np.asarray(1 - divide((counts * penalty).sum(axis=(-2, -1)) * total, by_chance))


def _check_numbers(
    reference: ArrayLike, predicted: ArrayLike, classes: int | None = None
) -> tuple[Integers, Integers]:
    """Both as numbers (N,) of classes; None: however many classes there are."""
    truth = check_index(reference, len(np.atleast_1d(np.asarray(reference))), classes)
    return truth, check_index(predicted, len(truth), classes)


def _counts(matrix: ArrayLike) -> Numbers:
    """Matrices (..., K, K) as they are, once checked."""
    counts = np.asarray(matrix, dtype=np.float64)
    if (
        counts.ndim < 2
        or counts.shape[-1] != counts.shape[-2]
        or not counts.size
        or not (counts >= 0).all()
    ):
        raise UsageError(
            f"the matrix has shape {counts.shape} or negative counts",
            needed="counts (K, K), rows the reference: confusion(...)",
        )
    return counts


def _cells(matrix: ArrayLike, positive: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(...) true positives, false positives, false negatives, true negatives."""
    counts = _counts(matrix)
    if not 0 <= positive < counts.shape[-1]:
        raise UsageError(
            f"positive is {positive}", needed=f"a number from 0 to {counts.shape[-1] - 1}"
        )
    hits = counts[..., positive, positive]
    called, of_class = counts[..., positive].sum(axis=-1), counts[..., positive, :].sum(axis=-1)
    return (
        hits,
        called - hits,
        of_class - hits,
        counts.sum(axis=(-2, -1)) - called - of_class + hits,
    )


def _confusion_statistic(
    reference: Integers, predicted: Integers, weights: Numbers, *, statistic: OfMatrix, classes: int
) -> Numbers:
    """Compute the metric of the confusion matrix of each resample, (B,)."""
    cells = (reference * classes + predicted)[:, None] == np.arange(classes * classes)
    counts = (weights @ cells.astype(np.float64)).reshape(len(weights), classes, classes)
    values = np.asarray(statistic(counts), dtype=np.float64)
    if values.shape != (len(counts),):
        raise UsageError(
            f"the metric gives values of shape {values.shape} for matrices {counts.shape}",
            needed="one value for each matrix: a metric of the last two axes (..., K, K)",
        )
    return values


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    confusion_statistic: ResampledMetric(_check_numbers, _confusion_statistic)
}
"""The same for many resamples at once, which bootstrap_statistic asks for."""
