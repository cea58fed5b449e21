"""Validation of a classifier: the predictor that users run, in a fair order, within its share of
the time.
"""

import numpy as np
import pytest
import torch

from classification_toys import FINDINGS, TWO, Means, class_model, class_plan, write_cubes
from hilum import metrics
from hilum.dataset import open_dataset
from hilum.inference import ClassPredictor
from hilum.inference.predict_cases import Deadline
from hilum.plan.classification import RegionSpec
from hilum.targets.class_score import ClassScore
from hilum.targets.predictions import read_predictions, write_predictions
from hilum.training.case_order import stratified_order
from hilum.training.validators import ClassificationValidator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(
        write_cubes(tmp_path_factory.mktemp("cubes") / "data", cases=24), task="classification"
    )


def means(dataset, weight=3.0):
    plan = class_plan(region=RegionSpec(kind="mask"), patch=(4, 5, 6), channels=dataset.channels)
    return plan, Means([[0.0], [weight]]).eval()


def test_validation_is_the_predictor_that_users_run(dataset, tmp_path):
    plan, network = means(dataset)
    validator = ClassificationValidator(plan, CPU, dataset.cases[:10])
    seen = []
    scores = validator.score(
        network, save_to=tmp_path / "v", progress=lambda *row: seen.append(row)
    )
    predictor = ClassPredictor(class_model(plan, network))
    assert list(scores) == [predictor.predict(case).score for case in dataset.cases[:10]]
    assert read_predictions(tmp_path / "v") == scores
    assert seen[-1][:2] == (10, 10)
    assert {case for _, _, case in seen} == {case.id for case in dataset.cases[:10]}
    members = np.array([score.reference == "malignant" for score in scores])
    expected = metrics.auroc(np.array([score.probabilities[1] for score in scores]), members)
    assert validator.check(network) == pytest.approx(expected)
    assert expected > 0.9
    assert validator.check(Means([[0.0], [-3.0]]).eval()) == pytest.approx(1 - expected)


def test_answers_that_are_there_are_taken_and_none_is_begun_too_late(
    dataset, tmp_path, monkeypatch
):
    plan, network = means(dataset)
    validator = ClassificationValidator(plan, CPU, dataset.cases[:6])
    mark = ClassScore(case="cube_02", reference="benign", probabilities=(0.25, 0.75))
    write_predictions([mark], plan.classes, tmp_path)
    kept = validator.score(network, save_to=tmp_path, reuse=True)
    assert kept[2] == mark
    assert [score.case for score in kept] == [case.id for case in dataset.cases[:6]]
    assert validator.score(network, save_to=tmp_path)[2] != mark
    now = [0.0]
    monkeypatch.setattr("hilum.inference.predict_cases.time.perf_counter", lambda: now[0])
    slow = Means([[0.0], [3.0]]).eval()
    slow.head.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 10.0))
    assert len(validator.score(slow, deadline=Deadline(35.0))) == 3  # a fourth would end at 40
    assert len(validator.score(slow, deadline=Deadline(0.0))) == 1


def test_what_the_clock_leaves_of_a_data_set_that_is_sorted_by_class_is_a_fair_sample(
    dataset, monkeypatch
):
    plan, _ = means(dataset)
    by_class = tuple(sorted(dataset.cases, key=lambda case: case.label))
    now = [0.0]
    monkeypatch.setattr("hilum.inference.predict_cases.time.perf_counter", lambda: now[0])
    slow = Means([[0.0], [3.0]]).eval()
    slow.head.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 10.0))
    scores = ClassificationValidator(plan, CPU, by_class).score(slow, deadline=Deadline(85.0))
    assert [score.reference for score in scores] == ["benign"] * 4 + ["malignant"] * 4
    places = [[case.id for case in by_class].index(score.case) for score in scores]
    assert places == sorted(places)


def test_every_beginning_of_the_fair_order_has_of_each_class_its_share():
    ids = [f"c{n:03}" for n in range(200)]
    labels = ["malignant" if n >= 180 else "benign" for n in range(200)]
    order = stratified_order(ids, labels, TWO)
    assert sorted(order) == list(range(200))
    for end in range(10, 201, 10):
        assert abs(sum(place >= 180 for place in order[:end]) - end / 10) <= 1
    turned = stratified_order(ids[::-1], labels[::-1], TWO)
    assert [ids[::-1][place] for place in turned] == [ids[place] for place in order]
    found = stratified_order(
        ids, ["effusion"] * 90 + ["effusion|nodule"] * 10 + [""] * 100, FINDINGS
    )[:100]
    assert sum(90 <= place < 100 for place in found) == pytest.approx(5, abs=1)
    assert sum(place >= 100 for place in found) == pytest.approx(50, abs=1)
    assert stratified_order((), (), TWO) == []


def test_a_few_cases_are_spread_over_all(dataset):
    plan, _ = means(dataset)
    validator = ClassificationValidator(plan, CPU, dataset.cases * 20)
    assert len(validator.subset(30).cases) == 30  # what the time allows, no more
    assert len(validator.subset(19).cases) == 0  # fewer do not show whether an AUROC rises
    assert len(validator.subset(0).cases) == 0
    assert validator.subset(30).cases[0] is dataset.cases[0]
    assert validator.subset(30).cases[-1] is dataset.cases[-1]
    assert len(ClassificationValidator(plan, CPU, dataset.cases[:6]).subset(6).cases) == 6


def test_only_as_many_inputs_stay_in_memory_as_are_allowed(dataset, monkeypatch):
    plan, network = means(dataset)
    read = []
    prepare = ClassPredictor.prepare
    monkeypatch.setattr(
        ClassPredictor, "prepare", lambda self, case: read.append(case.id) or prepare(self, case)
    )
    one = 4 * 5 * 6 * 4  # bytes of an input
    monkeypatch.setattr("hilum.training.validators.classification.KEPT_BYTES", 3 * one)
    validator = ClassificationValidator(plan, CPU, dataset.cases[:6])
    first = validator.check(network)
    assert validator.check(network) == first
    assert sorted(read[:6]) == [case.id for case in dataset.cases[:6]]
    assert read[6:] == read[3:6]


def test_cases_of_one_class_have_no_auroc(dataset):
    plan, network = means(dataset)
    benign = tuple(case for case in dataset.cases if case.label == "benign")
    assert np.isnan(ClassificationValidator(plan, CPU, benign).check(network))
