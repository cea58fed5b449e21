"""Ranks by hand, and runs that are drawn again."""

import math

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.metrics import rank_columns, rank_stability, resample_runs


def test_ranks_by_hand() -> None:
    resampled = [[0.9, 0.9, 0.7, 0.9], [0.8, 0.9, 0.8, 0.8], [0.7, 0.5, 0.6, 0.7]]
    found = rank_stability([0.9, 0.8, 0.7], resampled)
    np.testing.assert_array_equal(found.rank, [1, 2, 3])
    np.testing.assert_allclose(found.mean, [(1 + 1.5 + 2 + 1) / 4, (2 + 1.5 + 1 + 2) / 4, 3])
    np.testing.assert_allclose(found.first, [2.5 / 4, 1.5 / 4, 0])
    np.testing.assert_array_equal(found.low, [1, 1, 3])
    np.testing.assert_array_equal(found.high, [2, 2, 3])
    assert found.first.sum() == 1
    less = rank_stability([0.9, 0.8, 0.7], resampled, higher_is_better=False)
    np.testing.assert_array_equal(less.rank, [3, 2, 1])
    np.testing.assert_array_equal(less.first, [0, 0, 1])


def test_resamples_without_a_value_are_left_out() -> None:
    found = rank_stability([1, 2], [[1, math.nan], [2, 0]])
    np.testing.assert_array_equal(found.first, [0, 1])
    assert np.isnan(rank_stability([1, math.nan], [[1], [2]]).rank).all()
    assert np.isnan(rank_stability([1, 2], [[math.nan], [2]]).mean).all()


def test_columns_share_ranks() -> None:
    np.testing.assert_array_equal(
        rank_columns(np.array([[1.0, 5.0], [1.0, 3.0]]), higher_is_better=True),
        [[1.5, 1], [1.5, 2]],
    )


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_drawn_runs_vary_as_much_as_their_mean(runs: int) -> None:
    random = np.random.default_rng(runs)
    values = random.normal(size=runs)
    drawn = resample_runs(np.repeat(values[:, None], 40_000, axis=1), random)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / runs, rel=0.05)
    np.testing.assert_array_equal(resample_runs(values[:1, None], random), values[:1])


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="one value a model"):
        rank_stability([1, 2], [[1, 2]])
    with pytest.raises(UsageError, match="level"):
        rank_stability([1], [[1, 2]], level=2)
