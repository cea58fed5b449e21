"""DeLong: all pairs and Obuchowski's formula as oracles, coverage, what is degenerate."""

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hilum.errors import UsageError
from hilum.metrics import auroc, delong_interval, delong_test


def kernel(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(m, n) 1 where a positive case is above a negative, 1/2 where they tie."""
    return (np.sign(scores[positive][:, None] - scores[~positive]) + 1) / 2


def by_pairs(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(S, S) DeLong's covariance of scores (S, N) by the definition."""
    kernels = [kernel(row, positive) for row in scores]
    m, n = kernels[0].shape
    above = np.cov(np.stack([k.mean(axis=1) for k in kernels]), ddof=1)
    below = np.cov(np.stack([k.mean(axis=0) for k in kernels]), ddof=1)
    return np.atleast_2d(above / m + below / n)


def obuchowski(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> float:
    """Her variance of the AUROC, patient by patient, with the names of the paper."""
    k = kernel(scores, positive)
    m, n = k.shape
    theta, v10, v01 = k.mean(), k.mean(axis=1), k.mean(axis=0)
    patients = np.unique(groups)
    sums = [
        (
            v10[groups[positive] == p].sum() - (groups[positive] == p).sum() * theta,
            v01[groups[~positive] == p].sum() - (groups[~positive] == p).sum() * theta,
        )
        for p in patients
    ]
    i10, i01, i = len(set(groups[positive])), len(set(groups[~positive])), len(patients)
    s10 = i10 / ((i10 - 1) * m) * sum(a * a for a, _ in sums)
    s01 = i01 / ((i01 - 1) * n) * sum(b * b for _, b in sums)
    s11 = i / (i - 1) * sum(a * b for a, b in sums)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def sample(n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    shared = random.normal(size=n) + positive
    return (
        (shared + 0.5 * random.normal(size=n)).round(1),
        (shared + random.normal(size=n)).round(1),
        positive,
    )


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 10_000), st.integers(8, 40))
def test_midranks_give_what_all_pairs_give(seed: int, n: int) -> None:
    a, b, positive = sample(n, seed)
    if min(positive.sum(), (~positive).sum()) < 2:
        return
    covariance = by_pairs(np.stack([a, b]), positive)
    interval = delong_interval(a, positive)
    assert interval.estimate == pytest.approx(auroc(a, positive))
    assert interval.standard_error == pytest.approx(math.sqrt(covariance[0, 0]))
    assert (interval.positives, interval.negatives, interval.patients) == (
        positive.sum(),
        (~positive).sum(),
        n,
    )
    test = delong_test(a, b, positive)
    assert test.difference == pytest.approx(auroc(a, positive) - auroc(b, positive))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-9:
        assert test.z == pytest.approx(test.difference / math.sqrt(variance))
        assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(test.z)))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 10_000))
def test_patients_vary_as_the_paper_says(seed: int) -> None:
    a, _, positive = sample(30, seed)
    groups = np.random.default_rng(seed).integers(0, 12, 30)
    if min(len(set(groups[positive])), len(set(groups[~positive]))) < 2 or auroc(a, positive) in (
        0,
        1,
    ):
        return
    interval = delong_interval(a, positive, groups=groups.tolist())
    assert interval.standard_error == pytest.approx(
        math.sqrt(max(0, obuchowski(a, positive, groups))), abs=1e-9
    )
    assert interval.patients == len(set(groups))


def test_the_worked_numbers() -> None:
    # positives 3, 5; negatives 1, 4: pairs 1 0 / 1 1; V10 = 1/2, 1; V01 = 1, 1/2; both variances
    # 1/8, over 2 each: 1/8
    interval = delong_interval([3.0, 5.0, 1.0, 4.0], [1, 1, 0, 0])
    assert (interval.estimate, interval.standard_error) == pytest.approx((0.75, math.sqrt(1 / 8)))
    z = stats.norm.ppf(0.975) * math.sqrt(1 / 8) / (0.75 * 0.25)
    assert (interval.low, interval.high) == pytest.approx(
        (1 / (1 + math.exp(z) / 3), 1 / (1 + math.exp(-z) / 3))
    )
    plain = delong_interval([3.0, 5.0, 1.0, 4.0], [1, 1, 0, 0], transform="plain")
    assert (plain.low, plain.high, plain.method) == (
        pytest.approx(0.75 - 1.959964 * math.sqrt(1 / 8)),
        1.0,
        "plain",
    )


def test_studies_counted_twice_are_no_more_evidence() -> None:
    a, b, positive = sample(60)
    once, test = delong_interval(a, positive), delong_test(a, b, positive)
    patients = list(range(60)) * 2
    twice = delong_interval(np.tile(a, 2), np.tile(positive, 2), groups=patients)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert astuple(
        delong_test(np.tile(a, 2), np.tile(b, 2), np.tile(positive, 2), groups=patients)
    ) == pytest.approx(astuple(test))
    naive = delong_interval(np.tile(a, 2), np.tile(positive, 2))
    assert naive.high - naive.low < 0.8 * (once.high - once.low)


def test_own_patients_are_no_patients() -> None:
    a, b, positive = sample(30)
    names = [f"p{i}" for i in range(30)]
    assert delong_interval(a, positive, groups=names) == delong_interval(a, positive)
    assert delong_test(a, b, positive, groups=names) == delong_test(a, b, positive)


def test_symmetries() -> None:
    a, b, positive = sample(50)
    forward, turned = delong_interval(a, positive), delong_interval(a, ~positive)
    assert (turned.low, turned.high) == pytest.approx((1 - forward.high, 1 - forward.low))
    stretched = delong_interval(np.exp(a), positive)
    assert (stretched.low, stretched.high) == pytest.approx((forward.low, forward.high))
    there, back = delong_test(a, b, positive), delong_test(b, a, positive)
    assert (back.difference, back.z, back.p_value) == pytest.approx(
        (-there.difference, -there.z, there.p_value)
    )
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (there.a, there.b) == pytest.approx((auroc(a, positive), auroc(b, positive)))
    wide = delong_interval(a, positive, level=0.99)
    assert wide.low < forward.low < forward.high < wide.high


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), max_size=12),
    st.sampled_from(["logit", "plain"]),
    st.booleans(),
)
def test_never_outside_and_never_without_its_estimate(
    cases: list[tuple[int, bool, int]], transform: str, grouped: bool
) -> None:
    scores, positive, patients = (
        (list(column) for column in zip(*cases, strict=True)) if cases else ([], [], [])
    )
    interval = delong_interval(
        scores, positive, transform=transform, groups=patients if grouped else None
    )
    if interval.method == "none":
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
    else:
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_perfect_separation_is_no_certainty() -> None:
    for m, n in itertools.product((1, 5, 20), repeat=2):
        positive = np.arange(m + n) < m
        interval = delong_interval(positive.astype(float), positive)
        assert (interval.method, interval.estimate, interval.high) == ("pairs", 1, 1)
        assert interval.low == pytest.approx(0.025 ** (1 / min(m, n)))
        turned = delong_interval(1 - positive.astype(float), positive)
        assert (turned.low, turned.high) == (0, pytest.approx(1 - interval.low))
    # two patients with both classes make one pair that shares nobody; with one patient there is
    # none
    assert delong_interval(
        [1, 1, 0, 0], [1, 1, 0, 0], groups=["a", "b", "a", "b"]
    ).low == pytest.approx(0.025)
    assert delong_interval([1, 1, 0, 0], [1, 1, 0, 0], groups=["a"] * 4).method == "none"


def test_the_bound_of_perfect_separation_holds() -> None:
    """With an AUROC at the bound, perfect separation is at most as frequent as the level allows."""
    m = n = 6
    bound = 0.025 ** (1 / m)
    shift = math.sqrt(2) * stats.norm.ppf(bound)
    random = np.random.default_rng(0)
    positives, negatives = random.normal(shift, 1, (20_000, m)), random.normal(0, 1, (20_000, n))
    assert (positives.min(axis=1) > negatives.max(axis=1)).mean() <= 0.025


def test_a_constant_knows_nothing_for_certain() -> None:
    interval = delong_interval([0.3] * 6, [1, 1, 0, 0, 0, 0])
    assert (interval.method, interval.low, interval.estimate, interval.high) == (
        "constant",
        0.5,
        0.5,
        0.5,
    )


@pytest.mark.parametrize(
    ("scores", "positive", "estimate"),
    [
        ([], [], math.nan),
        ([1, 2], [1, 1], math.nan),
        ([1, 2], [0, 0], math.nan),
        ([1, 0, 2], [1, 0, 0], 0.5),
    ],
)
def test_no_interval(scores: list[float], positive: list[int], estimate: float) -> None:
    interval = delong_interval(scores, positive)
    np.testing.assert_equal(
        [interval.estimate, interval.low, interval.high], [estimate, math.nan, math.nan]
    )
    assert interval.method == "none"
    assert math.isnan(delong_test(scores, scores[::-1], positive).p_value)


def test_two_scores_of_one_order_do_not_differ() -> None:
    a, _, positive = sample(20)
    same = delong_test(a, 2 * a + 1, positive)
    assert (same.difference, same.low, same.high, same.z, same.p_value) == (0, 0, 0, 0, 1)
    perfect = delong_test(
        [3, 4, 1, 2], [1, 1, 1, 1], [1, 1, 0, 0]
    )  # variance 0, yet they differ: nothing is said
    assert perfect.difference == 0.5
    assert math.isnan(perfect.p_value)
    assert math.isnan(perfect.low)


def covered(scores_of: object, truth: float, rounds: int, **options: object) -> float:
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(rounds):
        scores, positive, groups = scores_of(random)
        interval = delong_interval(scores, positive, groups=groups, **options)
        hits += interval.low <= truth <= interval.high
    return hits / rounds


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    shift = math.sqrt(2) * stats.norm.ppf(0.9)

    def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, None]:
        positive = np.arange(60) < 20
        return random.normal(size=60) + shift * positive, positive, None

    logit, plain = covered(draw, 0.9, 600), covered(draw, 0.9, 600, transform="plain")
    assert 0.93 <= logit <= 0.98
    assert plain < logit  # why logit is the default


def test_intervals_of_patients_hold_the_truth_where_those_of_cases_do_not() -> None:
    shift = 2 * stats.norm.ppf(0.8)  # each score has variance 2: the patient's and the case's

    def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[int]]:
        patients = np.repeat(np.arange(60), 4)
        positive = patients % 2 == 0
        return (
            random.normal(size=60)[patients] + random.normal(size=240) + shift * positive,
            positive,
            patients.tolist(),
        )

    assert covered(draw, 0.8, 400) >= 0.92
    assert covered(lambda random: (*draw(random)[:2], None), 0.8, 400) < 0.85


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="level between 0 and 1"):
        delong_interval([1, 2], [0, 1], level=95)
    with pytest.raises(UsageError, match='"logit" or "plain"'):
        delong_interval([1, 2], [0, 1], transform="probit")
    with pytest.raises(UsageError, match="3 groups for 2 cases"):
        delong_interval([1, 2], [0, 1], groups=[1, 2, 3])
    with pytest.raises(UsageError, match="positive has shape"):
        delong_test([1, 2], [1, 2, 3], [0, 1])


POOR, GOOD = 41, 72
"""Patients of the aSAH data by outcome (Turck et al., Intensive Care Med 36, 2010)."""
S100B = (
    (41, 0), (40, 0), (40, 5), (40, 8), (40, 10), (37, 16), (36, 22), (34, 28), (32, 35), (31, 39),
    (30, 39), (28, 42), (27, 46), (27, 50), (26, 53), (26, 55), (26, 56), (26, 58), (25, 58),
    (24, 58), (24, 59), (23, 59), (22, 59), (21, 59), (21, 60), (20, 60), (19, 61), (18, 62),
    (18, 63), (17, 63), (17, 64), (16, 64), (16, 65), (14, 65), (14, 66), (14, 67), (14, 69),
    (13, 70), (12, 70), (12, 72), (11, 72), (10, 72), (9, 72), (8, 72), (6, 72), (5, 72), (4, 72),
    (3, 72), (2, 72), (1, 72), (0, 72),
)  # fmt: skip
WFNS = ((41, 0), (39, 37), (27, 57), (26, 60), (18, 68), (0, 72))
"""Published ROC curves: at each threshold the poor outcomes above it and the good ones below."""


@pytest.mark.parametrize(
    ("curve", "area", "variance", "interval"),
    [
        (S100B, 0.73136856368563685, 0.00266868245717244, (0.6301, 0.8326)),
        (WFNS, 0.82367886178861793, 0.00146991470882363, (0.7485, 0.8988)),
    ],
)
def test_the_published_areas_of_proc(curve, area, variance, interval) -> None:
    """R's pROC on its data aSAH: Robin et al., BMC Bioinformatics 12 (2011), and its own tests."""
    scores: list[int] = []
    positive: list[bool] = []
    for step, (before, after) in enumerate(itertools.pairwise(curve)):
        poor, good = before[0] - after[0], after[1] - before[1]
        scores += [step] * (poor + good)
        positive += [True] * poor + [False] * good
    assert (sum(positive), len(positive)) == (POOR, POOR + GOOD)
    found = delong_interval(scores, positive, transform="plain")
    assert found.estimate == pytest.approx(area, abs=1e-12)
    assert found.standard_error**2 == pytest.approx(variance, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(interval, abs=6e-5)
