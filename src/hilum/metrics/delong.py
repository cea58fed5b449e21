"""DeLong's variance of an AUROC and of the difference of two, for single cases and for patients.

The AUROC is a mean over pairs of a positive and a negative case. Its variance follows from what
each case contributes to it (the structural components), which midranks give in O(n log n) instead
of O(n^2). Where a patient has several cases, their contributions are summed first, and patients
vary instead of cases: without that an interval is too narrow.

Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); Sun and Xu, IEEE Signal Process
Lett 21 (2014), the midranks; Obuchowski, Biometrics 53 (1997), patients with several cases.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

===========================  =========  ====================================================
cases                        AUROC      interval
===========================  =========  ====================================================
a class has none             undefined  undefined ("none")
perfect separation, 1 or 0   1 or 0     exact bound of independent pairs ("pairs"): DeLong's
                                        variance is 0 there
all scores equal             0.5        0.5 to 0.5 ("constant"): such a score knows nothing,
                                        in any sample
a class in one patient only  as it is   undefined ("none")
===========================  =========  ====================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from hilum.errors import UsageError
from hilum.metrics.validation import check_level, check_scores, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Flags, Integers, Numbers

_NONE = 1e-15  # a variance that is rounding


@dataclass(frozen=True)
class AurocInterval:
    """An AUROC and its interval.

    Args:
        estimate: the AUROC; NaN where a class has no case.
        low: lower end, at least 0; NaN where no interval is defined.
        high: upper end, at most 1.
        level: coverage aimed at, e.g. 0.95.
        standard_error: DeLong's; NaN where it is undefined.
        method: "logit" or "plain" (DeLong), "pairs" (perfect separation), "constant" (all scores
            equal), "none" (no interval).
        positives: positive cases.
        negatives: negative cases.
        patients: patients; cases where no groups were given.
    """

    estimate: float
    low: float
    high: float
    level: float
    standard_error: float
    method: Literal["logit", "plain", "pairs", "constant", "none"]
    positives: int
    negatives: int
    patients: int


@dataclass(frozen=True)
class AurocTest:
    """Two scores of the same cases.

    Args:
        difference: AUROC of a minus AUROC of b; NaN where a class has no case.
        low: lower end of its interval; NaN where the variance is undefined, or 0 although the
            scores differ.
        high: upper end.
        level: coverage aimed at.
        z: difference in standard errors.
        p_value: two-sided; 1 where both scores order the cases the same way.
        a: AUROC of a.
        b: AUROC of b.
    """

    difference: float
    low: float
    high: float
    level: float
    z: float
    p_value: float
    a: float
    b: float


def delong_interval(
    scores: ArrayLike,
    positive: ArrayLike,
    *,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
    transform: Literal["logit", "plain"] = "logit",
) -> AurocInterval:
    """AUROC with DeLong's interval.

    The interval is made on the logit of the AUROC by default: it stays inside 0..1, is as skewed as
    areas near 1 are, and covers more truly in small samples (Pepe, "The Statistical Evaluation of
    Medical Tests", 2003, section 5.2). "plain" is estimate +- z standard errors, cut at 0 and 1,
    for comparison with what others print.

    Perfect separation has variance 0, which is no certainty. Among k pairs of patients that share
    nobody, all are in order with probability AUROC^k, so that with confidence `level` the area is
    at least ((1 - level) / 2)^(1/k): a Clopper-Pearson bound, exact and conservative. k is the most
    pairs there are, the size of the smaller class where each patient has one case.

    Args:
        scores: (N,) higher is more positive.
        positive: (N,) whether each case is positive.
        level: coverage aimed at.
        groups: (N,) whose case it is (Obuchowski 1997); None: each case is a patient.
        transform: on which scale the interval is symmetric.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a level out of range.
    """
    check_level(level)
    if transform not in ("logit", "plain"):
        raise UsageError(f"transform is {transform!r}", needed='"logit" or "plain"')
    values, truth = check_scores(scores, positive)
    patient, patients = patients_of(groups, len(values))
    area, covariance = _areas(values[None], truth, patient, patients)
    estimate, error = float(area[0]), math.sqrt(covariance[0, 0])
    method: Literal["logit", "plain", "pairs", "constant", "none"]
    # the most pairs of a positive and a negative case in which no patient appears twice
    with_class = [len(np.unique(patient[own])) for own in (truth, ~truth)]
    pairs = min(*with_class, patients // 2)
    if estimate in (0.0, 1.0) and pairs:
        bound = ((1 - level) / 2) ** (1 / pairs)
        method, (low, high) = "pairs", ((bound, 1.0) if estimate else (0.0, 1 - bound))
    elif len(values) and values.min() == values.max() and not math.isnan(estimate):
        method, low, high = "constant", estimate, estimate
    elif math.isnan(error) or error**2 < _NONE:
        method, low, high = "none", math.nan, math.nan
    else:
        method, (low, high) = (
            transform,
            _ends(estimate, error * float(ndtri((1 + level) / 2)), transform),
        )
    positives = int(truth.sum())
    return AurocInterval(
        estimate, low, high, level, error, method, positives, len(truth) - positives, patients
    )


def delong_test(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    positive: ArrayLike,
    *,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> AurocTest:
    """Compare the AUROC of two scores of the same cases.

    The covariance of the two makes the test paired.

    The test is approximate and meant for scores that were fixed before the cases were seen: of two
    nested models fitted to these very cases it says too little (Demler, Stat Med 31, 2012). Scores
    of cross-validation are neither wholly.

    Args:
        scores_a: (N,) of the one method.
        scores_b: (N,) of the other, same cases in the same order.
        positive: (N,) whether each case is positive.
        level: coverage of the interval of the difference.
        groups: (N,) whose case it is (Obuchowski 1997); None: each case is a patient.

    Raises:
        UsageError: shapes that differ, NaN among the scores, a level out of range.
    """
    from scipy import stats

    check_level(level)
    a, truth = check_scores(scores_a, positive)
    b, _ = check_scores(scores_b, positive)
    patient, patients = patients_of(groups, len(a))
    areas, covariance = _areas(np.stack([a, b]), truth, patient, patients)
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    low = high = z = p_value = math.nan
    if variance > _NONE:
        error = math.sqrt(variance)
        z = difference / error
        half = float(ndtri((1 + level) / 2)) * error
        low, high = max(-1.0, difference - half), min(1.0, difference + half)
        p_value = float(2 * ndtr(-abs(z)))
    elif not math.isnan(difference) and np.array_equal(*stats.rankdata([a, b], axis=1)):
        low = high = z = 0.0
        p_value = 1.0
    return AurocTest(difference, low, high, level, z, p_value, float(areas[0]), float(areas[1]))


def _areas(
    scores: Numbers, positive: Flags, patient: Integers, patients: int
) -> tuple[Numbers, Numbers]:
    """Return (S,) the AUROC of each row of scores (S, N), and their covariance (S, S).

    NaN where undefined.
    """
    from scipy import stats

    count = len(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return np.full(count, np.nan), np.full((count, count), np.nan)
    among_all = stats.rankdata(scores, axis=1)
    # (S, m) share of negatives below each positive, (S, n) of positives above each negative
    above = (among_all[:, positive] - stats.rankdata(scores[:, positive], axis=1)) / n
    below = 1 - (among_all[:, ~positive] - stats.rankdata(scores[:, ~positive], axis=1)) / m
    areas = above.mean(axis=1)
    deviations, carriers = [], []
    for own, components in ((positive, above), (~positive, below)):
        owner = patient[own]
        sums = np.stack([np.bincount(owner, weights=row, minlength=patients) for row in components])
        cases = np.bincount(owner, minlength=patients)
        # (S, G), 0 where a patient has no such case
        deviations.append((sums - cases * areas[:, None]) / len(owner))
        carriers.append(int(np.count_nonzero(cases)))
    if min(carriers) < 2:
        return areas, np.full((count, count), np.nan)
    within = [c / (c - 1) * d @ d.T for c, d in zip(carriers, deviations, strict=True)]
    # patients with cases of both classes
    across = patients / (patients - 1) * deviations[0] @ deviations[1].T
    covariance = within[0] + within[1] + across + across.T
    np.fill_diagonal(covariance, np.maximum(np.diagonal(covariance), 0.0))
    return areas, covariance


def _ends(
    estimate: float, half: float, transform: Literal["logit", "plain"]
) -> tuple[float, float]:
    """Return the ends of an interval around an AUROC, within 0 to 1."""
    if transform == "plain":
        return max(0.0, estimate - half), min(1.0, estimate + half)
    centre, reach = float(logit(estimate)), half / (estimate * (1 - estimate))  # the delta method
    return float(expit(centre - reach)), float(expit(centre + reach))
