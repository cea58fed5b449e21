"""Toy models of every kind that nnU-Net makes: their files, weights and images, from numbers alone.

nnunet_oracle.py, run by a Python that has nnunetv2, lets nnU-Net predict with them; tests import
them. numpy's RandomState, whose numbers are frozen, draws both the weights, each by nnU-Net's name
of it, and the noise of the images. Nothing of hilum is imported.
"""

import zlib

import numpy as np

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


def weight(name, shape, *, fold):
    """The weight that nnU-Net calls so: of He's scale, so that answers neither vanish nor explode.

    Norms near 1, heads large.
    """
    drawn = np.random.RandomState(zlib.crc32(f"{fold} {name}".encode())).standard_normal(shape)
    if len(shape) == 1:
        return (0.1 * drawn + (name.endswith(".norm.weight"))).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[1:])) * (4 if ".seg_layers." in name else 1)
    return (scale * drawn).astype(np.float32)


def canonical(name):
    """One name for a weight that nnU-Net's state dict says several times."""
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    return name.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")


def image_of(model):
    """(C, Z, Y, X), float32: smooth values and noise in a ball with a hole, zero around it."""
    random = np.random.RandomState(len(model["shape"]) + sum(model["shape"]))
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in model["shape"]], indexing="ij")
    body = z**2 + y**2 + x**2 < 0.9
    channels = []
    for number in model["channels"]:
        smooth = 100 * np.sin(3 * z + int(number)) * np.cos(4 * y) + 80 * np.cos(5 * x)
        array = np.where(body, smooth + 15 * random.standard_normal(model["shape"]), 0)
        middle = [n // 2 for n in model["shape"]]
        array[middle[0], middle[1], middle[2] - 2 :][:4] = 0
        channels.append(array.astype(np.float32))
    return np.stack(channels)


def documents(name, model):
    """plans.json and dataset.json."""
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
    dataset = {
        "channel_names": model["channels"],
        "labels": model["labels"],
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    if "regions_class_order" in model:
        dataset["regions_class_order"] = model["regions_class_order"]
    return plans, dataset


def picked(array):
    """Every so many values, flat: a few hundred."""
    flat = np.asarray(array).reshape(-1)
    return flat[:: max(1, flat.size // 400)].astype(np.float32)
