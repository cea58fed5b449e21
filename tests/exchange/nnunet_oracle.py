"""Makes nnU-Net v2 models with random weights and lets nnU-Net itself predict with them.

Run by a Python that has nnunetv2.

    PYTHON tests/exchange/nnunet_oracle.py OUT [GOLDEN]

Each model gets a folder OUT/<name>: model/ as nnU-Net writes it, images/, labels and probabilities
as nnU-Net answers, and the preprocessed image. GOLDEN gets what test_nnunet_golden.py compares
with: labels, and some of the numbers. nnU-Net adds patches up in float16, whose rounding alone
changes logits by 1 part in 1000; here it is made to use float32, so that what differs is not
rounding. Nothing of hilum is imported.
"""

import json
import os
import sys
from pathlib import Path

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, "/nonexistent")

import nnunetv2.inference.predict_from_raw_data as prediction  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
from nnunet_models import MODELS, canonical, documents, image_of, picked, weight  # noqa: E402
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402


class _Torch:
    """torch, but for the type in which patches are added up."""

    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


prediction.torch = _Torch()
_gaussian = prediction.compute_gaussian
prediction.compute_gaussian = lambda *args, **options: _gaussian(*args, **options).float()
prediction.compute_gaussian.cache_clear = _gaussian.cache_clear


def write_images(folder, model):
    folder.mkdir(parents=True)
    files = []
    for number, array in enumerate(image_of(model)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(model["spacing"][::-1])
        image.SetOrigin((3.0, -20.0, 11.5))
        image.SetDirection((-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        files.append(str(folder / f"case_{number:04d}.nii.gz"))
        sitk.WriteImage(image, files[-1])
    return files


def make(out, name, model, golden):
    plans, dataset = documents(name, model)
    folder = out / name / "model" / "nnUNetTrainer__nnUNetPlans__used"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(json.loads(json.dumps(plans)))
    described = manager.get_configuration("used")
    labels = manager.get_label_manager(dataset)
    for fold in model["folds"]:
        network = get_network_from_plans(
            described.network_arch_class_name,
            described.network_arch_init_kwargs,
            described.network_arch_init_kwargs_req_import,
            len(model["channels"]),
            labels.num_segmentation_heads,
            deep_supervision=True,
        )
        drawn = {
            key: torch.from_numpy(weight(canonical(key), old.shape, fold=fold))
            for key, old in network.state_dict().items()
        }
        network.load_state_dict(drawn)
        (folder / f"fold_{fold}").mkdir()
        optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.9)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "grad_scaler_state": None,
            "logging": {
                "mean_fg_dice": [np.float64(0.5)],
                "train_losses": [np.float32(0.25)],
                "epochs": np.int64(1),
            },
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {
                "plans": plans,
                "configuration": "used",
                "fold": fold,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": model["mirror"],
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    files = write_images(out / name / "images", model)
    image, properties = SimpleITKIO().read_images(files)
    preprocessor = described.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case_npy(
        image, None, dict(properties), manager, described, dataset
    )
    np.save(out / name / "preprocessed.npy", data)
    kept = {"preprocessed": picked(data), "shape": np.array(data.shape)}
    for mirrored in (False, True):
        predictor = nnUNetPredictor(
            use_mirroring=mirrored,
            device=torch.device("cpu"),
            allow_tqdm=False,
            perform_everything_on_device=False,
        )
        predictor.initialize_from_trained_model_folder(
            str(folder), model["folds"], "checkpoint_final.pth"
        )
        segmentation, probabilities = predictor.predict_single_npy_array(
            image, dict(properties), None, None, save_or_return_probabilities=True
        )
        np.savez_compressed(
            out / name / f"answer_{int(mirrored)}.npz",
            labels=segmentation,
            probabilities=probabilities,
        )
        kept[f"labels_{int(mirrored)}"] = segmentation.astype(np.uint8)
        kept[f"probabilities_{int(mirrored)}"] = picked(probabilities)
    if golden is not None:
        golden.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(golden / f"nnunet_{name}.npz", **kept)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, model in MODELS.items():
        make(Path(sys.argv[1]), name, model, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
