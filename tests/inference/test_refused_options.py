"""A command refused before its work leaves nothing that would block the corrected one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hilum import api
from hilum.errors import HilumError
from hilum.examples import make_abdomen_dataset
from hilum.pipelines.segmentation import Segmentation
from inference_toys import real_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, a model, and predictions of nothing."""
    folder = tmp_path_factory.mktemp("place")
    make_abdomen_dataset(folder / "data", cases=4, tests=1, shape=(8, 12, 14), structures=["liver"])
    real_model().save(folder / "model")
    (folder / "plan.json").write_text('{"task": 3}')
    return folder


REFUSED = {
    "train, fold": (lambda p, out: api.train(p / "data", out, fold=9, steps=1), "fold 9"),
    "train, data": (lambda p, out: api.train(p / "none", out, steps=1), "none"),
    "train, steps": (lambda p, out: api.train(p / "data", out, steps=-1), "-1"),
    "train, plan": (
        lambda p, out: api.train(p / "data", out, plan=p / "plan.json", steps=1),
        "plan.json",
    ),
    "train, no plan": (
        lambda p, out: api.train(p / "data", out, plan=p / "none.json", steps=1),
        "none.json",
    ),
    "train, device": (
        lambda p, out: api.train(p / "data", out, device="abacus", steps=1),
        "abacus",
    ),
    "train, label": (
        lambda p, out: api.train(p / "data", out, labelling=api.Labelling(label="none"), steps=1),
        "none",
    ),
    "train, data as input": (
        lambda p, out: api.train(p / "data" / "imagesTr", out, steps=1),
        "imagesTr",
    ),
    "predict, precision": (
        lambda p, out: api.predict(p / "model", p / "data", out, precision="float12"),
        "float12",
    ),
    "predict, format": (
        lambda p, out: api.predict(p / "model", p / "data", out, formats=["nift"]),
        "nift",
    ),
    "predict, engine": (
        lambda p, out: api.predict(p / "model", p / "data", out, engine="steam"),
        "steam",
    ),
    "predict, overlap": (
        lambda p, out: api.predict(
            p / "model", p / "data", out, segmentation=api.SegmentationOptions(overlap=2)
        ),
        "overlap",
    ),
    "predict, input": (lambda p, out: api.predict(p / "model", p / "none", out), "none"),
    "predict, explain": (
        lambda p, out: api.predict(
            p / "model", p / "data", out, classification=api.ClassificationOptions("grad_cam")
        ),
        "explain=",
    ),
    "tune, data": (lambda p, out: api.tune(p / "model", p / "data", out), "tumour"),
    "export, format": (lambda p, out: api.export(p / "model", out, formats="paper"), "paper"),
    "export, precision": (lambda p, out: api.export(p / "model", out, precision="int8"), "int8"),
    "import, folder": (lambda p, out: api.import_nnunet(p / "data", out), "data"),
    "evaluate, predictions": (lambda p, out: api.evaluate(p / "none", p / "data", out), "none"),
    "evaluate, reference": (
        lambda p, out: api.evaluate(p / "data" / "labelsTr", p / "none", out),
        "none",
    ),
    "compare": (lambda p, out: api.compare(p / "data", p / "data", out=out), "data"),
    "check": (lambda p, out: api.check(p / "none", fix=out), "none"),
    "plan": (lambda p, out: api.plan(p / "none", out=out / "plan.json"), "none"),
    "plan, minutes": (lambda p, out: api.plan(p / "data", minutes=-1, out=out / "plan.json"), "-1"),
    "demo": (lambda _, out: api.demo(out, minutes=-1), "-1"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_a_refused_command_leaves_no_file_or_folder(place, tmp_path, call):
    before = sorted(place.rglob("*"))
    refused, found = REFUSED[call]
    with pytest.raises(HilumError, match=found):
        refused(place, tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []
    assert sorted(place.rglob("*")) == before


def test_a_training_that_failed_early_blocks_no_other(place, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise HilumError("a store that cannot be made")

    with monkeypatch.context() as patched:
        patched.setattr(Segmentation, "build_store", fail)
        with pytest.raises(HilumError, match="a store that cannot be made"):
            api.train(place / "data", tmp_path / "m", steps=1, device="cpu")
    assert api.train(place / "data", tmp_path / "m", steps=1, device="cpu").id
    with pytest.raises(HilumError, match="already holds a finished model"):
        api.train(place / "data", tmp_path / "m", steps=1, device="cpu")


def test_a_copy_is_refused_before_the_checking(place, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    checked: list[str] = []
    with pytest.raises(HilumError, match="is not empty"):
        api.check(place / "data", fix=tmp_path, progress=lambda *_: checked.append(""))
    assert not checked


def test_a_models_files_are_replaced_by_no_other_verb(place, tmp_path):
    model = tmp_path / "model"
    real_model().save(model)
    before = {file.name: file.read_bytes() for file in model.glob("[!.]*")}
    for call, held in {
        "predict": lambda: api.predict(model, place / "data", model),
        "plan": lambda: api.plan(place / "data", out=model / "plan.json"),
        "train": lambda: api.train(place / "data", model, steps=1),
        "resume": lambda: api.train(place / "data", model, steps=1, resume=True),
        "import": lambda: api.import_nnunet(Path("none"), model),
    }.items():
        with pytest.raises(HilumError, match=r"files are in the way in .*written by hilum save"):
            held()
        assert {file.name: file.read_bytes() for file in model.glob("[!.]*")} == before, call


def test_a_data_set_of_a_relative_path_is_checked(place, tmp_path, monkeypatch):
    """An image that no case uses is named from the data set's folder."""
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.copy(next((place / "data" / "imagesTr").iterdir()), tmp_path / "data" / "stray.nii.gz")
    monkeypatch.chdir(tmp_path)
    found = api.check("data").findings
    assert any("stray.nii.gz" in one.found and str(tmp_path) not in one.found for one in found)
