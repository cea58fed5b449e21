import errno
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from training_samples import fit

from hilum.errors import DataError, ModelError, ResourceError, TrainingError
from hilum.training import Budget, Progress, TrainingJob, checkpoint
from hilum.training.init_network import new_network
from hilum.training.loop import CHECKPOINT, plan_hash, step_generator
from hilum.training.sampling import PatchSampler
from hilum.training.steps import segmentation
from hilum.training.validators import SegmentationValidator as Validator

CPU = torch.device("cpu")


@pytest.fixture
def job(material, tmp_path) -> TrainingJob:
    _, plan, fold, store = material
    budget = Budget(steps=plan.steps.value)
    return TrainingJob(
        plan, store, fold.train, tmp_path / "fold_0", budget, CPU, seed=5, checkpoint_seconds=0.0
    )


def weights(fitted) -> dict[str, torch.Tensor]:
    return fitted.network.state_dict()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Killed(BaseException):
    """Stands for whatever ends a process without asking."""


def kill_at(step: int):
    def report(row):
        if row.step >= step:
            raise Killed

    return report


def load_progress(job) -> Progress:
    with safe_open(str(job.folder / CHECKPOINT), framework="pt") as file:
        return Progress.parse(file.metadata()["hilum"])


def test_it_learns(material, job):
    dataset, plan, fold, _ = material
    validator = Validator(plan, CPU, tuple(dataset[case] for case in fold.validation))
    before = validator.check(new_network(plan, 5))
    fitted = fit(replace(job, budget=Budget(steps=80)))
    after = validator.check(fitted.network)
    assert after > max(0.7, before + 0.3)
    assert fitted.progress.step == 80
    assert not fitted.network.training


def test_the_same_seed_gives_the_same_bits_and_another_does_not(job, tmp_path):
    one = fit(job)
    two = fit(replace(job, folder=tmp_path / "again"))
    other = fit(replace(job, folder=tmp_path / "other", seed=6))
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


def test_resuming_equals_never_having_stopped_bit_for_bit(job, tmp_path):
    straight = fit(replace(job, folder=tmp_path / "straight"))
    with pytest.raises(Killed):
        fit(job, report=kill_at(40))
    assert 20 <= load_progress(job).step < 40
    resumed = fit(replace(job, resume=True))
    assert resumed.progress.step == 40
    assert same(weights(straight), weights(resumed))
    losses = [[row.loss for row in fitted.progress.rows] for fitted in (straight, resumed)]
    assert losses[0] == losses[1]


def test_resuming_keeps_what_validation_decided(job, tmp_path):
    """The plateau stop depends on validations before the interruption."""
    job = replace(job, budget=Budget(steps=400), validate_every=0.05)
    rarely = replace(job, checkpoint_seconds=3600.0)  # every step costs a busy machine minutes
    straight = fit(replace(rarely, folder=tmp_path / "straight"), validate=lambda _: 0.5)
    with pytest.raises(Killed):
        fit(job, validate=lambda _: 0.5, report=kill_at(120))
    resumed = fit(replace(rarely, resume=True), validate=lambda _: 0.5)
    assert straight.progress.step < 400  # it stopped early ...
    assert straight.progress.rows[-1].learning_rate < 1e-4  # ... but went through its schedule
    assert resumed.progress.step == straight.progress.step
    assert same(weights(straight), weights(resumed))


def test_a_finished_training_is_not_trained_on(job):
    one = fit(job)
    two = fit(replace(job, resume=True))
    assert same(weights(one), weights(two))
    assert two.progress.step == one.progress.step


def test_time_ends_the_schedule(job):
    fitted = fit(replace(job, budget=Budget(steps=10**9, seconds=3.0)))
    assert fitted.progress.step > 2  # however busy the machine
    rows = fitted.progress.rows  # a busy machine makes too few steps for a row
    assert len(rows) < 2 or rows[-1].learning_rate < rows[0].learning_rate
    assert fitted.progress.seconds >= 3.0


def test_logs_are_written(job):
    fit(job, validate=lambda _: 0.25)
    lines = (job.folder / "log.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,progress,learning_rate,loss,gradient_norm,score"
    assert lines[-1].startswith("40,")
    assert any(line.endswith(",0.25") for line in lines)
    assert (job.folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert list((job.folder / "tensorboard").glob("events.*"))


def test_training_without_tensorboard_writes_csv_and_curves(job, monkeypatch):
    monkeypatch.setattr("hilum.training.log.find_spec", lambda _: None)
    fit(job)
    assert (job.folder / "log.csv").is_file()
    assert (job.folder / "curves.png").is_file()
    assert not (job.folder / "tensorboard").exists()


def test_a_loss_that_is_no_number_stops_and_leaves_the_checkpoint(job, monkeypatch):
    with pytest.raises(Killed):
        fit(replace(job, checkpoint_seconds=0.0), report=kill_at(20))
    before = (job.folder / CHECKPOINT).read_bytes()
    monkeypatch.setattr(
        segmentation,
        "deep_supervision_loss",
        lambda *_: torch.tensor(math.nan, requires_grad=True) * 1.0,
    )
    with pytest.raises(TrainingError, match=r"not a number at step \d+[\s\S]*hilum check"):
        fit(replace(job, resume=True))
    assert (job.folder / CHECKPOINT).read_bytes() == before


def test_a_full_disk_stops_and_leaves_the_checkpoint(job, monkeypatch):
    with pytest.raises(Killed):
        fit(replace(job, checkpoint_seconds=0.0), report=kill_at(20))
    before = (job.folder / CHECKPOINT).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ResourceError, match="no space left while writing"):
        fit(replace(job, resume=True))
    assert (job.folder / CHECKPOINT).read_bytes() == before
    assert not list(job.folder.glob(".part-*"))


def test_a_case_that_cannot_be_read_stops_with_a_checkpoint_of_that_moment(
    job, tmp_path, monkeypatch
):
    straight = fit(replace(job, folder=tmp_path / "straight"))
    read = PatchSampler._read

    def sometimes(self, step: int):
        if step == 27:
            raise DataError("case box_03: damaged")
        return read(self, step)

    monkeypatch.setattr(PatchSampler, "_read", sometimes)
    with pytest.raises(DataError, match="box_03"):
        fit(job)
    monkeypatch.setattr(PatchSampler, "_read", read)
    resumed = fit(replace(job, resume=True))
    assert same(weights(straight), weights(resumed))


@pytest.mark.parametrize(
    ("change", "word"), [({"seed": 9}, "seed"), ({"cases": ("box_00",)}, "cases")]
)
def test_a_checkpoint_of_another_training_is_refused(job, change, word):
    fit(replace(job, budget=Budget(steps=20)))
    with pytest.raises(ModelError, match=f"made with another {word}"):
        fit(replace(job, resume=True, **change))


def test_a_checkpoint_of_another_plan_is_refused(job):
    fit(replace(job, budget=Budget(steps=20)))
    steps = job.plan.steps.model_copy(update={"value": 41})
    other = job.plan.model_copy(update={"steps": steps})
    assert plan_hash(other) != plan_hash(job.plan)
    with pytest.raises(ModelError, match="made with another plan"):
        fit(replace(job, resume=True, plan=other))


def test_a_damaged_checkpoint_is_refused(job):
    job.folder.mkdir(parents=True)
    (job.folder / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint of this training"):
        fit(replace(job, resume=True))


def test_every_step_has_its_own_randomness():
    draws = {
        float(torch.rand(1, generator=step_generator(seed, step)))
        for seed in range(4)
        for step in range(50)
    }
    assert len(draws) == 200
    assert torch.equal(
        torch.rand(3, generator=step_generator(1, 2)), torch.rand(3, generator=step_generator(1, 2))
    )


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device; the tests above are its CPU twins"
)
def test_a_gpu_learns_what_the_cpu_learns(material, job, tmp_path):
    dataset, plan, fold, _ = material
    device = torch.device("cuda", 0)
    validator = Validator(plan, device, tuple(dataset[case] for case in fold.validation))
    on_gpu = fit(replace(job, budget=Budget(steps=80), device=device))
    assert validator.check(on_gpu.network) > 0.7
    with pytest.raises(Killed):
        fit(replace(job, folder=tmp_path / "stopped", device=device), report=kill_at(40))
    assert (
        fit(replace(job, folder=tmp_path / "stopped", device=device, resume=True)).progress.step
        == 40
    )
