"""A training is resumed only on the files, names, patients and options with which it began."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from training_samples import small_plan, write_boxes

from classification_toys import class_plan
from hilum.dataset import ClassTable, open_dataset
from hilum.dataset.open import Labelling
from hilum.errors import DataError, LabelError, UsageError
from hilum.io import read_labels, read_volume, write_labels, write_volume
from hilum.pipelines.training import train as run
from hilum.plan import save_plan
from hilum.plan.plan import Decision
from hilum.training import Listener, TrainOptions
from hilum.training.given_plan import given_plan
from hilum.training.premises import PREMISES, Premises

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = TrainOptions(steps=2, device="cpu")


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def premises(data: Path, options: TrainOptions = OPTIONS) -> Premises:
    return Premises.of(open_dataset(data), options, progress=lambda *_: None)


@pytest.fixture
def data(tmp_path):
    return write_boxes(tmp_path / "data", cases=6)


def _swap_labels(data):
    for file in (data / "labelsTr").iterdir():
        labels = read_labels(file)
        write_labels(labels.with_array(np.choose(labels.array, [0, 2, 1]).astype(np.uint8)), file)


def _replace_image_keeping_its_time(data):
    file = data / "imagesTr" / "box_03_0000.nii.gz"
    image, facts = read_volume(file), file.stat()
    write_volume(image.with_array(image.array[:, ::-1].copy()), file)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _add(data):
    shutil.copy(data / "imagesTr" / "box_00_0000.nii.gz", data / "imagesTr" / "new_0000.nii.gz")
    shutil.copy(data / "labelsTr" / "box_00.nii.gz", data / "labelsTr" / "new.nii.gz")


def _remove(data):
    (data / "imagesTr" / "box_05_0000.nii.gz").unlink()
    (data / "labelsTr" / "box_05.nii.gz").unlink()


def _split(data):
    ids = [case.id for case in open_dataset(data).cases]
    (data / "splits_final.json").write_text(json.dumps([{"train": ids[:4], "val": ids[4:]}]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_swap_labels, r"annotations of box_00, box_01, box_02 and 3 more"),
        (_replace_image_keeping_its_time, r"images of box_03"),
        (_add, r"cases added: new"),
        (_remove, r"cases removed: box_05"),
        (_split, r"the split that the data set brings"),
        (lambda data: edited(data / "dataset.json", '"MR"', '"CT"'), r"the channels, MR to CT"),
        (
            lambda data: edited(
                data / "dataset.json", '"large": 1, "small": 2', '"small": 1, "large": 2'
            ),
            r"1 large, 2 small to 1 small",
        ),
        (
            lambda data: edited(data / "dataset.json", '"small": 2', '"small": 2, "other": 3'),
            r"to 1 large, 2 small, 3 other",
        ),
        (
            lambda data: edited(data / "patients.csv", "box_00,P0", "box_00,P2"),
            r"patients of box_00",
        ),
    ],
)
def test_changed_data_are_named(data, change, said):
    before = premises(data)
    change(data)
    with pytest.raises(
        DataError,
        match=(
            rf"m cannot be resumed, because these changed since it began: .*{said}[\s\S]*another"
            r" folder"
        ),
    ):
        premises(data).refuse_changes(before, holder="m")


@pytest.mark.parametrize("change", [{"seed": 1}, {"fold": 1}, {"folds": 5}])
def test_other_options_are_named(data, change):
    before = premises(data)
    with pytest.raises(
        UsageError,
        match=(
            f"because these changed since it began: .*{next(iter(change))}, .* to"
            f" {next(iter(change.values()))}"
        ),
    ):
        premises(data, replace(OPTIONS, **change)).refuse_changes(before, holder="m")


def test_an_edited_plan_is_named(data):
    plan = small_plan(open_dataset(data))
    before = premises(data).with_plan(plan, "")
    other = plan.model_copy(update={"batch": Decision(value=7, because="x")})
    with pytest.raises(UsageError, match="batch in the plan, 2 to 7"):
        premises(data).with_plan(other, "").refuse_changes(before, holder="m")


def test_copies_times_minutes_and_device_change_nothing(data, tmp_path):
    before = premises(data)
    before.save(tmp_path)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copy)
    again = premises(tmp_path / "copy", replace(OPTIONS, steps=None, minutes=3.0, memory_gb=1.0))
    again.refuse_changes(Premises.load(tmp_path), holder="m")


def test_damaged_premises_are_named(tmp_path):
    assert Premises.load(tmp_path) is None
    (tmp_path / PREMISES).write_text("{")
    with pytest.raises(DataError, match=r"premises\.json is damaged"):
        Premises.load(tmp_path)


def test_a_resumed_run_is_refused_and_goes_on_when_the_change_is_undone(data, tmp_path):
    save_plan(small_plan(open_dataset(data)), tmp_path / "plan.json")
    options, out = replace(OPTIONS, plan=tmp_path / "plan.json"), tmp_path / "m"
    run(data, out, options)
    resumed = replace(options, plan=None, resume=True)
    edited(data / "dataset.json", '"large": 1, "small": 2', '"small": 1, "large": 2')
    with pytest.raises(DataError, match="the labels, 1 large"):
        run(data, out, resumed)
    edited(data / "dataset.json", '"small": 1, "large": 2', '"large": 1, "small": 2')
    run(data, out, resumed)
    edited(out / "training" / "plan.json", '"value": 2', '"value": 1')
    with pytest.raises(UsageError, match=r"m cannot be resumed.*batch in the plan, 2 to 1"):
        run(data, out, resumed)


def test_a_run_without_premises_goes_on_and_says_so(data, tmp_path):
    run(data, tmp_path / "m", OPTIONS)
    (tmp_path / "m" / "training" / PREMISES).unlink()
    said: list[str] = []
    run(data, tmp_path / "m", replace(OPTIONS, resume=True), listener=Listener(say=said.append))
    assert any("has no premises.json" in sentence for sentence in said)


def test_a_given_plan_is_followed_by_name(data, tmp_path):
    """Labels under other ids are read as the plan's.

    Other names are refused before anything is written.
    """
    save_plan(small_plan(open_dataset(data)), tmp_path / "plan.json")
    options, said = replace(OPTIONS, plan=tmp_path / "plan.json"), []
    edited(data / "dataset.json", '"large": 1, "small": 2', '"small": 1, "Large": 2')
    model = run(data, tmp_path / "m", options, listener=Listener(say=said.append))
    assert "labels are matched by name: 1 is read as 2, 2 is read as 1" in said
    assert [label.name for label in model.plan.labels.foreground] == ["large", "small"]
    edited(data / "dataset.json", '"Large"', '"huge"')
    with pytest.raises(LabelError, match=r"1 small, 2 huge; the plan has 1 large, 2 small"):
        run(data, tmp_path / "other", options)
    assert not (tmp_path / "other").exists()


def test_the_order_of_channels_changes_nothing(data):
    def table(header, *images):
        files = ",".join(f"imagesTr/box_0{number}_0000.nii.gz" for number in images)
        (data / "cases.csv").write_text(f"case,mask,{header}\na,labelsTr/box_00.nii.gz,{files}\n")
        return premises(data / "cases.csv")

    before = table("image_CT,image_PET", 0, 1)
    table("image_pet,image_CT", 1, 0).refuse_changes(before, holder="m")
    with pytest.raises(DataError, match="images of a"):
        table("image_PET,image_CT", 0, 1).refuse_changes(before, holder="m")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"positive": "well"},
            "positive class well was asked for, but the plan that is given has ill",
        ),
        (
            {"classes": "ordinal"},
            "classes ordinal was asked for, but the plan that is given has exclusive",
        ),
    ],
)
def test_a_given_plan_refuses_other_classes(tmp_path, asked, said):
    plan = class_plan(classes=ClassTable(names=("well", "ill")))
    with pytest.raises(UsageError, match=said):
        given_plan(tmp_path, replace(OPTIONS, plan=plan, labelling=Labelling(**asked)))
    same = Labelling(positive="ill", classes="exclusive")
    assert given_plan(tmp_path, replace(OPTIONS, plan=plan, labelling=same)) is plan
