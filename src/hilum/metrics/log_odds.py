"""Voxels counted by the log odds of their probability: a statistic of fixed size for any image.

All that is said of a segmentation's confidence is computed from these counts: calibration, expected
Dice, contours, and the spread of the volume. A probability below `LEAST` counts as 0.

Empty cases; undefined is NaN:

====================  ==============================================
value                 undefined
====================  ==============================================
expected Dice         where nothing was predicted
calibration           where the classes do not overlap, or one is
                      absent: left at temperature 1, with the reason
reliability           a bin without a voxel is left out
====================  ==============================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from hilum.errors import UsageError
from hilum.metrics.calibration import CalibrationCurve, recalibrate_counts
from hilum.metrics.resampling import LEVEL
from hilum.metrics.validation import divide, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.metrics.validation import Integers, Numbers

BINS, LARGEST = 160, 10.0
"""Number of bins, and the log odds at which the last one ends; the first begins at its negative."""
EDGES = np.linspace(-LARGEST, LARGEST, BINS + 1)
"""Log odds between the bins."""
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
"""Log odds that stand for a bin's voxels."""
LEAST = float(expit(-LARGEST))
"""The smallest probability that is counted, .000045."""


@dataclass(frozen=True, eq=False)
class VoxelCounts:
    """Voxels of one case, counted by region and log odds.

    Args:
        voxels: (R, 2, BINS) outside and inside of the predicted region.
        voxel_ml: volume of one.
        reference: (R, 2, BINS) those of them in the reference's region; zeros where no reference is
            known.
        referenced: (R,) all voxels of the reference's region, those below `LEAST` included.
    """

    voxels: Integers
    voxel_ml: float
    reference: Integers
    referenced: Integers


@dataclass(frozen=True)
class LogOddsCalibration:
    """Calibrated log odds: those of the network divided by a temperature, plus a bias.

    Args:
        temperature: above 0; 1 changes nothing.
        bias: 0 changes nothing.
        reason: how they came about, for people.
    """

    temperature: float = 1.0
    bias: float = 0.0
    reason: str = ""

    @property
    def probabilities(self) -> Numbers:
        """Calibrated probability (BINS,) of each bin."""
        return np.asarray(expit(CENTRES / self.temperature + self.bias))


def log_odds_bin(probability: NDArray[np.floating]) -> Integers:
    """Return the bin of each probability of at least `LEAST`, float32 or float64."""
    values = probability.astype(np.float64)
    with np.errstate(divide="ignore"):  # of a probability of 1
        odds = np.log(values) - np.log1p(-values)
    place = (np.clip(odds, -LARGEST, LARGEST) + LARGEST) * (BINS / (2 * LARGEST))
    return np.asarray(np.minimum(place.astype(np.int64), BINS - 1))


def calibrate_log_odds(voxels: ArrayLike, reference: ArrayLike) -> LogOddsCalibration:
    """Fit temperature and bias by the smallest log loss over voxels.

    Args:
        voxels: (BINS,) all voxels.
        reference: (BINS,) those of the reference.

    Raises:
        UsageError: other shapes, or more voxels of the reference than voxels.

    Source: Platt scaling (1999) on log odds; the same line as `calibration_slope`'s.
    """
    total, hits = _check_counts(voxels, reference)
    intercept, slope = recalibrate_counts(expit(CENTRES), hits, total)
    if math.isnan(slope):
        return LogOddsCalibration(reason="the reference is told apart without error: left at 1")
    if slope <= 0:
        return LogOddsCalibration(
            reason="a higher probability did not mean more reference: left at 1"
        )
    reason = f"smallest log loss of {total.sum():.3g} voxels, {hits.sum():.3g} in the reference"
    return LogOddsCalibration(1 / slope, intercept, reason)


def expected_dice(voxels: ArrayLike, probabilities: ArrayLike) -> float:
    """Dice that is expected of a predicted region if the probabilities are right.

    2 x (probability inside) / (voxels inside + all probability): a ratio of expected values, which
    for a region of many voxels is the expected ratio; NaN where nothing was predicted.

    Args:
        voxels: (2, BINS) outside and inside of the predicted region.
        probabilities: (BINS,) calibrated.
    """
    counts, p = np.asarray(voxels, dtype=np.float64), np.asarray(probabilities)
    outside, inside = counts @ p
    size = counts[1].sum()
    return float(2 * inside / (size + inside + outside)) if size else math.nan


def volume_spread(voxels: ArrayLike) -> float:
    """Standard deviation of the region's voxels if all of them erred together.

    The sum of sqrt(p (1 - p)) with the network's own probabilities; that of voxels which err
    independently is far below what is seen.

    Args:
        voxels: (2, BINS) outside and inside of the predicted region.
    """
    p = expit(CENTRES)
    return float(np.asarray(voxels, dtype=np.float64).sum(axis=0) @ np.sqrt(p * (1 - p)))


def reliability(
    voxels: ArrayLike,
    reference: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    bins: int = 10,
) -> CalibrationCurve:
    """Mean probability against the share of voxels in the reference, in bins of equal width.

    The intervals are over patients: 1.96 standard errors of a ratio of sums.

    Args:
        voxels: (N, BINS) of N cases.
        reference: (N, BINS) those of the reference.
        probabilities: (N, BINS) calibrated, for each case its own.
        groups: (N,) whose case it is; None: each case is a patient.
        bins: number of bins; those without a voxel are left out.

    Returns:
        The curve; its `cases` are voxels.

    Raises:
        UsageError: shapes that do not fit.
    """
    total, hits = _check_counts(voxels, reference)
    p = np.broadcast_to(np.asarray(probabilities, dtype=np.float64), total.shape)
    patient, patients = patients_of(groups, len(total))
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    cells = (patient[:, None] * bins + place).ravel()

    def sums(values: Numbers) -> Numbers:
        flat = np.bincount(cells, weights=values.ravel(), minlength=patients * bins)
        return np.asarray(flat.reshape(patients, bins))

    counts, hit, mass = sums(total), sums(hits), sums(total * p)  # (G, bins)
    some = counts.sum(axis=0) > 0
    counts, hit, mass = counts[:, some], hit[:, some], mass[:, some]
    whole = counts.sum(axis=0)
    observed = hit.sum(axis=0) / whole
    squares = np.square(hit - observed * counts).sum(axis=0)
    error = 1.96 * np.sqrt(squares * patients / max(1, patients - 1)) / whole
    low, high = np.clip(observed - error, 0, 1), np.clip(observed + error, 0, 1)
    if patients < 2:
        low, high = np.full_like(observed, np.nan), np.full_like(observed, np.nan)
    return CalibrationCurve(mass.sum(axis=0) / whole, observed, low, high, whole, LEVEL)


def calibration_gap(curve: CalibrationCurve) -> float:
    """Expected calibration error of a curve: its bins weigh by their voxels; NaN without a bin."""
    gaps = np.abs(curve.predicted - curve.observed)
    return float(divide((gaps * curve.cases).sum(keepdims=True), curve.cases.sum(keepdims=True))[0])


def _check_counts(voxels: ArrayLike, reference: ArrayLike) -> tuple[Numbers, Numbers]:
    """Return counts of voxels and of those in the reference as arrays; refuse impossible ones."""
    total = np.asarray(voxels, dtype=np.float64)
    hits = np.asarray(reference, dtype=np.float64)
    if total.shape != hits.shape or total.shape[-1:] != (BINS,) or not (hits <= total).all():
        raise UsageError(
            f"counts of shapes {total.shape} and {hits.shape}",
            needed=f"(..., {BINS}) for both, the reference's never more than the voxels",
        )
    return total, hits
