"""The trained-model folder: complete, refused where it was changed, and never unpickled."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from hilum.errors import ModelError
from hilum.inference import Facts, Metric, ModelMetrics, Predictor, TrainedModel, seal_card
from hilum.inference.manifest import Manifest, hash_files
from inference_toys import REGIONS, index_volume, make_plan, real_model

FILES = [
    "MODEL_CARD.md",
    "labels.json",
    "metrics.json",
    "model.json",
    "plan.json",
    "weights.safetensors",
]


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    return folder, real_model().save(folder)


def reseal(folder, **fields):
    """Change the folder and make every hash right again, as an attacker would."""
    manifest = Manifest.load(folder).model_copy(update=fields)
    manifest.with_files(hash_files(folder, manifest.files)).save(folder)


def test_what_is_loaded_answers_as_what_was_saved(tmp_path):
    image = index_volume()
    for members in (1, 3):
        model = real_model(members=members, crop="nonzero", spacing=(2.0, 1.0, 1.5))
        saved = model.save(tmp_path / str(members))
        loaded = TrainedModel.load(tmp_path / str(members), device="cpu")
        assert len(loaded.networks) == members
        assert loaded.plan == model.plan
        assert loaded.id == saved.id
        first, second = (
            Predictor(m, engine="torch", precision="float32").predict(image, probabilities=True)
            for m in (model, loaded)
        )
        assert np.array_equal(first.probabilities.array, second.probabilities.array)
        assert second.model == saved.id
        assert not loaded.networks[0].training


def test_folder_holds_what_the_design_says(saved):
    folder, model = saved
    assert sorted(p.name for p in folder.glob("[!.]*")) == FILES
    assert model.id != "unsaved"
    assert len(model.id) == 16
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["members"] == ["weights.safetensors"]
    assert sorted([*manifest["files"], "model.json"]) == FILES


def test_a_smaller_ensemble_leaves_no_members_of_a_larger_one(tmp_path):
    (tmp_path / "log.csv").write_text("kept")
    real_model(members=3).save(tmp_path)
    real_model(members=2).save(tmp_path)
    assert [p.name for p in sorted(tmp_path.glob("weights*"))] == [
        "weights_0.safetensors",
        "weights_1.safetensors",
    ]
    assert len(TrainedModel.load(tmp_path, device="cpu").networks) == 2
    assert (tmp_path / "log.csv").read_text() == "kept"


def test_same_model_has_the_same_weights_file(tmp_path):
    for name in "ab":
        real_model().save(tmp_path / name)
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (
        tmp_path / "b/weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(saved, name):
    folder, _ = saved
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        TrainedModel.load(folder, device="cpu")


@pytest.mark.parametrize("name", FILES)
def test_altered_file_is_refused_by_name(saved, name):
    folder, _ = saved
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match=rf"{name}: (altered|damaged)"):
        TrainedModel.load(folder, device="cpu")


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused_by_name(saved, name):
    folder, _ = saved
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])
    with pytest.raises(ModelError, match=name):
        TrainedModel.load(folder, device="cpu")


@pytest.mark.parametrize("name", FILES)
def test_a_pointer_of_git_lfs_is_no_file_of_a_model(saved, name):
    (saved[0] / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(ModelError, match="git lfs pull"):
        TrainedModel.load(saved[0])


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '{"format_version": 1}', '{"format_version": "x"}', "\udcff"]
)
def test_damaged_manifest_is_refused(saved, text):
    folder, _ = saved
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"model\.json: (damaged|an empty file)"):
        TrainedModel.load(folder, device="cpu")


def test_field_of_the_manifest_changed_is_refused(saved):
    folder, _ = saved
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(
        text.replace('"task": "segmentation"', '"task": "classification"')
    )
    with pytest.raises(ModelError, match="altered since it was written"):
        TrainedModel.load(folder, device="cpu")


def test_newer_format_is_refused_saying_which_hilum_wrote_it(saved):
    folder, _ = saved
    fields = json.loads((folder / "model.json").read_text()) | {
        "format_version": 2,
        "hilum": "9.1.0",
        "something_new": True,
    }
    (folder / "model.json").write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=r"format version 2, written by hilum 9\.1\.0") as caught:
        TrainedModel.load(folder, device="cpu")
    assert "pip install --upgrade 'PATH_OR_GIT_URL'" in str(caught.value)


def test_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        TrainedModel.load(tmp_path / "nowhere", device="cpu")
    with pytest.raises(ModelError, match=r"no model\.json in it"):
        TrainedModel.load(tmp_path, device="cpu")


def test_unfinished_save_is_refused(saved, monkeypatch):
    folder, _ = saved
    monkeypatch.setattr(Manifest, "save", lambda self, folder: os._exit)
    real_model(seed=1).save(folder)
    with pytest.raises(ModelError, match=r"no model\.json"):
        TrainedModel.load(folder, device="cpu")


def test_file_outside_the_folder_is_refused(saved, tmp_path):
    folder, _ = saved
    (tmp_path / "other").write_text("secret")
    manifest = Manifest.load(folder)
    manifest.with_files(
        {**manifest.files, "../other": hash_files(tmp_path, ["other"])["other"]}
    ).save(folder)
    with pytest.raises(ModelError, match=r"names '\.\./other'"):
        TrainedModel.load(folder, device="cpu")


def test_manifest_without_a_hash_for_a_file_is_refused(saved):
    folder, _ = saved
    manifest = Manifest.load(folder)
    manifest.with_files({k: v for k, v in manifest.files.items() if k != "plan.json"}).save(folder)
    with pytest.raises(ModelError, match=r"no hash for plan\.json"):
        TrainedModel.load(folder, device="cpu")


def test_plan_of_another_version_is_refused(saved):
    folder, _ = saved
    (folder / "plan.json").write_text(
        (folder / "plan.json").read_text().replace('"version": 1', '"version": 7')
    )
    reseal(folder)
    with pytest.raises(
        ModelError,
        match=r"(?s)Plan does not fit this version of hilum: version.*named in model\.json",
    ):
        TrainedModel.load(folder, device="cpu")


def test_metrics_of_another_version_are_refused(saved):
    folder, _ = saved
    (folder / "metrics.json").write_text('{"accuracy": 1}')
    reseal(folder)
    with pytest.raises(ModelError, match="ModelMetrics does not fit this version of hilum"):
        TrainedModel.load(folder, device="cpu")


def test_labels_that_are_not_the_plans_are_refused(saved):
    folder, _ = saved
    (folder / "labels.json").write_text(REGIONS.model_dump_json())
    reseal(folder)
    with pytest.raises(ModelError, match="name different labels"):
        TrainedModel.load(folder, device="cpu")


def test_weights_of_another_network_are_refused(saved, tmp_path):
    folder, _ = saved
    real_model(channels=("PET", "CT")).save(tmp_path / "other")
    (folder / "weights.safetensors").write_bytes(
        (tmp_path / "other/weights.safetensors").read_bytes()
    )
    reseal(folder)
    with pytest.raises(ModelError, match="weights of another network"):
        TrainedModel.load(folder, device="cpu")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def torch_file(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def zip_slip(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    return stream.getvalue()


@pytest.mark.parametrize("make", [pickle.dumps, torch_file, lambda bomb: zip_slip("../../evil")])
@pytest.mark.parametrize("hashes", ["right", "stale"])
def test_malicious_weights_are_refused_and_not_executed(saved, tmp_path, make, hashes):
    folder, _ = saved
    struck = tmp_path / "struck"
    (folder / "weights.safetensors").write_bytes(make(Bomb(struck)))
    if hashes == "right":
        reseal(folder)
    with pytest.raises(
        ModelError, match="not a safetensors file" if hashes == "right" else "altered"
    ):
        TrainedModel.load(folder, device="cpu")
    assert not struck.exists()


def test_the_bomb_would_have_gone_off(tmp_path):
    # shows that the test above can fail
    pickle.loads(pickle.dumps(Bomb(tmp_path / "struck")))  # noqa: S301
    assert (tmp_path / "struck").exists()


def test_foreign_files_in_the_folder_are_never_opened(saved, tmp_path):
    folder, _ = saved
    for name in ("weights.pt", "checkpoint.pth", "model.pkl", "conftest.py", "sitecustomize.py"):
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "struck")))
        (folder / name).chmod(0)
    TrainedModel.load(folder, device="cpu")
    assert not (tmp_path / "struck").exists()


def test_folder_predicts_by_itself_without_training_pickle_or_network(saved, tmp_path):
    """A fresh process in another folder, with the training code, pickle and sockets taken away."""
    folder, _ = saved
    np.save(tmp_path / "image.npy", index_volume().array)
    program = f"""
import sys, pickle, socket
import numpy as np
from hilum.inference import Predictor, TrainedModel
from hilum.volume import Geometry, Volume
def forbidden(*args, **kwargs):
    raise RuntimeError("forbidden")
pickle.load = pickle.loads = pickle.Unpickler = socket.socket = forbidden
import torch
torch.load = forbidden
array = np.load({str(tmp_path / "image.npy")!r}, allow_pickle=False)
model = TrainedModel.load({str(folder)!r}, device="cpu")
labels = Predictor(model).predict(Volume(array, Geometry.from_spacing(array.shape[1:]))).labels
assert labels.array.shape == array.shape
assert not [name for name in sys.modules if name.startswith("hilum.training")]
"""
    subprocess.run([sys.executable, "-I", "-c", program], check=True, cwd=tmp_path)


def test_card_says_what_it_takes_gives_and_is_worth(tmp_path):
    plan = make_plan(channels=("PET", "CT"), labels=REGIONS)
    base = real_model(members=2, channels=("PET", "CT"), labels=REGIONS)
    metrics = ModelMetrics(
        measured_on="5-fold cross-validation over 51 cases",
        metrics=(
            Metric(
                region="tumour",
                name="dice",
                mean=0.71234,
                median=0.75,
                lower=0.65,
                upper=0.77,
                cases=51,
            ),
            Metric(region="tumour", name="hd95_mm", mean=None, cases=0),
        ),
        notes=("the ensemble itself was not measured",),
    )
    facts = Facts(
        dataset="sarcoma | <script>",
        cases=51,
        patients=None,
        steps=1200,
        seconds=1200,
        device="cpu: 2 threads",
        seed=3,
    )
    TrainedModel(
        plan=plan, networks=base.networks, device=base.device, metrics=metrics, facts=facts
    ).save(tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    for part in (
        "2 channels, in this order: PET, CT.",
        "| 300 | tumour |",
        "all (2 + 300), tumour (300)",
        "| tumour | dice | 0.7123 | 0.65 to 0.77 | 0.75 | 51 |",
        "| tumour | hd95_mm | not defined |",
        "- the ensemble itself was not measured",
        "an ensemble of 2 whose logits are averaged",
        "1200 steps, 20.0 minutes on cpu: 2 threads, seed 3",
        "Not a medical device",
        "patients not known",
        "warns where the kind of image, spacing, size or",
        "sarcoma / &lt;script>",
    ):
        assert part in card, part
    loaded = TrainedModel.load(tmp_path, device="cpu")
    assert loaded.metrics == metrics
    assert loaded.facts == facts


def test_card_of_an_unmeasured_model_says_so(saved):
    folder, _ = saved
    card = (folder / "MODEL_CARD.md").read_text()
    assert "No numbers: evaluate it" in card
    assert "One image: CT. Any orientation and spacing: it keeps its own spacing inside" in card
    assert "{{" not in card
    assert "{%" not in card
    assert "\n\n\n" not in card


def test_completed_card_is_accepted_when_it_is_sealed(saved):
    folder, model = saved
    (folder / "MODEL_CARD.md").write_text("# Ours, completed\n")
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: altered") as caught:
        TrainedModel.load(folder, device="cpu")
    assert "seal_card" in str(caught.value)
    new = seal_card(folder)
    assert new != model.id
    assert TrainedModel.load(folder, device="cpu").id == new


def test_sealing_the_card_accepts_no_other_change(saved):
    folder, _ = saved
    (folder / "labels.json").write_text("{}")
    with pytest.raises(ModelError, match=r"labels\.json: altered"):
        seal_card(folder)
