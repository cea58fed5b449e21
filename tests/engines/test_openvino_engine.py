"""The OpenVINO engine: the same answers as torch, bit for bit the same at every call."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.engines import openvino_engine
from hilum.engines.convert import to_openvino
from hilum.engines.openvino_engine import OpenVINOEngine, resolve_precision
from hilum.errors import ResourceError, UsageError
from hilum.networks import textbook_spec
from inference_toys import real_model, spec

KINDS = {
    "plain": {},
    "two channels": {"channels": ("PET", "CT")},
    "residual": {"network": spec().model_copy(update={"kind": "residual_unet"})},
    "textbook, 2D": {
        "dimensions": 2,
        "patch": (1, 8, 8),
        "network": textbook_spec(1, 3, features=(4, 8)),
    },
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
    return OpenVINOEngine(
        [to_openvino(one, model.plan) for one in model.networks],
        **{"precision": "float32"} | options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_torch(kind):
    model = shaken(real_model(**KINDS[kind]))
    patches = patches_for(model, 3)
    expected = model.make_engine("torch", "float32")(patches)
    found = engine_of(model)(patches)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def ensemble():
    model = shaken(real_model(members=3))
    return model, engine_of(model)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_logits_are_bit_for_bit_the_same(precision):
    """At every call, in a second engine, in an ensemble, and where memory is given back."""
    model = shaken(real_model())
    patches = patches_for(model, 2)
    network = to_openvino(model.networks[0], model.plan)
    one = OpenVINOEngine([network], precision=precision)(patches)
    for engine in (
        OpenVINOEngine([network], precision=precision),
        OpenVINOEngine([network] * 3, precision=precision),
        OpenVINOEngine([network] * 3, precision=precision, memory=0),
    ):
        np.testing.assert_array_equal(engine(patches), one)
        np.testing.assert_array_equal(engine(patches), one)
    assert engine._gives_back


def test_one_patch_runs_at_a_time_on_every_thread():
    """Two at a time would share the threads, and with them change sums and labels."""
    engine = engine_of(real_model(), threads=2)
    compiled = engine._compiled[0]
    assert engine.batch == 1
    assert (
        compiled.get_property("NUM_STREAMS"),
        compiled.get_property("INFERENCE_NUM_THREADS"),
    ) == (1, 2)
    assert engine.device.endswith(", 2 threads")


def test_an_ensemble_beyond_the_memory_gives_back():
    model = real_model(members=2)
    taken = openvino_engine._result_bytes(engine_of(model)._compiled[0])
    assert taken > 4 * np.prod(model.plan.patch.value) * (1 + 3)
    assert engine_of(model, memory=2 * taken - 1)._gives_back
    assert not engine_of(model, memory=2 * taken)._gives_back
    assert not engine_of(real_model(), memory=0)._gives_back


def test_bfloat16_is_near():
    if not openvino_engine._supports("bfloat16"):
        pytest.skip("this processor has no bfloat16")
    model = shaken(real_model())
    patches = patches_for(model, 2)
    expected = model.make_engine("torch", "float32")(patches)
    found = engine_of(model, precision="bfloat16")(patches)
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
    engine = engine_of(real_model())
    with pytest.raises(UsageError, match="patches of shape"):
        engine(np.zeros((1, 1, 4, 8, 8), np.float32))


def test_precisions(monkeypatch):
    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda: True)
    monkeypatch.setattr(openvino_engine, "_supports", lambda precision: precision == "bfloat16")
    assert (
        resolve_precision(None, stored="float32")
        == resolve_precision("auto", stored="float32")
        == "bfloat16"
    )
    assert resolve_precision("auto", stored="int8") == "int8"
    assert resolve_precision("float32", stored="float32") == "float32"
    with pytest.raises(ResourceError, match="no instructions"):
        resolve_precision("float16", stored="float32")
    with pytest.raises(UsageError, match="stored as int8"):
        resolve_precision("float32", stored="int8")
    with pytest.raises(UsageError, match=r"(?s)stored as float32.*export it with"):
        resolve_precision("int8", stored="float32")
    with pytest.raises(UsageError, match="precision='int4' is not one of openvino"):
        resolve_precision("int4", stored="float32")


def test_bfloat16_that_is_emulated_is_not_chosen(monkeypatch):
    """OpenVINO names BF16 of every processor with AVX512."""
    monkeypatch.setattr(openvino_engine, "_supports", lambda precision: True)
    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda: False)
    assert resolve_precision("auto", stored="float32") == "float32"
    assert resolve_precision("bfloat16", stored="float32") == "bfloat16"


def test_no_request_runs_on_after_an_error():
    engine = engine_of(real_model())
    running = []

    class Request:
        def set_input_tensor(self, tensor):
            assert tensor is not None

        set_output_tensor = set_input_tensor

        def start_async(self):
            running.append(self)
            raise KeyboardInterrupt

        def wait(self):
            running.remove(self)

    engine._requests[0] = Request()
    with pytest.raises(KeyboardInterrupt):
        engine(patches_for(real_model(), 1))
    assert not running


def test_openvino_reports_to_nobody():
    code = (
        "import sys, hilum.engines.openvino_library as library\nassert not [name for"
        " name, module in sys.modules.items() if name.startswith('openvino_telemetry') and"
        " module]\nfrom openvino.tools.ovc import"
        " telemetry_utils\nprint(telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
