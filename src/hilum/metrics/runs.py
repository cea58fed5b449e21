"""Several runs of one model, such as other seeds: variance between runs and between patients.

Every run judges the same patients: a table of patients by runs without repetition. Its variance is
that of the patients, that of the runs, and the rest, by which a patient's value changes from run to
run (two-way analysis of variance with random effects; Searle, Casella and McCulloch, "Variance
Components", 1992, chapter 4). A difference between two models is compared with what both sources
allow: readers are to a reading study what runs are here (Dorfman, Berbaum and Metz, Invest Radiol
27, 1992; Hillis, Stat Med 33, 2014, runs nested in models), with Satterthwaite's degrees of freedom
(Biometrics Bulletin 2, 1946). A test over patients alone would say only that these runs differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.resampling import LEVEL
from hilum.metrics.validation import check_level

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Numbers


@dataclass(frozen=True)
class RunVariance:
    """Sources of variance of a patient's value in a run: standard deviations in its unit.

    Args:
        patients: between patients, in the mean of endless runs.
        runs: between runs, in the mean of endless patients.
        rest: of what is left: a patient's value changes from run to run.
        of_means: between the means of the runs over these patients: what another run would change.
    """

    patients: float
    runs: float
    rest: float
    of_means: float


@dataclass(frozen=True)
class RunsTest:
    """Two models, each of one or more runs, on the same patients.

    Args:
        difference: mean of a minus mean of b; NaN where a value is.
        low: lower end of its interval; NaN with fewer than two patients.
        high: upper end.
        p_value: two-sided t-test.
        freedom: its degrees of freedom.
        from_runs: share of the difference's variance that is due to runs, 0 to 1.
    """

    difference: float
    low: float
    high: float
    p_value: float
    freedom: float
    from_runs: float


def run_variance(values: ArrayLike) -> RunVariance:
    """Split the variance of patients by runs; a component that comes out below 0 is 0.

    Args:
        values: (G, S) of each patient in each run: a metric's mean over the patient's cases, or
            pseudo-values, see `hilum.metrics.pseudo_values`.

    Returns:
        NaN in all with fewer than two patients or runs, or with undefined values.

    Raises:
        UsageError: no table.
    """
    table = _table(values)
    patients, runs = table.shape
    if min(patients, runs) < 2:
        return RunVariance(math.nan, math.nan, math.nan, math.nan)
    of_runs, rest = float(table.mean(axis=0).var(ddof=1)), _rest(table)
    of_patients = float(table.mean(axis=1).var(ddof=1))
    return RunVariance(
        math.sqrt(max(0.0, of_patients - rest / runs)),
        math.sqrt(max(0.0, of_runs - rest / patients)),
        math.sqrt(rest),
        math.sqrt(of_runs),
    )


def runs_test(a: ArrayLike, b: ArrayLike, *, level: float = LEVEL) -> RunsTest:
    """Compare two models by runs of each on the same patients.

    The variance is that of the patients' differences plus that of the runs' means, less what both
    hold of the rest. A model of one run is taken as it is: how it varies is not known. Where both
    have one run it is the paired t-test.

    Args:
        a: (G, S) of each patient in each run of the one model.
        b: (G, T) of the other, same patients in the same order.
        level: coverage of the interval.

    Raises:
        UsageError: no tables of the same patients, or a level out of range.
    """
    from scipy.special import stdtr, stdtrit

    check_level(level)
    tables = [_table(a), _table(b)]
    patients = len(tables[0])
    if len(tables[1]) != patients:
        raise UsageError(
            f"the values are of {patients} and {len(tables[1])} patients",
            needed="the same patients in the same order",
        )
    difference = float(tables[0].mean() - tables[1].mean()) if patients else math.nan
    if patients < 2 or math.isnan(difference):
        return RunsTest(difference, math.nan, math.nan, math.nan, math.nan, math.nan)
    of_patients = float((tables[0].mean(axis=1) - tables[1].mean(axis=1)).var(ddof=1)) / patients
    repeated = [table for table in tables if table.shape[1] > 1]
    of_runs = [float(t.mean(axis=0).var(ddof=1)) / t.shape[1] for t in repeated]
    in_both = [_rest(t) / t.size for t in repeated]
    more = sum(of_runs) - sum(in_both)
    variance, freedom = of_patients, patients - 1.0
    if more > 0:
        alone = max(0.0, of_patients - sum(in_both))
        variance = alone + sum(of_runs)
        spread = [v**2 / (t.shape[1] - 1) for v, t in zip(of_runs, repeated, strict=True)]
        freedom = variance**2 / (alone**2 / (patients - 1) + sum(spread))
    error = math.sqrt(variance)
    reach = error * float(stdtrit(freedom, (1 + level) / 2))
    p = 2 * float(stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0)
    share = max(0.0, more) / variance if variance else 0.0
    return RunsTest(difference, difference - reach, difference + reach, p, freedom, share)


def _table(values: ArrayLike) -> Numbers:
    """Return values (G, S) as an array; refuse another shape."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise UsageError(
            f"the values have shape {table.shape}", needed="a row a patient, a column a run (G, S)"
        )
    return table


def _rest(table: Numbers) -> float:
    """Mean square of a table (G, S), at least 2 by 2, without the means of its rows and columns."""
    rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0)
    left = table - rows - columns + table.mean()
    return float((left**2).sum()) / (len(table) - 1) / (len(table[0]) - 1)
