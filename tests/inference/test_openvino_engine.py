"""The OpenVINO engine: the same answers as torch, and what it measures is remembered."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_toys import real_model, spec

from hilum.errors import ResourceError, UsageError
from hilum.inference.deploy.convert import to_openvino
from hilum.inference.engines import openvino_engine, remembered
from hilum.inference.engines.openvino_engine import OpenVINOEngine, lower_precision_gain, resolve_precision
from hilum.networks import textbook_spec

KINDS = {
    "plain": {},
    "two channels": {"channels": ("PET", "CT")},
    "residual": {"network": spec().model_copy(update={"kind": "residual_unet"})},
    "textbook, 2D": {"dimensions": 2, "patch": (1, 8, 8), "network": textbook_spec(1, 3, features=(4, 8))},
}


def shaken(model, seed=0):
    """With norms that scale and shift, and a bias everywhere: what an export could lose."""
    generator = torch.Generator().manual_seed(seed)
    for network in model.networks:
        for parameter in network.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def patches_for(model, count, seed=0):
    shape = (count, len(model.plan.channels), *model.plan.patch.value)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def engine_of(model, **options):
    return OpenVINOEngine([to_openvino(one, model.plan) for one in model.networks], **{"precision": "float32"} | options)


@pytest.fixture
def memory_of_its_own(tmp_path, monkeypatch):
    file = tmp_path / "cache" / "engines.json"
    monkeypatch.setattr(remembered, "cache_file", lambda: file)
    return file


@pytest.fixture
def times(monkeypatch):
    """Seconds a patch by patches at a time, as if they had been measured; what was asked for is noted."""
    told, asked = {1: 1.0, 2: 0.5, 4: 0.6}, []

    def measured(self, streams):
        asked.append(streams)
        return told[streams]

    monkeypatch.setattr(OpenVINOEngine, "_time", measured)
    monkeypatch.setattr(openvino_engine, "core_threads", lambda compiled, threads=None: 4)
    return told, asked


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_torch(kind):
    model = shaken(real_model(**KINDS[kind]))
    patches = patches_for(model, 3)
    expected = model.make_engine("torch", "float32")(patches)
    found = engine_of(model, memory=0)(patches)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def ensemble():
    model = shaken(real_model(members=3))
    return model, engine_of(model, memory=0)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_number_of_patches_is_answered_one_by_one(ensemble, count, seed):
    model, engine = ensemble
    patches = patches_for(model, count, seed)
    together = engine(patches)
    kept = together.copy()
    alone = np.concatenate([engine(patches[n : n + 1]) for n in range(count)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, kept)  # later calls write elsewhere
    expected = model.make_engine("torch", "float32")(patches)
    np.testing.assert_allclose(together, expected, atol=2e-5 * np.abs(expected).max())


def test_equal_members_give_their_answer_also_where_each_gives_its_memory_back():
    model = shaken(real_model())
    patches = patches_for(model, 2)
    network = to_openvino(model.networks[0], model.plan)
    one = OpenVINOEngine([network], precision="float32", memory=0)(patches)
    near = 1e-5 * np.abs(one).max()  # the order of OpenVINO's sums is its threads' business
    np.testing.assert_allclose(OpenVINOEngine([network] * 3, precision="float32", memory=0)(patches), one, atol=near)
    frugal = OpenVINOEngine([network] * 3, precision="float32", memory=0)
    frugal._frugal = True
    np.testing.assert_allclose(frugal(patches), one, atol=near)
    np.testing.assert_allclose(frugal(patches), one, atol=near)


def test_several_patches_at_a_time_are_the_same_patches(times, memory_of_its_own):
    model = shaken(real_model())
    patches = patches_for(model, 5)
    engine = engine_of(model)
    assert engine.batch == 2
    alone = engine_of(model, memory=0)(patches)
    np.testing.assert_allclose(engine(patches), alone, atol=2e-5 * np.abs(alone).max())


def test_bfloat16_is_near():
    if not lower_precision_gain("bfloat16"):
        pytest.skip("this processor has no bfloat16")
    model = shaken(real_model())
    patches = patches_for(model, 2)
    expected = model.make_engine("torch", "float32")(patches)
    found = engine_of(model, precision="bfloat16", memory=0)(patches)
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_a_norm_is_one_operation_of_openvino():
    model = shaken(real_model())
    kinds = [node.get_type_name() for node in to_openvino(model.networks[0], model.plan).get_ops()]
    assert kinds.count("MVN") == 3
    assert not [kind for kind in kinds if "Batch" in kind or "Reduce" in kind or "Split" in kind]


def test_tracing_leaves_the_network_as_it_was():
    network = real_model().networks[0].train()
    to_openvino(network, real_model().plan)
    assert network.training


def test_patches_of_another_shape_are_refused():
    engine = engine_of(real_model(), memory=0)
    with pytest.raises(UsageError, match="patches of shape"):
        engine(np.zeros((1, 1, 4, 8, 8), np.float32))
    with pytest.raises(UsageError, match="without a network"):
        OpenVINOEngine([], precision="float32")


def test_precisions(monkeypatch):
    monkeypatch.setattr(openvino_engine, "lower_precision_gain", lambda precision: {"bfloat16": 1.5, "float16": 0.0}[precision])
    assert resolve_precision(None, stored="float32") == resolve_precision("auto", stored="float32") == "bfloat16"
    assert resolve_precision("auto", stored="int8") == "int8"
    assert resolve_precision("float32", stored="float32") == "float32"
    with pytest.raises(ResourceError, match="no instructions"):
        resolve_precision("float16", stored="float32")
    with pytest.raises(UsageError, match="stored as int8"):
        resolve_precision("float32", stored="int8")
    with pytest.raises(UsageError, match=r"(?s)stored as float32.*hilum export"):
        resolve_precision("int8", stored="float32")
    with pytest.raises(UsageError, match="precision 'int4'"):
        resolve_precision("int4", stored="float32")
    monkeypatch.setattr(openvino_engine, "lower_precision_gain", lambda precision: 1.1)
    assert resolve_precision("auto", stored="float32") == "float32"


def test_the_fastest_way_is_measured_once(times, memory_of_its_own):
    told, asked = times
    model = real_model()
    assert engine_of(model, key="m").batch == 2
    assert asked == [1, 2, 4]  # four at a time were no faster than two
    asked.clear()
    assert engine_of(model, key="m").batch == 2
    assert asked == []
    told[2] = 2.0
    assert engine_of(model, key="another").batch == 1
    assert engine_of(model, key="m", threads=2).batch == 1  # other threads are another measurement
    assert engine_of(model).batch == 1  # without a key nothing is remembered


def test_ways_beyond_the_memory_are_left_out(times, memory_of_its_own):
    _, asked = times
    model = real_model()
    key = "patches | m | float32 | 1 | None | " + openvino_engine._machine()
    remembered.remember(key, {"bytes": 1000, "seconds": {"1": 1.0}})
    assert engine_of(model, key="m", memory=1999).batch == 1
    assert asked == []
    assert engine_of(model, key="m", memory=3999).batch == 2
    assert asked == [2]
    assert json.loads(memory_of_its_own.read_text())[key]["seconds"] == {"1": 1.0, "2": 0.5}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"patches": 3}', "\x00\xff", '{"a": {"bytes": "x", "seconds": {"1": "y"}}}'])
def test_a_damaged_memory_is_none_and_is_written_anew(text, memory_of_its_own):
    memory_of_its_own.parent.mkdir()
    memory_of_its_own.write_bytes(text.encode("latin-1"))
    assert remembered.recall("b") == {}
    remembered.remember("b", {"gain": 2.0})
    assert remembered.recall("b") == {"gain": 2.0}
    json.loads(memory_of_its_own.read_text())


def test_a_memory_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(remembered, "cache_file", lambda: tmp_path / "file" / "engines.json")
    remembered.remember("b", {"gain": 2.0})
    assert remembered.recall("b") == {}


def test_openvino_reports_to_nobody():
    code = (
        "import sys, hilum.inference.engines.openvino_library as library\n"
        "assert not [name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module]\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
