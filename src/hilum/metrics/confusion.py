"""The confusion matrix, and the metrics that are computed from it.

Rows are the reference's classes, columns the predicted ones. `positive` names the class that a
figure is about, all others together being negative; of two classes it is the second. Empty-case
rules (docs/explanation/metrics.md); undefined is NaN:

=================  =======
========================================================================================= figure
no case  where else it has no value =================  =======
========================================================================================= accuracy
NaN balanced accuracy  NaN      a class that the reference does not have is left out sensitivity
NaN      no positive case specificity        NaN      no negative case PPV                NaN
nothing is called positive NPV                NaN      nothing is called negative F1
NaN      nothing is positive, in reference and prediction alike; 0 where it is so in one of them
macro F1           NaN      a class that neither has is left out MCC                NaN      the
reference has one class only; 0 where only the prediction has (a constant knows nothing) quadratic
kappa    NaN      reference and prediction have one and the same class only =================
=======  =========================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.cases import OfDraws, check_index, divide, mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from hilum.metrics.cases import Integers, Numbers


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
    reference: ArrayLike, predicted: ArrayLike, *, figure: Callable[..., float], classes: int
) -> float:
    """A figure of the confusion matrix straight from the cases, as `bootstrap_statistic` needs it.

    Args:
        reference: (N,) number of each case's class.
        predicted: (N,) number of the class it was given.
        figure: what is made of the matrix, e.g. `mcc`, or `functools.partial(sensitivity,
            positive=2)`.
        classes: K.

    Raises:
        UsageError: lengths that differ, a class that there is not.
    """
    return float(figure(confusion(reference, predicted, classes)))


def accuracy(matrix: ArrayLike) -> float:
    """Share of the cases (K, K) that were given their own class.

    Says little where one class is common.

    Raises:
        UsageError: not a square matrix of counts.
    """
    return float(_accuracy(_one(matrix))[0])


def balanced_accuracy(matrix: ArrayLike) -> float:
    """Mean over the classes (K, K) of the share that was given its own class; 1 / K is chance.

    Raises:
        UsageError: not a square matrix of counts.
    """
    return float(_balanced_accuracy(_one(matrix))[0])


def sensitivity(matrix: ArrayLike, *, positive: int = 1) -> float:
    """Share of the positive cases (K, K) that were called so (recall).

    Raises:
        UsageError: not a square matrix of counts, a class that there is not.
    """
    return float(_sensitivity(_one(matrix), positive=positive)[0])


def specificity(matrix: ArrayLike, *, positive: int = 1) -> float:
    """Share of the negative cases (K, K) that were called so.

    Raises:
        UsageError: not a square matrix of counts, a class that there is not.
    """
    return float(_specificity(_one(matrix), positive=positive)[0])


def ppv(matrix: ArrayLike, *, positive: int = 1) -> float:
    """Positive predictive value (precision): share of those called positive (K, K) that are.

    It moves with the prevalence.

    Raises:
        UsageError: not a square matrix of counts, a class that there is not.
    """
    return float(_ppv(_one(matrix), positive=positive)[0])


def npv(matrix: ArrayLike, *, positive: int = 1) -> float:
    """Negative predictive value: share of those called negative (K, K) that are.

    It moves with the prevalence.

    Raises:
        UsageError: not a square matrix of counts, a class that there is not.
    """
    return float(_npv(_one(matrix), positive=positive)[0])


def f1(matrix: ArrayLike, *, positive: int = 1) -> float:
    """Harmonic mean of sensitivity and PPV of one class (K, K).

    Raises:
        UsageError: not a square matrix of counts, a class that there is not.
    """
    return float(_f1(_one(matrix), positive=positive)[0])


def macro_f1(matrix: ArrayLike) -> float:
    """Mean over the classes (K, K) of their F1.

    Raises:
        UsageError: not a square matrix of counts.
    """
    return float(_macro_f1(_one(matrix))[0])


def mcc(matrix: ArrayLike) -> float:
    """Matthews correlation coefficient of two or more classes (K, K), -1..1; 0 is chance.

    Raises:
        UsageError: not a square matrix of counts.

    Source: Gorodkin, Comput Biol Chem 28 (2004).
    """
    return float(_mcc(_one(matrix))[0])


def quadratic_kappa(matrix: ArrayLike) -> float:
    """Cohen's kappa of ordinal classes (K, K) with quadratic weights: a grade off counts 1, two off 4; 1 is agreement, 0 chance.

    Raises:
        UsageError: not a square matrix of counts.

    Source: Cohen, Psychol Bull 70 (1968).
    """
    return float(_quadratic_kappa(_one(matrix))[0])


def _check_numbers(
    reference: ArrayLike, predicted: ArrayLike, classes: int | None = None
) -> tuple[Integers, Integers]:
    """Both as numbers (N,) of classes; None: however many classes there are."""
    truth = check_index(reference, len(np.atleast_1d(np.asarray(reference))), classes)
    return truth, check_index(predicted, len(truth), classes)


def _one(matrix: ArrayLike) -> Numbers:
    """(1, K, K) of counts (K, K)."""
    counts = np.asarray(matrix, dtype=np.float64)
    if (
        counts.ndim != 2
        or counts.shape[0] != counts.shape[1]
        or not counts.size
        or not (counts >= 0).all()
    ):
        raise UsageError(
            f"a matrix of shape {counts.shape}",
            needed="counts (K, K), rows the reference: confusion(...)",
        )
    return counts[None]


def _cells(counts: Numbers, positive: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(B,) true positives, false positives, false negatives, true negatives."""
    if not 0 <= positive < counts.shape[-1]:
        raise UsageError(
            f"positive class {positive}", needed=f"a number from 0 to {counts.shape[-1] - 1}"
        )
    hits = counts[:, positive, positive]
    called, members = counts[:, :, positive].sum(axis=1), counts[:, positive].sum(axis=1)
    return hits, called - hits, members - hits, counts.sum(axis=(1, 2)) - called - members + hits


def _accuracy(counts: Numbers) -> Numbers:
    return divide(np.trace(counts, axis1=1, axis2=2), counts.sum(axis=(1, 2)))


def _balanced_accuracy(counts: Numbers) -> Numbers:
    return mean_of_defined(divide(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)))


def _sensitivity(counts: Numbers, *, positive: int = 1) -> Numbers:
    hits, _, missed, _ = _cells(counts, positive)
    return divide(hits, hits + missed)


def _specificity(counts: Numbers, *, positive: int = 1) -> Numbers:
    _, alarms, _, spared = _cells(counts, positive)
    return divide(spared, spared + alarms)


def _ppv(counts: Numbers, *, positive: int = 1) -> Numbers:
    hits, alarms, _, _ = _cells(counts, positive)
    return divide(hits, hits + alarms)


def _npv(counts: Numbers, *, positive: int = 1) -> Numbers:
    _, _, missed, spared = _cells(counts, positive)
    return divide(spared, spared + missed)


def _f1(counts: Numbers, *, positive: int = 1) -> Numbers:
    hits, alarms, missed, _ = _cells(counts, positive)
    return divide(2 * hits, 2 * hits + alarms + missed)


def _macro_f1(counts: Numbers) -> Numbers:
    return mean_of_defined(
        np.stack([_f1(counts, positive=k) for k in range(counts.shape[-1])], axis=1)
    )


def _mcc(counts: Numbers) -> Numbers:
    total, right = counts.sum(axis=(1, 2)), np.trace(counts, axis1=1, axis2=2)
    members, called = counts.sum(axis=2), counts.sum(axis=1)
    spread, spread_called = (total**2 - (sums**2).sum(axis=1) for sums in (members, called))
    covariance = right * total - (members * called).sum(axis=1)
    value = divide(covariance, np.sqrt(spread * spread_called))
    return np.where((spread > 0) & (spread_called == 0), 0.0, value)


def _quadratic_kappa(counts: Numbers) -> Numbers:
    grades = np.arange(counts.shape[-1])
    penalty = (grades[:, None] - grades) ** 2.0
    total = counts.sum(axis=(1, 2))
    by_chance = np.einsum("bi,bj,ij->b", counts.sum(axis=2), counts.sum(axis=1), penalty)
    return 1 - divide((counts * penalty).sum(axis=(1, 2)) * total, by_chance)


_FIGURES: dict[Callable[..., Any], Callable[..., Numbers]] = {
    accuracy: _accuracy,
    balanced_accuracy: _balanced_accuracy,
    sensitivity: _sensitivity,
    specificity: _specificity,
    ppv: _ppv,
    npv: _npv,
    f1: _f1,
    macro_f1: _macro_f1,
    mcc: _mcc,
    quadratic_kappa: _quadratic_kappa,
}


def _confusion_statistic(
    reference: Integers,
    predicted: Integers,
    weights: Numbers,
    *,
    figure: Callable[..., float],
    classes: int,
) -> Numbers:
    cells = (reference * classes + predicted)[:, None] == np.arange(classes * classes)
    counts = (weights @ cells.astype(np.float64)).reshape(len(weights), classes, classes)
    inner = getattr(figure, "func", figure)  # of a functools.partial
    if inner not in _FIGURES:
        return np.array([float(figure(matrix)) for matrix in counts])
    return _FIGURES[inner](counts, *getattr(figure, "args", ()), **getattr(figure, "keywords", {}))


DRAWS: dict[Callable[..., Any], OfDraws] = {
    confusion_statistic: OfDraws(_check_numbers, _confusion_statistic)
}
"""The same for many draws at once, which bootstrap_statistic asks for."""
