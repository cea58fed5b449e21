"""`hilum tune`: which cases, which overlap, and a new model beside the old one."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from training_samples import write_boxes

from hilum import api
from hilum.dataset import Case, Dataset, open_dataset
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import evaluate_folder
from hilum.inference import Facts, TrainedModel, predict_many
from hilum.inference.predictors import make_predictor
from hilum.pipelines.training import train as run
from hilum.plan import Decision, Hardware, Overrides, make_fingerprint, make_plan, save_plan
from hilum.plan.segmentation import PostprocessingStep
from hilum.training import Listener, TrainOptions
from hilum.training.tuning import Tuning, out_of_fold
from hilum.training.tuning.eligible_cases import EligibleCases, find_eligible_cases
from hilum.training.tuning.overlap import ALLOWED, OVERLAPS, OverlapTrialResult, choose_overlap
from hilum.training.tuning.postprocessing_trials import FEWEST
from hilum.training.tuning.records import Change, PostprocessingTuning
from hilum.training.tuning.tune import learning_notes
from hilum.volume import LabelTable

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
    assert any("6 cases were left out" in sentence for sentence in found.said)


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
    assert found.members["c0"] == (1,)
    assert found.members["c2"] == (2,)
    assert found.members["c5"] == (0,)
    assert any("of the 3 networks alone" in sentence for sentence in found.said)


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
    assert "may be among them" in found.said[0]
    assert "as many cases as the model was trained on, 8" in found.said[1]
    assert len(find_eligible_cases(dataset(6, name="others"), silent, 1).said) == 1
    assert "may be among them" in find_eligible_cases(dataset(), None, 1).said[0]


def test_some_cases_are_spread_evenly():
    found = find_eligible_cases(dataset(), None, 1)
    assert [case.id for case in found.limit(3).cases] == ["c0", "c4", "c7"]
    assert found.limit(20) is found


# --- which overlap
# -------------------------------------------------------------------------------------------------

GROUPS = [f"patient {n}" for n in range(12)]


def choose(falls, *, patches=None, deadline=None, groups=GROUPS, kept=0.5):
    """Choose where the Dice of two regions falls by so much in every case (or in each case) at each
    overlap.
    """
    rng = np.random.default_rng(0)
    base = 0.8 + 0.1 * rng.random((len(groups), 2))
    tried = []

    def predict(overlap):
        tried.append(overlap)
        return OverlapTrialResult(base - np.array(falls[overlap]), 1.0, counts[overlap] / 2)

    counts = patches or {0.5: 36, 0.375: 24, 0.25: 16, 0.125: 9, 0.0: 8}
    found = choose_overlap(
        OverlapTrialResult(base, 3.0, counts[0.5] / 2),
        predict,
        lambda overlap: (counts[overlap],) * len(groups),
        kept=kept,
        groups=groups,
        regions=["liver", "tumour"],
        deadline=deadline,
    )
    return found, tried


def test_the_smallest_overlap_that_costs_nothing_is_chosen_with_its_figures():
    falls = {0.375: (0, 0), 0.25: (0.0005, 0.001), 0.125: (0, 0.004)}
    found, tried = choose(falls)
    assert found.overlap == 0.25
    assert tried == [0.375, 0.25, 0.125]
    assert (
        "8 patches and 1 s a case instead of 18 and 3 s at 0.5" in found.because
    )  # half of the windows were run
    assert "at worst tumour -0.0010" in found.because
    assert (
        "0.125 may cost too much, and smaller ones were not tried: tumour -0.0040" in found.because
    )
    assert [trial.within for trial in found.trials] == [True, True, True, False]


def test_what_fails_ends_it_though_a_smaller_one_would_pass():
    found, tried = choose({0.375: (0.01, 0), 0.25: (0, 0), 0.125: (0, 0), 0.0: (0, 0)})
    assert (found.overlap, tried) == (0.5, [0.375])


def test_a_mean_that_hides_large_falls_is_not_enough():
    """No fall in the mean, but the interval over patients reaches far below what is allowed."""
    swing = np.where(np.arange(12) % 2, 0.05, -0.05)[:, None] * np.ones(2)
    found, tried = choose({0.375: swing})
    assert (found.overlap, tried) == (0.5, [0.375])
    assert abs(found.trials[1].changes[0].difference) < ALLOWED
    assert found.trials[1].changes[0].low < -ALLOWED


@pytest.mark.parametrize("kept", [0.5, 0.25])
def test_few_patients_leave_the_overlap_as_it_is(kept):
    falls = dict.fromkeys(OVERLAPS[1:], (0, 0))
    many_cases = [f"patient {n % (FEWEST - 1)}" for n in range(30)]
    found, tried = choose(falls, groups=many_cases, kept=kept)
    assert (found.overlap, tried) == (kept, [])
    assert f"{FEWEST - 1} patients to try others on" in found.because
    assert choose(falls, groups=[f"patient {n}" for n in range(FEWEST)])[0].overlap == 0.0


def test_every_region_counts_not_their_mean():
    falls = dict.fromkeys(OVERLAPS[1:], (-0.02, ALLOWED * 1.01))
    found, _ = choose(falls)
    assert found.overlap == 0.5
    assert "no smaller one that was tried surely stays within" in found.because


def test_patches_that_are_the_same_are_not_predicted_again_and_not_chosen():
    same = {0.5: 8, 0.375: 8, 0.25: 8, 0.125: 4, 0.0: 4}
    found, tried = choose(dict.fromkeys(OVERLAPS[1:], (0, 0)), patches=same)
    assert tried == [0.125]
    assert found.overlap == 0.125
    assert "0 as 0.125" in found.because
    found, tried = choose({}, patches=dict.fromkeys(OVERLAPS, 2))
    assert (found.overlap, tried) == (0.5, [])
    assert "every overlap makes the same 1 patches" in found.because


def test_no_overlap_is_begun_that_the_time_does_not_allow():
    found, tried = choose(dict.fromkeys(OVERLAPS[1:], (0, 0)), deadline=time.perf_counter() + 30)
    assert (found.overlap, tried) == (0.5, [])  # 12 cases of 3 s are more than 30 s
    assert "no time was left to try 0.375, 0.25, 0.125, 0" in found.because


def test_an_overlap_that_fails_keeps_what_was_found_before():
    found, tried = choose({0.375: (0, 0), 0.25: (0, 0)})  # 0.125 is a KeyError
    assert (found.overlap, tried) == (0.25, [0.375, 0.25, 0.125])
    assert found.failed == "0.125 could not be tried: KeyError: 0.125"
    assert found.because.endswith(found.failed)
    assert (
        learning_notes(PostprocessingTuning(because="", cases=1, patients=1), found)[0]
        == f"the overlap of patches: {found.failed}"
    )
    found, _ = choose({}, kept=0.25)
    assert (found.overlap, found.failed) == (0.25, "0.375 could not be tried: KeyError: 0.375")
    assert learning_notes(PostprocessingTuning(because="", cases=1, patients=1), found)[0].endswith(
        "KeyError: 0.375"
    )


# --- which cases where the time ends it
# --------------------------------------------------------------------------------------


def predicted_until(monkeypatch, seconds, cases, networks, *, first=1.0, last=1.0):
    """The cases that are predicted in so many seconds, one a second by default, and how often an
    engine was made.
    """
    now, made = [0.0], []

    class Fake:
        def __init__(self, model):
            made.append(model)
            self.engine = SimpleNamespace(name="x", precision="y", device="z")

        def close(self):
            pass

    def predicted(_, case):
        now[0] += first if int(case.id[1:]) % networks == 0 else last
        return SimpleNamespace(case=case)

    monkeypatch.setattr(out_of_fold, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(out_of_fold, "Predictor", Fake)
    monkeypatch.setattr(out_of_fold, "_predicted", predicted)
    monkeypatch.setattr(out_of_fold.OutOfFoldPredictions, "_part", lambda _, members, __: members)
    who = tuple(Case(f"c{n:02d}", f"p{n}", {}) for n in range(cases))
    unseen = EligibleCases(who, {case.id: (n % networks,) for n, case in enumerate(who)}, ())
    said: list[str] = []
    found = out_of_fold.OutOfFoldPredictions(
        SimpleNamespace(plan=None), unseen, say=said.append
    )._predict(0.5, seconds)
    ids = [one.case.id for one in found]
    assert ids == sorted(ids)
    assert any(
        f"{cases - len(ids)} of {cases} cases are left out" in sentence for sentence in said
    ) == (len(ids) < cases)
    return ids, len(made)


def test_of_the_cases_of_every_network_the_clock_leaves_a_share(monkeypatch):
    """Four of twenty cases are not the first four of the first network's, as data sets are sorted
    and networks come in turn.
    """
    ids, _ = predicted_until(monkeypatch, 3.5, 20, 5)
    assert len({int(case[1:]) % 5 for case in ids}) == len(ids) == 4
    ids, made = predicted_until(monkeypatch, 49.5, 100, 5)
    assert made <= 10
    assert len(ids) == 50
    assert [sum(int(case[1:]) % 5 == n for case in ids) for n in range(5)] == pytest.approx(
        [10] * 5, abs=1
    )
    assert 10 < sum(int(case[1:]) < 50 for case in ids) < 40  # not the beginning of the list either


def test_time_that_some_networks_leave_is_used_by_others(monkeypatch):
    """The first network's cases take six times as long: what it cannot do in its share it does when
    the others are done.
    """
    ids, made = predicted_until(monkeypatch, 60.0, 20, 5, first=6.0)
    assert len(ids) == 20
    assert made == 6
    assert predicted_until(monkeypatch, None, 20, 5) == ([f"c{n:02d}" for n in range(20)], 5)
    assert len(predicted_until(monkeypatch, 0.0, 20, 5)[0]) == 1


def test_notes_say_how_the_figures_were_kept_apart():
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
    overlap, _ = choose({0.375: (0, 0.001), 0.25: (0, 0.01)})
    notes = learning_notes(learnt, overlap)
    assert "learnt from other patients" in notes[0]
    assert "Dice of tumour +0.1000 (+0.0500 to +0.2000)" in notes[0]
    assert "at an overlap of 0.5; the model's is 0.375" in notes[1]
    assert "tumour -0.0010" in notes[1]
    assert learning_notes(learnt.model_copy(update={"steps": ()}), choose({0.375: (1, 1)})[0]) == ()


# --- the whole verb
# -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Boxes of 12 patients, and an ensemble of two folds, trained a little with a patch smaller
    than a case.
    """
    folder = tmp_path_factory.mktemp("tuning")
    data = write_boxes(folder / "data", cases=24)
    asked = Overrides(patch=(12, 12, 8), batch=2, width=8, steps=60)
    save_plan(
        make_plan(make_fingerprint(open_dataset(data)), Hardware(memory_gb=2), overrides=asked),
        folder / "plan.json",
    )
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
    tuning = Tuning.load(out)
    assert tuning == result.tuning
    assert (
        tuning.model == TrainedModel.load(made[1], device="cpu").id != loaded.id == result.model.id
    )
    assert loaded.plan.overlap.value == tuning.overlap.overlap
    assert loaded.plan.overlap.because == tuning.overlap.because
    assert loaded.plan.postprocessing.value == tuning.postprocessing.steps
    assert loaded.plan.postprocessing.because == tuning.postprocessing.because
    assert len(tuning.cases) == 24
    assert any("of the 2 networks alone" in sentence for sentence in tuning.chosen)
    assert "24 cases" in loaded.metrics.measured_on
    assert any("of the 2 networks alone" in sentence for sentence in said)
    assert tuning.overlap.trials[0].patches > tuning.overlap.trials[-1].patches


def test_the_metrics_are_made_with_nothing_that_was_learnt_from_the_case(tuned, made, tmp_path):
    """Each fold's network at 0.5, on its own validation cases, post-processed by what other
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
                update={
                    "overlap": Decision(value=0.5, because="before"),
                    "postprocessing": Decision(value=steps, because="of others"),
                }
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
    assert "to try others on" in result.tuning.overlap.because
    assert result.model.plan.overlap.value == 0.5


def test_what_cannot_be_tuned_is_refused(made, tuned, tmp_path):
    data, model = made
    with pytest.raises(UsageError, match=r"in use[\s\S]*-o ANOTHER"):
        api.tune(model, data, tuned[1], device="cpu")
    with pytest.raises(UsageError, match="--cases 0"):
        api.tune(model, data, tmp_path / "m", cases=0, device="cpu")
    with pytest.raises(UsageError, match="--minutes 0"):
        api.tune(model, data, tmp_path / "m", minutes=0, device="cpu")
    other = write_boxes(tmp_path / "other", cases=2)
    text = (other / "dataset.json").read_text()
    (other / "dataset.json").write_text(text.replace("large", "liver"))
    with pytest.raises(
        LabelError, match="other has the labels 1 liver, 2 small; the model has 1 large, 2 small"
    ):
        api.tune(model, other, tmp_path / "m", device="cpu")
    (other / "dataset.json").write_text(text.replace('"MR"', '"PET"'))
    with pytest.raises(DataError, match="other has the channels PET, the model MR"):
        api.tune(model, other, tmp_path / "m", device="cpu")
    assert not (tmp_path / "m").exists()
