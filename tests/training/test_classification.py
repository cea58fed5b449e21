"""Learning to classify: what learns and how fast, what is frozen, mixed pairs, rare classes, the
probe, stopping and going on.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from class_jobs import Killed, a_job, fit, flat_plan, same, state
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from classification_toys import STILL, TABLES, THREE, class_plan
from hilum.errors import DataError, ModelError
from hilum.plan.classification import ClassLossSpec, Stage
from hilum.preprocess.classifier_store import ClassifierStore
from hilum.targets import ClassificationTask
from hilum.targets.class_score import decide
from hilum.training.init_network import new_network
from hilum.training.loop import CHECKPOINT, load_progress
from hilum.training.sampling import ViewSampler
from hilum.training.steps import classification as module
from hilum.training.steps.classification import case_chances, mix, stage_at, stage_rates

STRONG = STILL.model_copy(
    update={"spatial_probability": 1.0, "intensity_probability": 0.5, "mirror_axes": (2,)}
)
HEAD, ALL = Stage(share=0.5, released=1, warmup=0.0), Stage(share=0.5, decay=0.8)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Learning curves are drawn and tried elsewhere."""
    monkeypatch.setattr("hilum.training.log.plot_training", lambda *_, **__: None)


def checkpointed(job) -> dict[str, torch.Tensor]:
    """The network itself, not its average, at the last checkpoint."""
    tensors = load_file(job.folder / CHECKPOINT)
    return {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }


def kill_before(step: int, monkeypatch):
    read = ViewSampler.batch

    def until(self, number):
        if number == step:
            raise Killed
        return read(self, number)

    monkeypatch.setattr(ViewSampler, "batch", until)
    return lambda: monkeypatch.setattr(ViewSampler, "batch", read)


# --- what learns, and how fast
# ----------------------------------------------------------------------------------------------


def test_the_stage_at_a_progress():
    stages = (Stage(share=0.2, released=1), Stage(share=0.3, released=2), Stage(share=0.5))
    for progress, stage, done in (
        (0.0, 0, 0.0),
        (0.1, 0, 0.5),
        (0.2, 1, 0.0),
        (0.35, 1, 0.5),
        (0.5, 2, 0.0),
        (0.75, 2, 0.5),
    ):
        assert stage_at(stages, progress) == (stages[stage], pytest.approx(done, abs=1e-9))
    assert (
        stage_at(stages, 1.0) == stage_at(stages, 1.3) == (stages[2], 1.0)
    )  # where time is up a step later
    tenth = tuple(Stage(share=0.1) for _ in range(10))  # whose sums are not exactly tenths
    assert [stage_at(tenth, n / 10)[1] for n in range(10)] == pytest.approx([0.0] * 10, abs=1e-6)


def test_rates_by_hand():
    """A height of 0.1 x 2.

    Half way up at a tenth, at its height at a fifth, half way down in the middle of the rest.
    """
    stage = Stage(share=1.0, rate=2.0, decay=0.5, warmup=0.2)
    assert stage_rates(stage, 0.1, groups=3, base=0.1) == pytest.approx((0.025, 0.05, 0.1))
    assert stage_rates(stage, 0.2, groups=3, base=0.1) == pytest.approx((0.05, 0.1, 0.2))
    assert stage_rates(stage, 0.6, groups=3, base=0.1) == pytest.approx((0.025, 0.05, 0.1))
    assert stage_rates(stage, 1.0, groups=3, base=0.1) == pytest.approx((0.0, 0.0, 0.0))
    frozen = stage.model_copy(update={"released": 2})
    assert stage_rates(frozen, 0.2, groups=3, base=0.1) == pytest.approx((0.0, 0.1, 0.2))
    assert stage_rates(
        stage.model_copy(update={"released": 9}), 0.2, groups=2, base=0.1
    ) == pytest.approx((0.1, 0.2))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    done=st.floats(0, 1),
    warmup=st.floats(0, 1),
    decay=st.floats(0.1, 1),
    rate=st.floats(0.1, 5),
    groups=st.integers(1, 8),
    released=st.none() | st.integers(1, 8),
)
def test_rates_stay_below_their_height_and_fall_towards_the_input(
    done, warmup, decay, rate, groups, released
):
    stage = Stage(share=1.0, rate=rate, decay=decay, warmup=warmup, released=released)
    rates = stage_rates(stage, done, groups=groups, base=0.01)
    assert len(rates) == groups
    assert all(0 <= one <= 0.01 * rate * (1 + 1e-9) for one in rates)
    assert list(rates) == sorted(rates)
    frozen = 0 if released is None else max(0, groups - released)
    assert all(one == 0 for one in rates[:frozen])


def test_every_group_moves_at_its_own_rate(tmp_path):
    """AdamW's first step changes each weight by the rate of its group, whatever the gradient's
    size.
    """
    optimiser = class_plan().optimiser.value.model_copy(
        update={"weight_decay": 0.0, "learning_rate": 1e-3}
    )
    plan = flat_plan(
        optimiser=optimiser, stages=(Stage(share=1.0, rate=2.0, decay=0.5, warmup=0.0, released=3),)
    )
    job = a_job(plan, tmp_path, steps=1)
    before = new_network(plan, job.seed)
    names = {id(parameter): name for name, parameter in before.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in before.groups()]
    start = {name: value.clone() for name, value in before.state_dict().items()}
    fit(job)
    after = checkpointed(job)
    moved = [
        max(float((after[name] - start[name]).abs().max()) for name in group) for group in groups
    ]
    assert moved == pytest.approx([0, 0, 0, 0, 5e-4, 1e-3, 2e-3], rel=2e-3)


# --- what is frozen
# -------------------------------------------------------------------------------------------------


def test_frozen_weights_and_their_statistics_stay_bit_for_bit(tmp_path):
    job = a_job(flat_plan(stages=(Stage(share=1.0, released=1),), dropout=0.3), tmp_path, steps=6)
    before = {
        name: value.clone() for name, value in new_network(job.plan, job.seed).state_dict().items()
    }
    after = state(fit(job))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (not name.startswith("head.")), name


def test_released_blocks_learn_with_their_statistics_and_those_below_do_not(tmp_path):
    job = a_job(flat_plan(stages=(Stage(share=1.0, released=3),)), tmp_path, steps=6)
    network = new_network(job.plan, job.seed)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    released = {id(parameter) for group in network.groups()[-3:] for parameter in group}
    learns = {name for name, parameter in network.named_parameters() if id(parameter) in released}
    for place, part in network.named_modules():
        if isinstance(part, torch.nn.BatchNorm2d) and id(part.weight) in released:
            learns |= {f"{place}.running_mean", f"{place}.running_var"}
    after = checkpointed_after(fit, job)
    counts = {name for name in after if name.endswith("num_batches_tracked")}
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed - counts == learns
    assert 0 < len(learns) < len(after) - len(counts)
    assert any(name.endswith("running_mean") for name in learns)
    assert {name for name in counts if int(after[name])} == {
        name for name in counts if name.replace("num_batches_tracked", "running_mean") in learns
    }


def checkpointed_after(work, job):
    work(job)
    return checkpointed(job)


def test_the_features_are_frozen_until_the_second_stage_begins(tmp_path, monkeypatch):
    job = a_job(flat_plan(stages=(HEAD, ALL)), tmp_path, steps=10)
    before = {
        name: value.clone() for name, value in new_network(job.plan, job.seed).state_dict().items()
    }
    restore = kill_before(5, monkeypatch)
    with pytest.raises(Killed):
        fit(job)
    half = checkpointed(job)
    assert {name for name in half if not torch.equal(half[name], before[name])} == {
        "head.1.weight",
        "head.1.bias",
    }
    restore()
    end = checkpointed_after(fit, replace(job, resume=True))
    still = {name for name in end if torch.equal(end[name], before[name])}
    assert not [name for name in still if name.endswith((".weight", "running_mean"))]


# --- pairs of cases
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 0.4, 2.0])
def test_pairs_are_mixed_alike_in_image_and_target_and_stay_mostly_themselves(strength):
    images = torch.arange(64.0).view(64, 1, 1, 1, 1).expand(64, 2, 1, 3, 3)
    mixed, targets = mix(images, torch.eye(64), strength, torch.Generator().manual_seed(3))
    share = targets.diagonal()
    assert ((share >= 0.5) & (share <= 1.0)).all()
    assert 0.5 < float(share.mean()) < 1.0
    other = targets[torch.arange(64), (torch.arange(64) - 1) % 64]
    torch.testing.assert_close(share + other, torch.ones(64))
    assert float(targets.sum()) == pytest.approx(64)
    expected = images * share.view(-1, 1, 1, 1, 1) + images.roll(1, 0) * other.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(mixed, expected)


def test_a_weak_mixing_mixes_little_and_each_step_another():
    draws = [
        mix(torch.zeros(200, 1, 1, 1, 1), torch.eye(200), s, torch.Generator().manual_seed(n))[1]
        for s, n in _DRAWS
    ]
    assert float((draws[0].diagonal() > 0.99).float().mean()) > 0.85
    assert float((draws[1].diagonal() > 0.99).float().mean()) < 0.1
    assert not torch.equal(draws[1], draws[2])
    assert torch.equal(draws[2], draws[3])


_DRAWS = ((0.01, 0), (2.0, 0), (2.0, 1), (2.0, 1))


def test_a_plan_that_mixes_mixes_and_one_that_does_not_does_not(tmp_path):
    for strength in (0.0, 0.5):
        job = a_job(class_plan(loss=ClassLossSpec(mixup=strength), batch=12), tmp_path)
        step = module.ClassificationStep(job)
        with step.sampler:
            images, targets = step.batch(0)
            changed, mixed = step.augment(images, targets, torch.Generator().manual_seed(0))
        assert torch.equal(changed, images) == torch.equal(mixed, targets) == (strength == 0)


# --- rare classes
# -------------------------------------------------------------------------------------------------


def test_chances_by_hand():
    """Each class has half the chance, with 4 cases of class a and 1 of b.

    Of findings the rarest of a case counts.
    """
    members = np.array([[1, 0]] * 4 + [[0, 1]], dtype=bool)
    np.testing.assert_allclose(case_chances(members), [1 / 8] * 4 + [1 / 2])
    found = np.array(
        [[1, 0], [1, 0], [1, 1], [0, 0], [0, 0]], dtype=bool
    )  # one in three, alone, one in two without any
    weights = np.array([1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(case_chances(found), weights / weights.sum())


def drawn(job, chances, epochs):
    targets = {
        case: ClassificationTask(job.plan.classes).encode(label)
        for case, label in job.labels.items()
    }
    sampler = ViewSampler(job.store, job.cases, targets, batch=4, seed=2, chances=chances)
    with sampler:
        return [
            [sampler.sample(number)[1].argmax() for number in _epoch(job, epoch)]
            for epoch in range(epochs)
        ]


def _epoch(job, epoch):
    return range(epoch * len(job.cases), (epoch + 1) * len(job.cases))


def test_rare_classes_are_drawn_as_often_as_common_ones(tmp_path):
    labels = ["cyst"] * 14 + ["adenoma"] * 5 + ["carcinoma"]
    job = a_job(class_plan(THREE, patch=(2, 2, 2)), tmp_path, labels=labels)
    members = np.array([THREE.indicators(label) for label in labels])
    seen = np.bincount(np.ravel(drawn(job, case_chances(members), 150)), minlength=3) / 3000
    np.testing.assert_allclose(seen, 1 / 3, atol=4 * np.sqrt(2 / 9 / 3000))
    for epoch in drawn(job, None, 3):
        assert np.bincount(epoch).tolist() == [14, 5, 1]


def test_balance_is_the_plans(tmp_path):
    labels = ["benign"] * 20 + ["malignant"] * 2
    for balance, share in (("none", 2 / 22), ("sampling", 0.5)):
        job = a_job(class_plan(balance=balance, batch=11), tmp_path, labels=labels)
        training_step = module.ClassificationStep(job)
        with training_step.sampler:
            positive = np.mean(
                [float(training_step.batch(step)[1][:, 1].mean()) for step in range(40)]
            )
        assert positive == pytest.approx(share, abs=0.1 if balance == "sampling" else 1e-6)


# --- stopping and going on
# --------------------------------------------------------------------------------------------------


def restless(**changes):
    """Everything that is drawn at random: dropout, mixing, sampling, augmentation; two stages."""
    plan = flat_plan(
        dropout=0.4,
        stages=(HEAD, ALL),
        loss=ClassLossSpec(mixup=0.4, label_smoothing=0.1),
        balance="sampling",
        augmentation=STRONG,
        steps=12,
    )
    return plan.model_copy(update=changes)


@pytest.mark.parametrize("step", [4, 6, 9])
def test_resuming_equals_never_having_stopped_bit_for_bit(step, tmp_path, monkeypatch):
    """In the first stage, where the second begins (step 6), and in the second."""
    job = a_job(restless(), tmp_path, size=(1, 38, 38))
    straight = fit(replace(job, folder=tmp_path / "straight"))
    restore = kill_before(step, monkeypatch)
    with pytest.raises(Killed):
        fit(job)
    restore()
    assert load_progress(job.folder).step == step
    torch.rand(7)  # whatever else a new process has drawn
    resumed = fit(replace(job, resume=True))
    assert resumed.progress.step == 12
    assert same(state(straight), state(resumed))


def test_two_runs_are_one_and_the_global_generator_is_left_alone(tmp_path):
    job = a_job(restless(steps=class_plan(steps=6).steps), tmp_path, size=(1, 38, 38))
    runs = []
    for seed in (1, 2):
        torch.random.default_generator.manual_seed(seed)
        before = torch.get_rng_state()
        runs.append(state(fit(replace(job, folder=tmp_path / str(seed)))))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*runs)
    assert not same(runs[0], state(fit(replace(job, folder=tmp_path / "other", seed=6))))


def test_dropout_really_drops(tmp_path):
    with_it, without = (a_job(flat_plan(dropout=p), tmp_path / str(p), steps=2) for p in (0.5, 0.0))
    assert not same(state(fit(with_it)), state(fit(without)))


def test_a_case_that_cannot_be_read_is_named_and_training_goes_on_from_there(tmp_path, monkeypatch):
    job = a_job(class_plan(batch=2, steps=8), tmp_path)
    straight = fit(replace(job, folder=tmp_path / "straight"))
    read = ClassifierStore.read
    monkeypatch.setattr(
        ClassifierStore,
        "read",
        lambda self, case: _damaged() if case == "c03" else read(self, case),
    )
    with pytest.raises(
        DataError, match=r"case c03: its preprocessed copy in .* cannot be read \(damaged\)"
    ):
        fit(job)
    monkeypatch.setattr(ClassifierStore, "read", read)
    assert same(state(straight), state(fit(replace(job, resume=True))))


def _damaged():
    raise ValueError("damaged")


def test_another_training_is_not_gone_on_with(tmp_path):
    job = a_job(class_plan(steps=4), tmp_path)
    fit(job)
    with pytest.raises(ModelError, match="made with another plan"):
        fit(replace(job, resume=True, plan=class_plan(steps=4, balance="sampling")))


@pytest.mark.parametrize(
    ("kind", "wrong"), [("binary", 0.0), ("exclusive", 0.1), ("ordinal", 0.6), ("multilabel", 0.1)]
)
def test_it_learns_every_kind_of_classes(kind, wrong, tmp_path):
    """Errors a case, of grades by how many; chance is 0.5, 0.67, 1.25 and 0.5."""
    table = TABLES[kind]
    labels = ["", "nodule"] * 12 if kind == "multilabel" else None
    job = a_job(class_plan(table, steps=60), tmp_path, cases=24, labels=labels)
    fitted = fit(job)
    images = torch.from_numpy(
        np.stack([job.store.read(case) for case in job.cases]).astype(np.float32)
    )
    with torch.inference_mode():
        task = ClassificationTask(table)
        called = decide(task.probabilities(fitted.network(images)).numpy(), table)  # (N, K)
    labels = (
        "|".join(name for name, yes in zip(table.names, row, strict=True) if yes) for row in called
    )
    errors = [
        np.abs(task.encode(one) - task.encode(job.labels[case])).sum()
        for one, case in zip(labels, job.cases, strict=True)
    ]
    assert np.mean(errors) / (2 if table.kind == "exclusive" else 1) <= wrong
