"""Predicts images with MONAI's sliding window as a plain script would.

Called by inference.py in a Python with both peers.

    _inference_monai.py MODEL FOLD IMAGES OUT

nnU-Net's own network with its weights, its preprocessing, then
`monai.inferers.sliding_window_inference` (overlap 0.5, Gaussian, one patch at a time, float32),
trilinear resampling by torch, argmax, and nnU-Net's writer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main() -> None:
    """Every image of the folder in turn."""
    model, fold, images, out = sys.argv[1:]
    torch.set_num_threads(os.cpu_count() or 1)
    loaded = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"))
    loaded.initialize_from_trained_model_folder(model, (fold,), "checkpoint_final.pth")
    network = loaded.network
    network.load_state_dict(loaded.list_of_parameters[0])
    network.eval()
    Path(out).mkdir(parents=True, exist_ok=True)
    for image in sorted(Path(images).glob("*_0000.nii.gz")):
        predict(loaded, network, image, Path(out) / image.name.replace("_0000", ""))


def predict(loaded: Any, network: Any, image: Path, to: Path) -> None:
    """One image, from file to file."""
    plans, configuration = loaded.plans_manager, loaded.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    array, _, facts = preprocessor.run_case(
        [str(image)], None, plans, configuration, loaded.dataset_json
    )
    with torch.inference_mode():
        whole = torch.as_tensor(array)[None].float()
        logits = sliding_window_inference(
            whole, configuration.patch_size, 1, network, overlap=0.5, mode="gaussian"
        )
        shape = tuple(facts["shape_after_cropping_and_before_resampling"])
        if tuple(logits.shape[2:]) != shape:
            logits = torch.nn.functional.interpolate(logits, size=shape, mode="trilinear")
        inside = logits.argmax(1)[0].numpy().astype(np.uint8)
    labels = np.zeros(facts["shape_before_cropping"], np.uint8)
    labels[tuple(slice(low, high) for low, high in facts["bbox_used_for_cropping"])] = inside
    plans.image_reader_writer_class().write_seg(
        labels.transpose(plans.transpose_backward), str(to), facts
    )


if __name__ == "__main__":
    main()
