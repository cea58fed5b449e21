"""Decision curves: the net benefit of a model against treating all and treating none.

At a threshold t the harm of one needless treatment is taken as t / (1 - t) of the good of one
needed: a patient who would be treated at a risk of 10 % accepts nine needless treatments for one
needed. Net benefit is NaN where there is no case.

Source: Vickers and Elkin, Med Decis Making 26 (2006).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.validation import ResampledMetric, check_probability, divide

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hilum.metrics.validation import ArrayFunction, Counts, Flags, Numbers


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit, in true positives a case, over thresholds of risk.

    Args:
        thresholds: (T,) risks from which a patient is treated.
        model: (T,) of treating those whose probability is at least the threshold.
        treat_all: (T,) of treating everybody.
        treat_none: (T,) zeros.
    """

    thresholds: Numbers = field(repr=False)
    model: Numbers = field(repr=False)
    treat_all: Numbers = field(repr=False)
    treat_none: Numbers = field(repr=False)


def net_benefit(
    probability: ArrayLike, positive: ArrayLike, thresholds: ArrayLike
) -> DecisionCurve:
    """Return the decision curve: share of true positives minus t / (1 - t) that of false positives.

    It is only meaningful for calibrated probabilities.

    Args:
        probability: (N,) that the case is positive.
        positive: (N,) whether it is.
        thresholds: (T,) risks, at least 0 and below 1.

    Raises:
        UsageError: shapes that differ, no probabilities, thresholds out of range.
    """
    values, truth = check_probability(probability, positive)
    risks = _check_risks(thresholds)
    rising, rising_positive = np.sort(values), np.sort(values[truth])
    treated = len(rising) - np.searchsorted(rising, risks)
    found = len(rising_positive) - np.searchsorted(rising_positive, risks)
    cases, members = np.asarray(len(values)), np.asarray(len(rising_positive))
    return DecisionCurve(
        thresholds=risks,
        model=_benefit(found, treated - found, cases, risks),
        treat_all=_benefit(members, cases - members, cases, risks),
        treat_none=np.zeros_like(risks),
    )


def net_benefit_at(probability: ArrayLike, positive: ArrayLike, *, threshold: float) -> float:
    """Return the model's net benefit at one threshold, as `bootstrap_statistic` needs it.

    Raises:
        UsageError: shapes that differ, no probabilities, a threshold out of range.
    """
    return float(net_benefit(probability, positive, [threshold]).model[0])


def _benefit(found: Counts, alarms: Counts, cases: Counts, risks: Numbers) -> Numbers:
    return divide(found - alarms * risks / (1 - risks), cases)


def _net_benefit_at(
    probability: Numbers, positive: Flags, weights: Numbers, *, threshold: float
) -> Numbers:
    """Compute the net benefit of resamples (B, N) of the cases at one threshold, (B,)."""
    risks = _check_risks([threshold])
    treated = weights * (probability >= risks)
    found = treated @ positive.astype(np.float64)
    return _benefit(found, treated.sum(axis=1) - found, weights.sum(axis=1), risks)


def _check_risks(thresholds: ArrayLike) -> Numbers:
    """Return the thresholds of risk as an array (T,); refuse those outside 0 to below 1."""
    risks = np.asarray(thresholds, dtype=np.float64)
    if risks.ndim != 1 or not ((risks >= 0) & (risks < 1)).all():
        raise UsageError(
            f"the thresholds are {risks.tolist()}", needed="risks (T,), at least 0 and below 1"
        )
    return risks


RESAMPLED: dict[ArrayFunction[float], ResampledMetric] = {
    net_benefit_at: ResampledMetric(check_probability, _net_benefit_at)
}
"""The same for many resamples at once, which bootstrap_statistic asks for."""
