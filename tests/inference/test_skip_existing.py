"""Predictions are kept only where model, options and files are those they were made from."""

from __future__ import annotations

import logging
import os
import re
import shutil

import numpy as np
import pytest

from classification_toys import Means, class_model, class_plan
from hilum.errors import UsageError
from hilum.inference import ClassPredictor, Predictor, predict_many
from hilum.io import read_labels, read_volume, write_volume
from inference_toys import index_volume, make_model


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        write_volume(index_volume(seed=seed), tmp_path / "in" / f"case_{seed}_0000.nii.gz")
    return tmp_path / "in"


def again(predictor, folder, out, caplog) -> tuple[list[str], str]:
    """The statuses of a run that leaves out what is there, and what it says."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hilum"):
        report = predict_many(predictor, [folder], out, skip_existing=True)
    return [case.status for case in report.cases], caplog.text


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_only_what_changed_is_predicted_again(task, folder, tmp_path, caplog):
    def predictor(*, other: bool = False, tta: bool = False):
        if task == "segmentation":
            return Predictor(make_model(steps=11 if other else 10), tta=tta)
        return ClassPredictor(class_model(class_plan(name="other" if other else "toy")), tta=tta)

    out = tmp_path / "out"
    predict_many(predictor(), [folder], out)
    os.utime(folder / "case_1_0000.nii.gz", (1, 1))
    assert again(predictor(), shutil.copytree(folder, tmp_path / "copy"), out, caplog) == (
        ["skipped"] * 3,
        "",
    )

    image = read_volume(folder / "case_1_0000.nii.gz")
    write_volume(
        image.with_array(np.ascontiguousarray(image.array[:, ::-1])), folder / "case_1_0000.nii.gz"
    )
    statuses, said = again(predictor(), folder, out, caplog)
    assert sorted(statuses) == ["done", "skipped", "skipped"]
    assert "1 case to be predicted again: the image changed" in said
    assert again(predictor(), folder, out, caplog) == (["skipped"] * 3, "")

    statuses, said = again(predictor(other=True), folder, out, caplog)
    assert statuses == ["done"] * 3
    assert "3 cases to be predicted again: the model changed" in said
    if task == "classification":  # whose toy plan mirrors no axis
        return
    statuses, said = again(predictor(other=True, tta=True), folder, out, caplog)
    assert statuses == ["done"] * 3
    assert re.search(
        r"3 cases to be predicted again: options changed \(mirrored axes \[\] to \[.+\]\)", said
    )


def test_answers_that_hilum_did_not_record_are_not_left_out(folder, tmp_path):
    out = tmp_path / "out"
    predict_many(Predictor(make_model()), [folder], out)
    before = read_labels(out / "case_0.nii.gz").array
    (out / ".hilum.json").unlink()
    with pytest.raises(UsageError, match=r"case_0\.nii\.gz.*not written by hilum"):
        predict_many(Predictor(make_model()), [folder], out, skip_existing=True)
    assert np.array_equal(read_labels(out / "case_0.nii.gz").array, before)


def test_other_weights_of_an_unsaved_model_are_another_model(folder, tmp_path, caplog):
    models = [class_model(None, Means([[0.0], [slope]]).eval()) for slope in (1.0, 2.0)]
    predict_many(ClassPredictor(models[0]), [folder], tmp_path / "out")
    statuses, said = again(ClassPredictor(models[1]), folder, tmp_path / "out", caplog)
    assert statuses == ["done"] * 3
    assert "3 cases to be predicted again: the model changed" in said


def test_channels_that_exchanged_their_names_are_another_image(tmp_path, caplog):
    for number in range(2):
        write_volume(index_volume(seed=number), tmp_path / f"in/case_000{number}.nii.gz")
    means = ClassPredictor(
        class_model(class_plan(channels=("CT", "PET")), Means([[0.0, 0.0], [1.0, 2.0]]).eval())
    )
    names = tmp_path / "in/dataset.json"
    names.write_text('{"channel_names": {"0": "PET", "1": "CT"}}')
    assert again(means, names.parent, tmp_path / "out", caplog)[0] == ["done"]
    assert "channels PET, CT of 1 cases are read by name as the model's CT, PET" in caplog.text
    names.write_text('{"channel_names": {"0": "CT", "1": "PET"}}')
    statuses, said = again(means, names.parent, tmp_path / "out", caplog)
    assert statuses == ["done"]
    assert "1 case to be predicted again: the image changed" in said
    assert "read by name" not in said


def test_no_label_map_is_left_without_its_labels(folder, tmp_path, caplog):
    out = tmp_path / "out"
    there = []
    predict_many(
        Predictor(make_model()),
        [folder],
        out,
        progress=lambda *_: there.append((out / "labels.json").is_file()),
    )
    assert all(there)
    (out / "labels.json").unlink()  # as after a run that was killed, before labels.json came first
    assert again(Predictor(make_model()), folder, out, caplog)[0] == ["skipped"] * 3
    assert (out / "labels.json").is_file()


def test_an_image_that_changes_after_it_was_read_is_read_again(folder, tmp_path, caplog):
    file, other = folder / "case_0_0000.nii.gz", tmp_path / "other.nii.gz"
    write_volume(index_volume(seed=7), other)

    class Slow(Predictor):
        def predict_prepared(self, *args, **options):
            shutil.copyfile(other, file)
            return super().predict_prepared(*args, **options)

    predict_many(Slow(make_model()), [file], tmp_path / "out")
    statuses, said = again(Predictor(make_model()), file, tmp_path / "out", caplog)
    assert statuses == ["done"]
    assert "1 case to be predicted again: the image changed" in said


def test_answers_that_were_changed_are_left_out_and_named(folder, tmp_path, caplog):
    predict_many(Predictor(make_model()), [folder], tmp_path / "out")
    (tmp_path / "out/case_1.nii.gz").write_bytes(b"cut off")
    statuses, said = again(Predictor(make_model()), folder, tmp_path / "out", caplog)
    assert statuses == ["skipped"] * 3
    assert (
        "predictions of 1 cases were changed since hilum wrote them, and stay as they are: case_1"
        in said
    )
