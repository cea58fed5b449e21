"""Prediction sets: thresholds by hand, coverage over splits, patients, few cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UsageError
from hilum.metrics import (
    conformal_threshold,
    multilabel_conformal_threshold,
    multilabel_prediction_set,
    prediction_set,
    set_quality,
)


def table(own: list[float], index: list[int]) -> np.ndarray:
    """(N, 2) probabilities that give the own class `own`."""
    return np.array([[1 - p, p] if k else [p, 1 - p] for p, k in zip(own, index, strict=True)])


def sample(
    n: int, seed: int, classes: int = 3, sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """A model that is wrong about its own certainty, on classes of unequal frequency."""
    random = np.random.default_rng(seed)
    index = random.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = random.normal(size=(n, classes)) + sharpness * np.eye(classes)[index] * (
        1 + index[:, None]
    )
    odds = np.exp(3 * logits)
    return odds / odds.sum(axis=1, keepdims=True), index


def test_the_quantile_by_hand() -> None:
    own, index = [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.4, 0.3], [0, 1, 0, 1, 0, 1, 0, 1, 0]
    probabilities = table(own, index)
    # nine cases: ceil(10 c)-th largest own probability
    for coverage, threshold in [
        (0.9, 0.3),
        (0.89, 0.3),
        (0.8, 0.4),
        (0.75, 0.4),
        (0.5, 0.55),
        (0.1, 0.9),
        (0.01, 0.9),
    ]:
        np.testing.assert_allclose(
            conformal_threshold(probabilities, index, coverage=coverage), [threshold] * 2
        )
    assert conformal_threshold(probabilities, index, coverage=0.91).tolist() == [
        0,
        0,
    ]  # nine cases promise 0.9, no more
    per_class = conformal_threshold(probabilities, index, coverage=0.8, per_class=True)
    np.testing.assert_allclose(per_class, [0.3, 0.4])  # of five the 5th, of four the 4th
    assert conformal_threshold(probabilities, index, coverage=0.82, per_class=True)[1] == 0


def test_a_class_without_cases_is_in_every_set() -> None:
    probabilities, index = sample(50, 0)
    wide = np.concatenate([probabilities, np.zeros((50, 1))], axis=1)
    thresholds = conformal_threshold(wide, index, coverage=0.8, per_class=True)
    assert thresholds[3] == 0
    assert prediction_set(wide, thresholds)[:, 3].all()
    assert not prediction_set(wide, conformal_threshold(wide, index, coverage=0.8))[:, 3].any()


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("n", "coverage"), [(30, 0.9), (11, 0.8), (5, 0.9)])
def test_sets_hold_the_class_as_often_as_they_say(n: int, coverage: float, per_class: bool) -> None:
    """Over many exchangeable splits; five cases cannot promise 0.9 and take every class in."""
    hits, of_class = [], [[], [], []]
    probabilities, index = sample(40_000, 1)
    for start in range(0, 40_000 - n - 50, n + 50):
        held_out, new = slice(start, start + n), slice(start + n, start + n + 50)
        thresholds = conformal_threshold(
            probabilities[held_out], index[held_out], coverage=coverage, per_class=per_class
        )
        quality = set_quality(prediction_set(probabilities[new], thresholds), index[new])
        hits.append(quality.coverage)
        for k in range(3):
            of_class[k].append(quality.per_class[k])
    error = 3 * np.std(hits) / math.sqrt(len(hits))
    assert np.mean(hits) >= coverage - error
    if per_class:
        assert min(np.nanmean(each) for each in of_class) >= coverage - 0.02
    elif n * (1 - coverage) >= 2:
        assert np.mean(hits) <= coverage + 1 / (n + 1) + 0.05  # and hardly more often
        assert (
            np.nanmean(of_class[0]) < coverage - 0.05
        )  # the rare class pays: why per_class exists
    if n == 5:
        assert np.mean(hits) == 1


def test_patients_with_many_cases_weigh_no_more() -> None:
    own, index = [0.9, 0.8, 0.7, 0.2, 0.2, 0.2], [0] * 6
    groups = ["a", "b", "c", "d", "d", "d"]
    # patients a to c and one more case of d's: 4 patients, mass 1/5 each
    np.testing.assert_allclose(
        conformal_threshold(table(own, index), index, coverage=0.6, groups=groups), 0.7
    )
    np.testing.assert_allclose(conformal_threshold(table(own, index), index, coverage=0.6), 0.2)
    np.testing.assert_allclose(
        conformal_threshold(table(own, index), index, coverage=0.8, groups=groups), 0.2
    )
    assert conformal_threshold(table(own, index), index, coverage=0.81, groups=groups)[0] == 0
    probabilities, index = sample(60, 3)
    alone = conformal_threshold(probabilities, index, groups=list(range(60)))
    assert alone.tolist() == conformal_threshold(probabilities, index).tolist()


def test_a_case_of_a_new_patient_is_covered() -> None:
    random = np.random.default_rng(2)
    hits = []
    for _ in range(1500):
        hard = random.random(
            13
        )  # a patient is hard or easy; hard ones come with eight cases, easy ones with one
        cases = np.where(hard > 0.7, 8, 1)
        own = np.concatenate(
            [random.beta(1 + 8 * (1 - h), 1 + 2 * h, c) for h, c in zip(hard, cases, strict=True)]
        )
        patient = np.repeat(np.arange(13), cases)
        old = patient < 12
        zeros = np.zeros(old.sum(), dtype=int)
        threshold = conformal_threshold(
            table(own[old], zeros), zeros, coverage=0.8, groups=patient[old].tolist()
        )[0]
        hits.append((own[~old] >= threshold).mean())
    assert 0.8 - 0.03 <= np.mean(hits) <= 0.92


def test_a_set_is_never_empty_and_grades_have_no_gaps() -> None:
    probabilities = np.array([[0.4, 0.3, 0.3], [0.1, 0.1, 0.8], [0.45, 0.1, 0.45]])
    np.testing.assert_array_equal(
        prediction_set(probabilities, [0.7] * 3), [[1, 0, 0], [0, 0, 1], [1, 0, 0]]
    )
    np.testing.assert_array_equal(
        prediction_set(probabilities, [0.4] * 3), [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    )
    np.testing.assert_array_equal(
        prediction_set(probabilities, [0.4] * 3, contiguous=True), [[1, 0, 0], [0, 0, 1], [1, 1, 1]]
    )
    np.testing.assert_array_equal(
        prediction_set(probabilities, [0, 1, 1]), [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    )


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(0, 1000), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_more_coverage_makes_larger_sets(seed: int, one: float, other: float) -> None:
    probabilities, index = sample(40, seed)
    less, more = sorted((one, other))
    small, large = (
        prediction_set(probabilities, conformal_threshold(probabilities, index, coverage=c))
        for c in (less, more)
    )
    assert small.any(axis=1).all()
    assert (large >= small).all()
    assert set_quality(small, index).coverage >= less  # of the held-out cases themselves


def test_findings_one_by_one() -> None:
    random = np.random.default_rng(0)
    members = random.random((30_000, 2)) < [0.5, 0.1]
    probabilities = np.clip(
        [0.35, 0.2] + 0.3 * members + 0.2 * random.normal(size=(30_000, 2)), 0, 1
    )
    thresholds = multilabel_conformal_threshold(
        probabilities[:200], members[:200], coverage=0.9, per_class=True
    )
    assert thresholds.shape == (2, 2)
    sets = multilabel_prediction_set(probabilities[200:], thresholds)
    assert sets.shape == (29_800, 2, 2)
    assert sets.any(axis=2).all()
    for k in range(2):
        quality = set_quality(sets[:, k], members[200:, k].astype(int))
        assert min(quality.per_class) >= 0.85
    marginal = multilabel_conformal_threshold(probabilities[:200], members[:200], coverage=0.9)
    assert (marginal[:, 0] == marginal[:, 1]).all()
    quality = set_quality(
        multilabel_prediction_set(probabilities[200:], marginal)[:, 1], members[200:, 1].astype(int)
    )
    assert quality.coverage >= 0.86
    assert quality.per_class[1] < 0.8  # a rare finding is missed where nothing is promised for it
    few = multilabel_conformal_threshold(probabilities[:5], members[:5], coverage=0.9)
    assert multilabel_prediction_set(probabilities[:5], few).all()


def test_quality_by_hand() -> None:
    quality = set_quality([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1]], [0, 1, 0, 1])
    assert (quality.coverage, quality.size, quality.single, quality.cases) == (0.75, 1.5, 0.5, 4)
    np.testing.assert_equal(quality.per_class, (0.5, 1.0, math.nan))
    np.testing.assert_equal(set_quality(np.zeros((0, 2), dtype=bool), []).coverage, math.nan)
    assert conformal_threshold(np.zeros((0, 2)), []).tolist() == [0, 0]


def test_impossible_questions_are_refused() -> None:
    probabilities, index = sample(9, 0)
    with pytest.raises(UsageError, match="coverage is 90"):
        conformal_threshold(probabilities, index, coverage=90)
    with pytest.raises(UsageError, match=r"outside 0\.\.1"):
        conformal_threshold(probabilities * 2, index)
    with pytest.raises(UsageError, match="a column a class"):
        conformal_threshold(probabilities[:, 0], index)
    with pytest.raises(UsageError, match="one whole number a case"):
        conformal_threshold(probabilities, index[:3])
    with pytest.raises(UsageError, match="2 groups for 9 cases"):
        conformal_threshold(probabilities, index, groups=["a", "b"])
    with pytest.raises(UsageError, match=r"thresholds have shape \(2,\)"):
        prediction_set(probabilities, [0.5, 0.5])
    with pytest.raises(UsageError, match=r"probabilities, shape \(3,\)"):
        prediction_set(probabilities, [0.5, 0.5, math.inf])
    with pytest.raises(UsageError, match=r"thresholds have shape \(3,\)"):
        multilabel_prediction_set(probabilities, [0.5] * 3)
    with pytest.raises(UsageError, match="present has shape"):
        multilabel_conformal_threshold(probabilities, index)
    with pytest.raises(UsageError, match="sets have shape"):
        set_quality([1, 0], [1])
