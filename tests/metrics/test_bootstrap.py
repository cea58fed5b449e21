"""Intervals: scipy as oracle, patients as the unit, what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hilum.errors import UsageError
from hilum.metrics import bootstrap_interval
from hilum.metrics.bootstrap import _medians


def sample(n: int = 40) -> np.ndarray:
    return np.random.default_rng(3).beta(8, 2, n)  # skewed, as Dice is


def own(n: int) -> list[int]:
    return list(range(n))


@pytest.mark.parametrize(
    ("statistic", "function", "method"),
    [("mean", np.mean, "bca"), ("median", np.median, "percentile")],
)
def test_scipy_agrees_where_every_case_is_a_patient(
    statistic: str, function: object, method: str
) -> None:
    values = sample()
    ours = bootstrap_interval(values, own(40), statistic, resamples=9000)
    truth = stats.bootstrap(
        (values,), function, n_resamples=9000, method=method, rng=np.random.default_rng(5)
    )
    assert ours.method == method
    assert ours.estimate == pytest.approx(function(values))
    width = ours.high - ours.low
    assert ours.low == pytest.approx(truth.confidence_interval.low, abs=0.06 * width)
    assert ours.high == pytest.approx(truth.confidence_interval.high, abs=0.06 * width)


def test_more_studies_of_the_same_patients_are_no_more_evidence() -> None:
    values = sample(12)
    once = bootstrap_interval(values, own(12))
    thrice = bootstrap_interval(np.tile(values, 3), own(12) * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), rel=1e-4)
    assert (thrice.n, thrice.patients) == (36, 12)
    naive = bootstrap_interval(np.tile(values, 3), own(36))
    assert naive.high - naive.low < 0.75 * (once.high - once.low)


def test_columns_weigh_the_same_however_rare() -> None:
    values = np.full((20, 2), np.nan)
    values[:, 0] = 0.9
    values[:4, 1] = [0.1, 0.2, 0.3, 0.4]
    interval = bootstrap_interval(values, own(20))
    assert interval.estimate == pytest.approx((0.9 + 0.25) / 2)
    assert interval.low < interval.estimate < interval.high
    assert bootstrap_interval(values, own(20), "median").estimate == pytest.approx((0.9 + 0.25) / 2)
    values[:, 1] = np.nan
    assert bootstrap_interval(values, own(20), "median").estimate == pytest.approx(0.9)


def test_same_seed_same_interval() -> None:
    values = sample(25)
    assert bootstrap_interval(values, own(25), seed=4) == bootstrap_interval(
        values, own(25), seed=4
    )
    assert bootstrap_interval(values, own(25), seed=4) != bootstrap_interval(
        values, own(25), seed=5
    )


def test_few_patients_have_the_t_interval_of_a_mean() -> None:
    values = sample(15)
    found = bootstrap_interval(values, own(15))
    low, high = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    assert (found.low, found.high, found.method) == (
        pytest.approx(low),
        pytest.approx(high),
        "t",
    )
    assert bootstrap_interval(sample(20), own(20)).method == "bca"
    pairs = bootstrap_interval(np.repeat(values, 2), np.repeat(own(15), 2).tolist())
    assert (pairs.low, pairs.high) == (pytest.approx(low), pytest.approx(high))


def test_undefined_values_are_left_out() -> None:
    values = sample(14)
    holes = np.insert(values, [0, 5, 14], np.nan)
    with_holes = bootstrap_interval(holes, own(17))
    without = bootstrap_interval(values, own(14))
    assert with_holes == without


@pytest.mark.parametrize(
    ("values", "groups", "estimate", "patients"),
    [
        ([], [], math.nan, 0),
        ([math.nan], ["a"], math.nan, 0),
        ([0.5], ["a"], 0.5, 1),
        ([0.4, 0.6], ["a", "a"], 0.5, 1),
    ],
)
def test_no_interval_below_two_patients(
    values: list[float], groups: list[str], estimate: float, patients: int
) -> None:
    interval = bootstrap_interval(values, groups)
    np.testing.assert_equal(
        [interval.estimate, interval.low, interval.high], [estimate, math.nan, math.nan]
    )
    assert (interval.method, interval.patients) == ("none", patients)


def test_equal_values_have_a_point_for_an_interval() -> None:
    interval = bootstrap_interval([0.25] * 12, own(12))
    assert (interval.low, interval.estimate, interval.high, interval.method) == (
        0.25,
        0.25,
        0.25,
        "t",
    )


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        values = random.normal(0.7, 0.1, 30)
        interval = bootstrap_interval(values, own(30), resamples=500)
        hits += interval.low <= 0.7 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3)), min_size=1, max_size=12))
def test_weighted_median_is_the_median_of_the_drawn(pairs: list[tuple[float, int]]) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    drawn = np.repeat(values, weights)
    expected = np.median(drawn) if drawn.size else np.nan
    np.testing.assert_allclose(_medians(values, weights[None])[0], expected)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="one group a case"):
        bootstrap_interval([1.0, 2.0], ["a"])
    with pytest.raises(UsageError, match="level between 0 and 1"):
        bootstrap_interval([1.0], ["a"], level=95)
    with pytest.raises(UsageError, match="at least one resample"):
        bootstrap_interval([1.0], ["a"], resamples=0)
    with pytest.raises(UsageError, match='"mean" or "median"'):
        bootstrap_interval([1.0, 2.0], ["a", "b"], "mode")
