"""Spearman's rank correlation of patients, with an interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from hilum.metrics.resampling import LEVEL
from hilum.metrics.validation import patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike


def spearman(
    a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable] | None = None, *, level: float = LEVEL
) -> tuple[float, float, float]:
    """Return the rank correlation of the patients' mean values, and its interval.

    NaN where one of both is constant, or of fewer than 4 patients.

    Args:
        a: (N,) numbers.
        b: (N,) numbers.
        groups: (N,) whose case it is; None: each case is a patient.
        level: coverage of the interval.

    Source: Bonett and Wright, Psychometrika 65 (2000): Fisher's z with variance
    (1 + r^2 / 2) / (n - 3).

    Raises:
        UsageError: not one group a case.
    """
    patient, n = patients_of(groups, len(np.asarray(a)))
    counts = np.bincount(patient, minlength=n)
    x, y = (
        rankdata(np.bincount(patient, weights=np.asarray(one, dtype=np.float64)) / counts)
        for one in (a, b)
    )
    if n < 4 or not np.ptp(x) or not np.ptp(y):
        return math.nan, math.nan, math.nan
    r = float(np.corrcoef(x, y)[0, 1])
    centre = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r)))
    reach = float(ndtri((1 + level) / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    return r, math.tanh(centre - reach), math.tanh(centre + reach)
