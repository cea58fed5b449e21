"""Confidence learnt on held-out cases: of made-up counts, and at the end of a real training."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from hilum.dataset import Case
from hilum.evaluation import score_labels
from hilum.metrics.log_odds import BINS, CENTRES, VoxelCounts
from hilum.training.fit_confidence import (
    IGNORED,
    HeldOutCase,
    confidence_after_training,
    decided_notes,
    fit_confidence,
)
from hilum.training.strata import column_strata, region_strata
from hilum.training.voxel_files import counts_file, load_counts, save_counts
from hilum.volume import LabelTable

TABLE = LabelTable.from_names({1: "organ"})


def held_out(number, *, patient=None, temperature=2.0, bias=-0.5, site="A"):
    """A case whose voxels are in the reference as often as the calibrated probability says."""
    rng = np.random.default_rng(number)
    total = rng.poisson(np.where(np.abs(CENTRES) > 6, 300, 40))
    hits = rng.binomial(total, expit(CENTRES / temperature + bias))
    inside = CENTRES > 0
    voxels, reference = (
        np.stack([np.where(inside, 0, one), np.where(inside, one, 0)])[None]
        for one in (total, hits)
    )
    size, both = int(total[inside].sum()), int(hits[inside].sum())
    labels = np.zeros((2, 1, 1, 40_000), dtype=np.uint8)
    labels[0, 0, 0, :size] = 1
    labels[1, 0, 0, size - both : size - both + hits.sum()] = 1
    case = Case(
        f"c{number}", patient or f"p{number}", {}, columns={"site": site, "age": f"{number}"}
    )
    scores = score_labels(*labels, spacing=(10, 10, 1), table=TABLE, case=case.id)
    counts = VoxelCounts(voxels, 0.1, reference, np.array([hits.sum()]))
    return HeldOutCase(case, case.group, counts, scores)


@pytest.fixture(scope="module")
def fitted():
    cases = [held_out(n, site="A" if n % 3 else "B") for n in range(30)]
    return fit_confidence(cases, TABLE)


def test_calibration_finds_what_the_counts_were_made_with(fitted):
    region = fitted.regions[0]
    assert region.temperature == pytest.approx(2.0, rel=0.03)
    assert region.bias == pytest.approx(-0.5, abs=0.05)
    assert region.before.error > 0.03
    assert region.after.error < 0.01
    assert sum(region.after.voxels) == sum(region.before.voxels)


def test_the_expected_dice_is_the_real_one(fitted):
    dice = fitted.regions[0].dice
    assert dice.error[0] < 0.01
    assert dice.error[1] < dice.error[0] < dice.error[2]
    assert len(dice.cases) == 30
    assert dice.error_of_mean > 0
    assert abs(dice.offset) < 0.01


def test_a_dice_that_is_expected_too_high_is_lowered():
    """Voxels that err together: every real Dice is .1 below what its voxels make expect."""
    cases = [held_out(n) for n in range(12)]
    worse = [
        replace(one, scores=[replace(one.scores[0], dice=one.scores[0].dice - 0.1)])
        for one in cases
    ]
    found, plain = (fit_confidence(some, TABLE).regions[0].dice for some in (worse, cases))
    assert found.offset == pytest.approx(plain.offset - 0.1)
    np.testing.assert_allclose(found.error, plain.error, atol=1e-5)
    noise = np.random.default_rng(0).uniform(0, 1, 12)
    vague = [
        replace(one, scores=[replace(one.scores[0], dice=dice)])
        for one, dice in zip(cases, noise, strict=True)
    ]
    assert (
        "expected Dice of organ tells cases apart no better"
        in fit_confidence(vague, TABLE).impossible[-1]
    )


def test_coverage_is_shown_by_stratum(fitted):
    coverage = {one.stratum: one for one in fitted.regions[0].coverage}
    assert coverage["all"].patients == 30
    assert coverage["all"].low <= coverage["all"].covered <= coverage["all"].high
    assert coverage["site A"].patients + coverage["site B"].patients == 30
    assert sum(name.startswith("age ") for name in coverage) == 3  # thirds
    assert sum("predicted" in name for name in coverage) == 3
    assert coverage["all"].covered >= 0.8


def test_risks_are_in_order(fitted):
    region = fitted.regions[0]
    assert len(region.missed) == len(region.false) == BINS + 1
    assert (np.diff(region.missed) >= 0).all()
    assert (np.diff(region.false) <= 0).all()
    assert region.patients_with == 30


def test_few_patients_get_words():
    few = fit_confidence([held_out(n) for n in range(3)], TABLE)
    region = few.regions[0]
    assert (region.temperature, region.before, region.dice, region.coverage) == (
        1.0,
        None,
        None,
        (),
    )
    assert "3 held-out patients: the voxels are not calibrated" in few.impossible[0]
    assert "needs 9; from alpha 0.25 on" in few.impossible[1]
    assert few.notes == ()
    enough = fit_confidence([held_out(n) for n in range(12)], TABLE)
    assert not any("patients" in one for one in (*enough.notes, *enough.impossible))


def test_cases_of_a_patient_count_once():
    cases = [held_out(n, patient=f"p{n // 2}") for n in range(8)]
    found = fit_confidence(cases, TABLE)
    assert found.patients == 4
    assert found.groups == (0, 0, 1, 1, 2, 2, 3, 3)


def test_an_ensemble_is_told_that_it_was_not_measured():
    notes = fit_confidence([held_out(n) for n in range(12)], TABLE, networks=5).notes
    assert "one of the 5 networks" in notes[0]


def test_ignored_voxels_weaken_the_guarantee():
    table = LabelTable.from_names({1: "organ"}, ignore=255)
    assert fit_confidence([held_out(n) for n in range(12)], table).notes == (IGNORED,)


def test_what_held_out_cases_decided_weakens_the_guarantee():
    assert decided_notes(end=False, postprocessing=False) == ()
    (both,) = decided_notes(end=True, postprocessing=True)
    assert "decided when the training ended and the post-processing: the guarantee is not" in both


def test_a_region_that_no_case_has():
    cases = [held_out(n) for n in range(12)]
    none = [
        replace(
            one,
            counts=VoxelCounts(
                one.counts.voxels * 0, 0.1, one.counts.reference * 0, np.zeros(1, dtype=int)
            ),
            scores=[
                replace(
                    one.scores[0], dice=math.nan, volume_reference_ml=0.0, volume_prediction_ml=0.0
                )
            ],
        )
        for one in cases
    ]
    region = fit_confidence(none, TABLE).regions[0]
    assert (region.missed, region.patients_with, region.dice) == ((), 0, None)
    assert region.coverage[0].covered == 1


def test_a_region_that_vanishes_on_the_networks_grid_is_missed():
    """One patient in twelve has it, but not on the network's grid: at least 1 / 12 is missed."""
    first, *rest = [held_out(n) for n in range(12)]
    gone = replace(
        first.counts, reference=first.counts.reference * 0, referenced=np.zeros(1, dtype=int)
    )
    found = fit_confidence([replace(first, counts=gone), *rest], TABLE).regions[0]
    assert found.patients_with == 12
    assert min(found.missed) >= 1 / 12


def test_no_dice_is_expected_where_postprocessing_left_nothing():
    first, *rest = [held_out(n) for n in range(12)]
    emptied = [replace(first.scores[0], dice=0.0, volume_prediction_ml=0.0)]
    found = fit_confidence([replace(first, scores=emptied), *rest], TABLE).regions[0]
    assert found.dice.cases == tuple(range(1, 12))


def test_a_damaged_file_of_counts_costs_the_confidence_and_not_the_model(tmp_path: Path):
    one = held_out(0)
    path = counts_file(tmp_path / "fold_0" / "validation", one.case.id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK cut off")
    told = []
    fold = SimpleNamespace(number=0, validated=[one.case])
    folds = SimpleNamespace(
        scores=one.scores,
        members=[fold],
        work=tmp_path,
        data=SimpleNamespace(groups={}),
        with_notes=told.append,
    )
    confidence_after_training(folds)
    assert "the confidence could not be fitted" in told[0]


def test_strata_by_hand():
    predicted = np.arange(16.0)
    strata = region_strata("organ", predicted, predicted * (predicted > 3))
    assert [one.cases.sum() for one in strata] == [12, 4, 5, 5, 5]
    cases = [
        Case(f"c{n}", None, {}, columns={"fold": "1", "sex": "f" if n else ""}) for n in (0, 1)
    ]
    found = column_strata(cases)  # of a column that describes who was examined
    assert [(one.name, one.cases.tolist()) for one in found] == [
        ("sex f", [False, True]),
        ("sex not known", [True, False]),
    ]
    words = ("f", "NA", "f ", "unknown", "m")
    cases = [Case(f"c{n}", None, {}, columns={"sex": one}) for n, one in enumerate(words)]
    counts = {one.name: int(one.cases.sum()) for one in column_strata(cases)}
    assert counts == {"sex f": 2, "sex m": 1, "sex not known": 2}
    same = [Case(f"c{n}", None, {}, columns={"sex": "f"}) for n in range(3)]
    assert column_strata(same) == ()
    assert region_strata("organ", np.ones(3), np.ones(3)) == ()


def test_counts_come_back_from_their_file(tmp_path: Path):
    counts = held_out(0).counts
    save_counts(counts, counts_file(tmp_path, "c0"))
    found = load_counts(counts_file(tmp_path, "c0"))
    assert found.voxel_ml == counts.voxel_ml
    for name in ("voxels", "reference", "referenced"):
        np.testing.assert_array_equal(getattr(found, name), getattr(counts, name))
