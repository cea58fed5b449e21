"""nnU-Net, where it is installed, predicts with models of every kind it makes.

Imported, they answer the same.

HILUM_NNUNET_PYTHON names a Python that has nnunetv2 (`pip install nnunetv2` in an environment of
its own, for it pins much).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hilum import api
from hilum.inference import Predictor
from hilum.inference.inputs import read_source
from hilum.preprocess import preprocess_case

PYTHON = os.environ.get("HILUM_NNUNET_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="HILUM_NNUNET_PYTHON names no Python that has nnunetv2"),
]
NAMES = ("residual_regions", "flat_ensemble", "old_plans")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("nnunet")
    script = Path(__file__).with_name("nnunet_oracle.py")
    subprocess.run([PYTHON, str(script), str(out)], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module", params=NAMES)
def one(request, made):
    folder = made / request.param
    model = api.import_nnunet(next((folder / "model").iterdir()), folder / "imported")
    files = {str(n): path for n, path in enumerate(sorted((folder / "images").iterdir()))}
    return model, files, folder


def test_the_preprocessed_image_is_nnunets(one):
    model, files, folder = one
    array, _ = preprocess_case(read_source(files), model.plan)
    expected = np.load(folder / "preprocessed.npy")
    assert array.shape == expected.shape
    np.testing.assert_allclose(array, expected, atol=1e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_and_probabilities_are_nnunets(one, mirrored):
    model, files, folder = one
    predictor = Predictor(
        model, tta=mirrored, engine="torch", precision="float32", every_patch=True
    )
    answer = predictor.predict(files, probabilities=True)
    with np.load(folder / f"answer_{int(mirrored)}.npz") as expected:
        labels, probabilities = expected["labels"], expected["probabilities"]
    assert np.abs(answer.probabilities.array - probabilities).max() < 1e-3
    assert len(np.unique(labels)) > 1
    for label in np.unique(labels):
        a, b = answer.labels.array[0] == label, labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.9995
