"""Runs and patients: the analysis of variance by hand, simulated components, coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from hilum.errors import UsageError
from hilum.metrics import run_variance, runs_test


def table(
    random: np.random.Generator, shape: tuple[int, int], patients: float, runs: float, rest: float
) -> np.ndarray:
    """Values (G, S) whose components have these standard deviations."""
    return (
        random.normal(0, patients, (shape[0], 1))
        + random.normal(0, runs, (1, shape[1]))
        + random.normal(0, rest, shape)
    )


def test_components_by_hand() -> None:
    # patients' means 1, 2, 6; runs' means 2, 4; the rest is (1, -1), (-1, 1), (0, 0) / 2
    values = [[0.5, 1.5], [0.5, 3.5], [5.0, 7.0]]
    found = run_variance(values)
    rest = 4 * 0.5**2 / 2
    assert found.rest == pytest.approx(math.sqrt(rest))
    assert found.of_means == pytest.approx(math.sqrt(2))
    assert found.runs == pytest.approx(math.sqrt(2 - rest / 3))
    assert found.patients == pytest.approx(math.sqrt(np.var([1, 2, 6], ddof=1) - rest / 2))


def test_components_of_many_are_those_they_were_made_with() -> None:
    found = run_variance(table(np.random.default_rng(1), (400, 300), 0.10, 0.03, 0.05))
    assert found.patients == pytest.approx(0.10, rel=0.1)
    assert found.runs == pytest.approx(0.03, rel=0.1)
    assert found.rest == pytest.approx(0.05, rel=0.02)


def test_one_run_or_patient_has_no_components() -> None:
    for values in ([[0.5], [0.6]], [[0.5, 0.6]]):
        assert math.isnan(run_variance(values).rest)
    assert math.isnan(run_variance([[0.5, math.nan], [0.5, 0.6]]).rest)
    with pytest.raises(UsageError, match="a row a patient"):
        run_variance([0.5, 0.6])


def test_single_runs_are_the_paired_t_test() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(0.8, 0.1, 15), random.normal(0.75, 0.1, 15)
    found, truth = runs_test(a[:, None], b[:, None]), stats.ttest_rel(a, b)
    interval = truth.confidence_interval()
    assert found.p_value == pytest.approx(truth.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.freedom, found.from_runs) == (14, 0)


def test_runs_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    patient = random.normal(0, 0.1, (40, 1))
    a, b = (patient + table(random, (40, 3), 0, 0, 0.01) for _ in "ab")
    steady = runs_test(a + 0.02, b)
    moved = runs_test(a + 0.02 + np.array([-0.03, 0, 0.03]), b)
    assert moved.difference == pytest.approx(steady.difference)
    assert moved.high - moved.low > 3 * (steady.high - steady.low)
    assert steady.p_value < 0.001
    assert moved.p_value > 0.05
    assert moved.from_runs > 0.9
    assert moved.freedom < 3
    assert runs_test(a, a).p_value == 1


def test_variance_by_hand() -> None:
    random = np.random.default_rng(4)
    a, b = table(random, (12, 4), 0.1, 0.05, 0.02), table(random, (12, 1), 0.1, 0, 0.02)
    left = a - a.mean(axis=1, keepdims=True) - a.mean(axis=0) + a.mean()
    rest = (left**2).sum() / (11 * 3) / 48
    patients = np.var(a.mean(axis=1) - b[:, 0], ddof=1) / 12
    runs = np.var(a.mean(axis=0), ddof=1) / 4
    variance = patients + runs - rest
    freedom = variance**2 / ((patients - rest) ** 2 / 11 + runs**2 / 3)
    found = runs_test(a, b)
    assert found.freedom == pytest.approx(freedom)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert found.high - found.difference == pytest.approx(reach)
    assert found.p_value == pytest.approx(
        2 * stats.t.sf(abs(found.difference) / math.sqrt(variance), freedom)
    )


@pytest.mark.parametrize(("runs", "deviation"), [((3, 3), 0.02), ((5, 2), 0.05), ((3, 1), 0.0)])
def test_the_interval_covers_as_often_as_it_says(runs: tuple[int, int], deviation: float) -> None:
    random, hits = np.random.default_rng(5), 0
    for _ in range(600):
        patient = random.normal(0, 0.1, (20, 1))  # of both models alike
        a = patient + table(random, (20, runs[0]), 0.03, deviation, 0.03)
        b = patient + table(random, (20, runs[1]), 0.03, deviation if runs[1] > 1 else 0, 0.03)
        found = runs_test(a, b)
        hits += found.low <= 0 <= found.high
    assert 0.925 <= hits / 600 <= 0.985


def test_undefined_and_impossible() -> None:
    assert math.isnan(runs_test([[0.1, 0.2]], [[0.1]]).p_value)
    assert math.isnan(runs_test([[math.nan], [0.2]], [[0.1], [0.1]]).p_value)
    same = runs_test([[0.2], [0.3]], [[0.1], [0.2]])
    assert same.difference == pytest.approx(0.1)
    with pytest.raises(UsageError, match="the same patients"):
        runs_test([[0.1], [0.2]], [[0.1]])
    with pytest.raises(UsageError, match="level"):
        runs_test([[0.1], [0.2]], [[0.1], [0.2]], level=95)
