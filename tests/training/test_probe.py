"""The linear probe: the regression that it is, features that are kept, and the minutes that it
keeps.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from class_jobs import Killed, a_job, fit, flat_plan, same, state

from classification_toys import FINDINGS, TABLES, THREE, TWO
from hilum.plan.classification import Stage
from hilum.targets import ClassificationTask
from hilum.training import Budget
from hilum.training.case_order import minimum_per_class_first, stratified_order
from hilum.training.init_network import new_network
from hilum.training.loop import load_progress
from hilum.training.sampling import ViewSampler
from hilum.training.steps import classification as module
from hilum.training.steps import probe
from hilum.training.steps.probe import FEWEST, STRENGTHS

PROBE = (Stage(share=1.0, released=1, probe=True),)


def seen_features(job):
    """Features of every case by the network as it begins, and its labels."""
    network = new_network(job.plan, job.seed).eval()
    images = torch.from_numpy(
        np.stack([job.store.read(case) for case in job.cases]).astype(np.float32)
    )
    with torch.inference_mode():
        return images, network.features(images).numpy().astype(np.float64)


def regression(x, y, groups):
    """scikit-learn's logistic regression, its penalty by its own cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = StratifiedGroupKFold(min(5, np.bincount(y).min()), shuffle=True, random_state=0)
    losses = [
        log_loss(
            y,
            cross_val_predict(
                LogisticRegression(C=strength, max_iter=500),
                x,
                y,
                groups=groups,
                cv=folds,
                method="predict_proba",
            ),
        )
        for strength in STRENGTHS
    ]
    return LogisticRegression(C=STRENGTHS[int(np.argmin(losses))], max_iter=2000).fit(x, y)


@pytest.mark.parametrize("kind", TABLES)
def test_a_linear_probe_is_scikit_learns_logistic_regression_on_the_frozen_features(kind, tmp_path):
    from sklearn.preprocessing import StandardScaler

    table = TABLES[kind]
    labels = None
    if kind == "multilabel":
        labels = [
            "effusion",
            "mass",
            "",
            "effusion|mass",
            "mass",
            "",
            "effusion",
            "effusion|mass",
            "",
            "mass|effusion",
        ] * 3
    job = a_job(
        flat_plan(table, stages=PROBE, dropout=0.4), tmp_path, cases=32, signal=0.5, labels=labels
    )
    images, features = seen_features(job)
    fitted = fit(job)
    assert fitted.progress.step == 0
    before = new_network(job.plan, job.seed).state_dict()
    assert {
        name for name, value in state(fitted).items() if not torch.equal(value, before[name])
    } == {*("head.1.weight", "head.1.bias")}
    with torch.inference_mode():
        logits = fitted.network(images)
    x = StandardScaler().fit_transform(features)
    groups = [job.groups[case] for case in job.cases]
    targets = np.array(
        [ClassificationTask(table).encode(job.labels[case]) for case in job.cases]
    ).astype(int)
    if table.kind == "exclusive":
        expected = regression(x, targets.argmax(axis=1), groups).predict_proba(x)
        np.testing.assert_allclose(logits.softmax(dim=1), expected, atol=2e-4)
        return
    for output in range(table.outputs):
        y, given_ = targets[:, output], logits[:, output].sigmoid().numpy()
        if y.any():
            np.testing.assert_allclose(
                given_, regression(x, y, groups).predict_proba(x)[:, 1], atol=2e-4
            )
        else:  # no nodule among 30 cases: 1 of 32
            np.testing.assert_allclose(given_, 1 / 32, atol=1e-6)


def test_a_probe_of_one_class_says_how_frequent_it_is(tmp_path):
    job = a_job(flat_plan(THREE, stages=PROBE), tmp_path, labels=["adenoma"] * 8)
    images, _ = seen_features(job)
    with torch.inference_mode():
        found = fit(job).network(images).softmax(dim=1)
    np.testing.assert_allclose(found, np.broadcast_to([1 / 11, 9 / 11, 1 / 11], (8, 3)), atol=1e-6)


def test_a_probe_of_two_of_three_classes_rules_out_the_third(tmp_path):
    job = a_job(
        flat_plan(THREE, stages=PROBE), tmp_path, labels=["adenoma", "carcinoma"] * 8, signal=1.0
    )
    images, _ = seen_features(job)
    with torch.inference_mode():
        found = fit(job).network(images).softmax(dim=1)
    assert float(found[:, 0].max()) < 1e-3
    assert found.argmax(dim=1).tolist() == [1, 2] * 8


def test_a_finished_probe_is_not_fitted_again(tmp_path, monkeypatch):
    job = a_job(flat_plan(stages=PROBE), tmp_path)
    first = state(fit(job))
    monkeypatch.setattr(module, "fit_probe", lambda *_: pytest.fail("fitted again"))
    assert same(first, state(fit(replace(job, resume=True))))


def test_features_are_computed_once_for_all_folds_and_sessions(tmp_path, monkeypatch):
    job = a_job(flat_plan(stages=PROBE), tmp_path)
    straight = state(
        fit(
            replace(
                job, store=a_job(job.plan, tmp_path / "other").store, folder=tmp_path / "straight"
            )
        )
    )
    looked, middle = [], probe.centre_of

    def until(image, patch):
        looked.append(1)
        if len(looked) == 6:
            raise Killed
        return middle(image, patch)

    monkeypatch.setattr(probe, "centre_of", until)
    with pytest.raises(Killed):
        fit(job)
    assert not list(job.store.folder.glob(".part*"))
    told = []
    assert same(straight, state(fit(replace(job, resume=True), tick=lambda *row: told.append(row))))
    assert len(looked) == 6 + 7  # five were kept
    assert told[-1] == (1.0, 0)
    fit(replace(job, folder=tmp_path / "fold_1", cases=job.cases[3:]))
    assert len(looked) == 13
    job.store.write("c03", np.zeros((1, 1, 32, 32), np.float32), key="another file")
    fit(replace(job, folder=tmp_path / "fold_2"))
    assert len(looked) == 14
    fit(replace(job, folder=tmp_path / "fold_3", seed=6))  # other weights
    assert len(looked) == 26
    for kept in job.store.folder.glob("features-*"):
        kept.write_bytes(b"damaged")
    fit(replace(job, folder=tmp_path / "fold_4"))
    assert len(looked) == 38


# --- the minutes
# -------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, but for ten seconds for each case whose features are computed."""
    now, middle = [1000.0], probe.centre_of

    def slow(image, patch):
        now[0] += 10.0
        return middle(image, patch)

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(probe, "centre_of", slow)
    monkeypatch.setattr(probe, "PROBE_SHARE", 1.0)
    return now


def limited(job, seconds, **more):
    return replace(job, budget=Budget(steps=1, seconds=seconds), **more)


MOSTLY = ["benign"] * 90 + ["malignant"] * 30


def test_a_probe_keeps_its_seconds_and_is_fitted_on_a_fair_sample(tmp_path, clock):
    """In 605 s 60 cases are looked at, a quarter of them malignant as of all."""
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=MOSTLY)
    told = []
    fitted = fit(limited(job, 605.5), tick=lambda *row: told.append(row))
    assert clock[0] == 1000 + 600
    left_out = fitted.progress.left_out
    used = [case for case in job.cases if case not in left_out]
    assert (len(used), len(left_out)) == (60, 60)
    assert sum(job.labels[case] == "malignant" for case in used) == pytest.approx(15, abs=1)
    (note,) = fitted.progress.notes
    assert "fitted on 60 of 120 training cases, a fair sample of the classes" in note
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1] == (1.0, 0)
    alone = replace(
        job, cases=tuple(used), folder=tmp_path / "alone"
    )  # what is left out has no part in it
    assert same(state(fitted), state(fit(alone)))
    assert load_progress(job.folder).left_out == left_out


def test_the_same_cases_are_left_out_again(tmp_path, clock):
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=MOSTLY)
    other = replace(a_job(job.plan, tmp_path / "again", labels=MOSTLY), seed=job.seed)
    assert (
        fit(limited(job, 605.5)).progress.left_out == fit(limited(other, 605.5)).progress.left_out
    )
    assert clock[0] == 1000 + 2 * 600


def test_with_time_enough_or_none_to_keep_nothing_is_left_out(tmp_path, clock):
    job = a_job(flat_plan(stages=PROBE), tmp_path)
    free = fit(job)
    bounded = fit(limited(a_job(job.plan, tmp_path / "bounded"), 1e4))
    for fitted in (free, bounded):
        assert (fitted.progress.left_out, fitted.progress.notes) == ((), ())
    assert same(state(free), state(bounded))
    assert clock[0] == 1000 + 2 * 120


def test_the_least_that_a_fit_needs_is_looked_at_however_long_that_takes_which_is_said(
    tmp_path, clock
):
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=["benign"] * 90 + ["malignant"] * 4)
    fitted = fit(limited(job, 1.0))
    used = set(job.cases) - set(fitted.progress.left_out)
    assert sorted(job.labels[case] for case in used) == ["benign"] * FEWEST + ["malignant"] * 4
    assert clock[0] == 1000 + 140
    assert "fitted on 14 of 94 training cases" in fitted.progress.notes[0]


def test_a_probe_is_fitted_where_the_time_is_up_before_it_begins(tmp_path, clock, monkeypatch):
    """A head that nobody fitted would be a model that guesses."""
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=MOSTLY)
    enter = ViewSampler.__enter__
    monkeypatch.setattr(
        ViewSampler,
        "__enter__",
        lambda self: (clock.__setitem__(0, clock[0] + 99), enter(self))[1],
    )
    before = new_network(job.plan, job.seed).state_dict()["head.1.weight"]
    fitted = fit(limited(job, 50.0))
    assert not torch.equal(state(fitted)["head.1.weight"], before)
    assert len(fitted.progress.left_out) == 120 - 2 * FEWEST


def test_features_that_are_kept_cost_no_time_and_are_all_used(tmp_path, clock):
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=MOSTLY)
    first = fit(limited(job, 305.5))
    assert clock[0] == 1000 + 300
    more = fit(limited(job, 205.5, folder=tmp_path / "fold_1"))
    assert clock[0] == 1000 + 300 + 200
    assert len(more.progress.left_out) == 120 - 30 - 20
    assert set(more.progress.left_out) < set(first.progress.left_out)


def test_a_probe_that_was_killed_goes_on_with_what_it_kept(tmp_path, clock, monkeypatch):
    job = a_job(flat_plan(stages=PROBE), tmp_path, labels=MOSTLY)
    slow = probe.centre_of

    def until(image, patch):
        if clock[0] >= 1000 + 250:
            raise Killed
        return slow(image, patch)

    monkeypatch.setattr(probe, "centre_of", until)
    with pytest.raises(Killed):
        fit(limited(job, 605.5))
    monkeypatch.setattr(probe, "centre_of", slow)
    resumed = fit(limited(job, 305.5, resume=True))
    assert clock[0] == 1000 + 250 + 300
    assert len(resumed.progress.left_out) == 120 - 25 - 30
    assert (
        fit(limited(job, 1e4, resume=True)).progress.left_out == resumed.progress.left_out
    )  # it has come to its end


def test_ctrl_c_between_two_cases_keeps_their_features(tmp_path, monkeypatch):
    job = a_job(flat_plan(stages=PROBE), tmp_path)
    slow, asked = probe.centre_of, []

    def until(image, patch):
        asked.append(patch)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return slow(image, patch)

    monkeypatch.setattr(probe, "centre_of", until)
    with pytest.raises(KeyboardInterrupt):
        fit(job)
    fit(replace(job, resume=True))
    assert len(asked) == 6 + 12 - 5


def test_what_a_fit_needs_comes_first_and_a_longer_sample_is_the_fair_one_again():
    labels = ["effusion"] * 50 + ["effusion|mass"] * 6 + [""] * 144
    order = stratified_order([f"c{n:03}" for n in range(200)], labels, FINDINGS)
    first, needed = minimum_per_class_first(order, labels, FINDINGS, 5)
    beginning = [labels[place] for place in first[:needed]]
    for finding in ("effusion", "mass"):
        assert sum(finding in label for label in beginning) >= 5
        assert sum(finding not in label for label in beginning) >= 5
    assert needed <= 20
    reach = 1 + max(order.index(place) for place in first[:needed])
    for end in (reach, 180, 200):
        assert set(first[:end]) == set(order[:end])
    assert minimum_per_class_first(order, labels, FINDINGS, 500) == (order, 200)
    two = minimum_per_class_first([0, 1, 2], ["benign", "benign", "malignant"], TWO, 1)
    assert two == ([0, 2, 1], 2)
