"""Guarantees from held-out patients: by hand, and kept in simulated studies."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from hilum.errors import UsageError
from hilum.metrics.log_odds import BINS
from hilum.metrics.rank_correlation import spearman
from hilum.metrics.risk_control import (
    HeldVolumes,
    check_alpha,
    conformal_quantile,
    count_above,
    false_share,
    highest_outer_threshold,
    left_out_coverage,
    lowest_inner_threshold,
    mean_risk,
    missed_share,
    patients_for,
    smallest_alpha,
)


def row(**counts):
    """(BINS,) counts, by "b" and the number of the bin."""
    found = np.zeros(BINS)
    for name, number in counts.items():
        found[int(name[1:])] = number
    return found


def test_the_smallest_alpha_of_n_patients():
    assert smallest_alpha(9) == pytest.approx(0.1)
    check_alpha(0.1, 9)
    with pytest.raises(UsageError, match="8 held-out patients") as refused:
        check_alpha(0.1, 8)
    assert "1 / (n + 1), 0.112; for 0.1 9 patients" in str(refused.value)
    assert "alpha=0.112" in str(refused.value)
    check_alpha(0.112, 8)
    with pytest.raises(UsageError, match="out of range"):
        check_alpha(1.0, 1000)


def test_the_conformal_quantile_by_hand():
    scores = [3.0, 1.0, 2.0, 9.0, 5.0, 4.0, 8.0, 7.0, 6.0]
    assert conformal_quantile(scores, 0.1) == 9.0
    assert conformal_quantile(scores, 0.2) == 8.0
    assert conformal_quantile(scores, 0.5) == 5.0
    assert math.isinf(conformal_quantile(scores[:8], 0.1))
    assert math.isinf(conformal_quantile([], 0.5))


def test_each_patient_weighs_the_same():
    """Patient a's four cases are one ninth together."""
    scores = [1.0, 1.0, 1.0, 1.0, *range(2, 10)]
    groups = ["a"] * 4 + [str(n) for n in range(8)]
    assert conformal_quantile(scores, 0.1, groups) == 9.0
    assert conformal_quantile(scores, 0.8, groups) == 2.0
    assert math.isinf(conformal_quantile([1.0, 2.0], 0.3, ["a", "a"]))


def test_shares_by_hand():
    reference = np.stack([row(b0=1, b80=3, b159=4)])
    missed = missed_share(reference, [10])[0]  # 2 more voxels are below every threshold
    assert missed[0] == pytest.approx(0.2)
    assert missed[1] == missed[80] == pytest.approx(0.3)
    assert missed[81] == pytest.approx(0.6)
    assert missed[BINS] == 1
    voxels = np.stack([row(b0=1, b80=6, b159=4)])
    false = false_share(voxels, np.stack([row(b0=1, b80=3, b159=2)]))[0]
    assert false[BINS] == 0
    assert false[159] == pytest.approx(0.5)
    assert false[0] == pytest.approx(0.5)  # 5 / 11, but a higher threshold had more


def test_a_case_without_the_region_makes_every_voxel_false():
    false = false_share(np.stack([row(b80=1)]), np.zeros((1, BINS)))[0]
    assert false[80] == 1
    assert false[81] == 0
    assert np.isnan(missed_share(np.zeros((1, BINS)), [0])).all()


def test_thresholds_are_the_tightest_that_hold():
    """A mean share r of 9 patients counts as (9 r + 1) / 10."""
    missed = np.linspace(0, 1, BINS + 1)
    place = highest_outer_threshold(missed, 9, 0.28)
    assert missed[place] <= 0.2 < missed[place + 1]
    place = lowest_inner_threshold(missed[::-1], 9, 0.28)
    assert missed[::-1][place] <= 0.2 < missed[::-1][place - 1]
    assert lowest_inner_threshold(np.zeros(BINS + 1), 8, 0.1) is None
    assert highest_outer_threshold(np.full(BINS + 1, 0.5), 99, 0.1) is None
    assert highest_outer_threshold(np.full(BINS + 1, np.nan), 99, 0.1) is None


def test_counting_above_a_threshold():
    voxels = np.stack([row(b3=2), row(b3=1, b159=5)])
    assert [count_above(voxels, at) for at in (0, 3, 4, BINS)] == [8, 8, 5, 0]


def test_mean_risk_is_of_patients():
    assert mean_risk([[0.0], [1.0], [1.0]], ["a", "b", "b"])[0] == pytest.approx(0.5)
    assert np.isnan(mean_risk(np.zeros((0, 3)))).all()


def study(rng, n):
    """Volumes of n cases: errors grow with the volume, one in eight is missed."""
    truth = rng.lognormal(2, 1, n)
    predicted = truth * rng.lognormal(-0.05, 0.15, n) * (rng.random(n) > 1 / 8)
    return predicted, truth, 0.1 * predicted + rng.exponential(0.2, n)


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (20, 0.1), (40, 0.2)])
def test_the_volume_interval_fails_as_seldom_as_it_says(n, alpha):
    rng, fails, studies = np.random.default_rng(n), [], 1000
    for _ in range(studies):
        predicted, truth, spread = study(rng, n + 1)
        held = HeldVolumes(predicted[:-1], truth[:-1], spread[:-1])
        low, high = held.interval(predicted[-1], spread[-1], alpha)
        fails.append(not low <= truth[-1] <= high)
    error = 3 * math.sqrt(alpha * (1 - alpha) / studies)
    assert np.mean(fails) <= alpha + error
    assert np.mean(fails) >= alpha - 1 / (n + 1) - error  # and not far below


def test_the_interval_of_too_few_patients_has_no_end():
    held = HeldVolumes(np.ones(5), np.ones(5), np.ones(5))
    assert math.isinf(held.interval(1.0, 1.0, 0.1)[1])
    assert HeldVolumes(np.zeros(9), np.zeros(9), np.zeros(9)).interval(0.0, 0.0, 0.1) == (0, 0)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_contours_miss_and_invent_as_little_as_they_say(alpha):
    """Each study: 30 patients whose networks are wrongly sure to different degrees."""
    rng, missed, false, n = np.random.default_rng(5), [], [], 30
    for _ in range(200):
        odds = rng.normal(0, 3, (n + 1, 200)) + rng.normal(0, 1, (n + 1, 1))
        truth = rng.random(odds.shape) < 1 / (1 + np.exp(-0.7 * odds + 0.5))
        place = np.clip(((odds + 10) * BINS / 20).astype(int), 0, BINS - 1)
        voxels, hits = (
            np.stack([np.bincount(p, w, BINS) for p, w in zip(place, weights, strict=True)])
            for weights in (np.ones_like(odds), truth.astype(float))
        )
        losses = missed_share(hits, hits.sum(axis=1)), false_share(voxels, hits)
        outer = highest_outer_threshold(mean_risk(losses[0][:n]), n, alpha)
        inner = lowest_inner_threshold(mean_risk(losses[1][:n]), n, alpha)
        missed.append(losses[0][n, outer])
        false.append(losses[1][n, inner])
    for risks in (missed, false):
        assert np.mean(risks) <= alpha + 3 * np.std(risks) / math.sqrt(len(risks))
    assert np.mean(missed) >= alpha / 2  # not by taking everything in


def test_coverage_leaves_the_patient_out():
    """The one outlier is covered by nobody else's errors; the others are by its own."""
    reference = np.append(np.full(19, 1.1), 9.0)
    held = HeldVolumes(np.ones(20), reference, np.ones(20))
    assert left_out_coverage(held, 0.1).tolist() == [1.0] * 19 + [0.0]
    paired = HeldVolumes(np.ones(20), reference, np.ones(20), [*range(19), 18])
    assert left_out_coverage(paired, 0.1)[19] == 0


def test_spearman_is_scipys_over_patients():
    rng = np.random.default_rng(0)
    a = rng.normal(size=30)
    b = a + rng.normal(size=30)
    r, low, high = spearman(a, b)
    assert r == pytest.approx(spearmanr(a, b).statistic)
    assert low < r < high
    twice = spearman(np.repeat(a, 2), np.repeat(b, 2), np.repeat(np.arange(30), 2).tolist())
    assert twice == pytest.approx((r, low, high))
    assert np.isnan(spearman([1.0] * 5, [1, 2, 3, 4, 5])).all()
    assert np.isnan(spearman([1, 2, 3], [1, 2, 3])).all()


def test_an_alpha_needs_the_patients_whose_smallest_it_is():
    assert all(patients_for(smallest_alpha(n)) == n for n in range(1, 400))
    assert (patients_for(0.1), patients_for(0.09), patients_for(0.5)) == (9, 11, 1)
