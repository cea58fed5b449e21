"""Exact interval of a median by order statistics, over patients.

The number of patients below the true median is binomial(n, 1/2) whatever the distribution, so that
two of the sorted values hold it with a probability that is known and at least the level (Conover,
"Practical Nonparametric Statistics", 1999, section 3.2). Bootstrap intervals of medians hold it
less often than they say: see `scripts/bench coverage`. A 95 % interval needs six patients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.resampling import LEVEL, Interval
from hilum.metrics.validation import check_level, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike


def median_interval(
    values: ArrayLike, groups: Sequence[Hashable], *, level: float = LEVEL
) -> Interval:
    """Median of the patients' mean values, and its exact interval.

    Args:
        values: (N,) one value a case; NaN is undefined and left out.
        groups: (N,) whose case it is.
        level: coverage that the interval has at least.

    Returns:
        The method is "order statistics", or "none" where there are too few patients.

    Raises:
        UsageError: lengths that differ, or a level out of range.
    """
    from scipy.stats import binom

    check_level(level)
    cases = np.asarray(values, dtype=np.float64)
    if cases.ndim != 1 or len(cases) != len(groups):
        raise UsageError(
            f"the values have shape {cases.shape}, and there are {len(groups)} groups",
            needed="one value and one group a case",
        )
    kept = np.flatnonzero(~np.isnan(cases))
    patient, patients = patients_of([groups[place] for place in kept.tolist()], len(kept))
    means = np.sort(np.bincount(patient, weights=cases[kept]) / np.bincount(patient))
    estimate = float(np.median(means)) if patients else math.nan
    # the largest rank whose chance to lie above the true median is at most half of what is left
    ranks = np.arange(patients // 2)  # counted from 0
    usable = ranks[binom.cdf(ranks, patients, 0.5) <= (1 - level) / 2]
    if not usable.size:
        return Interval(estimate, math.nan, math.nan, level, "none", len(kept), patients)
    rank = int(usable[-1])
    low, high = float(means[rank]), float(means[patients - 1 - rank])
    return Interval(estimate, low, high, level, "order statistics", len(kept), patients)
