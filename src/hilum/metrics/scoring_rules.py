"""Proper scoring rules: Brier score and log loss, which only the true probability minimises.

Both are NaN where there is no case. A single class among the cases is no obstacle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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

CLIP = 1e-7
"""Probabilities are taken as at least this and at most 1 minus this where their logarithm is
needed: float32 resolves no more, and one case that was called impossible costs 16.1 nats, not
infinity."""


def brier(probability: ArrayLike, positive: ArrayLike) -> float:
    """Mean squared distance of the probability (N,) from what is the case (N,), 0..1.

    0.25 is what a constant 0.5 has.

    Raises:
        UsageError: shapes that differ, no probabilities.

    Source: Brier, Mon Weather Rev 78 (1950), its half: as everybody reports it for two classes.
    """
    values, truth = check_probability(probability, positive)
    return float(_brier(values, truth, once(values))[0])


def multiclass_brier(probabilities: ArrayLike, index: ArrayLike) -> float:
    """Brier's own score, summed over the classes, 0..2: probabilities (N, K), numbers (N,).

    Of two classes it is twice `brier`.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, numbers = check_probabilities(probabilities, index)
    return float(_multiclass_brier(values, numbers, once(values))[0])


def log_loss(probability: ArrayLike, positive: ArrayLike) -> float:
    """Mean negative natural logarithm of the probability given to what is the case (N,), in nats.

    Clipped at 1e-7.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, truth = check_probability(probability, positive)
    return float(_log_loss(values, truth, once(values))[0])


def multiclass_log_loss(probabilities: ArrayLike, index: ArrayLike) -> float:
    """Mean negative natural logarithm of the probability (N, K) of each case's class (N,).

    In nats, clipped at 1e-7.

    Raises:
        UsageError: shapes that differ, no probabilities.
    """
    values, numbers = check_probabilities(probabilities, index)
    return float(_multiclass_log_loss(values, numbers, once(values))[0])


def _brier(probability: Numbers, positive: Flags, weights: Numbers) -> Numbers:
    return _mean((probability - positive) ** 2, weights)


def _multiclass_brier(probabilities: Numbers, index: Integers, weights: Numbers) -> Numbers:
    truth = index[:, None] == np.arange(probabilities.shape[1])
    return _mean(((probabilities - truth) ** 2).sum(axis=1), weights)


def _log_loss(probability: Numbers, positive: Flags, weights: Numbers) -> Numbers:
    return _mean(nats(np.where(positive, probability, 1 - probability)), weights)


def _multiclass_log_loss(probabilities: Numbers, index: Integers, weights: Numbers) -> Numbers:
    return _mean(nats(probabilities[np.arange(len(index)), index]), weights)


def nats(probability: Numbers) -> Numbers:
    """Return the log loss of the probability (N,) that was given to what is the case."""
    return np.asarray(-np.log(np.clip(probability, CLIP, 1 - CLIP)))


def _mean(values: Numbers, weights: Numbers) -> Numbers:
    """Return (B,) weighted mean of what each case (N,) has."""
    return divide(weights @ values, weights.sum(axis=1))


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    brier: ResampledMetric(check_probability, _brier),
    multiclass_brier: ResampledMetric(check_probabilities, _multiclass_brier),
    log_loss: ResampledMetric(check_probability, _log_loss),
    multiclass_log_loss: ResampledMetric(check_probabilities, _multiclass_log_loss),
}
"""The same for many resamples at once, which bootstrap_statistic asks for."""
