"""Makes nnU-Net v2 models with random weights and lets nnU-Net itself predict with them; run by a Python that has nnunetv2.

    PYTHON tests/inference/nnunet_oracle.py OUT

Each model gets a folder OUT/<name>: model/ as nnU-Net writes it, images/, labels and probabilities as nnU-Net answers, and the
preprocessed image. nnU-Net adds patches up in float16, whose rounding alone changes logits by 1 part in 1000; here it is made to
use float32, so that what differs is not rounding. Nothing of hilum is imported.
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
FUNCTION = "resample_data_or_seg_to_shape"


def resampling(force=None, order_z=0):
    common = {"is_seg": False, "order_z": order_z, "force_separate_z": force}
    return {
        "resampling_fn_data": FUNCTION,
        "resampling_fn_seg": FUNCTION,
        "resampling_fn_probabilities": FUNCTION,
        "resampling_fn_data_kwargs": {**common, "order": 3},
        "resampling_fn_seg_kwargs": {**common, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**common, "order": 1},
    }


def architecture(kind, dimensions, *, features, kernels, strides, blocks, decoder, bias=True):
    blocks_name = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": features,
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": kernels,
            "strides": strides,
            blocks_name: blocks,
            "n_conv_per_stage_decoder": decoder,
            "conv_bias": bias,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


PROPERTIES = {
    "mean": 60.0,
    "std": 80.0,
    "percentile_00_5": -90.0,
    "percentile_99_5": 250.0,
    "min": -1e3,
    "max": 1e3,
    "median": 55.0,
}
MODELS = {
    "residual_regions": {
        "shape": (14, 33, 29),
        "spacing": (4.0, 0.9, 0.8),
        "channels": {"0": "CT", "1": "T1"},
        "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
        "plans": {"transpose_forward": [0, 2, 1], "transpose_backward": [0, 2, 1]},
        "configuration": {
            "patch_size": [8, 24, 32],
            "spacing": [3.1, 0.7, 0.75],
            "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, True],
            **resampling(),
            "architecture": architecture(
                "ResidualEncoderUNet",
                3,
                features=[8, 16, 24],
                kernels=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
                strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                blocks=[1, 2, 2],
                decoder=[2, 1],
            ),
        },
        "mirror": (0, 1, 2),
        "folds": ["0"],
    },
    "flat_ensemble": {
        "shape": (7, 50, 41),
        "spacing": (3.0, 0.8, 0.8),
        "channels": {"0": "rescale_to_0_1"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "plans": {},
        "configuration": {
            "patch_size": [32, 32],
            "spacing": [0.9, 0.7],
            "normalization_schemes": ["RescaleTo01Normalization"],
            "use_mask_for_norm": [False],
            **resampling(),
            "architecture": architecture(
                "PlainConvUNet",
                2,
                features=[8, 16, 16],
                kernels=[[3, 3]] * 3,
                strides=[[1, 1], [2, 2], [2, 2]],
                blocks=[2, 1, 2],
                decoder=[1, 2],
                bias=False,
            ),
        },
        "mirror": (0, 1),
        "folds": ["0", "1"],
    },
    "old_plans": {
        "shape": (30, 31, 22),
        "spacing": (1.0, 1.1, 1.2),
        "channels": {"0": "MRI"},
        "labels": {"background": 0, "a": 1},
        "plans": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
        "configuration": {
            "patch_size": [16, 24, 16],
            "spacing": [0.8, 1.3, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            **resampling(force=False, order_z=0),
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 8,
            "unet_max_num_features": 12,
            "n_conv_per_stage_encoder": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
            "num_pool_per_axis": [2, 2, 2],
            "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            "conv_kernel_sizes": [[3, 3, 3]] * 3,
        },
        "mirror": (2,),
        "folds": ["all"],
    },
}


def write_images(folder, model, rng):
    folder.mkdir(parents=True)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in model["shape"]], indexing="ij")
    body = z**2 + y**2 + x**2 < 0.9
    files = []
    for number in model["channels"]:
        smooth = 100 * np.sin(3 * z + int(number)) * np.cos(4 * y) + 80 * np.cos(5 * x)
        array = np.where(body, smooth + rng.normal(0, 15, model["shape"]), 0)
        array[model["shape"][0] // 2, model["shape"][1] // 2, model["shape"][2] // 2 - 2 :][:4] = 0  # a hole
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing(model["spacing"][::-1])
        image.SetOrigin((3.0, -20.0, 11.5))
        image.SetDirection((-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        files.append(str(folder / f"case_{int(number):04d}.nii.gz"))
        sitk.WriteImage(image, files[-1])
    return files


def make(out, name, model):
    rng = np.random.default_rng(len(name))
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "median_image_size_in_voxels": list(model["shape"]),
        "batch_dice": False,
        **model["configuration"],
    }
    plans = {
        "dataset_name": f"Dataset900_{name}",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(model["spacing"]),
        "original_median_shape_after_transp": list(model["shape"]),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"base": configuration, "used": {"inherits_from": "base"}},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": dict.fromkeys(model["channels"], PROPERTIES),
        **model["plans"],
    }
    dataset = {"channel_names": model["channels"], "labels": model["labels"], "numTraining": 4, "file_ending": ".nii.gz"}
    if "regions_class_order" in model:
        dataset["regions_class_order"] = model["regions_class_order"]
    folder = out / name / "model" / "nnUNetTrainer__nnUNetPlans__used"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(json.loads(json.dumps(plans)))
    described = manager.get_configuration("used")
    labels = manager.get_label_manager(dataset)
    for fold in model["folds"]:
        torch.manual_seed(len(fold) + sum(map(ord, name + fold)))
        network = get_network_from_plans(
            described.network_arch_class_name,
            described.network_arch_init_kwargs,
            described.network_arch_init_kwargs_req_import,
            len(model["channels"]),
            labels.num_segmentation_heads,
            deep_supervision=True,
        )
        for parameter in network.parameters():  # norms and biases too, and answers that are not near a tie
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for layer in network.decoder.seg_layers:
            with torch.no_grad():
                layer.weight.mul_(4)
        (folder / f"fold_{fold}").mkdir()
        optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.9)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.25)], "epochs": np.int64(1)},
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {"plans": plans, "configuration": "used", "fold": fold, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": model["mirror"],
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    files = write_images(out / name / "images", model, rng)
    image, properties = SimpleITKIO().read_images(files)
    preprocessor = described.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case_npy(image, None, dict(properties), manager, described, dataset)
    np.save(out / name / "preprocessed.npy", data)
    for mirrored in (False, True):
        predictor = nnUNetPredictor(
            use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False
        )
        predictor.initialize_from_trained_model_folder(str(folder), model["folds"], "checkpoint_final.pth")
        segmentation, probabilities = predictor.predict_single_npy_array(
            image, dict(properties), None, None, save_or_return_probabilities=True
        )
        np.savez_compressed(out / name / f"answer_{int(mirrored)}.npz", labels=segmentation, probabilities=probabilities)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, model in MODELS.items():
        make(Path(sys.argv[1]), name, model)
