"""Paired tests of a difference and of equivalence, and the patients that they need."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from hilum.errors import UsageError
from hilum.metrics import (
    equivalence_p,
    paired_test,
    patients_needed,
    permutation_p_of_columns,
    smallest_p,
)
from hilum.metrics.paired import EXACT_PATIENTS


def own(cases):
    return [f"p{i}" for i in range(cases)]


def test_wilcoxon_is_that_of_scipy():
    random = np.random.default_rng(1)
    a = random.uniform(0.6, 1.0, 25)
    b = a - random.normal(0.02, 0.03, 25)
    test = paired_test(a, b, own(25))
    assert test.p_value == pytest.approx(stats.wilcoxon(a - b).pvalue)
    assert test.difference.estimate == pytest.approx(float(np.mean(a - b)))
    assert test.deviation == pytest.approx(float(np.std(a - b, ddof=1)))
    swapped = paired_test(b, a, own(25))
    assert swapped.p_value == pytest.approx(test.p_value)
    assert swapped.difference.estimate == pytest.approx(-test.difference.estimate)


def test_patients_and_defined_pairs_count():
    a, b = [0.9, 0.8, 0.7, np.nan, 0.5], [0.8, 0.8, 0.6, 0.5, np.nan]
    test = paired_test(a, b, ["p", "p", "q", "r", "s"])
    assert (test.difference.n, test.difference.patients) == (3, 2)
    assert test.difference.estimate == pytest.approx((0.1 + 0.1) / 3)
    assert paired_test(a[:3], a[:3], own(3)).p_value == 1
    nothing = paired_test([np.nan], [0.1], ["p"])
    assert math.isnan(nothing.p_value)
    assert math.isnan(nothing.p_permutation)


def test_few_patients_get_the_exact_permutation():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.25])
    sums = [
        abs(float(np.dot(signs, differences))) for signs in itertools.product((-1, 1), repeat=5)
    ]
    wanted = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert paired_test(differences, np.zeros(5), own(5)).p_permutation == pytest.approx(wanted)
    assert paired_test(np.zeros(4), np.zeros(4), own(4)).p_permutation == 1
    even = np.array([-0.06, 0.02, 0.0, 0.04])  # the sum of floats is 7e-18, not 0
    assert paired_test(even, np.zeros(4), own(4)).p_permutation == 1


def test_many_patients_get_random_flips_as_scipy():
    random = np.random.default_rng(3)
    differences = random.normal(0.3, 1, 40)
    assert len(differences) > EXACT_PATIENTS
    ours = paired_test(differences, np.zeros(40), own(40)).p_permutation
    theirs = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.01)


def test_permutation_holds_its_level():
    random = np.random.default_rng(4)
    p = [
        paired_test(random.normal(size=8), np.zeros(8), own(8), resamples=1).p_permutation
        for _ in range(400)
    ]
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400)


def test_columns_are_flipped_by_whole_patients():
    random = np.random.default_rng(5)
    differences = random.normal(0.1, 0.2, (9, 3))
    differences[2, 0] = differences[:, 2] = np.nan  # the last region has no value at all
    differences[8] = np.nan  # nor has the last patient
    groups = ["p", "p", "q", "r", "r", "r", "s", "t", "u"]
    observed = abs(np.mean(np.nanmean(differences[:, :2], axis=0)))
    means = []
    for signs in itertools.product((-1, 1), repeat=5):
        sign = dict(zip("pqrst", signs, strict=True)) | {"u": 1}
        flipped = differences * np.array([sign[group] for group in groups])[:, None]
        means.append(abs(np.mean(np.nanmean(flipped[:, :2], axis=0))))
    wanted = np.mean(np.array(means) >= observed - 1e-12)
    assert 0.1 < wanted < 0.9
    assert permutation_p_of_columns(differences, groups) == pytest.approx(wanted)


def test_one_column_of_columns_is_the_paired_test():
    random = np.random.default_rng(6)
    for patients in (8, 30):
        values = random.normal(0.2, 1, patients)
        expected = paired_test(values, np.zeros(patients), own(patients), seed=3).p_permutation
        found = permutation_p_of_columns(values[:, None], own(patients), seed=3)
        assert found == pytest.approx(expected)


def test_columns_without_a_value_or_of_other_shapes():
    assert math.isnan(permutation_p_of_columns([[np.nan, np.nan]], ["p"]))
    assert math.isnan(permutation_p_of_columns(np.empty((0, 2)), []))
    with pytest.raises(UsageError, match="a row a case"):
        permutation_p_of_columns([0.1, 0.2], ["p", "q"])
    with pytest.raises(UsageError, match="one group a case"):
        permutation_p_of_columns([[0.1], [0.2]], ["p"])


def test_no_permutation_has_less_than_the_smallest_p():
    for patients in (1, 2, 6):
        found = permutation_p_of_columns(np.full((patients, 2), 0.3), own(patients))
        assert found == pytest.approx(smallest_p(patients))
    assert smallest_p(5000) == 0  # too small for a float, no error


def test_equivalence_is_the_two_one_sided_z_tests():
    error = 0.01 / stats.norm.ppf(0.975)
    found = equivalence_p(0.002, -0.008, 0.012, 0.02, 0.95)
    assert found == pytest.approx(float(stats.norm.sf((0.02 - 0.002) / error)))
    # at a level of 95 % the claim holds exactly where the 90 % interval lies within the margin
    end = 0.002 + stats.norm.ppf(0.95) * error
    assert equivalence_p(0.002, -0.008, 0.012, end, 0.95) == pytest.approx(0.05)
    assert equivalence_p(0.03, 0.02, 0.04, 0.02, 0.95) > 0.9
    assert equivalence_p(0, 0, 0, 0.01, 0.95) == 0
    assert equivalence_p(0.02, 0.02, 0.02, 0.01, 0.95) == 1
    assert math.isnan(equivalence_p(0.1, math.nan, math.nan, 0.2, 0.95))


def test_a_margin_is_above_zero():
    with pytest.raises(UsageError, match="margin is 0"):
        equivalence_p(0.1, 0, 0.2, 0, 0.95)


def test_patients_needed_give_the_power():
    needed = patients_needed(0.03, 0.01)
    assert needed == 73  # G*Power: 73 pairs, effect size 1/3, two-sided 5 %, power 80 %
    random = np.random.default_rng(5)
    seen = [
        stats.ttest_1samp(random.normal(0.01, 0.03, needed), 0).pvalue < 0.05 for _ in range(2000)
    ]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.03)
    assert patients_needed(0, 0.01) is None
    assert patients_needed(math.nan, 0.01) is None


def test_lengths_that_differ_are_refused():
    with pytest.raises(UsageError, match="one value a case from each method"):
        paired_test([1.0, 2.0], [1.0], ["a", "b"])
