"""No verb changes or removes a file in its folder that hilum did not write."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from classification_toys import class_model, class_plan
from hilum.dataset import fix, open_dataset
from hilum.errors import HilumError, UsageError
from hilum.evaluation import evaluate
from hilum.exchange import export_model
from hilum.files import OutputFolder
from hilum.inference import ClassPredictor, Predictor, predict_many
from hilum.io import write_labels, write_volume
from hilum.pipelines.training import train as run
from hilum.plan import save_plan
from hilum.training import TrainOptions
from hilum.training.tuning import tune
from hilum.volume import Geometry, Volume
from inference_toys import TABLE, make_model

GRID = Geometry.from_spacing((4, 8, 6), (2.0, 1.0, 1.5))
SEGMENTATION, CLASSIFICATION = make_model(), class_model()
VERBS = {
    "predict": lambda place, out: predict_many(Predictor(SEGMENTATION), [place / "data"], out),
    "predict nrrd": lambda place, out: predict_many(
        Predictor(SEGMENTATION), [place / "data"], out, formats=("nrrd", "png")
    ),
    "classify": lambda place, out: predict_many(
        ClassPredictor(CLASSIFICATION), [place / "data"], out
    ),
    "evaluate": lambda place, out: evaluate(place / "references", place / "references", out),
    "train": lambda place, out: run(
        place / "data", out, TrainOptions(steps=1, fold=9, device="cpu")
    ),
    "plan": lambda _, out: save_plan(class_plan(), out / "plan.json"),
    "save": lambda _, out: SEGMENTATION.save(out),
}
WRITTEN = (
    *(
        "a.nii.gz",
        "a.nrrd",
        "a.png",
        "a.json",
        "a_0000.nii.gz",
        "a_malignant_map.nii.gz",
        "A.NII.GZ",
        "pictures/a.png",
    ),
    *(
        "labels.json",
        "run.json",
        "predictions.csv",
        "classes.json",
        "cases.csv",
        "estimates.csv",
        "summary.json",
        "summary.md",
    ),
    *(
        "plan.json",
        "model.json",
        "weights.safetensors",
        "weights_3.safetensors",
        "MODEL_CARD.md",
        "training/plan.json",
        "notes",
    ),
)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, and where links lead, by path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    return {
        str(path): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in files
    }


def put(folder: Path, name: str, kind: str, image: Path) -> None:
    """One of the user's files."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        return
    if kind == "link":
        file.symlink_to(image)
    elif kind == "hard link":
        os.link(image, file)
    else:
        file.write_text(kind)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    verb=st.sampled_from(sorted(VERBS)),
    second=st.sampled_from(sorted(VERBS)),
    out=st.sampled_from(["data", "references", "data/sub", "new"]),
    files=st.dictionaries(
        st.sampled_from(WRITTEN), st.sampled_from(["{}", "text", "link", "hard link"]), max_size=3
    ),
    image=st.sampled_from(["a.nii.gz", "a.nrrd", "a_0000.nii.gz"]),
)
@example(verb="predict", second="predict", out="data", files={}, image="a.nii.gz")
@example(verb="predict", second="predict nrrd", out="data", files={}, image="a_0000.nii.gz")
@example(
    verb="predict", second="predict", out="references", files={"labels.json": "{}"}, image="a.nrrd"
)
@example(verb="classify", second="classify", out="data", files={"a.json": "{}"}, image="a.nii.gz")
@example(verb="train", second="save", out="data", files={"labels.json": "{}"}, image="a.nii.gz")
def test_no_verb_changes_a_file_that_is_not_its_own(
    verb: str, second: str, out: str, files: dict[str, str], image: str
) -> None:
    with TemporaryDirectory() as name:
        place = Path(name)
        write_volume(Volume(np.ones((1, 4, 8, 6), np.float32), GRID), place / "data" / image)
        write_labels(
            Volume(np.full((1, 4, 8, 6), TABLE.ids[1], np.uint16), GRID),
            place / "references" / "a.nii.gz",
        )
        for file, kind in files.items():
            put(place / out, file, kind, place / "data" / image)
        before = snapshot(place)
        for step in (verb, verb, second):
            earlier = snapshot(place)
            try:
                VERBS[step](place, place / out)
            except HilumError:
                assert snapshot(place) == earlier, f"{step} was refused and left something"
            now = snapshot(place)
            assert {file: now.get(file) for file in before} == before


@pytest.mark.parametrize("verb", ["check --fix", "tune", "export"])
def test_a_folder_filled_by_a_run_that_just_ended_is_in_use(tmp_path, monkeypatch, verb):
    """Between the look into the folder and the lock another run may have written its own."""
    write_volume(
        Volume(np.ones((1, 4, 8, 6), dtype=np.int16), GRID), tmp_path / "data/images/a.nii.gz"
    )
    write_labels(
        Volume(np.ones((1, 4, 8, 6), dtype=np.uint8), GRID), tmp_path / "data/labels/a.nii.gz"
    )
    model, out = make_model().save(tmp_path / "model"), tmp_path / "out"
    verbs = {
        "check --fix": lambda: fix(open_dataset(tmp_path / "data"), (), out),
        "tune": lambda: tune(model, tmp_path / "data", out),
        "export": lambda: export_model(model, out),
    }
    enter = OutputFolder.__enter__

    def late(self):
        entered = enter(self)
        (out / "notes").write_text("of the other run")
        return entered

    monkeypatch.setattr(OutputFolder, "__enter__", late)
    with pytest.raises(UsageError, match=r"out is (in use|not empty)"):
        verbs[verb]()
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["notes"]
