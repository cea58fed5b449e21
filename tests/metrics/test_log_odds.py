"""Voxels counted by log odds: bins, calibration, expected Dice and reliability, by hand."""

import numpy as np
import pytest
from scipy.special import expit

from hilum.errors import UsageError
from hilum.metrics.log_odds import (
    BINS,
    CENTRES,
    EDGES,
    LEAST,
    LogOddsCalibration,
    calibrate_log_odds,
    calibration_gap,
    expected_dice,
    log_odds_bin,
    reliability,
    volume_spread,
)


def at(*pairs):
    """(BINS,) counts: pairs of a probability and a number of voxels."""
    counts = np.zeros(BINS)
    for probability, number in pairs:
        counts[log_odds_bin(np.array([probability]))[0]] += number
    return counts


def test_every_probability_lies_within_its_bin():
    probability = np.random.default_rng(0).uniform(LEAST, 1 - LEAST, 1000)
    place = log_odds_bin(probability)
    odds = np.log(probability / (1 - probability))
    assert (EDGES[place] <= odds + 1e-9).all()
    assert (odds <= EDGES[place + 1] + 1e-9).all()


def test_the_ends_hold_what_is_beyond_them():
    assert log_odds_bin(np.float32([1.0, 0.99999999, LEAST])).tolist() == [BINS - 1, BINS - 1, 0]


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, -0.7), (0.6, 1.2)])
def test_calibration_finds_the_line_that_made_the_counts(temperature, bias):
    voxels = np.random.default_rng(1).integers(1, 10**6, BINS).astype(float)
    found = calibrate_log_odds(voxels, voxels * expit(CENTRES / temperature + bias))
    assert found.temperature == pytest.approx(temperature, rel=1e-6)
    assert found.bias == pytest.approx(bias, abs=1e-6)
    np.testing.assert_allclose(found.probabilities, expit(CENTRES / temperature + bias))


def test_what_cannot_be_calibrated_is_left_with_a_reason():
    apart = calibrate_log_odds(at((0.1, 9), (0.9, 9)), at((0.9, 9)))
    assert (apart.temperature, apart.bias) == (1.0, 0.0)
    assert "without error" in apart.reason
    upside_down = calibrate_log_odds(at((0.1, 9), (0.9, 9)), at((0.1, 8), (0.9, 1)))
    assert upside_down.temperature == 1.0
    assert "did not mean more" in upside_down.reason
    assert calibrate_log_odds(at((0.5, 3)), at()).temperature == 1.0


def test_more_reference_than_voxels_is_refused():
    with pytest.raises(UsageError, match="counts of shapes"):
        calibrate_log_odds(at((0.5, 1)), at((0.5, 2)))


def test_expected_dice_by_hand():
    """Inside 10 voxels of .8, outside 10 of .2: 2 x 8 / (10 + 8 + 2)."""
    voxels = np.stack([at((0.2, 10)), at((0.8, 10))])
    probabilities = np.zeros(BINS)
    probabilities[log_odds_bin(np.array([0.2, 0.8]))] = 0.2, 0.8
    assert expected_dice(voxels, probabilities) == pytest.approx(0.8)
    assert np.isnan(expected_dice(np.stack([at((0.2, 10)), at()]), probabilities))


def test_expected_dice_is_the_mean_of_references_with_these_probabilities():
    rng = np.random.default_rng(3)
    p = rng.beta(0.4, 0.6, 4000).clip(1e-3, 1 - 1e-3)
    inside = p > 0.5
    place = log_odds_bin(p)
    voxels = np.stack([np.bincount(place[own], minlength=BINS) for own in (~inside, inside)])
    dice = [
        2 * (inside & truth).sum() / (inside.sum() + truth.sum())
        for truth in (rng.random((300, p.size)) < p)
    ]
    found = expected_dice(voxels, LogOddsCalibration().probabilities)
    assert found == pytest.approx(np.mean(dice), abs=2e-3)


def test_the_spread_is_that_of_voxels_which_err_together():
    voxels = np.stack([at((0.5, 6)), at((0.5, 4))])
    assert volume_spread(voxels) == pytest.approx(5.0, rel=1e-3)
    assert volume_spread(np.zeros((2, BINS))) == 0


def test_reliability_by_hand():
    """Two patients: of 10 voxels of .25 each, 1 and 4 are the reference's."""
    voxels = np.stack([at((0.25, 10)), at((0.25, 10), (0.95, 20))])
    hits = np.stack([at((0.25, 1)), at((0.25, 4), (0.95, 20))])
    p = np.zeros(BINS)
    p[log_odds_bin(np.array([0.25, 0.95]))] = 0.25, 0.95
    curve = reliability(voxels, hits, p)
    np.testing.assert_allclose(curve.predicted, [0.25, 0.95])
    np.testing.assert_allclose(curve.observed, [0.25, 1.0])
    np.testing.assert_allclose(curve.cases, [20, 20])
    error = 1.96 * np.sqrt((1.5**2 + 1.5**2) * 2) / 20
    np.testing.assert_allclose(curve.high[0] - curve.observed[0], error)
    assert calibration_gap(curve) == pytest.approx(0.025)
    one = reliability(voxels[:1], hits[:1], p)
    assert np.isnan(one.low).all()
    assert not len(reliability(np.zeros((0, BINS)), np.zeros((0, BINS)), p).cases)
    assert np.isnan(calibration_gap(reliability(np.zeros((0, BINS)), np.zeros((0, BINS)), p)))


def test_two_cases_of_a_patient_are_one_in_the_interval():
    voxels, hits = np.stack([at((0.5, 10))] * 2), np.stack([at((0.5, 2)), at((0.5, 8))])
    together = reliability(voxels, hits, LogOddsCalibration().probabilities, ["a", "a"])
    assert np.isnan(together.low).all()  # one patient has no spread
    apart = reliability(voxels, hits, LogOddsCalibration().probabilities, ["a", "b"])
    assert apart.low[0] < 0.5 < apart.high[0]
