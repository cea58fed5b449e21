"""Tuning at the end of a training, from the label maps of its validation cases."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from training_samples import small_plan, write_boxes

from hilum.dataset import open_dataset, read_annotation
from hilum.evaluation import evaluate_folder, score_labels
from hilum.inference import TrainedModel
from hilum.io import read_labels, write_labels
from hilum.pipelines.training import train as run
from hilum.training import Listener, TrainOptions
from hilum.training.assemble import first_scores
from hilum.training.checkpoint import Progress
from hilum.training.fold import TrainedFold
from hilum.training.task import TrainedFolds
from hilum.training.time_plan import TimePlan
from hilum.training.tuning.after_training import tune_after_training
from hilum.training.tuning.postprocessing import learn_postprocessing
from hilum.training.tuning.records import PostprocessingTuning


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    dataset = open_dataset(write_boxes(tmp_path_factory.mktemp("boxes") / "data", cases=24))
    return dataset, small_plan(dataset)


def trained(dataset, work, *, parts=2, specks=True):
    """Members as two folds would leave them: label maps with specks far from the boxes, and their
    scores.
    """
    rng = np.random.default_rng(0)
    members = []
    for number in range(parts):
        cases = dataset.cases[number::parts]
        scores = []
        for case in cases:
            reference = read_annotation(case)
            made = reference.array.copy()
            if specks:
                y, x = rng.integers(17, 19), rng.integers(0, 14)
                made[0, 0:2, y : y + 2, x : x + 2] = 1
            labels = reference.with_array(made)
            folder = work / f"fold_{number}" / "validation"
            folder.mkdir(parents=True, exist_ok=True)
            write_labels(labels, folder / f"{case.id}.nii.gz")
            scores += score_labels(
                made[0],
                reference.array[0],
                spacing=reference.geometry.spacing,
                table=dataset.labels,
                case=case.id,
                patient=case.patient,
            )
        progress = Progress(step=7, seconds=1.0)
        fold = TrainedFold(number, nn.Identity(), progress, tuple(scores), (), cases)
        members.append(fold)
    return members


def ended(plan, members, work, *, said=None, minutes=None):
    """The folds as `run` has them after their last one."""
    return TrainedFolds(
        None,
        plan,
        (),
        tuple(members),
        work,
        torch.device("cpu"),
        TrainOptions(device="cpu"),
        Listener() if said is None else Listener(say=said.append),
        time_plan=TimePlan.of(minutes, {}, started=0.0),
        scores=first_scores(members),
    )


def test_specks_are_learnt_to_be_removed_and_the_scores_are_those_of_what_is_answered_now(
    boxes, tmp_path
):
    dataset, plan = boxes
    members = trained(dataset, tmp_path)
    said: list[str] = []
    learnt = tune_after_training(ended(plan, members, tmp_path, said=said))
    assert [step.kind for step in learnt.plan.postprocessing.value] == ["largest_component"]
    assert "24 cases of 12 patients" in learnt.plan.postprocessing.because
    assert said[-1].startswith(
        "Post-processing: largest component of the whole foreground, because on 24 cases"
    )
    assert any(
        "post-processed by what was learnt from other patients" in note for note in learnt.notes
    )
    scored = {(score.case, score.region): score for score in learnt.scores}
    evaluation = evaluate_folder(tmp_path / "postprocessed", dataset, tmp_path / "evaluation")
    assert len(scored) == len(evaluation.scores) == 48
    for score in evaluation.scores:
        assert scored[score.case, score.region].dice == score.dice == 1.0
    held = PostprocessingTuning.model_validate_json((tmp_path / "postprocessing.json").read_text())
    assert held.steps == learnt.plan.postprocessing.value
    raw = read_labels(tmp_path / "fold_0" / "validation" / f"{dataset.cases[0].id}.nii.gz").array
    assert (
        raw[0, 0] == 1
    ).any()  # what the network said stays, so that a training that is resumed learns the same again


def test_a_case_is_scored_with_what_other_patients_teach_alone(boxes, tmp_path, monkeypatch):
    """Another lesson for one part of the patients shows in their scores and in no
    one else's.
    """
    dataset, plan = boxes
    members = trained(dataset, tmp_path)
    raw = {(score.case, score.region): score.dice for member in members for score in member.scores}

    def one_part_is_taught_nothing(*asked, **more):
        found = learn_postprocessing(*asked, **more)
        return found.model_copy(
            update={"parts": (found.parts[0].model_copy(update={"steps": ()}), *found.parts[1:])}
        )

    monkeypatch.setattr(
        "hilum.training.tuning.after_training.learn_postprocessing", one_part_is_taught_nothing
    )
    learnt = tune_after_training(ended(plan, members, tmp_path))
    held = PostprocessingTuning.model_validate_json((tmp_path / "postprocessing.json").read_text())
    assert 0 < len(held.parts[0].cases) < 24
    assert sorted(case for part in held.parts for case in part.cases) == sorted(
        case.id for case in dataset.cases
    )
    for score in learnt.scores:
        expected = raw[score.case, score.region] if score.case in held.parts[0].cases else 1.0
        assert score.dice == expected
    patients = [{dataset[case].patient for case in part.cases} for part in held.parts]
    assert sum(map(len, patients)) == len(set().union(*patients))  # no patient is in two parts


def test_what_needs_nothing_gets_nothing(boxes, tmp_path):
    dataset, plan = boxes
    members = trained(dataset, tmp_path, specks=False)
    learnt = tune_after_training(ended(plan, members, tmp_path))
    assert learnt.plan.postprocessing.value == ()
    assert "nothing helped" in learnt.plan.postprocessing.because
    assert learnt.scores == first_scores(members)
    assert learnt.notes == ()
    assert not (tmp_path / "postprocessed").exists()


def test_without_time_nothing_is_learnt_and_nothing_else_is_lost(boxes, tmp_path):
    dataset, plan = boxes
    members = trained(dataset, tmp_path)
    learnt = tune_after_training(ended(plan, members, tmp_path, minutes=1e-9))
    assert learnt.plan.postprocessing.value == ()
    assert "the time was up" in learnt.plan.postprocessing.because
    assert "hilum tune" in learnt.plan.postprocessing.because
    assert learnt.scores == first_scores(members)


def test_an_end_that_was_interrupted_leaves_nothing_that_the_metrics_are_not_of(boxes, tmp_path):
    """Files of a run that was killed after it had learnt something, where the next one learns
    nothing.
    """
    dataset, plan = boxes
    members = trained(dataset, tmp_path, specks=False)
    (tmp_path / "postprocessed").mkdir()
    for name in ("postprocessed/box_00.nii.gz", "postprocessing.json"):
        (tmp_path / name).write_text("of the run that was killed")
    assert tune_after_training(ended(plan, members, tmp_path)).plan.postprocessing.value == ()
    assert not (tmp_path / "postprocessed").exists()
    assert (
        PostprocessingTuning.model_validate_json(
            (tmp_path / "postprocessing.json").read_text()
        ).steps
        == ()
    )


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["an answer", "a full disk", "a bug"])
def test_what_fails_costs_what_it_was_to_learn_and_not_the_model(
    boxes, tmp_path, monkeypatch, what
):
    dataset, plan = boxes
    members = trained(dataset, tmp_path)
    if what == "an answer":
        (tmp_path / "fold_1" / "validation" / f"{dataset.cases[3].id}.nii.gz").write_bytes(
            b"rubbish"
        )
    elif what == "a full disk":
        monkeypatch.setattr("hilum.training.tuning.after_training.write_labels", full)
    else:
        monkeypatch.setattr(
            "hilum.training.tuning.after_training.learn_postprocessing",
            lambda *_, **__: {}["nothing"],
        )
    learnt = tune_after_training(ended(plan, members, tmp_path))
    assert learnt.plan.postprocessing.value == ()
    reason = {"an answer": "box_03", "a full disk": "No space left", "a bug": "KeyError"}[what]
    assert "it could not be learnt: " in learnt.plan.postprocessing.because
    assert reason in learnt.plan.postprocessing.because
    assert learnt.notes == (f"post-processing: {learnt.plan.postprocessing.because}",)
    assert learnt.plan.overlap == plan.overlap
    assert learnt.scores == first_scores(members)
    assert not (tmp_path / "postprocessed").exists()


def test_a_plan_that_brings_post_processing_keeps_it(boxes, tmp_path):
    dataset, plan = boxes
    members = trained(dataset, tmp_path)
    first = tune_after_training(ended(plan, members, tmp_path)).plan
    again = tune_after_training(ended(first, members, tmp_path))
    assert again.plan is first
    assert again.scores == first_scores(members)


def test_few_patients_teach_nothing_and_their_files_are_not_read(boxes, tmp_path):
    dataset, plan = boxes
    member = trained(dataset, tmp_path)[0]
    few = replace(member, validated=member.validated[:4])
    for file in (tmp_path / "fold_0" / "validation").iterdir():
        file.unlink()
    learnt = tune_after_training(ended(plan, [few], tmp_path))
    assert "below 10 chance decides" in learnt.plan.postprocessing.because


def test_a_training_ends_with_it(boxes, tmp_path):
    dataset, _ = boxes
    said: list[str] = []
    model = run(
        dataset.root,
        tmp_path / "m",
        TrainOptions(steps=30, folds=2, device="cpu"),
        listener=Listener(say=said.append),
    )
    assert "24 cases of 12 patients" in model.plan.postprocessing.because
    assert any(sentence.startswith("Post-processing: ") for sentence in said)
    assert (
        TrainedModel.load(tmp_path / "m", device="cpu").plan.postprocessing
        == model.plan.postprocessing
    )
    folder = tmp_path / "m" / "training"
    answers = tmp_path / "answers"
    answers.mkdir()
    for file in folder.glob("fold_*/validation/*.nii.gz"):
        (answers / file.name).write_bytes(file.read_bytes())
    if model.plan.postprocessing.value:
        answers = folder / "postprocessed"
    scored = evaluate_folder(answers, dataset, tmp_path / "evaluation")
    for metric in model.metrics.metrics:
        if metric.name == "dice":
            (region,) = [one for one in scored.summary.regions if one.region == metric.region]
            assert metric.mean == pytest.approx(region.metrics["dice"].mean)
