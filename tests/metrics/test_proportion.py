"""Shares over patients: scipy's Wilson for one case each, by hand and coverage for several."""

import math

import numpy as np
import pytest
from scipy import stats

from hilum.errors import UsageError
from hilum.metrics import proportion_interval, wilson_interval


@pytest.mark.parametrize(("hits", "cases"), [(0, 9), (3, 9), (9, 9), (31, 120)])
def test_one_case_a_patient_is_wilsons(hits: int, cases: int) -> None:
    right = np.arange(cases) < hits
    found = proportion_interval(right, list(range(cases)))
    truth = stats.binomtest(hits, cases).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high))
    assert (found.estimate, found.method) == (hits / cases, "wilson")
    assert (found.n, found.patients) == (cases, cases)


def test_cases_that_are_alike_count_as_one() -> None:
    right = np.arange(20) < 13
    once = proportion_interval(right, list(range(20)))
    thrice = proportion_interval(np.tile(right, 3), [*range(20)] * 3)
    assert thrice.estimate == once.estimate
    # fewer than 20 independent cases: the design effect itself is known from 20 patients only
    assert once.low - 0.03 < thrice.low < once.low
    assert once.high < thrice.high < once.high + 0.03
    all_right = proportion_interval([True] * 12, [i // 3 for i in range(12)])
    assert (all_right.low, all_right.high) == pytest.approx((float(wilson_interval(4, 4)[0]), 1))


def test_the_design_effect_by_hand() -> None:
    right, groups = [1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"]
    share, cases, patients = 0.5, 6, 3
    between = patients / (patients - 1) * (1 + 1 + 0) / cases**2
    effect = between / (share * (1 - share) / (cases - 1))
    worth = cases / effect * (stats.t.ppf(0.975, 5) / stats.t.ppf(0.975, 2)) ** 2
    found = proportion_interval(right, groups)
    assert (found.low, found.high) == pytest.approx(
        tuple(map(float, wilson_interval(share * worth, worth)))
    )


def test_patients_unlike_each_other_are_covered() -> None:
    random, held, naive = np.random.default_rng(6), 0, 0
    for _ in range(1000):
        chance = random.beta(4, 1, size=(30, 1))
        right = random.random((30, 4)) < chance
        found = proportion_interval(right.ravel(), [i // 4 for i in range(120)])
        held += found.low <= 0.8 <= found.high
        low, high = wilson_interval(right.sum(), 120)
        naive += low <= 0.8 <= high
    assert held / 1000 >= 0.935 > naive / 1000


def test_misses_of_one_patient_do_not_narrow_the_interval() -> None:
    groups = [i // 10 for i in range(100)]
    one_wrong = proportion_interval([False] + [True] * 99, groups)
    low, high = map(float, wilson_interval(9.9, 10))
    assert (one_wrong.low, one_wrong.high) == pytest.approx((low, high))
    assert one_wrong.low < proportion_interval([True] * 100, groups).low
    one_right = proportion_interval([True] + [False] * 99, groups)
    assert (one_right.low, one_right.high) == pytest.approx((1 - high, 1 - low))


def test_few_patients_whose_cases_are_alike_are_covered() -> None:
    random, held = np.random.default_rng(6), 0
    groups = [i // 10 for i in range(100)]
    for _ in range(1000):
        right = random.random((10, 10)) < random.beta(0.9, 0.1, size=(10, 1))
        found = proportion_interval(right.ravel(), groups)
        held += found.low <= 0.9 <= found.high
    assert held / 1000 >= 0.92  # 0.886 where the misses of one patient gave a design effect of 1


def test_undefined_and_impossible() -> None:
    one = proportion_interval([True, False], ["p", "p"])
    assert (one.estimate, one.method) == (0.5, "none")
    assert math.isnan(proportion_interval([], []).estimate)
    with pytest.raises(UsageError, match="groups for 2 cases"):
        proportion_interval([True, False], ["p"])
    with pytest.raises(UsageError, match="true or false"):
        proportion_interval([0.3, 0.4], ["p", "q"])
    with pytest.raises(UsageError, match="true or false"):
        proportion_interval([[True]], ["p"])
    with pytest.raises(UsageError, match="level"):
        proportion_interval([True], ["p"], level=3)
