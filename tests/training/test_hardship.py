"""Slow steps, damaged stores, full disks, small devices: what a training says and keeps."""

import errno
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_samples import SHAPE, fit, small_plan, write_boxes

from hilum.dataset import open_dataset
from hilum.errors import DataError, ResourceError
from hilum.inference.predict_cases import Deadline
from hilum.pipelines.training import train as run
from hilum.plan import save_plan
from hilum.preprocess import StoredCase
from hilum.targets import SegmentationTask
from hilum.training import Budget, Listener, TrainingJob, TrainOptions
from hilum.training.checkpoint import load_checkpoint
from hilum.training.init_network import new_network
from hilum.training.loop import CHECKPOINT, ROW_EVERY
from hilum.training.optimiser import WeightAverage, build_optimiser
from hilum.training.sampling import PatchSampler
from hilum.training.steps import segmentation
from hilum.training.validators import SegmentationValidator as Validator

CPU = torch.device("cpu")


@pytest.fixture
def job(material, tmp_path) -> TrainingJob:
    _, plan, fold, store = material
    return TrainingJob(
        plan,
        store,
        fold.train,
        tmp_path / "fold_0",
        Budget(steps=25),
        CPU,
        seed=5,
        checkpoint_seconds=0.0,
    )


def test_slow_steps_are_saved_by_the_clock_not_by_the_row(material, job, tmp_path, monkeypatch):
    """A crash in the middle of a row loses a step, and the resumed run has the very rows and
    weights of the straight one.
    """
    straight = fit(replace(job, folder=tmp_path / "straight"))

    class Killed(BaseException):
        pass

    read = PatchSampler.batch

    def until(self, step: int):
        if step == 13:
            raise Killed
        return read(self, step)

    monkeypatch.setattr(PatchSampler, "batch", until)
    with pytest.raises(Killed):
        fit(job)
    network = new_network(material[1], 0)
    optimiser = build_optimiser([list(network.parameters())], material[1].optimiser.value)
    saved = load_checkpoint(
        job.folder / CHECKPOINT, network, WeightAverage(network, 0.9).network, optimiser
    )
    assert saved.step == 13 < ROW_EVERY
    monkeypatch.setattr(PatchSampler, "batch", read)
    resumed = fit(replace(job, resume=True))
    rows = [[(row.step, row.loss) for row in one.progress.rows] for one in (straight, resumed)]
    assert rows[0] == rows[1]
    assert [step for step, _ in rows[0]] == list(range(2, 26))  # a short run has many rows
    one, two = straight.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_device_without_enough_memory_is_a_matter_of_resources(job, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(segmentation, "deep_supervision_loss", full)
    with pytest.raises(
        ResourceError, match=r"not enough memory for a batch of 2 patches[\s\S]*memory_gb=8"
    ):
        fit(job)


def test_a_damaged_store_is_named_before_the_first_step(material, monkeypatch):
    _, plan, fold, store = material

    def broken(*_: object) -> None:
        raise RuntimeError("damaged chunk")

    monkeypatch.setattr(StoredCase, "held", broken)
    with pytest.raises(
        DataError, match=r"case box_\d\d: its preprocessed copy .* \(damaged chunk\)"
    ):
        PatchSampler(
            store,
            fold.train,
            SegmentationTask(plan.labels),
            size=SHAPE,
            patch=SHAPE,
            batch=1,
            foreground_fraction=0.3,
            seed=0,
        )


def test_a_full_disk_under_tensorboard_is_a_matter_of_resources(job, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    with pytest.raises(
        ResourceError, match=r"tensorboard cannot be written: No space left[\s\S]*resume=True"
    ):
        fit(job)


def test_no_case_is_begun_that_would_end_after_the_deadline(material, monkeypatch):
    dataset, plan, fold, _ = material
    now = [0.0]
    monkeypatch.setattr("hilum.inference.predict_cases.time.perf_counter", lambda: now[0])
    validator = Validator(plan, CPU, tuple(dataset[case] for case in fold.train))

    def later(*_: object) -> None:
        now[0] += 10.0

    monkeypatch.setattr(
        "hilum.training.validators.segmentation.score_labels",
        lambda *_, case, **__: later() or (case,),
    )
    assert (
        len(validator.score(new_network(plan, 0), deadline=Deadline(35.0))) == 3
    )  # a fourth would end at 40
    assert len(validator.score(new_network(plan, 0), deadline=Deadline(0.0))) == 1


def test_what_the_clock_leaves_of_a_validation_is_not_the_beginning_of_the_list(
    material, monkeypatch
):
    dataset, plan, _, _ = material
    now = [0.0]
    monkeypatch.setattr("hilum.inference.predict_cases.time.perf_counter", lambda: now[0])

    def later(*_: object) -> None:
        now[0] += 10.0

    monkeypatch.setattr(
        "hilum.training.validators.segmentation.score_labels",
        lambda *_, case, **__: later() or (case,),
    )
    network, every = new_network(plan, 0), [case.id for case in dataset.cases]
    left = Validator(plan, CPU, dataset.cases).score(network, deadline=Deadline(45.0))
    assert len(left) == 4
    assert list(left) == [case for case in every if case in left] != every[:4]
    now[0] = 0.0
    assert set(
        Validator(plan, CPU, dataset.cases[::-1]).score(network, deadline=Deadline(45.0))
    ) == set(left)  # in whatever order they come
    assert Validator(plan, CPU, dataset.cases).score(network) == tuple(every)


def test_validation_on_the_way_measures_dice_alone_and_the_same(material, monkeypatch):
    """An untrained network's noise has surfaces that take minutes and gigabytes to measure on a
    whole CT.
    """
    dataset, plan, fold, _ = material
    validator = Validator(plan, CPU, tuple(dataset[case] for case in fold.validation))
    network = new_network(plan, 0)
    scores = validator.score(network)
    regions = {score.region for score in scores}
    expected = np.mean([np.nanmean([s.dice for s in scores if s.region == r]) for r in regions])
    scored: list[np.ndarray] = []
    monkeypatch.setattr(
        "hilum.training.validators.segmentation.score_labels",
        lambda prediction, *_, **__: scored.append(prediction) or (),
    )
    assert validator.check(network) == pytest.approx(expected)
    assert scored == []
    assert validator.seconds_per_case(network) > 0
    # the annotation, not the untrained prediction
    assert [set(np.unique(labels)) for labels in scored] == [{0, 1, 2}] * 2


def test_three_patients_and_no_time_train_all_the_same_and_say_so(tmp_path):
    data = write_boxes(tmp_path / "data", cases=6)
    save_plan(small_plan(open_dataset(data)), tmp_path / "plan.json")
    said: list[str] = []
    options = TrainOptions(minutes=0.0001, device="cpu", plan=tmp_path / "plan.json")
    model = run(data, tmp_path / "m", options, listener=Listener(say=said.append))
    assert model.facts.steps > 0
    assert any("3 folds of 2 validation cases" in sentence for sentence in said)
    (short,) = (sentence for sentence in said if "Attention: of 0.0001 minutes" in sentence)
    advised = re.search(r"--resume --minutes (\S+):", short)
    assert float(advised[1]) >= 0.1  # reading and validating take seconds


def test_given_folds_that_validate_a_case_twice_end_in_a_model(tmp_path):
    """Repeated hold-out as somebody's splits_final.json has it.

    It was refused after the last fold, with nothing written.
    """
    data = write_boxes(tmp_path / "data", cases=6)
    names = [f"box_{number:02d}" for number in range(6)]
    splits = [{"train": names[4:], "val": names[:2]}, {"train": names[4:], "val": names[1:3]}]
    (data / "splits_final.json").write_text(json.dumps(splits))
    save_plan(small_plan(open_dataset(data)), tmp_path / "plan.json")
    model = run(
        data,
        tmp_path / "m",
        TrainOptions(steps=2, folds=2, device="cpu", plan=tmp_path / "plan.json"),
    )
    assert len(model.networks) == 2
    assert model.metrics.measured_on.startswith("3 validation cases")
    assert any("counts once" in note for note in model.metrics.notes)
