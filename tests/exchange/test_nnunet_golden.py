"""Predictions of nnU-Net 2.8.1 with toy models, kept in golden/: imported, they give the same.

`PYTHON tests/exchange/nnunet_oracle.py OUT tests/exchange/golden`, with a Python that has
nnunetv2, writes golden/ anew; models and images come from numbers, so only answers are kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_models import MODELS, canonical, documents, image_of, picked, weight
from nnunet_weights import to_nnunet

from hilum.exchange import read_nnunet
from hilum.exchange.nnunet.architecture import network_spec
from hilum.inference import Predictor
from hilum.networks import build_network
from hilum.preprocess import preprocess_case
from hilum.volume import Geometry, Volume


@pytest.fixture(scope="module", params=MODELS)
def one(request, tmp_path_factory):
    name, model = request.param, MODELS[request.param]
    plans, dataset = documents(name, model)
    folder = tmp_path_factory.mktemp(name) / "nnUNetTrainer__nnUNetPlans__used"
    outputs = len(model.get("regions_class_order", dataset["labels"]))
    spec = network_spec(
        model["configuration"], inputs=len(model["channels"]), outputs=outputs, source=name
    )
    for fold in model["folds"]:  # a state dict as nnU-Net saves it
        (folder / f"fold_{fold}").mkdir(parents=True)
        names = to_nnunet(build_network(spec).state_dict(), spec)
        if (
            not model["configuration"]
            .get("architecture", {})
            .get("arch_kwargs", {})
            .get("conv_bias", True)
        ):
            names = {
                key: old
                for key, old in names.items()
                if not key.endswith(("conv.bias", "all_modules.0.bias"))
            }
            names = {
                key: old
                for key, old in names.items()
                if not ("transpconvs" in key and key.endswith("bias"))
            }
        checkpoint = {
            "network_weights": {
                key: torch.from_numpy(weight(canonical(key), old.shape, fold=fold))
                for key, old in names.items()
            },
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "used"},
            "current_epoch": 3,
            "inference_allowed_mirroring_axes": model["mirror"],
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    image = Volume(image_of(model), Geometry.from_spacing(model["shape"], model["spacing"]))
    with np.load(
        Path(__file__).parent / "golden" / f"nnunet_{name}.npz", allow_pickle=False
    ) as kept:
        return read_nnunet(folder), image, dict(kept)


def test_the_preprocessed_image_is_nnunets(one):
    model, image, kept = one
    array, _ = preprocess_case(image, model.plan)
    assert array.shape == tuple(kept["shape"])
    np.testing.assert_allclose(picked(array), kept["preprocessed"], atol=1e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_and_probabilities_are_nnunets(one, mirrored):
    model, image, kept = one
    predictor = Predictor(
        model, tta=mirrored, engine="torch", precision="float32", every_patch=True
    )
    answer = predictor.predict(image, probabilities=True)
    assert (
        np.abs(picked(answer.probabilities.array) - kept[f"probabilities_{int(mirrored)}"]).max()
        < 1e-3
    )
    labels = kept[f"labels_{int(mirrored)}"]
    assert len(np.unique(labels)) > 1
    for label in np.unique(labels):
        a, b = answer.labels.array[0] == label, labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.9995
