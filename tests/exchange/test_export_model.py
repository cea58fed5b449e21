"""An exported folder: complete, checked, and enough to predict where torch is not installed."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_openvino_engine import shaken

from hilum import api
from hilum.engines.convert import to_openvino
from hilum.engines.openvino_library import ov
from hilum.errors import ModelError, ResourceError, UsageError
from hilum.exchange import export as exporting
from hilum.files import OutputFolder, is_output
from hilum.inference import Facts, TrainedModel, load_runnable
from hilum.inference.export_manifest import EXPORT, VECTORS, ExportManifest
from hilum.inference.exported import ExportedModel, TestVectors
from hilum.inference.manifest import hash_files
from hilum.inference.voxel_calibration import VoxelCalibration
from hilum.io import read_labels, write_volume
from hilum.plan.plan import Normalisation
from inference_toys import index_volume, real_model

FILES = {
    *(
        "export.json",
        "plan.json",
        "labels.json",
        "metrics.json",
        "MODEL_CARD.md",
        "README.md",
        "requirements.txt",
    ),
    "test_vectors.npz",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    plan = {"normalisation": (Normalisation(kind="case"),)}
    return shaken(real_model(members=2, **plan)).save(folder), folder


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory):
    return api.export(trained[1], tmp_path_factory.mktemp("exported") / "both", formats="both")


def test_the_folder_is_complete_and_names_its_source(trained, both):
    model, _ = trained
    networks = {f"network_{n}.{suffix}" for n in range(2) for suffix in ("xml", "bin", "onnx")}
    assert {path.name for path in both.folder.iterdir()} == FILES | networks | {".hilum.json"}
    assert all(is_output(both.folder / name) for name in FILES | networks)
    assert set(both.manifest.files) == FILES - {EXPORT} | networks
    assert both.manifest.source == model.id != both.id
    assert both.plan == model.plan
    assert set(both.manifest.differences) == {"openvino", "onnx"}
    assert max(both.manifest.differences.values()) < 1e-4
    assert load_runnable(both.folder).id == both.id
    assert isinstance(load_runnable(trained[1]), TrainedModel)


def test_the_vectors_are_torchs_answer(trained, both):
    model, _ = trained
    vectors = TestVectors.load(both.folder / VECTORS)
    assert vectors.difference(model.make_engine("torch", "float32")) == 0
    # of another model, a wrong answer is far beyond any tolerance
    other = shaken(real_model(members=2), seed=5)
    assert vectors.difference(other.make_engine("torch", "float32")) > 0.3


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("openvino", "float32"), ("openvino", "auto"), ("onnx", "auto"), ("auto", None)],
)
def test_every_engine_passes_the_check(both, engine, precision):
    assert both.check(both.make_engine(engine, precision)) < 0.1


def test_networks_that_answer_otherwise_do_not_pass(both, tmp_path):
    """Damaged with hashes that fit: what only the vectors can tell."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in both.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    other = shaken(real_model(), seed=5)
    ov.save_model(
        to_openvino(other.networks[0], other.plan), folder / "network_0.xml", compress_to_fp16=False
    )
    manifest = ExportManifest.load(folder)
    manifest.with_files(
        {**manifest.files, **hash_files(folder, ["network_0.xml", "network_0.bin"])}
    ).save(folder)
    with pytest.raises(ModelError, match="off the test vectors"):
        ExportedModel.load(folder).check()
    write_volume(index_volume(), tmp_path / "one.nii.gz")
    with pytest.raises(ModelError, match="off the test vectors"):  # nobody has to think of it
        api.predict(folder, tmp_path / "one.nii.gz", tmp_path / "out")


def test_every_engine_of_an_exported_model_is_checked(both, monkeypatch):
    checked = []
    honest = ExportedModel.check
    monkeypatch.setattr(
        ExportedModel,
        "check",
        lambda self, engine=None: checked.append(engine.name) or honest(self, engine),
    )
    for name in ("openvino", "onnx"):
        engine = both.make_engine(name, "float32")
        assert "off the test vectors, checked on this machine" in engine.because
    assert checked == ["openvino", "onnx"]


def test_requirements_keep_their_markers(monkeypatch):
    lines = [
        "colorama>=0.4; sys_platform == 'win32'",
        "numpy>=1.26",
        "torch>=2.10",
        "ruff; extra == 'dev'",
    ]
    monkeypatch.setattr(exporting.metadata, "requires", lambda name: lines)
    found = exporting.requirements(("openvino",)).splitlines()
    assert found[1:3] == lines[:2]
    assert len(found) == 4


@pytest.mark.parametrize("name", ["network_0.bin", "plan.json", "test_vectors.npz"])
def test_an_altered_file_is_refused(both, tmp_path, name):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in both.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(ModelError, match="altered"):
        load_runnable(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match="missing"):
        load_runnable(folder)


def test_what_is_no_exported_folder(tmp_path):
    with pytest.raises(ModelError, match="hilum export"):
        ExportedModel.load(tmp_path)


def test_an_export_that_answers_otherwise_leaves_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(TestVectors, "difference", lambda self, engine: float("nan"))
    with pytest.raises(ModelError, match="written for openvino in float32 is nan"):
        api.export(trained[1], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_two_exports_into_one_folder(trained, tmp_path):
    (tmp_path / ".DS_Store").write_text("")  # is in no one's way
    with OutputFolder(tmp_path, "export"):
        other = f"from hilum import api\napi.export({str(trained[1])!r}, {str(tmp_path)!r})"
        ended = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, check=False
        )
    assert "is in use by hilum export" in ended.stderr
    assert load_runnable(api.export(trained[1], tmp_path).folder).manifest.source == trained[0].id


def test_an_export_to_a_full_disk_leaves_nothing(trained, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", full)
    with pytest.raises(ResourceError, match="cannot be written: basic_ios"):
        api.export(trained[1], tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_half_the_size_in_float16(trained, both, tmp_path):
    small = api.export(trained[1], tmp_path / "half", precision="float16")
    full = (both.folder / "network_0.bin").stat().st_size
    assert (small.folder / "network_0.bin").stat().st_size < 0.6 * full
    assert 0 < small.manifest.differences["openvino"] < 1e-2
    for name in ("MODEL_CARD.md", "metrics.json"):
        assert (
            "This folder holds it in float16: its logits differ by"
            in (small.folder / name).read_text()
        )
        assert "This folder holds" not in (both.folder / name).read_text()
    assert small.make_engine("openvino", "float32").precision == "float32"


def test_the_card_in_float16_says_that_the_guarantee_is_not_exact(trained, tmp_path):
    learnt = VoxelCalibration(cases=("a",), groups=(0,), how="by hand", regions=())
    sure = replace(trained[0], confidence=learnt)
    sure.save(tmp_path / "sure")
    half = api.export(tmp_path / "sure", tmp_path / "half", precision="float16")
    words = "learnt with the network in float32, run in float16: the guarantee is not exact"
    assert half.confidence.notes == (words,)
    assert words in (half.folder / "MODEL_CARD.md").read_text()


def test_what_cannot_be_asked(trained, tmp_path):
    _, folder = trained
    (tmp_path / "there").write_text("")
    for options, words in [
        ({"out": tmp_path / "there"}, "there is a file"),
        ({"formats": "tflite"}, "format 'tflite'"),
        ({"precision": "bfloat16"}, "chosen where the model is run"),
        ({"precision": "int8"}, "data='DATA'"),
        ({"data": tmp_path}, "data, gate or patients were given with precision='float32'"),
        ({"gate": 0.1}, "gate or patients were given with precision='float32'"),
        ({"precision": "float16", "formats": "both"}, "formats='openvino'"),
    ]:
        with pytest.raises(UsageError, match=words):
            api.export(folder, **{"out": tmp_path / "new"} | options)
    with pytest.raises(UsageError, match="not saved"):
        api.export(real_model(), tmp_path / "new")
    with pytest.raises(UsageError, match="device='cpu'"):
        load_runnable(api.export(folder, tmp_path / "new").folder, device="cuda")


def test_a_classifier_is_refused_clearly(trained, tmp_path):
    class Plan:
        task = type("Decision", (), {"value": "classification"})

    with pytest.raises(UsageError, match="a model of classification cannot be exported"):
        exporting.export_model(replace(trained[0], plan=Plan()), tmp_path / "new")


def test_the_files_are_readable_by_people(trained, tmp_path):
    model = replace(trained[0], facts=Facts(dataset="d", cases=2, steps=1, seconds=1.0))
    made = exporting.export_model(model, tmp_path / "new")
    page = (made.folder / "README.md").read_text()
    assert "the mean of 2 networks" in page
    assert "int8" not in page
    lines = (made.folder / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("openvino==") for line in lines)
    for text in (page, "\n".join(lines)):
        assert "hilum==" not in text  # it is on no package index
    assert "pip wheel --no-deps -w . FOLDER_OF_HILUM" in page
    assert not [line for line in lines if line.startswith(("torch", "timm", "onnx", "tensorboard"))]
    manifest = json.loads((made.folder / EXPORT).read_text())
    assert manifest["facts"]["dataset"] == "d"


# What requirements.txt leaves out is kept away, and so is nothing else.
WITHOUT_TORCH = """
import sys
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {away!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Away())
sys.argv[0] = "hilum"
from hilum.cli import main
main()
"""
AWAY = {
    "torch",
    "timm",
    "lightning_fabric",
    "safetensors",
    "tensorboard",
    "huggingface_hub",
    "onnx",
    "onnxscript",
    "nncf",
}


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_predict_from_file_to_file_without_torch(trained, both, tmp_path, engine):
    names = ("one", "two")
    for number, name in enumerate(names):
        write_volume(index_volume(seed=number), tmp_path / "in" / f"{name}.nii.gz")
    code = WITHOUT_TORCH.format(away=AWAY)
    options = ["--engine", engine, "--precision", "float32", "--probabilities"]
    command = [
        sys.executable,
        "-c",
        code,
        "predict",
        str(both.folder),
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    api.predict(
        trained[1], tmp_path / "in", tmp_path / "torch", engine="torch", precision="float32"
    )
    for name in names:
        found, expected = (
            read_labels(tmp_path / folder / f"{name}.nii.gz") for folder in ("out", "torch")
        )
        assert len(np.unique(expected.array)) > 1
        np.testing.assert_array_equal(found.array, expected.array)
        assert (tmp_path / "out" / f"{name}_probabilities.nii.gz").is_file()
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["model"] == both.id
    assert engine in json.dumps(report)
    assert "off the test vectors, checked on this machine" in json.dumps(report)


def test_without_torch_a_trained_folder_is_not_run(trained, tmp_path):
    write_volume(index_volume(), tmp_path / "one.nii.gz")
    code = WITHOUT_TORCH.format(away=AWAY)
    command = [
        sys.executable,
        "-c",
        code,
        "predict",
        str(trained[1]),
        str(tmp_path / "one.nii.gz"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "out" / "one.nii.gz").exists()
