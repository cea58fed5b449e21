"""The exact interval of a median over patients."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UsageError
from hilum.metrics import median_interval


def test_ranks_are_those_of_the_table():
    # Conover: n = 10 gives the 2nd and 9th, n = 20 the 6th and 15th
    for patients, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15), (25, 8, 18)):
        found = median_interval(range(1, patients + 1), range(patients))
        assert (found.low, found.high) == (low, high)
        assert (found.method, found.patients) == ("order statistics", patients)


def test_five_patients_have_no_95_percent_interval():
    found = median_interval([1, 2, 3, 4, 5], "abcde")
    assert (found.estimate, found.method) == (3, "none")
    assert math.isnan(found.low)
    assert median_interval([1, 2, 3, 4, 5], "abcde", level=0.9).method == "order statistics"
    assert math.isnan(median_interval([], []).estimate)


def test_a_patient_counts_once_and_undefined_is_left_out():
    values = [1.0, 3.0, math.nan, 5, 6, 7, 8, 9]  # patient a has the mean 2
    found = median_interval(values, "aabcdefg")
    assert (found.estimate, found.patients, found.n) == (6.5, 6, 7)
    assert (found.low, found.high) == (2, 9)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(6, 40), st.integers(0, 1000))
def test_coverage_is_at_least_the_level(patients, seed):
    random = np.random.default_rng(seed)
    hits = 0
    for _ in range(200):
        found = median_interval(random.exponential(size=patients), range(patients))
        hits += found.low <= math.log(2) <= found.high
    assert hits / 200 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 200)


def test_bad_arguments_are_refused():
    with pytest.raises(UsageError, match="2 groups"):
        median_interval([1.0], "ab")
    with pytest.raises(UsageError, match="level"):
        median_interval([1.0, 2], "ab", level=1.5)
