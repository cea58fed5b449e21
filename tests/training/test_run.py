import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_samples import small_plan, write_boxes

from hilum.dataset import make_folds, open_dataset
from hilum.errors import UsageError
from hilum.evaluation import load_evaluation
from hilum.inference import Predictor, RunReport, TrainedModel
from hilum.inference.manifest import UNSAVED
from hilum.io import read_labels
from hilum.pipelines.segmentation import Segmentation
from hilum.pipelines.training import train as run
from hilum.plan import save_plan
from hilum.plan.data_card import DataCard
from hilum.training import Listener, TrainOptions, make_plan_for


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_boxes(tmp_path_factory.mktemp("boxes") / "data")
    save_plan(small_plan(open_dataset(folder)), folder.parent / "plan.json")
    return folder


@pytest.fixture(scope="module")
def options(data) -> TrainOptions:
    return TrainOptions(steps=40, device="cpu", plan=data.parent / "plan.json")


@pytest.fixture(scope="module")
def trained(data, options, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "m"
    said: list[str] = []
    stages: dict[str, float] = {}
    listener = Listener(
        say=said.append,
        advance=lambda stage, done, total, _: stages.__setitem__(stage, done / total),
    )
    return run(data, out, options, listener=listener), out, said, stages


def test_the_folder_is_complete_and_predicts_without_the_data(trained, data):
    model, out, _, _ = trained
    loaded = TrainedModel.load(out, device="cpu")
    assert loaded.id == model.id
    predictors = [Predictor(m) for m in (model, loaded, replace(model, id=UNSAVED))]
    assert len({(p.engine.name, p.engine.precision, p.engine.because) for p in predictors}) == 1
    for case in open_dataset(data).cases:
        one, two, three = (p.predict(case).labels.array for p in predictors)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_labels_do_not_depend_on_a_clock(trained, data, monkeypatch):
    """Every timing says something else at every look.

    At commit 928d41a precision and patches at a time followed it.
    """
    cases, found = open_dataset(data).cases, []
    for lie in (1.0, -1.0):
        ticks = itertools.accumulate(1 + lie * (-1) ** n * 0.9 for n in itertools.count())
        with monkeypatch.context() as clock:
            clock.setattr("time.perf_counter", lambda ticks=ticks: next(ticks))
            predictor = Predictor(TrainedModel.load(trained[1], device="cpu"))
            found.append(
                (
                    predictor.engine.precision,
                    *(predictor.predict(case).labels.array for case in cases),
                )
            )
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_two_busy_processes_choose_and_answer_alike(trained, data, tmp_path):
    code = "import sys; from hilum import api; api.predict(*sys.argv[1:])"
    images = data / "imagesTr"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(trained[1]), str(images), str(tmp_path / name)]
        )
        for name in ("a", "b")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    one, two = (RunReport.load(tmp_path / name / "run.json") for name in ("a", "b"))
    assert (one.engine, one.precision, one.device, one.options["engine_because"]) == (
        two.engine,
        two.precision,
        two.device,
        two.options["engine_because"],
    )
    assert one.engine == "openvino"
    for case in one.cases:
        a, b = (read_labels(tmp_path / name / f"{case.case}.nii.gz").array for name in ("a", "b"))
        np.testing.assert_array_equal(a, b)


def test_the_data_set_and_the_held_out_scores_are_kept(trained):
    model, out, _, _ = trained
    card = TrainedModel.load(out, device="cpu").data_card
    assert card == model.data_card == DataCard.load(out / "data_card.json")
    assert (card.cases, card.patients, card.measured) == (10, 5, None)  # the plan was given
    held_out = load_evaluation(out / "training" / "out_of_fold")
    assert {score.case for score in held_out.scores} == model.facts.cases_for("validation")
    measured = {m.region: m.mean for m in model.metrics.metrics if m.name == "dice"}
    assert {r.region: r.metrics["dice"].mean for r in held_out.summary.regions} == measured


def test_what_was_done_is_written_down(trained):
    model, out, _, _ = trained
    report = RunReport.load(out / "run.json")
    assert report.verb == "train"
    assert (report.engine, report.precision) == ("torch", model.plan.precision.value)
    assert model.metrics is not None
    assert f"torch in {model.plan.precision.value}" in model.metrics.measured_on
    assert report.seeds == {"seed": 0}
    assert report.options["steps"] == 40
    assert json.loads((out / "training" / "plan.json").read_text())["version"] == 1
    assert model.facts is not None
    assert model.facts.steps == 40
    assert model.facts.patients == 4


def test_validation_cases_are_another_patients(trained, data):
    model, out, _, _ = trained
    facts = model.facts.details["fold 0"]
    patients = {case.id: case.patient for case in open_dataset(data).cases}
    train, validation = (
        {patients[case] for case in facts[part]} for part in ("train", "validation")
    )
    assert not train & validation
    assert validation
    written = {path.name for path in (out / "training" / "fold_0" / "validation").glob("*.nii.gz")}
    assert written == {f"{case}.nii.gz" for case in facts["validation"]}


def test_metrics_have_intervals(trained):
    model = trained[0]
    dice = {metric.region: metric for metric in model.metrics.metrics if metric.name == "dice"}
    assert set(dice) == {"large", "small"}
    for metric in dice.values():
        assert 0 <= metric.mean <= 1
        assert metric.cases == 2
    assert "fold 0" in model.metrics.measured_on


def test_it_says_what_it_does_and_ends_what_it_begins(trained):
    _, out, said, stages = trained
    text = "\n".join(said)
    assert "5 folds" in text
    assert "width 8" in text
    assert "40 steps" in text
    assert all(share == pytest.approx(1.0, abs=0.06) for share in stages.values()), stages
    assert not (out / "training" / "store").exists()


def test_folds_make_an_ensemble_and_each_case_is_scored_by_who_has_not_seen_it(
    data, options, tmp_path
):
    model = run(data, tmp_path / "m", replace(options, folds=3, steps=20))
    assert len(model.networks) == 3
    loaded = TrainedModel.load(tmp_path / "m", device="cpu")
    assert len(loaded.networks) == 3
    folds = make_folds(open_dataset(data), 3)
    for number, fold in enumerate(folds):
        assert set(model.facts.details[f"fold {number}"]["validation"]) == set(fold.validation)
    assert "10 validation cases" in model.metrics.measured_on
    assert any("the ensemble itself was not measured" in note for note in model.metrics.notes)
    assert not torch.equal(*(next(iter(n.parameters())) for n in model.networks[:2]))
    assert loaded.confidence == model.confidence
    assert sorted(model.confidence.cases) == [case.id for case in open_dataset(data).cases]
    assert model.confidence.patients == 5
    assert any("one of the 3 networks" in note for note in model.confidence.notes)
    assert any("decided when the training ended" in note for note in model.confidence.notes)
    assert model.confidence.precision == model.plan.precision.value
    judged = Predictor(loaded, alpha=0.2).predict(open_dataset(data).cases[0]).confidence
    assert all(one.low_ml <= one.volume_ml <= one.high_ml for one in judged.regions)


@pytest.mark.parametrize("place", [".", "imagesTr"])
def test_a_model_is_not_written_among_the_data(data, options, place):
    before = sorted(data.rglob("*"))
    with pytest.raises(
        UsageError,
        match=r"inputs of hilum train lie in[\s\S]*choose another output folder, such as",
    ):
        run(data, data / place, options)
    assert sorted(data.rglob("*")) == before


def test_nothing_is_overwritten(trained, data, options):
    _, out, _, _ = trained
    with pytest.raises(UsageError, match="already holds a finished model"):
        run(data, out, options)


def test_resuming_a_finished_run_gives_the_same_model(data, options, tmp_path):
    first = run(data, tmp_path / "m", replace(options, steps=20))
    files = {path: path.read_bytes() for path in (tmp_path / "m").glob("*.*")}
    said: list[str] = []
    listener = Listener(say=said.append)
    again = run(data, tmp_path / "m", replace(options, steps=20, resume=True), listener=listener)
    assert again.id == first.id
    assert "holds a finished model: nothing is left to do" in said[-1]
    assert files == {path: path.read_bytes() for path in (tmp_path / "m").glob("*.*")}
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.networks[0].parameters(), again.networks[0].parameters(), strict=True)
    )


def test_a_model_that_is_missing_is_made_again_from_the_finished_training(data, options, tmp_path):
    first = run(data, tmp_path / "m", replace(options, steps=20))
    (tmp_path / "m" / "model.json").unlink()
    said: list[str] = []
    listener = Listener(say=said.append)
    again = run(data, tmp_path / "m", replace(options, resume=True), listener=listener)
    assert again.metrics == first.metrics
    assert (
        sum(sentence.startswith("Fold 0 is finished: it made 20 steps") for sentence in said) == 1
    )
    assert not any("to train on" in sentence for sentence in said)
    trained = again.facts.details["fold 0"]["training_seconds"]
    assert again.facts.seconds > trained > 0  # what the sessions before took counts


def test_the_time_is_divided_and_said_before(data, tmp_path):
    said: list[str] = []
    model = run(
        data,
        tmp_path / "m",
        TrainOptions(minutes=0.15, device="cpu"),
        listener=Listener(say=said.append),
    )
    assert model.plan.hardware.minutes == 0.15
    assert any("minutes of training, at most about" in sentence for sentence in said)
    assert model.data_card.measured.cases == 8  # those of the training
    assert [one.name for one in model.data_card.labels] == ["large", "small"]


def test_minutes_size_the_network_by_measuring(data):
    plan, pace = make_plan_for(
        open_dataset(data),
        Segmentation(),
        TrainOptions(minutes=5.0, device="cpu"),
        listener=Listener(),
    )
    assert "s a step (measured)" in plan.network.because
    assert pace.step > 0
    assert 0.5 * 300 < plan.steps.value * pace.step < 300  # what is left of the minutes


def test_networks_are_timed_for_a_share_of_the_minutes_and_that_is_shown(data, monkeypatch):
    """The share is over after the first network: the times of the others are estimated."""
    monkeypatch.setattr("hilum.training.planning.TRIAL_SHARE", 1e-9)
    stages: list[tuple[str, str]] = []
    made, pace = make_plan_for(
        open_dataset(data),
        Segmentation(),
        TrainOptions(minutes=5.0, device="cpu"),
        listener=Listener(advance=lambda stage, _, __, text: stages.append((stage, text))),
    )
    assert "(estimated)" in made.network.because
    assert "(measured)" not in made.network.because
    assert pace.step > 0
    texts = [text for stage, text in stages if stage == "timing networks"]
    assert any(", batch" in text for text in texts)
    assert any(text.startswith("predicting box_") for text in texts)
    assert texts[-1] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 1.0, "steps": 5}, "minutes and steps were both given"),
        ({"minutes": 0.0}, "minutes=0"),
        ({"steps": 0}, "steps=0"),
        ({"folds": 1}, "folds=1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


def test_a_fold_that_does_not_exist_is_refused(data, options, tmp_path):
    with pytest.raises(UsageError, match=r"fold 7[\s\S]*from 0 to 4"):
        run(data, tmp_path / "m", replace(options, fold=7))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_9_and_resume_equal_an_uninterrupted_run(data, tmp_path):
    """The command line, killed without warning in the middle of training, then resumed."""
    plan = data.parent / "plan.json"
    code = (
        "from hilum.pipelines.training import train as run; import sys; from pathlib import Path;"
        "from hilum.training import TrainOptions"
        ";run(sys.argv[1], sys.argv[2], TrainOptions(steps=400, device='cpu',"
        " plan=Path(sys.argv[3]),resume='resume' in sys.argv, checkpoint_seconds=0.2))"
    )

    def command(out: str, *more: str) -> list[str]:
        return [sys.executable, "-c", code, str(data), str(tmp_path / out), str(plan), *more]

    process = subprocess.Popen(command("killed"))
    checkpoint = tmp_path / "killed" / "training" / "fold_0" / "checkpoint.safetensors"
    while not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.json").exists()
    subprocess.run(command("killed", "resume"), check=True)
    subprocess.run(command("straight"), check=True)
    one, two = (TrainedModel.load(tmp_path / out, device="cpu") for out in ("killed", "straight"))
    for a, b in zip(one.networks[0].parameters(), two.networks[0].parameters(), strict=True):
        assert torch.equal(a, b)
