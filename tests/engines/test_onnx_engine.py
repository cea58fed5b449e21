"""The ONNX Runtime engine: the same answers as torch, from files."""

import numpy as np
import pytest
from test_openvino_engine import KINDS, patches_for, shaken

from hilum.engines.convert import write_onnx
from hilum.engines.onnx_engine import OnnxEngine, resolve_precision
from hilum.errors import ModelError, UsageError
from inference_toys import real_model


@pytest.mark.parametrize("kind", ["plain", "textbook, 2D"])
def test_logits_are_those_of_torch(kind, tmp_path):
    model = shaken(real_model(members=2, **KINDS[kind]))
    files = [tmp_path / f"{n}.onnx" for n in range(2)]
    for network, file in zip(model.networks, files, strict=True):
        write_onnx(network, model.plan, file)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.onnx",
        "1.onnx",
    ]  # weights are inside
    patches = patches_for(model, 3)
    expected = model.make_engine("torch", "float32")(patches)
    engine = OnnxEngine(files, threads=1)
    found = engine(patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    same = OnnxEngine([files[0]] * 3)(patches)
    np.testing.assert_array_equal(same, OnnxEngine(files[:1])(patches))
    with pytest.raises(UsageError, match="patches of shape"):
        engine(patches[:, :, :, :, 1:])


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match="ONNX Runtime cannot read it"):
        OnnxEngine([tmp_path / "a.onnx"])


def test_it_computes_in_float32_only():
    assert resolve_precision(None) == resolve_precision("auto") == "float32"
    with pytest.raises(UsageError, match="'bfloat16'"):
        resolve_precision("bfloat16")
