"""Choice of the engine that runs a model, with its reason."""

import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hilum.engines import choose
from hilum.engines.choose import EngineSource, make_engine
from hilum.engines.host import has_bfloat16, is_out_of_memory, usable_cpus
from hilum.errors import ModelError, ResourceError, UsageError
from inference_toys import make_plan, real_model


@pytest.fixture
def without(monkeypatch):
    """Pretend that packages are not installed."""

    def remove(*packages):
        found = choose.find_spec
        monkeypatch.setattr(
            choose, "find_spec", lambda name: None if name in packages else found(name)
        )

    return remove


class Sorting(nn.Module):
    """A layer that no network of ours has, and OpenVINO cannot take."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, image):
        return (
            torch.linalg.svd(image.expand(-1, 3, -1, -1, -1))[0] * self.scale[:, None, None, None]
        )


@pytest.mark.parametrize(
    "model", [real_model(), replace(real_model(), id="saved")], ids=["in memory", "saved"]
)
def test_a_model_on_a_cpu_runs_in_openvino_and_says_why(model, caplog):
    caplog.set_level(logging.INFO, "hilum")
    engine = model.make_engine(precision="float32")
    assert engine.name == "openvino"
    assert engine.because == "the fastest on a CPU; float32 was asked for"
    assert "engine openvino, float32, cpu" in caplog.text


def test_without_openvino_it_is_torch(without):
    without("openvino")
    engine = replace(real_model(), id="saved").make_engine()
    assert engine.name == "torch"
    assert "is not installed" in engine.because


def test_an_engine_asked_for_that_is_not_installed_names_its_cure(without):
    without("openvino", "onnxruntime")
    with pytest.raises(UsageError, match=r"pip install 'hilum\[openvino\]'"):
        real_model().make_engine("openvino")
    with pytest.raises(UsageError, match=r"pip install 'hilum\[onnx\]'"):
        real_model().make_engine("onnx")


def test_an_engine_that_does_not_exist():
    with pytest.raises(UsageError, match=r"(?s)engine 'openvin'.*engine='openvino'"):
        real_model().make_engine("openvin")


def test_onnx_needs_an_exported_model():
    with pytest.raises(UsageError, match="export it with formats='onnx'"):
        real_model().make_engine("onnx")


def test_a_gpu_is_torchs(monkeypatch):
    made, stand_in = [], real_model().make_engine("torch")

    def make(source, asked):
        made.append(source)
        return stand_in

    monkeypatch.setitem(choose.ENGINES, "torch", choose.Kind("torch", "", make))
    source = EngineSource(make_plan(), networks=(nn.Identity(),), device=torch.device("cuda"))
    assert make_engine(source).because.startswith("the model is on cuda; ")
    assert made == [source]
    with pytest.raises(UsageError, match="device='cpu'"):
        make_engine(source, "openvino")


def test_a_network_that_openvino_cannot_take_runs_in_torch_which_is_said(caplog):
    caplog.set_level(logging.WARNING, "hilum")
    source = EngineSource(make_plan(), networks=(Sorting(),), device=torch.device("cpu"))
    root = logging.getLogger()
    before = root.level, list(root.filters), list(root.handlers)
    engine = make_engine(source)
    assert (root.level, root.filters, root.handlers) == before  # OpenVINO leaves it at ERROR
    assert engine.name == "torch"
    assert "openvino cannot take this network" in engine.because
    assert "engine torch instead of openvino" in caplog.text
    with pytest.raises(ModelError, match="engine='torch'"):
        make_engine(source, "openvino")


def test_an_exported_model_without_any_of_its_engines(without, tmp_path):
    without("openvino", "onnxruntime")
    source = EngineSource(make_plan(), openvino=(tmp_path / "a.xml",))
    with pytest.raises(
        ResourceError, match=r"(?s)openvino is not installed.*pip install 'hilum\[openvino\]'"
    ):
        make_engine(source)
    (tmp_path / "requirements.txt").write_text("openvino==2025.1\n")
    with pytest.raises(ResourceError, match=r"(?s)pip install -r \S+/requirements\.txt"):
        make_engine(source)
    with pytest.raises(ResourceError, match="openvino or onnx"):
        make_engine(replace(source, onnx=(tmp_path / "a.onnx",)))
    with pytest.raises(UsageError, match="holds no weights of torch"):
        make_engine(source, "torch")


def test_precisions_of_torch():
    assert real_model().make_engine("torch", "bfloat16").precision == "bfloat16"
    with pytest.raises(UsageError, match="export it with precision='int8'"):
        real_model().make_engine("torch", "int8")


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_auto_precision_is_what_the_processor_has(name, saved, monkeypatch):
    from hilum.engines import openvino_engine, torch_engine

    model = replace(real_model(), id="saved") if saved else real_model()
    assert model.plan.precision.value == "float32"
    monkeypatch.setattr(openvino_engine, "_supports", lambda precision: True)
    for module in (openvino_engine, torch_engine):
        monkeypatch.setattr(module, "has_bfloat16", lambda: True)
    engine = model.make_engine(name, "auto")
    assert engine.precision == "bfloat16"
    assert "bfloat16, for which the processor has instructions" in engine.because
    for module in (openvino_engine, torch_engine):
        monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    engine = model.make_engine(name)
    assert engine.precision == "float32"
    assert "float32, as the processor has no instructions for bfloat16" in engine.because


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512vbmi\n", True),
        ("flags : amx_bf16 amx_tile\n", True),
        ("processor: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("model name : bf16 of a name\n", False),
        ("", False),
    ],
)
def test_instructions_for_bfloat16_are_read_from_the_processor(tmp_path, text, expected):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert has_bfloat16(tmp_path) is expected


def test_without_a_list_of_instructions_there_are_none(tmp_path):
    assert not has_bfloat16(tmp_path)


def test_threads_of_torch_are_put_back():
    before = torch.get_num_threads()
    seen = []

    class Watching(nn.Identity):
        def forward(self, image):
            seen.append(torch.get_num_threads())
            return image

    source = EngineSource(make_plan(), networks=(Watching(),), device=torch.device("cpu"))
    engine = make_engine(source, "torch", choose.EngineOptions("float32", threads=before + 2))
    assert f"{before + 2} threads" in engine.device
    engine(np.zeros((1, 1, 4, 8, 6), np.float32))
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("std::bad_alloc", True),
        ("bad allocation", True),
        ("could not create a memory object", True),
        ("CUDA out of memory", True),
        ("Failed to allocate memory for requested buffer of size 8", True),
        ("unsupported memory format", False),
        ("allocation of ports failed", False),
    ],
)
def test_what_says_that_memory_is_not_enough(words, expected):
    assert is_out_of_memory(RuntimeError(words)) is expected
    assert is_out_of_memory(MemoryError())


def test_processors_are_those_of_the_group(tmp_path):
    here = usable_cpus(tmp_path)
    assert 1 <= here <= (os.cpu_count() or 1)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    (tmp_path / "sys/fs/cgroup/job/step").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/job/step/cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == here
    (tmp_path / "sys/fs/cgroup/job/cpu.max").write_text("60000 100000\n")
    assert usable_cpus(tmp_path) == 1


def test_engines_agree_with_each_other():
    model = replace(real_model(), id="saved")
    patches = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 6), dtype=np.float32)
    answers = [model.make_engine(name, "float32")(patches) for name in ("torch", "openvino")]
    np.testing.assert_allclose(*answers, atol=1e-5)
