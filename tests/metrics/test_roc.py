"""ROC and precision-recall: sklearn and all pairs as oracles, what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from hilum.errors import UsageError
from hilum.metrics import (
    OperatingPoint,
    auprc,
    auroc,
    indicator,
    macro_auroc,
    point_at_sensitivity,
    point_at_specificity,
    precision_recall_curve,
    roc_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    youden_point,
)

CASES = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=25).filter(
    lambda cases: len({positive for _, positive in cases}) == 2
)


def columns(cases: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = zip(*cases, strict=True)
    return np.array(scores, dtype=np.float64), np.array(positive)


def sample(n: int = 60, seed: int = 1, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties."""
    random = np.random.default_rng(seed)
    positive = np.arange(n) % 3 == 0
    return (random.normal(size=n) + positive).round(digits), positive


# scores 4 3 3 2 1, positive + + - - +: of 6 pairs 2 + (1/2 + 1) + 0 are in order
HAND = np.array([4.0, 3.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False, True])


def test_by_hand() -> None:
    scores, positive = HAND
    assert auroc(scores, positive) == pytest.approx(3.5 / 6)
    # thresholds 4, 3, 2, 1: recall 1/3, 2/3, 2/3, 1 at precision 1, 2/3, 1/2, 3/5
    assert auprc(scores, positive) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    curve = roc_curve(scores, positive)
    assert curve.thresholds.tolist() == [math.inf, 4, 3, 2, 1]
    assert curve.sensitivity == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert curve.specificity == pytest.approx([1, 1, 0.5, 0, 0])
    steps = precision_recall_curve(scores, positive)
    assert steps.thresholds.tolist() == [4, 3, 2, 1]
    assert steps.precision == pytest.approx([1, 2 / 3, 1 / 2, 3 / 5])
    assert steps.prevalence == 0.6


@settings(deadline=None, max_examples=100, derandomize=True)
@given(CASES)
def test_all_pairs_and_sklearn_agree(cases: list[tuple[int, bool]]) -> None:
    scores, positive = columns(cases)
    pairs = np.sign(scores[positive][:, None] - scores[~positive])
    assert auroc(scores, positive) == pytest.approx(((pairs + 1) / 2).mean())
    assert auroc(scores, positive) == pytest.approx(oracle.roc_auc_score(positive, scores))
    assert auprc(scores, positive) == pytest.approx(
        oracle.average_precision_score(positive, scores)
    )
    alarms, hits, thresholds = oracle.roc_curve(positive, scores, drop_intermediate=False)
    curve = roc_curve(scores, positive)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    np.testing.assert_allclose(curve.sensitivity, hits)
    np.testing.assert_allclose(1 - curve.specificity, alarms, atol=1e-15)
    precision, recall, thresholds = oracle.precision_recall_curve(positive, scores)
    steps = precision_recall_curve(scores, positive)
    np.testing.assert_allclose(steps.precision, precision[-2::-1])
    np.testing.assert_allclose(steps.recall, recall[-2::-1])
    np.testing.assert_allclose(steps.thresholds, thresholds[::-1])


@settings(deadline=None, max_examples=50, derandomize=True)
@given(CASES, st.randoms(use_true_random=False))
def test_only_the_order_of_the_scores_counts(
    cases: list[tuple[int, bool]], shuffler: object
) -> None:
    scores, positive = columns(cases)
    for monotone in (3 * scores - 7, np.exp(scores), scores**3):
        assert auroc(monotone, positive) == pytest.approx(auroc(scores, positive))
        assert auprc(monotone, positive) == pytest.approx(auprc(scores, positive))
    assert auroc(scores, ~positive) == pytest.approx(1 - auroc(scores, positive))
    assert auroc(-scores, positive) == pytest.approx(1 - auroc(scores, positive))
    shuffler.shuffle(cases)
    assert auroc(*columns(cases)) == pytest.approx(auroc(scores, positive))
    assert auprc(*columns(cases)) == pytest.approx(auprc(scores, positive))


def test_scores_may_be_infinite_and_labels_numbers() -> None:
    assert auroc([-math.inf, 0.3, math.inf], [0, 1, 1]) == 1
    assert auroc([-math.inf, -math.inf], [0, 1]) == 0.5


def test_a_score_that_knows_nothing() -> None:
    positive = np.array([True, False, False, False])
    assert (auroc(np.ones(4), positive), auprc(np.ones(4), positive)) == (0.5, 0.25)


def test_macro_is_the_mean_of_one_against_the_rest() -> None:
    random = np.random.default_rng(0)
    index = random.integers(0, 3, 50)
    probabilities = random.dirichlet(np.ones(3), 50) + np.eye(3)[index] / 3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ours = macro_auroc(probabilities, indicator(index, 3))
    assert ours == pytest.approx(oracle.roc_auc_score(index, probabilities, multi_class="ovr"))
    findings = random.random((50, 3)) < 0.4
    assert macro_auroc(probabilities, findings) == pytest.approx(
        oracle.roc_auc_score(findings, probabilities)
    )
    absent = np.concatenate([indicator(index, 3), np.zeros((50, 1), dtype=bool)], axis=1)
    assert macro_auroc(
        np.concatenate([probabilities, np.zeros((50, 1))], axis=1), absent
    ) == pytest.approx(ours)
    assert math.isnan(macro_auroc(probabilities[:1], indicator(index[:1], 3)))


def test_operating_points_by_hand() -> None:
    scores, positive = HAND
    assert point_at_specificity(scores, positive, specificity=1) == OperatingPoint(
        4, pytest.approx(1 / 3), 1
    )
    assert point_at_specificity(scores, positive, specificity=0.4) == OperatingPoint(
        3, pytest.approx(2 / 3), 0.5
    )
    assert point_at_specificity(scores, positive, specificity=0) == OperatingPoint(1, 1, 0)
    assert point_at_sensitivity(scores, positive, sensitivity=0) == OperatingPoint(
        4, pytest.approx(1 / 3), 1
    )  # a free one is kept
    assert point_at_sensitivity(scores, positive, sensitivity=0.5) == OperatingPoint(
        3, pytest.approx(2 / 3), 0.5
    )
    assert point_at_sensitivity(scores, positive, sensitivity=0.9) == OperatingPoint(1, 1, 0)
    assert youden_point(scores, positive) == OperatingPoint(4, pytest.approx(1 / 3), 1)
    assert point_at_specificity([1.0, 2.0], [True, False], specificity=0.9) == OperatingPoint(
        math.inf, 0, 1
    )


@settings(deadline=None, max_examples=100, derandomize=True)
@given(CASES, st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9, 1.0]))
def test_operating_points_are_the_best_that_hold_what_is_asked(
    cases: list[tuple[int, bool]], asked: float
) -> None:
    scores, positive = columns(cases)
    tried = [
        ((scores[positive] >= t).mean(), (scores[~positive] < t).mean())
        for t in [*np.unique(scores), math.inf]
    ]  # (sensitivity, specificity)
    point = point_at_specificity(scores, positive, specificity=asked)
    assert point.specificity >= asked - 1e-9
    assert point.sensitivity == pytest.approx(
        max(hits for hits, spared in tried if spared >= asked - 1e-9)
    )
    assert sensitivity_at_specificity(scores, positive, specificity=asked) == point.sensitivity
    assert point.sensitivity == (scores[positive] >= point.threshold).mean()
    assert point.specificity == pytest.approx((scores[~positive] < point.threshold).mean())
    point = point_at_sensitivity(scores, positive, sensitivity=asked)
    assert point.sensitivity >= asked - 1e-9
    assert point.specificity == pytest.approx(
        max(spared for hits, spared in tried if hits >= asked - 1e-9)
    )
    assert specificity_at_sensitivity(scores, positive, sensitivity=asked) == point.specificity
    youden = youden_point(scores, positive)
    assert youden.sensitivity + youden.specificity == pytest.approx(max(map(sum, tried)))


def test_a_share_is_counted_in_cases_not_in_binary_fractions() -> None:
    scores = np.concatenate(
        [np.arange(10.0), np.arange(10) - 0.5]
    )  # a positive case below each of ten negative ones
    positive = np.arange(20) >= 10
    for k in range(11):
        assert point_at_specificity(scores, positive, specificity=k / 10).specificity == k / 10
        assert point_at_sensitivity(-scores, ~positive, sensitivity=k / 10).sensitivity == k / 10


@pytest.mark.parametrize(
    ("positive", "of_recall"), [([], math.nan), ([False] * 3, math.nan), ([True] * 3, 1.0)]
)
def test_undefined(positive: list[bool], of_recall: float) -> None:
    scores = np.linspace(0, 1, len(positive))
    nothing = (math.nan,) * 3
    np.testing.assert_equal(auroc(scores, positive), math.nan)
    np.testing.assert_equal(auprc(scores, positive), of_recall)
    for point in (
        point_at_specificity(scores, positive, specificity=0.5),
        point_at_sensitivity(scores, positive, sensitivity=0.5),
        youden_point(scores, positive),
    ):
        np.testing.assert_equal((point.threshold, point.sensitivity, point.specificity), nothing)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="2 of them NaN"):
        auroc([0.1, math.nan, math.nan], [True, False, True])
    with pytest.raises(UsageError, match=r"positive has shape \(3,\)"):
        auroc([0.1, 0.2], [True, False, True])
    with pytest.raises(UsageError, match="true or false"):
        auprc([0.1, 0.2], [1, 2])
    with pytest.raises(UsageError, match="one number a case"):
        roc_curve([[0.1, 0.2]], [[0, 1]])
    with pytest.raises(UsageError, match="specificity is 95"):
        point_at_specificity([0.1, 0.2], [0, 1], specificity=95)
    with pytest.raises(UsageError, match="sensitivity is -1"):
        specificity_at_sensitivity([0.1, 0.2], [0, 1], sensitivity=-1)
    with pytest.raises(UsageError, match="a row a case and a column a class"):
        macro_auroc([0.1, 0.2], [0, 1])
    with pytest.raises(UsageError, match=r"numbers from 0, below 2"):
        indicator([0, 2], 2)
    with pytest.raises(UsageError, match="one whole number a case"):
        indicator([0.0, 1.0], 2)
