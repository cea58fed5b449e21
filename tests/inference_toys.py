"""Small plans and networks, and volumes without a symmetry that could hide an error."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from hilum.inference import TrainedModel
from hilum.networks import build_network
from hilum.plan.plan import (
    AugmentationSpec,
    Decision,
    Hardware,
    NetworkSpec,
    Normalisation,
    OptimiserSpec,
)
from hilum.plan.segmentation import LossSpec, SegmentationPlan
from hilum.volume import Geometry, LabelTable, Region, Volume

BECAUSE = "the test says so"
TABLE = LabelTable.from_names({2: "liver", 300: "tumour"})
REGIONS = TABLE.model_copy(
    update={
        "regions": (Region(name="all", labels=(2, 300)), Region(name="tumour", labels=(300,))),
        "decode_ids": (2, 300),
    }
)


class OneHot(nn.Module):
    """The identity network of segmentation: class indices as intensities to their logits."""

    def __init__(self, outputs=3):
        super().__init__()
        self.outputs = outputs
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, len(x)))
        return torch.cat([(x == k).to(x.dtype) * 8 - 4 for k in range(self.outputs)], dim=1)


def spec(channels=1, outputs=3):
    return NetworkSpec(
        kind="plain_unet",
        dimensions=3,
        in_channels=channels,
        out_channels=outputs,
        features=(4, 8),
        kernels=((3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2)),
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
    )


def make_plan(**changes):
    channels = changes.pop("channels", ("CT",))
    labels = changes.pop("labels", TABLE)
    values = {
        "task": "segmentation",
        "dimensions": 3,
        "orientation": "SPL",
        "crop": "none",
        "spacing": None,
        "image_order": 1,
        "normalisation": tuple(Normalisation(kind="unit", upper=1.0) for _ in channels),
        "patch": (4, 8, 6),
        "batch": 3,
        "network": spec(len(channels), labels.outputs),
        "loss": LossSpec(),
        "augmentation": AugmentationSpec(mirror_axes=(1, 2)),
        "optimiser": OptimiserSpec(),
        "foreground_fraction": 0.3,
        "steps": 10,
        "precision": "float32",
        "overlap": 0.5,
    } | changes
    decisions = {name: Decision(value=value, because=BECAUSE) for name, value in values.items()}
    return SegmentationPlan(
        name="toy", hardware=Hardware(), channels=channels, labels=labels, **decisions
    )


def make_model(*, networks=None, **changes):
    return TrainedModel(
        plan=make_plan(**changes), networks=networks or (OneHot(),), device=torch.device("cpu")
    )


def real_model(*, members=1, seed=0, **changes):
    plan = make_plan(**changes)
    torch.manual_seed(seed)
    networks = tuple(build_network(plan.network.value).eval() for _ in range(members))
    return TrainedModel(plan=plan, networks=networks, device=torch.device("cpu"))


SIGNED_AXES = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def oblique_geometry(
    shape=(9, 13, 11), *, axes=SIGNED_AXES[0], spacing=(2.5, 0.7, 1.1), degrees=7.0
):
    """Anisotropic, off origin, rotated about two axes, in any of 48 orientations."""
    order, signs = axes
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    directions = turn @ (np.eye(3)[:, list(order)] * np.array(signs))
    return Geometry.from_spacing(
        shape, spacing, origin=(-12.5, 40.25, 101.0), directions=directions
    )


def index_volume(geometry=None, *, seed=0, classes=3):
    """Class indices as float32: asymmetric blocks, and single voxels."""
    geometry = geometry or oblique_geometry()
    rng = np.random.default_rng(seed)
    array = np.zeros(geometry.shape, np.float32)
    z, y, x = geometry.shape
    array[: z // 2 + 1, y // 3 :, : x // 2] = 1
    array[z // 3 :, : y // 2, x // 3 : x // 3 + 2] = 2
    array[rng.random(geometry.shape) < 0.05] = classes - 1
    return Volume(array[None], geometry)
