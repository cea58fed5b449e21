"""`hilum tune`: which cases, and a new model beside the old one."""

import math
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
from training_samples import write_boxes

from hilum import api
from hilum.dataset import Case, Dataset, open_dataset
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import evaluate_folder
from hilum.inference import Facts, TrainedModel, predict_many
from hilum.inference.predict_cases import Deadline
from hilum.inference.predictors import make_predictor
from hilum.pipelines.training import train as run
from hilum.plan import (
    Decision,
    Hardware,
    Overrides,
    SegmentationPlan,
    make_fingerprint,
    make_plan,
    save_plan,
)
from hilum.plan.segmentation import PostprocessingStep
from hilum.training import Listener, TrainOptions
from hilum.training.tuning import Tuning
from hilum.training.tuning.eligible_cases import EligibleCases, find_eligible_cases
from hilum.training.tuning.records import Change, PostprocessingTuning
from hilum.volume import LabelTable

module = import_module("hilum.training.tuning.tune")  # the package's `tune` is the function
PLAN = SegmentationPlan.model_construct(
    labels=None, postprocessing=Decision(value=(), because="none")
)

# --- which cases
# -------------------------------------------------------------------------------------------------


def dataset(cases=8, *, name="boxes", patients=True):
    made = tuple(
        Case(id=f"c{n}", patient=f"P{n // 2}" if patients else None, images={})
        for n in range(cases)
    )
    return Dataset(
        name=name,
        root=None,
        layout="table",
        cases=made,
        channels=("CT",),
        labels=LabelTable.from_names({1: "a"}),
    )


def facts(*trained, name="boxes"):
    details = {
        f"fold {n}": {"train": list(cases), "validation": []} for n, cases in enumerate(trained)
    }
    return Facts(dataset=name, cases=1, steps=1, seconds=1.0, details=details)


def test_one_fold_leaves_its_validation_cases():
    found = find_eligible_cases(dataset(), facts(["c0", "c1", "c2", "c3", "c4", "c5"]), 1)
    assert [case.id for case in found.cases] == ["c6", "c7"]
    assert any("6 cases were left out" in sentence for sentence in found.notes)


def test_a_case_of_a_patient_that_was_trained_on_is_seen_too():
    found = find_eligible_cases(dataset(), facts(["c0", "c2", "c4"]), 1)
    assert [case.id for case in found.cases] == ["c6", "c7"]
    assert (
        len(find_eligible_cases(dataset(patients=False), facts(["c0", "c2", "c4"]), 1).cases) == 5
    )


def test_of_an_ensemble_those_answer_that_have_not_seen_the_case():
    found = find_eligible_cases(
        dataset(6),
        facts(["c0", "c1", "c2", "c3"], ["c2", "c3", "c4", "c5"], ["c4", "c5", "c0", "c1"]),
        3,
    )
    assert len(found.cases) == 6
    assert found.networks["c0"] == (1,)
    assert found.networks["c2"] == (2,)
    assert found.networks["c5"] == (0,)
    assert any("of the 3 networks alone" in sentence for sentence in found.notes)


def test_another_name_of_the_data_set_does_not_hide_its_cases():
    found = find_eligible_cases(dataset(name="copy of boxes"), facts(["c0", "c1"]), 1)
    assert "c0" not in {case.id for case in found.cases}


def test_cases_that_were_all_trained_on_are_refused():
    with pytest.raises(UsageError, match=r"trained on all 8 cases[\s\S]*other cases"):
        find_eligible_cases(dataset(), facts([f"c{n}" for n in range(8)]), 1)
    with pytest.raises(
        UsageError, match="trained on all 8 cases"
    ):  # more networks than lists: any of them may have seen any
        find_eligible_cases(dataset(), facts([f"c{n}" for n in range(8)]), 2)


def test_cases_kept_for_testing_are_not_learnt_from():
    kept = replace(dataset(), tests=frozenset({"c6"}))
    assert [
        case.id for case in find_eligible_cases(kept, facts([f"c{n}" for n in range(4)]), 1).cases
    ] == ["c4", "c5", "c7"]
    assert len(find_eligible_cases(kept, None, 1).cases) == 7
    with pytest.raises(UsageError, match="are test cases"):
        find_eligible_cases(replace(kept, tests=frozenset(case.id for case in kept.cases)), None, 1)


def test_a_model_that_does_not_say_is_trusted_with_another_data_set_alone():
    silent = Facts(dataset="boxes", cases=8, steps=1, seconds=1.0)
    with pytest.raises(UsageError, match="does not say on which of its cases"):
        find_eligible_cases(dataset(), silent, 1)
    with pytest.raises(UsageError, match="does not say on which of its cases"):
        find_eligible_cases(dataset(name="Dataset007_Boxes"), silent, 1)
    found = find_eligible_cases(dataset(name="others"), silent, 1)
    assert len(found.cases) == 8
    assert "may be among them" in found.notes[0]
    assert "as many cases as the model was trained on, 8" in found.notes[1]
    assert len(find_eligible_cases(dataset(6, name="others"), silent, 1).notes) == 1
    assert "may be among them" in find_eligible_cases(dataset(), None, 1).notes[0]


def test_some_cases_are_spread_evenly():
    found = find_eligible_cases(dataset(), None, 1)
    assert [case.id for case in found.limit(3).cases] == ["c0", "c4", "c7"]
    assert found.limit(20) is found


# --- what the time allows
# -------------------------------------------------------------------------------------------------


def predicted_until(monkeypatch, seconds, cases, networks):
    """The cases that are predicted in so many seconds, one a second."""
    now, made = [0.0], []

    class Fake:
        def __init__(self, model):
            made.append(model.networks)
            self.engine = SimpleNamespace(name="x", precision="y", device="z")

        def close(self):
            pass

    def predict(_, __, case):
        now[0] += 1.0
        return case

    monkeypatch.setattr(
        "hilum.inference.predict_cases.time", SimpleNamespace(perf_counter=lambda: now[0])
    )
    monkeypatch.setattr(module, "Predictor", Fake)
    monkeypatch.setattr(module, "hold_predicted", predict)
    who = tuple(Case(f"c{n:02d}", f"p{n}", {}) for n in range(cases))
    eligible = EligibleCases(who, {case.id: (n % networks,) for n, case in enumerate(who)}, ())
    said: list[str] = []
    model = TrainedModel(plan=PLAN, networks=tuple(range(networks)), device=None)
    found, engine = module.predict_out_of_fold(
        model, PLAN, eligible, deadline=Deadline(seconds), listener=Listener(say=said.append)
    )
    assert engine == "x in y on z"
    assert made == [(n,) for n in range(networks)]
    ids = [case.id for case in found]
    assert ids == sorted(ids)
    assert any(
        f"{cases - len(ids)} of {cases} cases are left out" in sentence for sentence in said
    ) == (len(ids) < cases)
    return ids


def test_of_the_cases_of_every_network_the_clock_leaves_a_share(monkeypatch):
    """The cases are not the first ones, as data sets are sorted and networks come in turn."""
    ids = predicted_until(monkeypatch, 50.0, 100, 5)
    assert len(ids) == 50
    assert [sum(int(case[1:]) % 5 == n for case in ids) for n in range(5)] == pytest.approx(
        [10] * 5, abs=1
    )
    assert 10 < sum(int(case[1:]) < 50 for case in ids) < 40
    assert len(predicted_until(monkeypatch, math.inf, 20, 5)) == 20
    assert len(predicted_until(monkeypatch, 0.0, 20, 5)) == 5  # one of each network


def test_notes_say_how_the_metrics_were_kept_apart():
    change = Change(
        region="tumour",
        cases=12,
        patients=12,
        changed=12,
        before=0.5,
        after=0.6,
        difference=0.1,
        low=0.05,
        high=0.2,
        p_value=0.001,
    )
    step = PostprocessingStep(kind="fill_holes", region="tumour", labels=(1,))
    learnt = PostprocessingTuning(steps=(step,), because="", cases=12, patients=12, held_out=change)
    (note,) = module.learning_notes(learnt)
    assert "learnt from other patients" in note
    assert "Dice of tumour +0.1000 (+0.0500 to +0.2000)" in note
    assert module.learning_notes(learnt.model_copy(update={"steps": ()})) == ()


# --- the whole verb
# -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Boxes of 12 patients, and an ensemble of two folds, trained a little with a patch smaller
    than a case, and an overlap as earlier versions learnt it.
    """
    folder = tmp_path_factory.mktemp("tuning")
    data = write_boxes(folder / "data", cases=24)
    asked = Overrides(patch=(12, 12, 8), batch=2, width=8, steps=60)
    plan = make_plan(make_fingerprint(open_dataset(data)), Hardware(memory_gb=2), overrides=asked)
    learnt = Decision(value=0.25, because="16 patches instead of 36; learnt by an earlier version")
    save_plan(plan.model_copy(update={"overlap": learnt}), folder / "plan.json")
    options = TrainOptions(steps=60, folds=2, device="cpu", plan=folder / "plan.json")
    run(data, folder / "model", options)
    return data, folder / "model"


@pytest.fixture(scope="module")
def tuned(made, tmp_path_factory):
    data, model = made
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    out = tmp_path_factory.mktemp("tuned") / "model"
    said: list[str] = []
    result = api.tune(model, data, out, device="cpu", listener=Listener(say=said.append))
    assert {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()} == before
    return result, out, said


def test_the_new_model_has_what_was_learnt_in_its_plan(tuned, made):
    result, out, said = tuned
    loaded = TrainedModel.load(out, device="cpu")
    tuning = Tuning.model_validate_json((out / "tuning.json").read_text())
    assert tuning == result.tuning
    assert (
        tuning.model == TrainedModel.load(made[1], device="cpu").id != loaded.id == result.model.id
    )
    assert loaded.plan.overlap.value == make_predictor(loaded).overlap == 0.25  # it stays
    assert "earlier version" in loaded.plan.overlap.because
    assert loaded.plan.postprocessing.value == tuning.postprocessing.steps
    assert loaded.plan.postprocessing.because == tuning.postprocessing.because
    assert len(tuning.cases) == 24
    assert loaded.confidence.patients == 12
    notes = loaded.confidence.notes
    assert any("one of the 2 networks" in note for note in notes)
    steps = bool(tuning.postprocessing.steps)
    assert any("held-out cases decided the post-proc" in note for note in notes) == steps
    assert f" in {loaded.confidence.precision} on " in tuning.engine
    assert any("of the 2 networks alone" in sentence for sentence in tuning.chosen)
    assert "24 cases" in loaded.metrics.measured_on
    assert any("of the 2 networks alone" in sentence for sentence in said)


def test_the_metrics_are_made_with_nothing_that_was_learnt_from_the_case(tuned, made, tmp_path):
    """Each fold's network, on its own validation cases, post-processed by what other
    patients teach: `hilum evaluate`.
    """
    result = tuned[0]
    data, _ = made
    opened = open_dataset(data)
    details = list(result.model.facts.details.values())
    learnt = result.tuning.postprocessing
    for network, fold in zip(result.model.networks, details, strict=True):
        for case in fold["validation"]:
            steps = learnt.steps_without(case)
            plan = result.model.plan.model_copy(
                update={"postprocessing": Decision(value=steps, because="of others")}
            )
            part = replace(result.model, networks=(network,), plan=plan)
            predict_many(
                make_predictor(part), [opened[case].images["MR"]], tmp_path / "predictions"
            )
    scored = evaluate_folder(tmp_path / "predictions", opened, tmp_path / "evaluation")
    for metric in result.model.metrics.metrics:
        if metric.name in {"dice", "hd95", "nsd"}:
            (region,) = [one for one in scored.summary.regions if one.region == metric.region]
            assert metric.mean == pytest.approx(region.metrics[metric.name].mean, nan_ok=True), (
                metric
            )


def test_fewer_cases_and_little_time(made, tmp_path):
    data, model = made
    said: list[str] = []
    result = api.tune(
        model,
        data,
        tmp_path / "m",
        cases=4,
        minutes=1e-6,
        device="cpu",
        listener=Listener(say=said.append),
    )
    assert 1 <= len(result.tuning.cases) <= 2  # at least one from each network's cases
    assert (
        "patient to learn from" in result.tuning.postprocessing.because
        or "patients to" in result.tuning.postprocessing.because
    )
    assert result.model.plan.postprocessing.value == ()


def test_what_cannot_be_tuned_is_refused(made, tuned, tmp_path):
    data, model = made
    with pytest.raises(UsageError, match=r"in use[\s\S]*out='ANOTHER'"):
        api.tune(model, data, tuned[1], device="cpu")
    with pytest.raises(UsageError, match="cases=0"):
        api.tune(model, data, tmp_path / "m", cases=0, device="cpu")
    with pytest.raises(UsageError, match="minutes=0"):
        api.tune(model, data, tmp_path / "m", minutes=0, device="cpu")
    other = write_boxes(tmp_path / "other", cases=2)
    text = (other / "dataset.json").read_text()
    (other / "dataset.json").write_text(text.replace("large", "liver"))
    with pytest.raises(
        LabelError, match="other has the labels 1 liver, 2 small; the model has 1 large, 2 small"
    ):
        api.tune(model, other, tmp_path / "m", device="cpu")
    (other / "dataset.json").write_text(text.replace('"MR"', '"PET"'))
    with pytest.raises(DataError, match=r"other has 1 channel \(PET\), the model 1 channel \(MR\)"):
        api.tune(model, other, tmp_path / "m", device="cpu")
    assert not (tmp_path / "m").exists()
