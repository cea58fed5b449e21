"""Decisions: sklearn as oracle, counts by hand, what is undefined."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from hilum import metrics
from hilum.errors import UsageError
from hilum.metrics import (
    accuracy,
    balanced_accuracy,
    confusion,
    confusion_statistic,
    f1,
    macro_f1,
    mcc,
    npv,
    ppv,
    quadratic_kappa,
    sensitivity,
    specificity,
)

HAND = [[50, 10], [5, 35]]  # 50 true negatives, 10 false alarms, 5 missed, 35 found


def test_by_hand() -> None:
    assert accuracy(HAND) == pytest.approx(0.85)
    assert sensitivity(HAND) == pytest.approx(35 / 40)
    assert specificity(HAND) == pytest.approx(50 / 60)
    assert ppv(HAND) == pytest.approx(35 / 45)
    assert npv(HAND) == pytest.approx(50 / 55)
    assert balanced_accuracy(HAND) == pytest.approx((35 / 40 + 50 / 60) / 2)
    assert f1(HAND) == pytest.approx(70 / 85)
    assert mcc(HAND) == pytest.approx((35 * 50 - 10 * 5) / math.sqrt(45 * 40 * 60 * 55))
    # by chance .4 * .45 + .6 * .55 agree
    assert quadratic_kappa(HAND) == pytest.approx((0.85 - 0.51) / (1 - 0.51))
    assert sensitivity(HAND, positive=0) == specificity(HAND)
    assert ppv(HAND, positive=0) == npv(HAND)


def test_rows_are_the_reference() -> None:
    matrix = confusion([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2], 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert sensitivity(matrix, positive=2) == pytest.approx(2 / 3)
    assert specificity(matrix, positive=2) == 1
    assert ppv(matrix, positive=0) == 0.5
    assert npv(matrix, positive=0) == pytest.approx(3 / 4)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_sklearn_agrees(pairs: list[tuple[int, int]]) -> None:
    truth, given_class = (np.array(column) for column in zip(*pairs, strict=True))
    matrix = confusion(truth, given_class, 4)
    np.testing.assert_array_equal(
        matrix, oracle.confusion_matrix(truth, given_class, labels=range(4))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where we say NaN
        assert accuracy(matrix) == pytest.approx(oracle.accuracy_score(truth, given_class))
        assert balanced_accuracy(matrix) == pytest.approx(
            oracle.balanced_accuracy_score(truth, given_class)
        )
        assert macro_f1(matrix) == pytest.approx(
            oracle.f1_score(truth, given_class, average="macro")
        )
        kappa = oracle.cohen_kappa_score(truth, given_class, weights="quadratic", labels=range(4))
        assert quadratic_kappa(matrix) == pytest.approx(kappa, nan_ok=True)
        correlation = oracle.matthews_corrcoef(truth, given_class)
        assert mcc(matrix) == pytest.approx(
            correlation if len(set(truth)) > 1 else math.nan, nan_ok=True
        )
        for k in range(4):
            options = {"labels": [k], "average": None, "zero_division": np.nan}
            assert sensitivity(matrix, positive=k) == pytest.approx(
                oracle.recall_score(truth, given_class, **options)[0], nan_ok=True
            )
            assert ppv(matrix, positive=k) == pytest.approx(
                oracle.precision_score(truth, given_class, **options)[0], nan_ok=True
            )
            assert f1(matrix, positive=k) == pytest.approx(
                oracle.f1_score(truth, given_class, **options)[0], nan_ok=True
            )


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (
            [[0, 0], [0, 0]],
            dict.fromkeys(["accuracy", "balanced_accuracy", "f1", "macro_f1", "mcc"], math.nan),
        ),
        (
            [[3, 2], [0, 0]],
            {
                "sensitivity": math.nan,
                "ppv": 0,
                "npv": 1,
                "f1": 0,
                "mcc": math.nan,
                "balanced_accuracy": 0.6,
            },
        ),
        (
            [[5, 0], [0, 0]],
            {
                "f1": math.nan,
                "ppv": math.nan,
                "macro_f1": 1,
                "mcc": math.nan,
                "quadratic_kappa": math.nan,
            },
        ),
        (
            [[5, 0], [3, 0]],
            {
                "ppv": math.nan,
                "f1": 0,
                "mcc": 0,
                "quadratic_kappa": 0,
                "sensitivity": 0,
                "specificity": 1,
            },
        ),
        ([[0, 0], [1, 2]], {"specificity": math.nan, "npv": 0, "ppv": 1}),
    ],
)
def test_undefined(matrix: list[list[int]], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert getattr(metrics, name)(matrix) == pytest.approx(value, nan_ok=True), name


def test_a_figure_straight_from_the_cases() -> None:
    truth, given_class = [0, 1, 2, 2, 1], [0, 2, 2, 2, 1]
    matrix = confusion(truth, given_class, 3)
    assert confusion_statistic(truth, given_class, statistic=mcc, classes=3) == mcc(matrix)
    assert confusion_statistic(
        truth, given_class, statistic=partial(f1, positive=2), classes=3
    ) == f1(matrix, positive=2)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="classes go from 0 to 3"):
        confusion([0, 3], [0, 1], 3)
    with pytest.raises(UsageError, match="classes go from -1 to 1"):
        confusion([0, 1], [-1, 1], 3)
    with pytest.raises(UsageError, match=r"one whole number a case \(2\)"):
        confusion([0, 1], [1], 3)
    with pytest.raises(UsageError, match=r"the matrix has shape \(2, 3\)"):
        accuracy(np.ones((2, 3)))
    with pytest.raises(UsageError, match="positive is 2"):
        sensitivity(HAND, positive=2)
