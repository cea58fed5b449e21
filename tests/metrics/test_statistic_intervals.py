"""Intervals of any metric: resamples at once against one by one, patients, scipy, speed."""

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from hilum import metrics
from hilum.errors import UsageError
from hilum.metrics import (
    IntervalRequest,
    accuracy,
    auroc,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_statistic,
    bootstrap_statistics,
    brier,
    calibration_slope,
    confusion_statistic,
    delong_interval,
    expected_calibration_error,
    macro_auroc,
    mcc,
    sensitivity,
    sensitivity_at_specificity,
)
from hilum.metrics.bootstrap import RESAMPLED

N = 40


def cases(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, and whether cases are positive."""
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    return (
        np.clip((0.35 + 0.3 * positive + 0.2 * random.normal(size=n)).round(2), 0.01, 0.99),
        positive,
    )


def several(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    index = random.integers(0, 3, n)
    return random.dirichlet(np.ones(3), n) * 0.8 + 0.2 * np.eye(3)[index], index


def example(function: object) -> tuple[object, tuple[np.ndarray, ...]]:
    """A metric with options, and arrays for it."""
    if function is confusion_statistic:
        probabilities, index = several()
        return partial(function, statistic=mcc, classes=3), (index, probabilities.argmax(axis=1))
    if function is metrics.mean_of_columns:
        values = np.random.default_rng(0).normal(size=(N, 3))
        values[4:9, 1] = np.nan
        return function, (values,)
    if function is macro_auroc:
        probabilities, index = several()
        return function, (probabilities, metrics.indicator(index, 3))
    if function.__name__.startswith("multiclass"):
        return function, several()
    options = {
        "sensitivity_at_specificity": {"specificity": 0.8},
        "specificity_at_sensitivity": {"sensitivity": 0.8},
    }
    options["net_benefit_at"] = {"threshold": 0.3}
    return partial(function, **options.get(function.__name__, {})), cases()


@pytest.mark.parametrize("function", RESAMPLED, ids=lambda function: function.__name__)
def test_all_draws_at_once_are_what_one_call_a_draw_gives(function: object) -> None:
    metric, arrays = example(function)
    groups = [i // 2 for i in range(N)]

    def unknown(*drawn: np.ndarray) -> float:  # a function that is not in the dictionary
        return metric(*drawn)

    fast = bootstrap_statistic(metric, arrays, groups, resamples=200)
    slow = bootstrap_statistic(unknown, arrays, groups, resamples=200)
    assert fast.estimate == metric(*arrays)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high))
    assert (fast.n, fast.patients, fast.method) == (N, N // 2, slow.method)
    assert fast.low < fast.high


@pytest.mark.parametrize(
    "metric",
    [metrics.accuracy, metrics.balanced_accuracy, metrics.sensitivity, metrics.specificity,
     metrics.ppv, metrics.npv, metrics.f1, metrics.macro_f1, metrics.mcc, metrics.quadratic_kappa],
)  # fmt: skip
def test_matrices_of_many_resamples_at_once(metric) -> None:
    matrices = np.random.default_rng(0).integers(0, 4, (50, 3, 3))
    expected = [float(metric(matrix)) for matrix in matrices]
    np.testing.assert_array_equal(metric(matrices), expected)


def test_a_metric_of_one_matrix_only_is_refused() -> None:
    own = partial(confusion_statistic, statistic=lambda m: m[0, 0] / m.sum(), classes=2)
    with pytest.raises(UsageError, match="one value for each matrix"):
        bootstrap_statistic(own, ([0, 1] * 6, [0, 1] * 6), None)


def test_a_metric_of_the_matrix_keeps_its_options() -> None:
    probabilities, index = several()
    own = partial(confusion_statistic, statistic=partial(sensitivity, positive=2), classes=3)
    arrays = (index, probabilities.argmax(axis=1))
    assert bootstrap_statistic(own, arrays, None, resamples=100).estimate == own(*arrays)


@pytest.mark.parametrize("function", RESAMPLED, ids=lambda function: function.__name__)
def test_draws_without_a_class_or_a_case_warn_of_nothing(function: object) -> None:
    metric, arrays = example(function)
    arrays = tuple(array[:3] for array in arrays)
    interval = bootstrap_statistic(metric, arrays, None, resamples=50)
    assert interval.method in {"percentile", "none"}
    nothing = bootstrap_statistic(metric, tuple(array[:0] for array in arrays), [])
    assert (nothing.method, nothing.n) == ("none", 0)
    assert math.isnan(nothing.estimate)


def test_the_mean_of_cases_is_the_bootstrap_that_was_there() -> None:
    probability, positive = cases(80)
    new = bootstrap_statistic(brier, (probability, positive), None, resamples=8000)
    old = bootstrap_interval((probability - positive) ** 2, list(range(80)), resamples=8000)
    assert (new.estimate, new.method) == (pytest.approx(old.estimate), "bca")
    width = old.high - old.low
    assert (new.low, new.high) == pytest.approx((old.low, old.high), abs=0.05 * width)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_scipy_agrees(method: str) -> None:
    probability, positive = cases(60, seed=4)
    ours = bootstrap_statistic(auroc, (probability, positive), None, method=method, resamples=4000)
    truth = stats.bootstrap(
        (probability, positive),
        lambda scores, truth: roc_auc_score(truth, scores),
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method=method,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.method == method
    assert (ours.low, ours.high) == pytest.approx(
        (truth.low, truth.high), abs=0.08 * (truth.high - truth.low)
    )


def test_bootstrap_and_delong_say_the_same_of_many_cases() -> None:
    probability, positive = cases(600)
    resampled, delong = (
        bootstrap_statistic(auroc, (probability, positive), None),
        delong_interval(probability, positive),
    )
    assert (resampled.low, resampled.high) == pytest.approx((delong.low, delong.high), abs=0.005)
    groups = [i // 3 for i in range(600)]
    resampled, delong = (
        bootstrap_statistic(auroc, (probability, positive), groups),
        delong_interval(probability, positive, groups=groups),
    )
    assert (resampled.low, resampled.high) == pytest.approx((delong.low, delong.high), abs=0.008)


def test_studies_counted_twice_are_no_more_evidence() -> None:
    probability, positive = cases(60)
    twice = (np.tile(probability, 2), np.tile(positive, 2))
    once = bootstrap_statistic(auroc, (probability, positive), None)
    assert bootstrap_statistic(auroc, twice, list(range(60)) * 2).low == pytest.approx(
        once.low, abs=1e-4
    )
    naive = bootstrap_statistic(auroc, twice, None)
    assert naive.high - naive.low < 0.8 * (once.high - once.low)


def test_differences_are_paired() -> None:
    scores, positive = cases(120)
    worse = scores + np.random.default_rng(9).normal(0, 0.05, 120)
    difference = bootstrap_difference(auroc, (scores, positive), (worse, positive), None)
    assert difference.estimate == pytest.approx(auroc(scores, positive) - auroc(worse, positive))
    test = metrics.delong_test(scores, worse, positive)
    assert (difference.low, difference.high) == pytest.approx((test.low, test.high), abs=0.01)
    alone = bootstrap_statistic(auroc, (scores, positive), None)
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)
    same = bootstrap_difference(auroc, (scores, positive), (scores, positive), None)
    assert (same.estimate, same.method) == (0, "none")


def test_pseudo_values_of_a_mean_are_the_patients_and_of_an_area_delongs() -> None:
    values = np.random.default_rng(1).normal(size=(30, 1))
    request = IntervalRequest(metrics.mean_of_columns, (values,))
    np.testing.assert_allclose(metrics.pseudo_values([request], None)[0], values[:, 0])
    scores, positive = cases(300)
    area = metrics.pseudo_values([IntervalRequest(auroc, (scores, positive))], None)[0]
    assert area.mean() == pytest.approx(auroc(scores, positive), abs=1e-3)
    error = delong_interval(scores, positive).standard_error
    assert area.std(ddof=1) / math.sqrt(300) == pytest.approx(error, rel=0.03)


def test_resampled_metrics_are_aligned() -> None:
    scores, positive = cases()
    requests = [IntervalRequest(auroc, (one, positive)) for one in (scores, scores * 2, -scores)]
    found = metrics.resampled_statistics(requests, [i // 2 for i in range(N)], resamples=50)
    assert found.shape == (3, 50)
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(found[0], 1 - found[2])
    percentile = bootstrap_statistic(
        auroc, (scores, positive), [i // 2 for i in range(N)], method="percentile", resamples=50
    )
    assert percentile.low == pytest.approx(np.quantile(found[0], 0.025))


def test_same_seed_same_interval() -> None:
    arrays = cases()
    assert bootstrap_statistic(auroc, arrays, None, seed=3) == bootstrap_statistic(
        auroc, arrays, None, seed=3
    )
    assert bootstrap_statistic(auroc, arrays, None, seed=3) != bootstrap_statistic(
        auroc, arrays, None, seed=4
    )


def test_a_figure_that_never_moves_has_no_interval() -> None:
    perfect = bootstrap_statistic(
        partial(confusion_statistic, statistic=accuracy, classes=2), ([0, 1] * 6, [0, 1] * 6), None
    )
    assert (perfect.estimate, perfect.method) == (1, "none")
    assert math.isnan(perfect.low)
    assert bootstrap_statistic(auroc, cases(), ["one"] * N).method == "none"
    assert bootstrap_statistic(auroc, ([0.1, 0.2], [0, 0]), None).method == "none"


def test_figures_together_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, groups = cases(), [i // 2 for i in range(N)]
    called = (arrays[1].astype(int), (arrays[0] > 0.5).astype(int))
    asked = [
        IntervalRequest(metrics.auprc, arrays),
        IntervalRequest(partial(sensitivity_at_specificity, specificity=0.9), arrays, "percentile"),
        IntervalRequest(
            partial(metrics.specificity_at_sensitivity, sensitivity=0.9), arrays, "percentile"
        ),
        IntervalRequest(calibration_slope, arrays),
        IntervalRequest(metrics.calibration_intercept, arrays),
        IntervalRequest(brier, (arrays[0][::-1].copy(), arrays[1])),  # other arrays share nothing
        IntervalRequest(calibration_slope, (arrays[0] ** 2, arrays[1])),
        IntervalRequest(partial(confusion_statistic, statistic=mcc, classes=2), called),
    ]
    together = bootstrap_statistics(asked, groups, resamples=100)
    for one, interval in zip(asked, together, strict=True):
        assert interval == bootstrap_statistic(
            one.function, one.arrays, groups, method=one.method, resamples=100
        )
    assert bootstrap_statistics([], groups) == ()
    fitted, fit = [], RESAMPLED[calibration_slope].share

    def counted(*given: np.ndarray) -> np.ndarray:
        fitted.append(given)
        return fit(*given)

    for metric in (calibration_slope, metrics.calibration_intercept):
        monkeypatch.setitem(RESAMPLED, metric, replace(RESAMPLED[metric], share=counted))
    bootstrap_statistics(asked[3:5], groups, resamples=100)
    assert len(fitted) == 2  # of the draws, and of the jackknife


def test_figures_of_other_cases_are_refused() -> None:
    """Also where no groups are given that would not fit the ones or the others."""
    scores, targets = np.linspace(0, 1, 12), np.arange(12) % 2
    asked = [
        IntervalRequest(auroc, (scores, targets)),
        IntervalRequest(auroc, (scores[:10], targets[:10])),
    ]
    with pytest.raises(UsageError, match=r"different lengths: 12, 10[\s\S]*the same cases"):
        bootstrap_statistics(asked, None, resamples=10)


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth, hits = stats.norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(200):
        positive = np.arange(60) < 25
        interval = bootstrap_statistic(
            auroc, (random.normal(size=60) + positive, positive), None, resamples=400
        )
        hits += interval.low <= truth <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_two_thousand_draws_of_a_thousand_cases_are_quick() -> None:
    """About 0.6 s on one quiet core; seconds of this process, whatever else runs.

    A loop over draws in Python takes more.
    """
    probability, positive = cases(1000)
    figure = partial(confusion_statistic, statistic=mcc, classes=2)
    start = time.process_time()
    for metric in (auroc, metrics.auprc, brier, expected_calibration_error, calibration_slope):
        bootstrap_statistic(metric, (probability, positive), None)
    bootstrap_statistic(
        partial(sensitivity_at_specificity, specificity=0.9), (probability, positive), None
    )
    bootstrap_statistic(figure, (positive.astype(int), (probability > 0.5).astype(int)), None)
    assert time.process_time() - start < 10


def test_impossible_questions_are_refused() -> None:
    arrays = cases()
    with pytest.raises(UsageError, match="level between 0 and 1"):
        bootstrap_statistic(auroc, arrays, None, level=95)
    with pytest.raises(UsageError, match="at least one resample"):
        bootstrap_statistic(auroc, arrays, None, resamples=0)
    with pytest.raises(UsageError, match='"bca" or "percentile"'):
        bootstrap_statistic(auroc, arrays, None, method="normal")
    with pytest.raises(UsageError, match="3 groups for 40 cases"):
        bootstrap_statistic(auroc, arrays, [1, 2, 3])
    with pytest.raises(UsageError, match="one row a case in each"):
        bootstrap_statistic(auroc, (arrays[0], arrays[1][:5]), None)
    with pytest.raises(UsageError, match="one row a case in each"):
        bootstrap_statistic(auroc, (), None)
    with pytest.raises(UsageError, match="NaN"):
        bootstrap_statistic(auroc, (np.full(N, np.nan), arrays[1]), None)
    with pytest.raises(UsageError, match="specificity is 7"):
        bootstrap_statistic(partial(sensitivity_at_specificity, specificity=7), arrays, None)
