"""Two methods on the same cases: tests of a difference, of none, and how many patients they need.

Patients are the units: of a patient with several cases the mean difference counts. The permutation
test flips the signs of the patients' differences (Good, "Permutation, Parametric and Bootstrap
Tests of Hypotheses", 2005, section 3.2). Equivalence within a margin is shown by two one-sided
tests (TOST; Schuirmann, J Pharmacokinet Biopharm 15, 1987): a large p-value of a difference shows
nothing, a small one of equivalence shows that the difference is smaller than the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.bootstrap import bootstrap_interval
from hilum.metrics.resampling import LEVEL, Interval
from hilum.metrics.validation import patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from hilum.metrics.resampling import Resampling
    from hilum.metrics.validation import Numbers

EXACT_PATIENTS = 14
"""With so many patients or fewer all 2**n sign flips are tried."""
FLIPS, POWER = 20_000, 0.8
"""Random sign flips above that; power that `patients_needed` plans for."""
_IN_BLOCK = 2**21


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same cases.

    Args:
        difference: mean of a minus b with its interval, patients resampled.
        p_value: Wilcoxon signed-rank test over the patients' mean differences, two-sided; 1 where
            no patient differs, NaN where there is no pair at all.
        p_permutation: two-sided sign-flip permutation test of the mean of the same; NaN where there
            is no pair.
        deviation: standard deviation of the patients' mean differences (n - 1); NaN below two.
    """

    difference: Interval
    p_value: float
    p_permutation: float
    deviation: float


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    groups: Sequence[Hashable],
    **how: Unpack[Resampling],
) -> PairedTest:
    """Compare two methods on the same cases.

    A case where either value is undefined (NaN) is left out.

    Args:
        a: (N,) values of the one method.
        b: (N,) values of the other, same cases in the same order.
        groups: (N,) whose case it is.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: lengths that differ.
    """
    from scipy import stats

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise UsageError(
            f"the values have shapes {first.shape} and {second.shape}",
            needed="one value a case from each method",
        )
    interval = bootstrap_interval(first - second, groups, "mean", **how)
    means = _patient_means(first - second, groups)
    if not means.size:
        return PairedTest(interval, math.nan, math.nan, math.nan)
    changed = means[means != 0]
    return PairedTest(
        interval,
        float(stats.wilcoxon(changed).pvalue) if changed.size else 1.0,
        _permutation_p(means, how.get("seed", 0)),
        float(means.std(ddof=1)) if means.size > 1 else math.nan,
    )


def permutation_p_of_columns(
    differences: ArrayLike, groups: Sequence[Hashable], *, seed: int = 0
) -> float:
    """Two-sided p-value of the mean of the columns' means, the signs of whole patients flipped.

    Args:
        differences: (N, R) a minus b of each case and region; NaN is undefined and left out.
        groups: (N,) whose case it is.
        seed: of the random flips of more than `EXACT_PATIENTS` patients.

    Returns:
        NaN where nothing is defined.

    Raises:
        UsageError: not one row a case, or not one group a row.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.ndim != 2:
        raise UsageError(
            f"the differences have shape {rows.shape}",
            needed="a row a case (N, R)",
            cure="differences[:, None] where there is one region",
        )
    patient, patients = patients_of(groups, len(rows))
    defined = ~np.isnan(rows)
    shares = np.where(defined, rows, 0.0) / np.maximum(defined.sum(axis=0), 1)  # of columns' means
    sums = np.bincount(patient, shares.sum(axis=1), patients).astype(np.float64)
    known = np.bincount(patient, defined.any(axis=1), patients) > 0
    return _permutation_p(sums[known], seed) if known.any() else math.nan


def smallest_p(patients: int) -> float:
    """The smallest two-sided p-value that flips of the signs of so many patients can have."""
    return 2.0 ** (1 - patients)


def equivalence_p(difference: float, low: float, high: float, margin: float, level: float) -> float:
    """p-value of the claim that a difference is smaller than a margin, either way (TOST).

    Each end of the interval gives the standard error on its side, taken as a normal distribution's.

    Args:
        difference: a minus b.
        low: lower end of its interval.
        high: upper end.
        margin: the largest difference that does not matter.
        level: coverage of the interval.

    Returns:
        NaN where there is no interval; 0 or 1 where all patients differ alike.

    Raises:
        UsageError: the margin is not a positive number.
    """
    from scipy.special import ndtr, ndtri

    if not 0 < margin < math.inf:
        raise UsageError(f"margin is {margin}", needed="a difference above 0")
    if math.isnan(low + high):
        return math.nan
    reach = float(ndtri((1 + level) / 2))

    def one_sided(distance: float, error: float) -> float:
        """Chance of so large a distance or more, where the true difference is at the margin."""
        return float(ndtr(-distance / error)) if error > 0 else float(distance <= 0)

    return max(
        one_sided(margin - difference, (high - difference) / reach),
        one_sided(margin + difference, (difference - low) / reach),
    )


def patients_needed(
    deviation: float, difference: float, *, level: float = LEVEL, power: float = POWER
) -> int | None:
    """Patients that a paired comparison needs to see a difference.

    The normal formula with Guenther's correction for the t-test (The American Statistician 35,
    1981).

    Args:
        deviation: standard deviation of the patients' differences.
        difference: the mean difference that is to be seen.
        level: 1 minus the two-sided significance level.
        power: chance to see it where it is true.

    Returns:
        None where the patients do not differ, or the deviation is not known.
    """
    from scipy.special import ndtri

    if not deviation > 0 or not abs(difference) > 0:
        return None
    error, miss = float(ndtri((1 + level) / 2)), float(ndtri(power))
    return math.ceil(((error + miss) * deviation / difference) ** 2 + error**2 / 2)


def _patient_means(values: Numbers, groups: Sequence[Hashable]) -> Numbers:
    """Return the mean (G,) of each patient's defined values (N,)."""
    kept = np.flatnonzero(~np.isnan(values))
    patient, _ = patients_of([groups[place] for place in kept.tolist()], len(kept))
    return np.asarray(np.bincount(patient, weights=values[kept]) / np.bincount(patient))


def _permutation_p(differences: Numbers, seed: int) -> float:
    """Two-sided p-value of the sum under flips of the signs of the patients' differences (G,)."""
    patients = len(differences)
    # flips that give the same sum count, whose rounding is as large as the differences make it
    limit = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    if patients <= EXACT_PATIENTS:
        bits = np.arange(2**patients)[:, None] >> np.arange(patients) & 1
        return float(np.mean(np.abs((2.0 * bits - 1) @ differences) >= limit))
    random, beyond = np.random.default_rng(seed), 0
    block = max(1, _IN_BLOCK // patients)
    for start in range(0, FLIPS, block):
        flips = random.integers(0, 2, size=(min(block, FLIPS - start), patients), dtype=np.int8)
        beyond += int((np.abs((2.0 * flips - 1) @ differences) >= limit).sum())
    return (beyond + 1) / (FLIPS + 1)  # the data as they are count as one flip
