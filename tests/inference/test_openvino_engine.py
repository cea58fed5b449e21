"""The OpenVINO engine: the same answers as torch, and what it measures is remembered."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

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
    """Seconds a patch by patches at a time, as if they had been measured on an idle machine; what was compared is noted."""
    told, asked = {1: [1.0, 1.0], 2: [0.5, 0.5], 4: [0.6, 0.6]}, []

    def compared(self, fewer, more, *, roomy):
        asked.append((fewer, more, roomy))
        return told[fewer], told[more]

    monkeypatch.setattr(OpenVINOEngine, "_compare", compared)
    monkeypatch.setattr(OpenVINOEngine, "_growth", lambda self: 0)
    monkeypatch.setattr(openvino_engine, "core_threads", lambda compiled, threads=None: 4)
    monkeypatch.setattr(openvino_engine, "others_are_busy", lambda: False)
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
    assert asked == [(1, 2, True), (2, 4, True)]  # four at a time were no faster than two
    asked.clear()
    again = engine_of(model, key="m")
    assert again.batch == 2
    assert again.notes == (f"2 at a time: 4 took 1.20 times the seconds of 2, measured {datetime.now(UTC).date()}",)
    assert asked == []
    told[2] = [2.0, 2.0]
    assert engine_of(model, key="another").batch == 1
    assert engine_of(model, key="m", threads=2).batch == 1  # other threads are another measurement
    assert engine_of(model).batch == 1  # without a key nothing is remembered


def test_what_a_busy_machine_says_is_not_remembered(times, memory_of_its_own, monkeypatch):
    told, _ = times
    told[2] = [0.5, 0.7]
    engine = engine_of(real_model(), key="m")
    assert engine.batch == 2
    assert "not remembered" in engine.notes[0]
    assert not memory_of_its_own.exists()
    told[2] = [0.5, 0.5]
    monkeypatch.setattr(openvino_engine, "others_are_busy", lambda: True)
    engine_of(real_model(), key="m")
    assert not memory_of_its_own.exists()


def test_ways_beyond_the_memory_are_left_out_whatever_the_process_grew_by(times, memory_of_its_own):
    """The allocator of this process holds enough for the network already, so it does not grow at all."""
    _, asked = times
    model = real_model()
    floor = openvino_engine._largest_step(engine_of(model, memory=0)._members[0].compiled)
    assert floor > 4 * model.plan.patch.value[0] * model.plan.patch.value[1] * model.plan.patch.value[2] * (1 + 3)
    asked.clear()
    assert engine_of(model, key="m", memory=2 * floor - 1).batch == 1
    assert asked == []
    assert not memory_of_its_own.exists()  # nothing was measured
    assert engine_of(model, key="m", memory=3 * floor - 1).batch == 2
    assert asked == [(1, 2, False)]
    (entry,) = json.loads(memory_of_its_own.read_text()).values()
    assert entry["bytes"] == floor
    assert entry["times"] == {"2": 0.5}


def test_old_measurements_are_forgotten(memory_of_its_own):
    remembered.remember("b", {"gain": 2.0})
    entries = json.loads(memory_of_its_own.read_text())
    for days, kept in ((29, True), (31, False), (-1, False)):
        entries["b"]["at"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        memory_of_its_own.write_text(json.dumps(entries))
        assert bool(remembered.recall("b")) == kept
    for at in ("yesterday", "2026-11-22T10:00:00", None):
        memory_of_its_own.write_text(json.dumps({"b": {"gain": 2.0, "at": at}}))
        assert remembered.recall("b") == {}


def test_two_ways_are_measured_in_turn(monkeypatch):
    engine = engine_of(real_model(), memory=0)
    order = []
    monkeypatch.setattr(openvino_engine, "_SECONDS", 0.0)
    monkeypatch.setattr(OpenVINOEngine, "_timed", lambda self, member, streams: order.append(streams) or 100.0 + len(order))
    fewer, more = engine._compare(1, 2, roomy=True)
    assert order == [1, 1, 2, 2, 1, 2]
    assert (fewer, more) == ([102.0, 105.0], [104.0, 106.0])
    order.clear()
    engine._compare(1, 2, roomy=False)
    assert order == [1, 1, 2, 2] * 2


def test_what_is_not_steady_is_measured_longer(monkeypatch):
    engine = engine_of(real_model(), memory=0)
    found = iter([0.0, 9.0, 0.0, 3.0, 5.0, 3.0, 5.0, 3.0, 1.0])  # the first of each is not counted; then steady
    monkeypatch.setattr(openvino_engine, "_SECONDS", 0.0)
    monkeypatch.setattr(OpenVINOEngine, "_timed", lambda self, member, streams: next(found))
    fewer, more = engine._compare(1, 2, roomy=True)
    assert (fewer, more) == ([9.0, 5.0, 5.0], [3.0] * 3)


def test_no_request_runs_on_after_an_error():
    engine = engine_of(real_model(), memory=0)
    running = set()

    class Request:
        def __init__(self, name):
            self.name = name

        def set_input_tensor(self, tensor):
            assert tensor is not None

        set_output_tensor = set_input_tensor

        def start_async(self):
            if self.name == "refused":
                raise KeyboardInterrupt
            running.add(self.name)

        def wait(self):
            running.discard(self.name)
            if self.name == "broken":
                raise RuntimeError("no kernel for a memory format")

    member = engine._members[0]
    patches, answers = patches_for(real_model(), 3), np.empty((3, *member.outputs), np.float32)
    for names, error in ((("broken", "two", "three"), RuntimeError), (("one", "two", "refused"), KeyboardInterrupt)):
        member.requests = [Request(name) for name in names]
        with pytest.raises(error):
            member.run(patches, answers)
        assert not running


@pytest.mark.parametrize("text", ["", "{", "[]", '{"patches": 3}', "\x00\xff", '{"a": {"bytes": "x", "seconds": {"1": "y"}}}'])
def test_a_damaged_memory_is_none_and_is_written_anew(text, memory_of_its_own):
    memory_of_its_own.parent.mkdir()
    memory_of_its_own.write_bytes(text.encode("latin-1"))
    assert remembered.recall("b") == {}
    remembered.remember("b", {"gain": 2.0})
    assert remembered.recall("b")["gain"] == 2.0
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
