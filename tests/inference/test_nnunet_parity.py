"""nnU-Net is the oracle of the whole road: its weights in our network give its labels and probabilities.

The model and what nnU-Net 2.8.1 predicts with it lie in ../shared/data/nnunet_hippocampus.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_toys import make_plan

from hilum.inference import Predictor, TrainedModel
from hilum.io import read_labels
from hilum.networks import build_network
from hilum.plan.plan import AugmentationSpec, NetworkSpec, Normalisation
from hilum.volume import LabelTable

pytestmark = pytest.mark.real_data

SPEC = NetworkSpec(
    kind="plain_unet",
    dimensions=3,
    in_channels=1,
    out_channels=3,
    features=(32, 64, 128, 256),
    kernels=((3, 3, 3),) * 4,
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    encoder_blocks=(2, 2, 2, 2),
    decoder_blocks=(2, 2, 2),
    deep_supervision=False,
)


def renamed(theirs):
    """nnU-Net's weights under our names. Biases before an instance norm, which removes them, are left out."""
    ours = {}
    for name, tensor in theirs.items():
        part, *rest = name.split(".")
        if "all_modules" in name or name.startswith("decoder.encoder") or name.endswith("conv.bias"):
            continue
        match [part, *rest]:
            case ["encoder", "stages", stage, "0", "convs", block, kind, what]:
                ours[f"encoder.{stage}.{block}.{int(kind == 'norm')}.{what}"] = tensor
            case ["decoder", "stages", stage, "convs", block, kind, what]:
                ours[f"decoder.stages.{stage}.{block}.{int(kind == 'norm')}.{what}"] = tensor
            case ["decoder", "transpconvs", stage, what]:
                ours[f"decoder.up.{stage}.{what}"] = tensor
            case ["decoder", "seg_layers", "2", what]:
                ours[f"decoder.heads.0.{what}"] = tensor
    return ours


@pytest.fixture(scope="module")
def model(real_data):
    path = real_data / "nnunet_hippocampus" / "fold_all" / "checkpoint_final.pth"
    scalars = [np._core.multiarray.scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    with torch.serialization.safe_globals(scalars):  # plain numbers only: nothing in the pickle is run
        weights = torch.load(path, map_location="cpu", weights_only=True)["network_weights"]
    network = build_network(SPEC)
    network.load_state_dict(renamed(weights), strict=True)
    plan = make_plan(
        channels=("MRI",),
        labels=LabelTable.from_names({1: "Anterior", 2: "Posterior"}),
        network=SPEC,
        patch=(40, 56, 40),
        batch=1,
        orientation="source",
        spacing=(1.0, 1.0, 1.0),
        image_order=3,
        normalisation=(Normalisation(kind="case"),),
        augmentation=AugmentationSpec(mirror_axes=(0, 1, 2)),
    )
    return TrainedModel(plan=plan, networks=(network,), device=torch.device("cpu"))


@pytest.mark.parametrize("case", ["hippocampus_001", "hippocampus_006"])
def test_labels_and_probabilities_are_nnunets(model, real_data, case):
    expected = real_data / "nnunet_hippocampus" / "expected"
    source = next((real_data / "hippocampus" / "imagesTr").glob(f"{case}*"))
    prediction = Predictor(model).predict(source, probabilities=True)
    reference = read_labels(expected / f"{case}.nii.gz")
    assert prediction.labels.geometry.is_close(reference.geometry)
    assert np.array_equal(prediction.labels.array, reference.array)
    assert (reference.array > 0).sum() > 100
    probabilities = np.load(expected / f"{case}.npz", allow_pickle=False)["probabilities"]
    assert np.abs(prediction.probabilities.array - probabilities).max() < 1e-3


@pytest.mark.parametrize("case", ["hippocampus_003"])
def test_mirrored_labels_are_nnunets(model, real_data, case):
    source = next((real_data / "hippocampus" / "imagesTr").glob(f"{case}*"))
    prediction = Predictor(model, tta=True).predict(source)
    reference = read_labels(real_data / "nnunet_hippocampus" / "expected_mirrored" / f"{case}.nii.gz")
    assert np.array_equal(prediction.labels.array, reference.array)
