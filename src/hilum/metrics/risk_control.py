"""Guarantees from held-out patients: intervals by split conformal, thresholds by risk control.

With n held-out patients no guarantee is possible for an alpha below 1 / (n + 1). All guarantees are
for a case of a new patient who is like them, on average over such patients; of a patient with
several cases each weighs the same part of the patient.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos,
Bates, Fisch, Lei and Schuster, "Conformal Risk Control", arXiv:2208.02814 (2022), theorem 1, and
for losses that are not monotone section 2.3: their running maximum is controlled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError, counted
from hilum.metrics.log_odds import BINS
from hilum.metrics.validation import divide, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Flags, Numbers

_ROUNDING = 1e-12
_FLOOR, _TINY = 0.05, 1e-9


def smallest_alpha(patients: int) -> float:
    """Return the smallest alpha that so many held-out patients allow, 1 / (n + 1)."""
    return 1 / (patients + 1)


def alpha_text(least: float) -> str:
    """Write a smallest alpha for people, rounded up: rounded down it would be refused."""
    return f"{math.ceil(1000 * least - _ROUNDING) / 1000:g}"


def patients_for(alpha: float) -> int:
    """Return how many held-out patients an alpha needs: the least n with 1 / (n + 1) <= alpha."""
    return math.ceil(1 / (alpha + _ROUNDING) - 1)


def check_alpha(alpha: float, patients: int) -> None:
    """Refuse an alpha that so many held-out patients do not allow.

    Raises:
        UsageError: below 1 / (n + 1), or no share between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise UsageError(
            f"alpha={alpha:g} is out of range",
            needed="a share between 0 and 1: how often an interval may fail",
            cure="alpha=0.1",
        )
    least = smallest_alpha(patients)
    if alpha < least - _ROUNDING:
        raise UsageError(
            f"alpha={alpha:g} is too small with {counted(patients, 'held-out patient')}",
            needed=f"at least 1 / (n + 1), {alpha_text(least)}; for {alpha:g}"
            f" {patients_for(alpha)} patients",
            cure=f"alpha={alpha_text(least)}, or train with folds=5, so that every"
            " patient is held out once",
        )


def conformal_quantile(
    scores: ArrayLike, alpha: float, groups: Sequence[Hashable] | None = None
) -> float:
    """Return the value that the score of a new case exceeds with a probability of at most alpha.

    Of n cases the ceil((n + 1) (1 - alpha))-th smallest; infinity where there are too few.

    Args:
        scores: (N,) of held-out cases, the larger the less they fit.
        alpha: between 0 and 1.
        groups: (N,) whose case it is: each patient weighs the same; None: each case is a patient.

    Raises:
        UsageError: not one group a case.
    """
    values = np.asarray(scores, dtype=np.float64)
    weights, patients = _weights(groups, len(values))
    if not patients:
        return math.inf
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order]) / (patients + 1)
    enough = np.flatnonzero(mass >= 1 - alpha - _ROUNDING)
    return float(values[order][enough[0]]) if enough.size else math.inf


@dataclass(frozen=True, eq=False)
class HeldVolumes:
    """Volumes of N held-out cases, in any one unit.

    Args:
        predicted: (N,) of the predicted region.
        reference: (N,) of the reference.
        spread: (N,) see `volume_spread`.
        groups: whose case each is; None: each case is a patient.
    """

    predicted: Numbers
    reference: Numbers
    spread: Numbers
    groups: Sequence[Hashable] | None = None

    def interval(self, predicted: float, spread: float, alpha: float) -> tuple[float, float]:
        """Return the interval that holds the reference's volume of a new case.

        It fails with a probability of at most alpha. The score is the error divided by the spread
        and a floor, which is a share of the mean predicted volume of all cases, the new one
        included: so it is symmetric in them, as split conformal asks for.

        Returns:
            low and high; the high end is infinite where there are too few patients.
        """
        floor = _FLOOR * float(np.append(self.predicted, predicted).mean())
        scales = np.maximum(self.spread + floor, _TINY)
        scores = np.abs(self.reference - self.predicted) / scales
        reach = conformal_quantile(scores, alpha, self.groups) * max(spread + floor, _TINY)
        return max(0.0, predicted - reach), predicted + reach

    def without(self, among: Flags) -> HeldVolumes:
        """Return the cases that are not among (N,) some."""
        groups = self.groups
        left = None if groups is None else [groups[n] for n in np.flatnonzero(~among).tolist()]
        return HeldVolumes(
            self.predicted[~among], self.reference[~among], self.spread[~among], left
        )


def left_out_coverage(held: HeldVolumes, alpha: float) -> Numbers:
    """Say which of N held-out cases lie in the interval that the other patients give: 0 or 1."""
    patient, patients = patients_of(held.groups, len(held.predicted))
    covered = np.zeros(len(patient))
    for one in range(patients):
        own = patient == one
        others = held.without(own)
        for n in np.flatnonzero(own):
            low, high = others.interval(float(held.predicted[n]), float(held.spread[n]), alpha)
            covered[n] = low <= held.reference[n] <= high
    return covered


def missed_share(reference: ArrayLike, referenced: ArrayLike) -> Numbers:
    """Share of the reference that lies below each threshold: (N, BINS + 1), rising.

    Args:
        reference: (N, BINS) voxels of the reference by log odds.
        referenced: (N,) all voxels of the reference; the share is NaN where there is none.
    """
    found = np.asarray(reference, dtype=np.float64)
    above = np.cumsum(found[:, ::-1], axis=1)[:, ::-1]  # with a bin or a higher one
    inside = np.concatenate([above, np.zeros((len(found), 1))], axis=1)
    return 1 - divide(inside, np.asarray(referenced, dtype=np.float64)[:, None])


def false_share(voxels: ArrayLike, reference: ArrayLike) -> Numbers:
    """Share of the voxels above each threshold that are not the reference's: (N, BINS + 1).

    Its running maximum from the highest threshold on, so that it falls with the threshold; 0 where
    no voxel is above.

    Args:
        voxels: (N, BINS) all voxels by log odds.
        reference: (N, BINS) those of the reference.
    """
    total, hits = np.asarray(voxels, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    above, right = (np.cumsum(one[:, ::-1], axis=1) for one in (total, hits))
    share = np.maximum.accumulate(np.nan_to_num(1 - divide(right, above)), axis=1)
    return np.concatenate([share[:, ::-1], np.zeros((len(total), 1))], axis=1)


def mean_risk(losses: ArrayLike, groups: Sequence[Hashable] | None = None) -> Numbers:
    """Average losses (N, T) over patients: (T,); NaN where there is none.

    Raises:
        UsageError: not one group a case.
    """
    values = np.asarray(losses, dtype=np.float64)
    weights, patients = _weights(groups, len(values))
    return np.asarray(weights @ values / patients if patients else np.full(values.shape[1], np.nan))


def highest_outer_threshold(missed: ArrayLike, patients: int, alpha: float) -> int | None:
    """Return the highest of the thresholds whose contour misses at most alpha, as expected.

    Args:
        missed: (BINS + 1,) mean missed share of n patients, rising.
        patients: n.
        alpha: between 0 and 1.

    Returns:
        Its place among `EDGES`; None where even the lowest one misses more.
    """
    enough = np.flatnonzero(_bounded(missed, patients) <= alpha + _ROUNDING)
    return int(enough[-1]) if enough.size else None


def lowest_inner_threshold(false: ArrayLike, patients: int, alpha: float) -> int | None:
    """Return the lowest of the thresholds whose contour is false by at most alpha, as expected.

    Args:
        false: (BINS + 1,) mean false share of n patients, falling.
        patients: n.
        alpha: between 0 and 1.

    Returns:
        Its place among `EDGES`, `BINS` for an empty contour; None where alpha is below 1 / (n + 1).
    """
    enough = np.flatnonzero(_bounded(false, patients) <= alpha + _ROUNDING)
    return int(enough[0]) if enough.size else None


def count_above(voxels: ArrayLike, threshold: int) -> int:
    """Count the voxels (..., BINS) at and above a threshold, a place among `EDGES`."""
    return int(np.asarray(voxels)[..., threshold:].sum()) if threshold < BINS else 0


def _bounded(risk: ArrayLike, patients: int) -> Numbers:
    """Return n / (n + 1) risk + 1 / (n + 1), for losses of at most 1; NaN compares as never."""
    return (patients * np.asarray(risk, dtype=np.float64) + 1) / (patients + 1)


def _weights(groups: Sequence[Hashable] | None, cases: int) -> tuple[Numbers, int]:
    """Weigh each case by the number of its patient's cases; the weights sum to the patients."""
    patient, patients = patients_of(groups, cases)
    return 1 / np.bincount(patient, minlength=patients)[patient], patients
