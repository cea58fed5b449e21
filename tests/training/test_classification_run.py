"""From a table of cases to a classifier's folder: folds, out-of-fold answers, what is said, refused
and gone on with.
"""

import json
import os
import shutil
import sys
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from classification_toys import THREE, TWO, changed, class_plan, write_cubes
from hilum.dataset import Fold, audit, make_folds, open_dataset
from hilum.dataset.folds import fold_groups
from hilum.dataset.leaks import Audit
from hilum.dataset.open import Labelling
from hilum.errors import DataError, UsageError
from hilum.evaluation import summarise_classes
from hilum.examples import make_nodule_dataset
from hilum.inference import ClassPredictor, RunReport, TrainedModel
from hilum.io import write_volume
from hilum.networks import build_network
from hilum.pipelines.training import train as run
from hilum.plan import STAGES, Overrides, SegmentationPlan, make_fingerprint, make_plan
from hilum.plan.classification import RegionSpec, WeightsSpec
from hilum.plan.plan import ClassifierSpec, Normalisation
from hilum.targets.class_score import ClassScore
from hilum.targets.predictions import read_predictions
from hilum.training import Listener, TrainOptions, leaks
from hilum.training.baselines_report import baseline_scores, write_out_of_fold_report
from hilum.training.checkpoint import Progress, read_progress
from hilum.training.fit_uncertainty import fit_uncertainty
from hilum.training.fold import TrainedFold, train_fold
from hilum.training.init_network import find_pretrained, new_network
from hilum.training.sampling import ViewSampler
from hilum.training.schedule import Plateau
from hilum.training.steps import probe
from hilum.training.validators import ClassificationValidator
from hilum.volume import Geometry, Volume

CPU = torch.device("cpu")
MASK = RegionSpec(kind="mask", mask_channel=True)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr("hilum.training.log.plot_training", lambda *_, **__: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_cubes(tmp_path_factory.mktemp("cubes") / "data", cases=24)


@pytest.fixture(scope="module")
def dataset(data):
    return open_dataset(data, task="classification")


def cube_plan(dataset, **changes):
    plan = class_plan(region=MASK, patch=(8, 8, 8), channels=dataset.channels, **changes)
    return changed(plan, steps=changes.get("steps", 40))


CLASSIFY = Labelling(task="classification")


def options(dataset, **more) -> TrainOptions:
    return TrainOptions(
        **{"plan": cube_plan(dataset), "device": "cpu", "labelling": CLASSIFY, **more}
    )


@pytest.fixture(scope="module")
def trained(data, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "m"
    said: list[str] = []
    model = run(data, out, options(dataset, folds=2), listener=Listener(say=said.append))
    return model, out, said


# --- learning
# -------------------------------------------------------------------------------------------------


def test_synthetic_nodules_are_told_apart(tmp_path):
    """A tiny network in a few seconds, on patients that it has not seen: the whole interval lies
    above chance.
    """
    data = make_nodule_dataset(tmp_path / "data", cases=48)
    dataset = open_dataset(data, task="classification")
    plan = make_plan(
        make_fingerprint(dataset),
        overrides=Overrides(network="resnet3d", patch=(16, 16, 16), batch=8, steps=80),
    )
    small = plan.network.value.model_copy(update={"features": (8, 16), "blocks": (1, 1)})
    model = run(data, tmp_path / "m", options(dataset, plan=changed(plan, network=small), folds=2))
    found = {metric.name: metric for metric in model.metrics.metrics if metric.region == "all"}
    assert found["auroc"].cases == 48
    assert found["auroc"].mean > 0.75
    assert found["auroc"].lower > 0.5
    assert plan.region.value.kind == "mask"


def test_folds_make_an_ensemble_whose_answers_cover_every_case_once(trained, dataset):
    model, out, _ = trained
    assert len(model.networks) == 2
    rows = read_predictions(out / "training" / "out_of_fold")
    assert sorted(row.case for row in rows) == [case.id for case in dataset.cases]
    labels = {case.id: case.label for case in dataset.cases}
    assert all(row.reference == labels[row.case] for row in rows)
    for row in rows:
        assert row.case in model.facts.details[f"fold {row.fold}"]["validation"]
        assert row.case not in model.facts.details[f"fold {row.fold}"]["train"]
        assert row.calibrated is not None
        assert row.columns["site"] in {"A", "B"}
    for number, fold in enumerate(make_folds(dataset, 2)):
        assert set(model.facts.details[f"fold {number}"]["validation"]) == set(fold.validation)
        assert not {dataset[case].patient for case in fold.train} & {
            dataset[case].patient for case in fold.validation
        }
        kept = read_predictions(out / "training" / f"fold_{number}" / "validation")
        mine = {row.case: row.probabilities for row in rows if row.fold == number}
        assert {row.case: row.probabilities for row in kept} == mine


def test_each_answer_is_of_the_member_that_had_not_seen_the_case(trained, dataset):
    model, out, _ = trained
    for row in read_predictions(out / "training" / "out_of_fold")[:6]:
        member = ClassPredictor(
            replace(model, networks=(model.networks[row.fold],), assurance=None)
        )
        assert member.predict(dataset[row.case]).score.probabilities == pytest.approx(
            row.probabilities, abs=1e-6
        )


def test_the_figures_are_those_of_the_answers(trained):
    model, out, _ = trained
    rows = read_predictions(out / "training" / "out_of_fold")
    shown = {(metric.region, metric.name): metric for metric in model.metrics.metrics}
    assert shown["all", "auroc"].mean > 0.9
    for figure in summarise_classes(rows, TWO).figures:
        metric = shown[figure.part or "all", figure.metric]
        for one, two in (
            (metric.mean, figure.value),
            (metric.lower, figure.low),
            (metric.upper, figure.high),
        ):
            assert (one is None and np.isnan(two)) or one == pytest.approx(two)
    summary = json.loads((out / "training" / "out_of_fold" / "summary.json").read_text())
    assert json.dumps(shown["all", "auroc"].mean) in json.dumps(summary)
    assert model.metrics.measured_on.startswith("24 validation cases")
    assert any("the ensemble itself was not measured" in note for note in model.metrics.notes)
    assert any(note.startswith("beside it, ") for note in model.metrics.notes)
    assert "mask volume" in (out / "training" / "out_of_fold" / "baselines.md").read_text()


def test_the_folder_is_complete_and_answers_without_the_data(trained, dataset):
    model, out, _ = trained
    loaded = TrainedModel.load(out, device="cpu")
    assert loaded.id == model.id
    assert loaded.assurance.calibration == model.assurance.calibration
    assert loaded.assurance.calibration.cases == 24
    assert len(loaded.assurance.refusals) == 2
    one, two = (ClassPredictor(each).predict(dataset.cases[3]) for each in (model, loaded))
    assert one.score == two.score
    assert one.score.refuse is False
    assert "MODEL_CARD.md" in {path.name for path in out.iterdir()}


def test_what_was_done_is_said_and_written_down(trained):
    model, out, said = trained
    text = "\n".join(said)
    assert "2 folds of 12 validation cases" in text
    assert "3D resnet3d, width 4, patch 8 x 8 x 8, batch 4" in text
    assert "40 steps" in text
    assert "First weights" not in text
    report = RunReport.load(out / "run.json")
    assert (report.verb, report.model, report.seeds) == ("train", model.id, {"seed": 0})
    assert (out / "training" / "fold_0" / "log.csv").read_text().splitlines()[-1].startswith("40,")
    assert not (out / "training" / "store").exists()
    assert model.facts.steps == 80
    short = [sentence for sentence in said if "trained for only" in sentence]
    assert all("only 40 steps (13 epochs of 12 cases)" in sentence for sentence in short)
    assert set(short) <= set(model.metrics.notes)
    assert model.facts.patients == 12


def probe_plan(dataset, **changes):
    """A linear probe on a 2D backbone, for colour pictures."""
    spec = ClassifierSpec(
        kind="backbone", dimensions=2, in_channels=3, out_channels=2, backbone="test_efficientnet"
    )
    return class_plan(
        dataset.classes,
        channels=dataset.channels,
        dimensions=2,
        patch=(1, 32, 32),
        orientation="source",
        network=spec,
        normalisation=tuple(Normalisation(kind="unit", upper=255.0) for _ in dataset.channels),
        stages=STAGES["probe"],
        **changes,
    )


def tinted(rng, channel):
    """A noisy colour picture with more of one colour."""
    array = rng.integers(0, 90, (3, 1, 40, 36))
    array[channel] += 120
    return Volume(array.astype(np.uint8), Geometry.from_spacing((1, 40, 36)))


def test_pictures_in_folders_of_classes(tmp_path):
    """Colour pictures, a 2D backbone with a linear probe: from folders to answers for the pictures
    themselves.
    """
    rng = np.random.default_rng(0)
    for number in range(20):
        name, tint = (("benign", 0), ("malignant", 1))[number % 2]
        picture = tinted(rng, tint)
        write_volume(picture, tmp_path / "data" / name / f"p{number:02d}.png")
    dataset = open_dataset(tmp_path / "data")
    plan = probe_plan(
        dataset,
        augmentation=class_plan().augmentation.value.model_copy(
            update={"spatial_probability": 1.0}
        ),
    )
    model = run(tmp_path / "data", tmp_path / "m", TrainOptions(plan=plan, folds=2, device="cpu"))
    found = {metric.name: metric for metric in model.metrics.metrics if metric.region == "all"}
    assert found["auroc"].cases == 20
    assert found["auroc"].mean > 0.9
    (answer,) = {ClassPredictor(model).predict(tmp_path / "data" / "malignant" / "p03.png").label}
    assert answer == "malignant"


def test_a_leaky_given_split_is_on_the_card_and_its_copies_hang_together(tmp_path, monkeypatch):
    """One picture of val/ is in train/ too: what learns holds them together, and the model's own
    notes say it.
    """
    rng = np.random.default_rng(0)
    for number in range(16):
        name, tint = (("benign", 0), ("malignant", 1))[number % 2]
        picture = tinted(rng, tint)
        write_volume(
            picture,
            tmp_path / "data" / ("val" if number >= 12 else "train") / name / f"p{number:02d}.png",
        )
        if number == 12:
            write_volume(picture, tmp_path / "data" / "train" / name / "copy.png")
    dataset = open_dataset(tmp_path / "data")
    plan = probe_plan(dataset)
    jobs = []

    def keep(number, task, job, *more, **named):
        jobs.append(job)
        return train_fold(number, task, job, *more, **named)

    monkeypatch.setattr(sys.modules["hilum.training.run"], "train_fold", keep)
    model = run(tmp_path / "data", tmp_path / "m", TrainOptions(plan=plan, device="cpu"))
    assert jobs[0].groups["copy"] == jobs[0].groups["p12"]
    assert len(set(jobs[0].groups.values())) == 16
    notes = "\n".join(model.metrics.notes)
    assert "Attention: 1 group of near-duplicates on both sides of the split: copy = p12" in notes
    assert "The model will not refuse any image" in notes
    assert "on both sides of the split" in (tmp_path / "m" / "MODEL_CARD.md").read_text()


def test_what_the_baselines_choose_they_choose_with_copies_on_one_side(
    dataset, tmp_path, monkeypatch
):
    seen = []

    def look(cases, *more, **named):
        seen.append({case.id: case.patient for case in cases})
        return baseline_scores(cases, *more, **named)

    monkeypatch.setattr("hilum.training.baselines_report.baseline_scores", look)
    fold = make_folds(dataset, 2)[0]
    scores = [
        ClassScore(
            case=case,
            patient=dataset[case].patient,
            reference=dataset[case].label,
            probabilities=(0.5, 0.5),
        )
        for case in fold.validation
    ]
    units = fold_groups(dataset, [("cube_00", "cube_02")])
    assert write_out_of_fold_report(dataset, class_plan(), [fold], scores, tmp_path, units)
    assert seen[0] == units
    assert units["cube_00"] == units["cube_03"] != units["cube_04"]


@pytest.mark.parametrize(("sure", "warned"), [(0.0, True), (0.4, False), (-0.4, True)])
def test_a_network_that_is_no_better_than_the_class_prior_is_warned_of(
    sure, warned, dataset, tmp_path
):
    fold = make_folds(dataset, 2)[0]
    scores = []
    for case in fold.validation:
        seen = dataset[case]
        share = 0.5 + (sure if seen.label == TWO.names[1] else -sure)
        known = {"case": case, "patient": seen.patient, "reference": seen.label}
        scores.append(ClassScore(**known, probabilities=(1 - share, share)))
    notes = write_out_of_fold_report(dataset, class_plan(), [fold], scores, tmp_path)
    said = "Warning: the network is not shown to be better than the class prior"
    assert any(note.startswith(said) for note in notes) is warned


def test_what_hangs_together_is_kept_with_the_answers_and_drawn_as_one(
    dataset, tmp_path, monkeypatch
):
    validated = tuple(dataset.cases[:12])
    scores = tuple(
        ClassScore(
            case=case.id, patient=case.patient, reference=case.label, probabilities=(0.4, 0.6)
        )
        for case in validated
    )
    units = fold_groups(dataset, [("cube_00", "cube_02"), ("cube_04", "cube_06")])
    member = TrainedFold(0, None, Progress(), scores, (), validated)
    monkeypatch.setattr("hilum.training.fit_uncertainty._refusal", lambda *_: _refused())
    answers, _ = fit_uncertainty(class_plan(), [member], None, CPU, lambda _: None, groups=units)
    assert [answer.unit for answer in answers] == [units[case.id] for case in validated]
    fold = Fold(tuple(case.id for case in dataset.cases[12:]), tuple(case.id for case in validated))
    notes = write_out_of_fold_report(dataset, class_plan(), [fold], answers, tmp_path, units)
    assert (
        notes[0]
        == "Near-duplicates join 2 further patients to these: they count, and are drawn, as one."
    )
    assert read_predictions(tmp_path) == answers
    summary = json.loads((tmp_path / "summary.json").read_text())["summary"]
    assert (summary["patients"], summary["joined"]) == (4, 2)
    assert "join 2 further patients" in (tmp_path / "baselines.md").read_text()


def _refused():
    raise DataError("none of this here")


# --- going on
# -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for whatever ends a process without asking."""


def test_a_run_killed_in_its_second_fold_goes_on_as_if_it_had_not_been(
    trained, data, dataset, tmp_path, monkeypatch
):
    straight, _, _ = trained
    read, calls = ViewSampler.batch, []

    def until(self, step):
        calls.append(step)
        if len(calls) == 40 + 17:
            raise Killed
        return read(self, step)

    monkeypatch.setattr(ViewSampler, "batch", until)
    with pytest.raises(Killed):
        run(data, tmp_path / "m", options(dataset, folds=2, checkpoint_seconds=0.0))
    assert not (tmp_path / "m" / "model.json").exists()
    monkeypatch.setattr(ViewSampler, "batch", read)
    resumed = run(data, tmp_path / "m", options(dataset, folds=2, resume=True, plan=None))
    for one, two in zip(straight.networks, resumed.networks, strict=True):
        assert all(
            torch.equal(a, b)
            for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        )
    assert resumed.assurance.calibration == straight.assurance.calibration
    assert resumed.metrics.metrics == straight.metrics.metrics


def test_a_resumed_run_looks_for_leaks_only_in_other_tables(data, dataset, tmp_path, monkeypatch):
    mine, looked = tmp_path / "data", []
    shutil.copytree(data, mine)
    monkeypatch.setattr(
        leaks, "audit", lambda *given, **more: looked.append(1) or audit(*given, **more)
    )
    short = {"plan": changed(cube_plan(dataset), steps=20)}
    first: list[str] = []
    run(mine, tmp_path / "m", options(dataset, **short), listener=Listener(say=first.append))
    assert len(looked) == 1
    again: list[str] = []
    run(
        mine,
        tmp_path / "m",
        options(dataset, resume=True, plan=None),
        listener=Listener(say=again.append),
    )
    assert len(looked) == 1
    found = json.loads((tmp_path / "m" / "training" / "audit.json").read_text())["found"]
    assert found["compared"] == 24
    assert all(
        (sentence in again) == (sentence in first)
        for sentence in Audit.model_validate(found).sentences
    )
    image = mine / "images" / "cube_03.nii.gz"
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 10**9))
    run(mine, tmp_path / "m", options(dataset, resume=True, plan=None))
    assert len(looked) == 1
    table = (mine / "cases.csv").read_text()
    (mine / "cases.csv").write_text(table.replace("site", "hospital"))
    run(
        mine,
        tmp_path / "m",
        options(dataset, resume=True, plan=None),
        listener=Listener(say=again.append),
    )
    assert len(looked) == 2
    assert any(
        "something else of cube_00, cube_01, cube_02 and 21 more" in sentence for sentence in again
    )


def test_nothing_is_overwritten_and_another_wish_is_refused(trained, data, dataset):
    _, out, _ = trained
    with pytest.raises(UsageError, match="already holds a finished model"):
        run(data, out, options(dataset, folds=2))
    asked = Overrides(stages=STAGES["probe"])
    with pytest.raises(UsageError, match=r"stages [\s\S]*the training that is resumed has"):
        run(data, out, options(dataset, folds=2, resume=True, plan=None, overrides=asked))


def test_the_time_ends_it(data, dataset, tmp_path, monkeypatch):
    said: list[str] = []
    looks = count()
    monkeypatch.setattr(
        "time.perf_counter", lambda: 0.01 * next(looks)
    )  # the time passes by looking at the clock
    timed = options(dataset, minutes=0.03, plan=cube_plan(dataset, steps=10**6))
    model = run(data, tmp_path / "m", timed, listener=Listener(say=said.append))
    assert 0 < model.facts.steps < 10**5
    assert any("minutes of training, at most about" in sentence for sentence in said)


def test_a_classifier_does_all_its_steps_whatever_its_own_answers_look_like(
    data, dataset, tmp_path, monkeypatch
):
    """The cases become out-of-fold predictions: an AUROC that does not rise ends nothing."""
    monkeypatch.setattr(ClassificationValidator, "check", lambda *_: 0.5)
    out = tmp_path / "m"
    plan = changed(cube_plan(dataset), steps=400)
    model = run(data, out, options(dataset, plan=plan, fold=0))
    assert model.facts.steps == 400
    progress = read_progress(out / "training" / "fold_0" / "checkpoint.safetensors")
    assert progress.plateau == Plateau()
    assert [row.score for row in progress.rows].count(0.5) >= 5  # it was looked at


def test_a_probe_is_a_model_like_any_other(data, dataset, tmp_path):
    said: list[str] = []
    model = run(
        data,
        tmp_path / "m",
        options(dataset, plan=changed(cube_plan(dataset), stages=STAGES["probe"])),
        listener=Listener(say=said.append),
    )
    assert model.facts.steps == 0
    (plan,) = (sentence for sentence in said if "to train on" in sentence)
    assert "a linear probe" in plan
    assert "no optimiser steps" in plan
    assert TrainedModel.load(tmp_path / "m", device="cpu").id == model.id
    assert len(read_predictions(tmp_path / "m" / "training" / "out_of_fold")) == len(
        model.facts.details["fold 0"]["validation"]
    )


def test_what_the_time_left_out_of_a_probe_is_said_on_the_card_and_kept(
    data, dataset, tmp_path, monkeypatch
):
    """A clock that moves by ten seconds with each case whose features are computed, and by nothing
    else.
    """
    now, middle, said = [0.0], probe.centre_of, []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(
        probe, "centre_of", lambda *args: (now.__setitem__(0, now[0] + 10.0), middle(*args))[1]
    )
    monkeypatch.setattr(probe, "FEWEST", 2)
    asked = options(dataset, plan=changed(cube_plan(dataset), stages=STAGES["probe"]), minutes=2.0)
    model = run(data, tmp_path / "m", asked, listener=Listener(say=said.append))
    fold = model.facts.details["fold 0"]
    used = len(fold["train"]) - len(fold["left_out"])
    # of 120 s the time of validation, its figures and the regression is kept
    assert 4 < used == 8 == model.facts.cases
    assert set(fold["left_out"]) < set(fold["train"])
    note = f"fitted on {used} of {len(fold['train'])} training cases"
    assert sum(note in sentence for sentence in said) == 1
    assert note in (tmp_path / "m" / "MODEL_CARD.md").read_text()


# --- first weights
# -------------------------------------------------------------------------------------------------


def tiny(**changes):
    spec = ClassifierSpec(
        kind="acs",
        dimensions=3,
        in_channels=1,
        out_channels=2,
        backbone="test_efficientnet",
        dropout=0.0,
        **changes,
    )
    return class_plan(patch=(16, 16, 16), network=spec, steps=2, stages=STAGES["head"])


def test_given_weights_are_where_training_begins_and_that_is_said(data, dataset, tmp_path):
    theirs = build_network(
        tiny().network.value, generator=torch.Generator().manual_seed(77)
    ).encoder.model.state_dict()
    save_file(
        {name: value.contiguous() for name, value in theirs.items()}, tmp_path / "best.safetensors"
    )
    weights = WeightsSpec(origin="pretrained", file=str(tmp_path / "best.safetensors"))
    plan = changed(tiny(), weights=weights)
    plan = plan.model_copy(update={"channels": dataset.channels})
    said: list[str] = []
    model = run(
        data, tmp_path / "m", options(dataset, plan=plan), listener=Listener(say=said.append)
    )
    assert any(sentence.startswith("First weights: the file best.safetensors") for sentence in said)
    own = model.networks[0].encoder.model.state_dict()
    frozen = {name for name in theirs if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(own[name], theirs[name]) for name in frozen)  # only the head has learnt
    assert not torch.equal(
        own["conv_stem.weight"], new_network(plan, 0).encoder.model.state_dict()["conv_stem.weight"]
    )
    assert any("best.safetensors" in note and "SHA-256" in note for note in model.facts.notes)


def test_weights_that_are_not_there_are_refused_and_leave_nothing_behind(data, dataset, tmp_path):
    assert find_pretrained(class_plan()) is None
    assert find_pretrained(SegmentationPlan.model_construct()) is None
    missing = Overrides(
        network="acs",
        backbone="test_efficientnet",
        weights=WeightsSpec(origin="pretrained", file="/none.pth"),
    )
    with pytest.raises(UsageError, match=r"weights /none.pth[\s\S]*a file that exists"):
        run(data, tmp_path / "m", options(dataset, plan=None, overrides=missing))
    assert not (tmp_path / "m").exists()


def test_what_the_data_cannot_give_is_said_with_its_case(tmp_path):
    data = write_cubes(tmp_path / "data", cases=8)
    text = (data / "cases.csv").read_text()
    (data / "cases.csv").write_text(text.replace("masks/cube_05.nii.gz", ""))
    dataset = open_dataset(data, task="classification")
    with pytest.raises(DataError, match="cube_05 has no mask"):
        run(data, tmp_path / "m", options(dataset))
    plan = class_plan(THREE, channels=dataset.channels)
    with pytest.raises(
        DataError, match="the classes benign, malignant; the plan has cyst, adenoma, carcinoma"
    ):
        run(data, tmp_path / "n", options(dataset, plan=plan))
