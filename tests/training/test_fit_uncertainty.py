"""Uncertainty fitted on out-of-fold predictions: no case is calibrated by its own, sets
hold what they promise.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from classification_toys import (
    FINDINGS,
    GRADES,
    STILL,
    TABLES,
    THREE,
    TWO,
    Means,
    changed,
    class_model,
    class_plan,
    write_cubes,
)
from hilum import metrics
from hilum.dataset import open_dataset
from hilum.inference import ClassPredictor
from hilum.inference.assurance import logits_of
from hilum.inference.predict_cases import Deadline
from hilum.metrics import apply_temperature, conformal_threshold, fit_temperature, set_quality
from hilum.pipelines.classification import Classification
from hilum.plan.classification import ClassLossSpec, RegionSpec, Stage
from hilum.targets.class_score import ClassScore
from hilum.training.checkpoint import Progress
from hilum.training.fit_uncertainty import (
    class_coverage,
    cross_calibrated,
    fit_calibration,
    fit_uncertainty,
    saw_other_frequencies,
)
from hilum.training.fold import TrainedFold

CPU = torch.device("cpu")


def answers(table=TWO, n=120, *, folds=3, seed=0, sharpness=2.0) -> list[ClassScore]:
    """Two cases a patient.

    Probabilities that are `sharpness` times too sure of themselves, as logits go.
    """
    rng = np.random.default_rng(seed)
    scores = []
    for number in range(n):
        logits = rng.normal(0, 1.5, table.outputs)
        true = apply_temperature(logits[None], kind=table.kind)[0]
        if table.kind == "multilabel":
            label = "|".join(
                name for name, p in zip(table.names, true, strict=True) if rng.random() < p
            )
        else:
            label = table.names[int(rng.choice(len(true), p=true / true.sum()))]
        said = apply_temperature(logits[None] * sharpness, kind=table.kind)[0]
        scores.append(
            ClassScore(
                case=f"c{number:03}",
                patient=f"p{number // 2:03}",
                reference=label,
                probabilities=tuple(said.tolist()),
                fold=number // 2 % folds,
            )
        )
    return scores


def grouped(scores, groups) -> list[ClassScore]:
    return [score.model_copy(update={"unit": groups.get(score.case)}) for score in scores]


def other_label(table, label) -> str:
    if table.kind == "multilabel":
        return "" if label else "|".join(table.names)
    return table.names[(table.names.index(label) + 1) % len(table.names)]


# --- what all answers say
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_the_model_keeps_the_temperature_and_thresholds_of_all_answers(kind):
    table = TABLES[kind]
    scores = answers(table)
    learnt = fit_calibration(scores, table, 0.8)
    probabilities = np.array([score.probabilities for score in scores])
    members = np.array([table.indicators(score.reference) for score in scores])
    targets = members if kind == "multilabel" else members.argmax(axis=1)
    expected = fit_temperature(logits_of(probabilities, table), targets, kind=table.kind)
    assert learnt.temperature == expected.value
    assert learnt.temperature == pytest.approx(2.0, rel=0.35)
    assert (learnt.because, learnt.coverage, learnt.cases) == (expected.reason, 0.8, 120)
    patients = [score.patient for score in scores]
    for per_class, least in ((False, learnt.thresholds), (True, learnt.class_thresholds)):
        asked = {"coverage": 0.8, "per_class": per_class, "groups": patients}
        if kind == "multilabel":
            for n in range(3):
                two = np.stack([1 - probabilities[:, n], probabilities[:, n]], axis=1)
                own = conformal_threshold(two, members[:, n].astype(int), **asked)
                assert (least[n], least[3 + n]) == pytest.approx(tuple(own))
        else:
            assert least == pytest.approx(
                tuple(conformal_threshold(probabilities, targets, **asked))
            )


@pytest.mark.parametrize("kind", TABLES)
def test_the_temperature_has_no_part_in_the_sets(kind):
    """Whatever temperature the same answers gave: thresholds and sets are those of the network's
    own probabilities.
    """
    table = TABLES[kind]
    learnt = fit_calibration(answers(table), table, 0.8)
    other = learnt.model_copy(update={"temperature": 7.0})
    rows = np.array([score.probabilities for score in answers(table, 40, seed=9)])
    assert not np.allclose(learnt.apply(rows, table), other.apply(rows, table), atol=1e-3)
    for per_class in (False, True):
        assert learnt.sets(rows, table, per_class=per_class) == other.sets(
            rows, table, per_class=per_class
        )
        assert learnt.certain(rows, table, per_class=per_class) == other.certain(
            rows, table, per_class=per_class
        )


def test_sets_per_class_hold_the_rare_class_as_often_as_the_frequent_one():
    """One in eight is malignant, and the network prefers benign: on average 80 % are held, of the
    rare class far fewer.
    """
    rng = np.random.default_rng(5)
    scores = []
    for number in range(1600):
        rare = number % 8 == 0
        p = 1 / (1 + np.exp(-(rng.normal(1.0, 1.0) if rare else rng.normal(-1.0, 1.0)) + 1.5))
        label = "malignant" if rare else "benign"
        scores.append(
            ClassScore(
                case=f"c{number}", reference=label, probabilities=(1 - p, p), fold=number // 8 % 4
            )
        )
    average = class_coverage(cross_calibrated(scores, TWO, 0.8), TWO)
    each = class_coverage(cross_calibrated(scores, TWO, 0.8, per_class=True), TWO)
    assert average[1] < 0.5
    assert each[1] == pytest.approx(0.8, abs=0.06)
    assert (
        each[0] > 0.76
    )  # more than promised: where neither is likely enough the likeliest, benign, is put in
    only = [score for score in scores if score.reference == "benign"]
    assert class_coverage(cross_calibrated(only, TWO, 0.8), TWO)[1] is None


def test_too_few_answers_change_nothing_and_rule_nothing_out():
    learnt = fit_calibration(answers(n=6), TWO, 0.9)
    assert learnt.temperature == 1.0
    assert learnt.thresholds == (0.0, 0.0)
    assert "6 held-out cases" in learnt.because


# --- balanced plans
# -------------------------------------------------------------------------------------------------


def balanced_answers(n=4000, *, prevalence=0.08, seed=2):
    """Exact where both classes are as frequent, as training on evenly drawn classes leaves them.

    One in twelve is malignant.
    """
    rng = np.random.default_rng(seed)
    malignant = rng.random(n) < prevalence
    logit = 2.0 * rng.normal(np.where(malignant, 1.0, -1.0), 1.0)  # log of N(x; 1, 1) / N(x; -1, 1)
    p = 1 / (1 + np.exp(-logit))
    labels = np.where(malignant, "malignant", "benign")
    return [
        ClassScore(
            case=f"c{i}", reference=str(labels[i]), probabilities=(1 - p[i], p[i]), fold=i % 4
        )
        for i in range(n)
    ], malignant


def test_what_balanced_training_says_is_calibrated_to_the_frequencies_that_there_are():
    """On average, and among those that are called unlikely, possible and likely, out of fold."""
    scores, malignant = balanced_answers()
    raw = np.array([score.probabilities[1] for score in scores])
    plain = np.array([one.calibrated[1] for one in cross_calibrated(scores, TWO, 0.9)])
    said = np.array(
        [one.calibrated[1] for one in cross_calibrated(scores, TWO, 0.9, balanced=True)]
    )
    assert raw.mean() > 0.15
    assert plain.mean() > 0.15  # no temperature mends it
    assert said.mean() == pytest.approx(malignant.mean(), abs=0.003)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0)):
        own = (said >= low) & (said < high)
        assert said[own].mean() == pytest.approx(malignant[own].mean(), abs=0.06)
    learnt = fit_calibration(scores, TWO, 0.9, balanced=True)
    assert learnt.bias[1] - learnt.bias[0] == pytest.approx(np.log(0.08 / 0.92), abs=0.25)
    assert learnt.temperature == pytest.approx(1.0, abs=0.15)
    assert (
        learnt.thresholds == fit_calibration(scores, TWO, 0.9).thresholds
    )  # of the network's own probabilities
    assert fit_calibration(scores, TWO, 0.9).bias == ()


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ({}, False),
        ({"balance": "sampling"}, True),
        ({"balance": "weights", "loss": ClassLossSpec(class_weights=(0.5, 5.0))}, True),
        ({"loss": ClassLossSpec(class_weights=(0.5, 5.0))}, True),
        ({"balance": "sampling", "stages": (Stage(share=1.0, released=1, probe=True),)}, False),
    ],
)
def test_biases_are_learnt_where_the_plan_evens_out_frequencies(values, other):
    assert saw_other_frequencies(class_plan(**values)) is other


# --- what the answers get
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_no_answer_is_calibrated_by_answers_of_its_own_fold(kind):
    """Whatever the truth about the cases of fold 0 is: their own numbers stay, those of the other
    folds do not.
    """
    table = TABLES[kind]
    scores = answers(table)
    plain = cross_calibrated(scores, table, 0.9)
    lied = [
        (
            score.model_copy(update={"reference": other_label(table, score.reference)})
            if score.fold == 0
            else score
        )
        for score in scores
    ]
    changed = cross_calibrated(lied, table, 0.9)
    for one, two in zip(plain, changed, strict=True):
        assert (one.calibrated == two.calibrated) == (one.fold == 0)
        if one.fold == 0:
            assert (one.prediction_set, one.certain) == (two.prediction_set, two.certain)
    assert [one.case for one in plain] == [one.case for one in scores]
    assert all(
        one.probabilities == two.probabilities for one, two in zip(plain, scores, strict=True)
    )


def test_each_fold_is_calibrated_by_exactly_the_others():
    scores = answers(THREE)
    for one in cross_calibrated(scores, THREE, 0.8)[:9]:
        others = fit_calibration([score for score in scores if score.fold != one.fold], THREE, 0.8)
        row = np.array([one.probabilities])
        assert one.calibrated == pytest.approx(tuple(others.apply(row, THREE)[0]))
        assert one.prediction_set == others.sets(row, THREE)[0]
        assert one.certain is None


def test_of_a_single_fold_fifths_of_its_patients_calibrate_each_other():
    scores = answers(folds=1)
    plain = cross_calibrated(scores, TWO, 0.9)
    touched = {}
    for patient in ("p003", "p017", "p040"):
        lied = [
            (
                score.model_copy(update={"reference": other_label(TWO, score.reference)})
                if score.patient == patient
                else score
            )
            for score in scores
        ]
        changed = cross_calibrated(lied, TWO, 0.9)
        touched[patient] = {
            one.patient
            for one, two in zip(plain, changed, strict=True)
            if one.calibrated != two.calibrated
        }
        assert patient not in touched[patient]
        assert len(touched[patient]) == 48  # the other four fifths of 60 patients
    assert cross_calibrated(scores, TWO, 0.9) == plain


def test_near_duplicates_calibrate_each_other_no_more_than_cases_of_one_patient():
    scores = answers(folds=1)
    twins = {"p003", "p017", "p040"}
    units = {score.case: "twins" if score.patient in twins else score.patient for score in scores}
    lied = [
        (
            score.model_copy(update={"reference": other_label(TWO, score.reference)})
            if score.patient == "p003"
            else score
        )
        for score in scores
    ]
    touched = []
    for known in ({}, units):
        pairs = zip(
            cross_calibrated(grouped(scores, known), TWO, 0.9),
            cross_calibrated(grouped(lied, known), TWO, 0.9),
            strict=True,
        )
        touched.append({one.patient for one, two in pairs if one.calibrated != two.calibrated})
    assert touched[0] & twins
    assert touched[1]
    assert not touched[1] & twins
    one = fit_calibration(grouped(scores, dict.fromkeys(units, "all the same")), TWO, 0.9)
    assert one.thresholds == (0.0, 0.0)  # one patient promises nothing


def test_sets_of_out_of_fold_answers_count_near_duplicates_once():
    """All answers of the other folds are of one unit, which promises nothing, as one patient does:
    every class is possible.
    """
    scores = answers()
    same = {score.case: "all the same" for score in scores}
    one = cross_calibrated(grouped(scores, same), TWO, 0.9)
    assert {score.prediction_set for score in one} == {TWO.names}
    assert {len(score.prediction_set or ()) for score in cross_calibrated(scores, TWO, 0.9)} > {1}


def test_sets_hold_the_class_as_often_as_they_say_and_calibration_helps():
    for table in (TWO, THREE, GRADES):
        scores = cross_calibrated(answers(table, 1200, seed=3), table, 0.8)
        index = np.array([table.index(score.reference) for score in scores])
        sets = np.array(
            [[name in score.prediction_set for name in table.names] for score in scores]
        )
        quality = set_quality(sets, index)
        assert (
            0.77 < quality.coverage < (0.84 if table is not GRADES else 1.0)
        )  # grades between are put in
        assert 1.0 <= quality.size < len(table.names)
        losses = [
            metrics.multiclass_log_loss(np.array([getattr(score, kind) for score in scores]), index)
            for kind in ("probabilities", "calibrated")
        ]
        assert losses[1] < losses[0] - 0.03


def test_of_findings_presence_and_absence_are_promised():
    scores = cross_calibrated(answers(FINDINGS, 1200, seed=4), FINDINGS, 0.8)
    members = np.array([FINDINGS.indicators(score.reference) for score in scores])
    possible, certain = (
        np.array([[name in getattr(score, kind) for name in FINDINGS.names] for score in scores])
        for kind in ("prediction_set", "certain")
    )
    assert not (certain & ~possible).any()
    held = np.where(members, possible, ~certain)
    assert held.mean(axis=0) == pytest.approx([0.8] * 3, abs=0.04)
    assert 0.05 < certain.mean() < possible.mean() < 0.95


def test_one_fold_of_one_patient_leaves_the_answers_as_they_are():
    scores = [score.model_copy(update={"patient": "only"}) for score in answers(n=4, folds=1)]
    for one in cross_calibrated(scores, TWO, 0.9):
        assert one.calibrated == pytest.approx(one.probabilities)
        assert one.prediction_set is None


# --- the whole of it
# -------------------------------------------------------------------------------------------------


def a_fold(number, network, scores, trained, validated):
    return TrainedFold(number, network, Progress(), tuple(scores), trained, validated)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Two folds of 24 cubes, each with a `Means` that answers for the cases it has not seen."""
    folder = tmp_path_factory.mktemp("cubes")
    dataset = open_dataset(write_cubes(folder / "data", cases=24), task="classification")
    moved = STILL.model_copy(
        update={"spatial_probability": 1.0, "rotation_degrees": (17.0, 0.0, 0.0)}
    )
    plan = class_plan(
        region=RegionSpec(kind="mask"),
        patch=(6, 7, 8),
        channels=dataset.channels,
        augmentation=moved,
    )
    store = Classification().build_store(
        dataset, plan, folder / "store", [case.id for case in dataset.cases], lambda *_: None
    )
    members = []
    for number in (0, 1):
        network = Means([[0.0], [3.0 + number]]).eval()
        predictor = ClassPredictor(class_model(plan, network))
        own = [case for n, case in enumerate(dataset.cases) if n // 2 % 2 == number]
        others = tuple(case.id for case in dataset.cases if case not in own)
        scores = tuple(predictor.predict(case).score for case in own)
        members.append(a_fold(number, network, scores, others, tuple(own)))
    return dataset, plan, store, members


def test_answers_calibration_and_refusals_of_all_members(material):
    dataset, plan, store, members = material
    said = []
    scores, assurance = fit_uncertainty(plan, members, store, CPU, said.append)
    assert sorted(score.case for score in scores) == [case.id for case in dataset.cases]
    assert {score.fold for score in scores} == {0, 1}
    assert all(score.calibrated is not None for score in scores)
    own = [
        score.model_copy(update={"fold": member.number})
        for member in members
        for score in member.scores
    ]
    per_class = class_coverage(
        cross_calibrated(own, plan.classes, 0.9, per_class=True), plan.classes
    )
    assert assurance.calibration == fit_calibration(own, plan.classes, 0.9).model_copy(
        update={"class_coverage": per_class}
    )
    assert len(per_class) == 2
    assert scores == cross_calibrated(own, plan.classes, 0.9)
    assert len(assurance.refusals) == 2
    assert not said


def test_what_a_member_refuses_is_learnt_from_its_training_and_its_validation_cases(material):
    _, plan, store, members = material
    _, assurance = fit_uncertainty(plan, members, store, CPU, lambda _: None)
    for member, refusal in zip(members, assurance.refusals, strict=True):
        predictor = ClassPredictor(class_model(plan, member.network))
        held = sorted(
            float(refusal.distance(np.array(predictor.features(predictor.prepare(case).array)))[0])
            for case in member.validated
        )
        assert refusal.features.held_out == pytest.approx(held)
        trained = [store.read(case).astype(float) for case in member.trained]
        assert len(trained) == 12
        mean = np.mean([_centre(array, plan.patch.value).mean() for array in trained])
        assert float(refusal.features.mean[0]) == pytest.approx(mean, abs=2e-3)


def _centre(array, patch):
    starts = [(n - p) // 2 for n, p in zip(array.shape[1:], patch, strict=True)]
    return array[(slice(None), *(slice(s, s + p) for s, p in zip(starts, patch, strict=True)))]


def test_the_middle_of_a_stored_input_is_what_a_prediction_sees(material):
    """Also where the margin that augmentation asks for is odd: then one voxel more is stored."""
    dataset, plan, store, members = material
    predictor = ClassPredictor(class_model(plan, members[0].network))
    for case in dataset.cases[:3]:
        stored = store.read(case.id)
        assert all(
            n > p and (n - p) % 2 == 0
            for n, p in zip(stored.shape[1:], plan.patch.value, strict=True)
        )
        np.testing.assert_allclose(
            _centre(stored, plan.patch.value), predictor.prepare(case).array, atol=2e-3
        )


def test_a_case_that_two_folds_validate_counts_once_as_the_first_said(material):
    _, plan, store, members = material
    twice = replace(members[1], number=7)
    scores, _ = fit_uncertainty(plan, [*members, twice], store, CPU, lambda _: None)
    assert len(scores) == len({score.case for score in scores}) == 24
    assert 7 not in {score.fold for score in scores}


def test_too_few_cases_to_refuse_anything_are_said(material):
    _, plan, store, members = material
    few = replace(members[0], scores=members[0].scores[:2], validated=members[0].validated[:2])
    said = []
    scores, assurance = fit_uncertainty(plan, [few], store, CPU, said.append)
    assert len(scores) == 2
    assert assurance.refusals == ()
    assert said == [
        "The model will not refuse any image: there are 12 training and 2 held-out cases."
    ]


def test_cases_that_tell_when_to_refuse_are_bounded_in_number_and_time(material, monkeypatch):
    _, plan, store, members = material
    monkeypatch.setattr("hilum.training.fit_uncertainty.MOST_LEARNT", 11)
    refusal = fit_uncertainty(plan, members[:1], store, CPU, lambda _: None)[1].refusals[0]
    assert len(refusal.features.held_out) == 11
    monkeypatch.setattr("hilum.training.fit_uncertainty._FEWEST", 10)
    late = Deadline(0.0)
    refusal = fit_uncertainty(plan, members[:1], store, CPU, lambda _: None, deadline=late)[
        1
    ].refusals[0]
    assert len(refusal.features.held_out) == 10


def test_a_balanced_plan_gets_its_biases(material):
    _, plan, store, members = material
    _, plain = fit_uncertainty(plan, members, store, CPU, lambda _: None)
    _, even = fit_uncertainty(
        changed(plan, balance="sampling"), members, store, CPU, lambda _: None
    )
    assert plain.calibration.bias == ()
    assert len(even.calibration.bias) == 2


def test_without_answers_there_is_no_assurance(material):
    _, plan, store, members = material
    none = replace(members[0], scores=(), validated=())
    assert fit_uncertainty(plan, [none], store, CPU, lambda _: None) == ((), None)
