"""Wilson's interval of a share, of single cases and over patients with several cases.

Several cases of a patient say less than as many patients. Their share keeps its value, and its
interval is that of fewer cases: n divided by the design effect, the variance between patients over
the variance that independent cases would have (Kish, "Survey Sampling", 1965, section 8.2), and
corrected for the number of patients that this variance is known from (Korn and Graubard, Survey
Methodology 24, 1998; with Wilson's interval: Dean and Pagano, J Surv Stat Methodol 3, 2015). Where
each patient has one case it is Wilson's interval.

===========================  =======  =====================================================
cases                        share    interval
===========================  =======  =====================================================
none                         NaN      undefined ("none")
of one patient only          as is    undefined ("none")
all right, or all wrong      1 or 0   Wilson's of the patients, as if their cases were alike
all hits, or all misses, in  as is    Wilson's of no more cases than there are patients, as they
one patient                           do not show how alike a patient's cases are
===========================  =======  =====================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from hilum.errors import UsageError
from hilum.metrics.resampling import LEVEL, Interval
from hilum.metrics.validation import check_level, divide, flags, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Integers, Numbers


def wilson_interval(
    hits: ArrayLike, total: ArrayLike, *, level: float = LEVEL
) -> tuple[Numbers, Numbers]:
    """Lower and upper ends of the interval of shares, hits of total; NaN where the total is 0.

    It is never outside 0..1 and has a width where all or none are hits. Observations are taken as
    independent.

    Raises:
        UsageError: a level out of range.

    Source: Wilson, J Am Stat Assoc 22 (1927).
    """
    check_level(level)
    k, n = np.asarray(hits, dtype=np.float64), np.asarray(total, dtype=np.float64)
    z2 = float(ndtri((1 + level) / 2)) ** 2
    share = divide(k, n)  # NaN where the total is 0, and so are the ends
    centre = (share * n + z2 / 2) / (n + z2)
    reach = np.sqrt(z2) * np.sqrt(n * share * (1 - share) + z2 / 4) / (n + z2)
    return np.where(share == 0, 0.0, centre - reach), np.where(share == 1, 1.0, centre + reach)


def proportion_interval(
    hits: ArrayLike, groups: Sequence[Hashable], *, level: float = LEVEL
) -> Interval:
    """Share of the cases that are hits, and Wilson's interval of as many cases as they are worth.

    Args:
        hits: (N,) whether each case is one.
        groups: (N,) whose case it is.
        level: coverage aimed at.

    Raises:
        UsageError: lengths that differ, no booleans, a level out of range.
    """
    check_level(level)
    if np.ndim(hits) != 1:
        raise UsageError(
            f"the hits have shape {np.shape(hits)}", needed="true or false for each case (N,)"
        )
    right = flags(hits, np.shape(hits), "hits")
    patient, patients = patients_of(groups, len(right))
    cases = len(right)
    share = float(right.mean()) if cases else math.nan
    if patients < 2:
        return Interval(share, math.nan, math.nan, level, "none", cases, patients)
    worth = _independent_cases(right.astype(np.float64), patient, patients, share, level)
    low, high = wilson_interval(share * worth, worth, level=level)
    return Interval(share, float(low), float(high), level, "wilson", cases, patients)


def _independent_cases(
    right: Numbers, patient: Integers, patients: int, share: float, level: float
) -> float:
    """Count the independent cases that say as much as these (N,); at most N."""
    from scipy.special import stdtrit

    cases = len(right)
    holders = min(len(set(patient[right == hit].tolist())) for hit in (1, 0))
    if holders == 0:
        return float(patients)
    deviation = np.bincount(patient, weights=right - share)  # (G,) of each patient from the share
    between = patients / (patients - 1) * float((deviation**2).sum()) / cases**2
    effect = max(1.0, between / (share * (1 - share) / (cases - 1)))
    known = stdtrit(cases - 1, (1 + level) / 2) / stdtrit(patients - 1, (1 + level) / 2)
    worth = float(cases / effect * known**2)
    return worth if holders > 1 else min(worth, float(patients))
