"""Calibration: sklearn and scipy as oracles, bins by hand, what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.special import expit, logit
from sklearn import metrics as oracle

from hilum.errors import UsageError
from hilum.metrics import (
    brier,
    calibration_curve,
    calibration_in_the_large,
    calibration_intercept,
    calibration_noise,
    calibration_slope,
    expected_calibration_error,
    log_loss,
    multiclass_brier,
    multiclass_log_loss,
    top_class,
    wilson_interval,
)

HAND = np.array([0.1, 0.3, 0.3, 0.9]), np.array([False, True, False, True])


def sample(
    n: int = 400, seed: int = 0, slope: float = 1.0, intercept: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and cases whose log odds are `intercept + slope` times theirs."""
    random = np.random.default_rng(seed)
    logits = random.normal(-0.5, 1.5, n)
    return expit(logits), random.random(n) < expit(intercept + slope * logits)


# --- Brier, log loss
# ------------------------------------------------------------------------------


def test_proper_scores_by_hand_and_by_sklearn() -> None:
    probability, positive = HAND
    assert brier(probability, positive) == pytest.approx((0.01 + 0.49 + 0.09 + 0.01) / 4)
    assert log_loss(probability, positive) == pytest.approx(-np.log([0.9, 0.3, 0.7, 0.9]).mean())
    probability, positive = sample()
    assert brier(probability, positive) == pytest.approx(
        oracle.brier_score_loss(positive, probability)
    )
    assert log_loss(probability, positive) == pytest.approx(oracle.log_loss(positive, probability))


def test_several_classes() -> None:
    random = np.random.default_rng(1)
    probabilities, index = random.dirichlet(np.ones(4), 70), random.integers(0, 4, 70)
    truth = np.eye(4)[index]
    assert multiclass_brier(probabilities, index) == pytest.approx(
        ((probabilities - truth) ** 2).sum(axis=1).mean()
    )
    assert multiclass_log_loss(probabilities, index) == pytest.approx(
        oracle.log_loss(index, probabilities)
    )
    probability, positive = HAND
    two = np.stack([1 - probability, probability], axis=1)
    assert multiclass_brier(two, positive.astype(int)) == pytest.approx(
        2 * brier(probability, positive)
    )
    assert multiclass_log_loss(two, positive.astype(int)) == pytest.approx(
        log_loss(probability, positive)
    )


def test_the_impossible_that_happens_costs_a_finite_price() -> None:
    assert log_loss([0.0], [1]) == pytest.approx(-math.log(1e-7))
    assert multiclass_log_loss([[1.0, 0.0]], [1]) == pytest.approx(-math.log(1e-7))
    assert log_loss([1.0], [1]) == pytest.approx(0, abs=1e-6)


def test_no_case_has_no_score() -> None:
    for value in (
        brier([], []),
        log_loss([], []),
        multiclass_brier(np.ones((0, 2)), []),
        multiclass_log_loss(np.ones((0, 2)), []),
    ):
        assert math.isnan(value)


# --- bins
# ------------------------------------------------------------------------------


def test_bins_by_hand() -> None:
    probability, positive = HAND
    # of equal mass: 0.1 | 0.3 0.3 0.9, as equal probabilities stay together and their middle is at
    # half of the cases
    assert expected_calibration_error(probability, positive, bins=2) == pytest.approx(
        (0.1 + abs(1.5 - 2)) / 4
    )
    # of equal width: 0.1 0.3 0.3 | 0.9
    assert expected_calibration_error(
        probability, positive, bins=2, equal="width"
    ) == pytest.approx((abs(0.7 - 1) + 0.1) / 4)
    assert expected_calibration_error(probability, positive, bins=1) == pytest.approx(
        abs(1.6 - 2) / 4
    )
    curve = calibration_curve(probability, positive, bins=2)
    assert curve.predicted == pytest.approx([0.1, 0.5])
    assert curve.observed == pytest.approx([0, 2 / 3])
    assert curve.cases.tolist() == [1, 3]
    wide = calibration_curve(probability, positive, bins=10, equal="width")
    assert wide.predicted == pytest.approx([0.1, 0.3, 0.9])  # bins without a case are left out
    assert calibration_curve([1.0], [1], bins=5, equal="width").predicted == pytest.approx([1.0])


def test_equal_width_is_sklearns() -> None:
    probability, positive = sample(300)
    observed, predicted = oracle_curve(positive, probability)
    curve = calibration_curve(probability, positive, bins=8, equal="width")
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    error = (np.abs(observed - predicted) * curve.cases).sum() / 300
    assert expected_calibration_error(
        probability, positive, bins=8, equal="width"
    ) == pytest.approx(error)


def oracle_curve(positive: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.calibration import calibration_curve as of_sklearn

    return of_sklearn(positive, probability, n_bins=8, strategy="uniform")


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 6),
    st.sampled_from(["mass", "width"]),
    st.randoms(use_true_random=False),
)
def test_bins_do_not_depend_on_the_order_of_cases(
    cases: list[tuple[int, bool]], bins: int, equal: str, shuffler: object
) -> None:
    def figures() -> list[float]:
        probability, positive = (np.array(column) for column in zip(*cases, strict=True))
        curve = calibration_curve(probability / 10, positive, bins=bins, equal=equal)
        assert curve.cases.sum() == len(cases)
        assert (curve.low <= curve.observed + 1e-12).all()
        assert (curve.observed <= curve.high + 1e-12).all()
        error = expected_calibration_error(probability / 10, positive, bins=bins, equal=equal)
        assert error == pytest.approx(
            (np.abs(curve.observed - curve.predicted) * curve.cases).sum() / len(cases)
        )
        assert error >= abs((probability / 10).mean() - positive.mean()) - 1e-12
        return [error, *curve.predicted, *curve.observed]

    before = figures()
    shuffler.shuffle(cases)
    assert figures() == pytest.approx(before)


def test_bins_of_equal_mass_have_as_many_cases() -> None:
    probability, positive = sample(1003)
    assert set(calibration_curve(probability, positive, bins=10).cases) <= {100, 101}


def test_noise_is_what_a_calibrated_model_shows() -> None:
    random = np.random.default_rng(5)
    probability, _ = sample(200)
    shown = [
        expected_calibration_error(probability, random.random(200) < probability)
        for _ in range(400)
    ]
    assert calibration_noise(probability) == pytest.approx(np.mean(shown), rel=0.05)
    shown = [
        expected_calibration_error(probability, random.random(200) < probability, equal="width")
        for _ in range(400)
    ]
    assert calibration_noise(probability, equal="width") == pytest.approx(np.mean(shown), rel=0.1)
    overconfident, positive = sample(200, slope=0.3)
    assert expected_calibration_error(overconfident, positive) > 2 * calibration_noise(
        overconfident
    )


def test_top_class() -> None:
    confidence, right = top_class([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], [1, 1, 1])
    assert confidence.tolist() == [0.8, 0.5, 0.9]
    assert right.tolist() == [True, False, False]


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (7, 7), (3, 7), (1, 1), (40, 90)])
def test_wilson_is_scipys(hits: int, total: int) -> None:
    truth = stats.binomtest(hits, total).proportion_ci(0.9, method="wilson")
    low, high = wilson_interval(hits, total, level=0.9)
    assert (float(low), float(high)) == pytest.approx((truth.low, truth.high))


# --- slope and intercept
# ------------------------------------------------------------------------------


def by_scipy(probability: np.ndarray, positive: np.ndarray) -> tuple[float, float, float]:
    x = logit(np.clip(probability, 1e-7, 1 - 1e-7))

    def loss(a: float, b: float) -> float:
        return float((np.logaddexp(0, a + b * x) - positive * (a + b * x)).sum())

    line = optimize.minimize(
        lambda ab: loss(*ab),
        [0, 1],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 9999},
    )
    large = optimize.minimize_scalar(
        lambda a: loss(a, 1), bounds=(-30, 30), method="bounded", options={"xatol": 1e-10}
    )
    return float(line.x[1]), float(line.x[0]), float(large.x)


def line_of(probability: np.ndarray, positive: np.ndarray) -> tuple[float, float, float]:
    """Slope, intercept, calibration in the large."""
    return (
        calibration_slope(probability, positive),
        calibration_intercept(probability, positive),
        calibration_in_the_large(probability, positive),
    )


@pytest.mark.parametrize("n", [12, 200])
def test_the_line_is_the_most_likely_one(n: int) -> None:
    probability, positive = sample(n, seed=3, slope=0.6, intercept=0.4)
    probability[:2], positive[:2] = (0.0, 1.0), (True, False)  # clipped, and wrong
    assert line_of(probability, positive) == pytest.approx(
        by_scipy(probability, positive), abs=1e-5
    )


def test_a_known_miscalibration_is_found() -> None:
    slope, intercept, _ = line_of(*sample(40_000, slope=0.5, intercept=0.7))
    assert (slope, intercept) == pytest.approx((0.5, 0.7), abs=0.05)
    assert line_of(*sample(40_000)) == pytest.approx((1, 0, 0), abs=0.05)
    assert line_of(*sample(40_000, intercept=-1))[2] == pytest.approx(-1, abs=0.05)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-6, 0.2, 0.5, 0.8, 1.0]), st.booleans()),
        min_size=2,
        max_size=12,
    )
)
def test_recalibrated_probabilities_are_calibrated(cases: list[tuple[float, bool]]) -> None:
    """The likelihood equations: residuals sum to 0, and so do residuals times logits."""
    probability, positive = (np.array(column) for column in zip(*cases, strict=True))
    x = logit(np.clip(probability, 1e-7, 1 - 1e-7))
    slope, intercept, in_the_large = line_of(probability, positive)
    separated = not (
        positive.any()
        and not positive.all()
        and x[positive].min() < x[~positive].max()
        and x[~positive].min() < x[positive].max()
    )
    assert math.isnan(slope) == math.isnan(intercept) == separated
    assert math.isnan(in_the_large) == (positive.all() or not positive.any())
    if not separated:
        residual = positive - expit(intercept + slope * x)
        assert residual.sum() == pytest.approx(0, abs=1e-6)
        assert (residual * x).sum() == pytest.approx(0, abs=1e-5)
    if not math.isnan(in_the_large):
        assert (positive - expit(in_the_large + x)).sum() == pytest.approx(0, abs=1e-6)


# --- what is undefined, what is refused
# --------------------------------------------------------------------------------------


def test_no_case() -> None:
    assert math.isnan(expected_calibration_error([], []))
    assert math.isnan(calibration_noise([]))
    assert calibration_curve([], []).cases.size == 0
    np.testing.assert_equal(line_of([], []), (math.nan,) * 3)
    np.testing.assert_equal(np.array(wilson_interval(0, 0)), [math.nan, math.nan])


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"outside 0\.\.1"):
        brier([1.2], [1])
    with pytest.raises(UsageError, match="apply_temperature"):
        expected_calibration_error([-0.1], [1])
    with pytest.raises(UsageError, match="1 of them NaN"):
        log_loss([math.nan], [1])
    with pytest.raises(UsageError, match="do not sum to 1"):
        multiclass_brier([[0.5, 0.9]], [1])
    with pytest.raises(UsageError, match="a column a class"):
        multiclass_log_loss([0.5, 0.5], [1])
    with pytest.raises(UsageError, match="NaN or outside"):
        multiclass_log_loss([[math.nan, 0.5]], [1])
    with pytest.raises(UsageError, match="bins is 0"):
        calibration_curve([0.5], [1], bins=0)
    with pytest.raises(UsageError, match='in "mass" or in "width"'):
        calibration_noise([0.5], equal="size")
    with pytest.raises(UsageError, match="level between 0 and 1"):
        calibration_curve([0.5], [1], level=95)
