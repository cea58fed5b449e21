"""nnU-Net is the oracle of the whole road: its model, imported, gives its labels and probabilities.

The model and what nnU-Net 2.8.1 predicts with it lie in ../shared/data/nnunet_hippocampus. nnU-Net
adds patches up in float16.
"""

from __future__ import annotations

import numpy as np
import pytest

from hilum import api
from hilum.inference import Predictor, TrainedModel
from hilum.io import read_labels

pytestmark = pytest.mark.real_data

CASES = [
    "hippocampus_001",
    "hippocampus_003",
    "hippocampus_004",
    "hippocampus_006",
    "hippocampus_007",
    "hippocampus_008",
]


@pytest.fixture(scope="module")
def model(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    imported = api.import_nnunet(real_data / "nnunet_hippocampus", folder)
    loaded = TrainedModel.load(folder, device="cpu")
    assert loaded.id == imported.id
    return loaded


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model, engine="torch", precision="float32", every_patch=True)


@pytest.fixture(scope="module")
def mirrored(model):
    return Predictor(model, tta=True, engine="torch", precision="float32", every_patch=True)


def dice(a, b):
    return {
        i: 2 * (a[b == i] == i).sum() / max(1, (a == i).sum() + (b == i).sum())
        for i in np.unique(b)
        if i
    }


@pytest.mark.parametrize("case", CASES)
def test_labels_and_probabilities_are_nnunets(predictor, real_data, case):
    expected = real_data / "nnunet_hippocampus" / "expected"
    source = next((real_data / "hippocampus" / "imagesTr").glob(f"{case}*"))
    prediction = predictor.predict(source, probabilities=True)
    reference = read_labels(expected / f"{case}.nii.gz")
    assert prediction.labels.geometry.is_close(reference.geometry)
    scores = dice(prediction.labels.array, reference.array)
    assert scores
    assert min(scores.values()) >= 0.9995
    assert (reference.array > 0).sum() > 100
    probabilities = np.load(expected / f"{case}.npz", allow_pickle=False)["probabilities"]
    assert np.abs(prediction.probabilities.array - probabilities).max() < 1e-3


@pytest.mark.parametrize(
    "case",
    [CASES[1], *(pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != CASES[1])],
)
def test_mirrored_labels_are_nnunets(mirrored, real_data, case):
    source = next((real_data / "hippocampus" / "imagesTr").glob(f"{case}*"))
    prediction = mirrored.predict(source)
    reference = read_labels(
        real_data / "nnunet_hippocampus" / "expected_mirrored" / f"{case}.nii.gz"
    )
    scores = dice(prediction.labels.array, reference.array)
    assert scores
    assert min(scores.values()) >= 0.9995


def test_the_card_says_where_it_came_from(model):
    assert model.facts.details["trainer"] == "nnUNetTrainer"
    assert model.facts.cases == 208
    assert model.plan.labels.ids == (0, 1, 2)
    assert all(
        "nnU-Net" in decision.because
        for name, decision in model.plan.decisions.items()
        if name in {"patch", "spacing"}
    )
