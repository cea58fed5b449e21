"""Classifications small enough to reason about.

Plans, a network whose answer is computed by hand, a data set of bright cubes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.dataset import ClassTable
from hilum.files import atomic_write_text
from hilum.inference import TrainedModel
from hilum.io import write_labels, write_volume
from hilum.networks.classifier import ClassifierNetwork, Groups
from hilum.plan import ClassificationPlan
from hilum.plan.classification import ClassLossSpec, RegionSpec, Stage, WeightsSpec
from hilum.plan.plan import (
    AugmentationSpec,
    ClassifierSpec,
    Decision,
    Hardware,
    Normalisation,
    OptimiserSpec,
)
from hilum.volume import Geometry, Volume

TWO = ClassTable(names=("benign", "malignant"))
THREE = ClassTable(names=("cyst", "adenoma", "carcinoma"))
GRADES = ClassTable(names=("I", "II", "III", "IV"), kind="ordinal")
FINDINGS = ClassTable(names=("effusion", "mass", "nodule"), kind="multilabel")
TABLES = {"binary": TWO, "exclusive": THREE, "ordinal": GRADES, "multilabel": FINDINGS}
BECAUSE = "the test says so"
STILL = AugmentationSpec(spatial_probability=0.0, intensity_probability=0.0)


def decided(values: dict[str, Any]) -> dict[str, Any]:
    return {name: Decision(value=value, because=BECAUSE) for name, value in values.items()}


def class_plan(
    classes: ClassTable = TWO,
    *,
    channels: tuple[str, ...] = ("CT",),
    name: str = "toy",
    **changes: Any,
) -> ClassificationPlan:
    """Whole volumes, whose very values a small 3D residual network sees, unless changed."""
    region = changes.get("region", RegionSpec())
    patch = changes.get("patch", (8, 10, 12))
    plain = ClassifierSpec(
        kind="resnet3d",
        dimensions=changes.get("dimensions", 3),
        in_channels=len(channels) + region.mask_channel,
        out_channels=classes.outputs,
        features=(4, 8),
        blocks=(1, 1),
        dropout=0.0,
    )
    values = {
        "task": "classification",
        "dimensions": 3,
        "orientation": "SPL",
        "region": region,
        "spacing": None if region.kind == "whole" else (1.0, 1.0, 1.0),
        "image_order": 1,
        "normalisation": tuple(Normalisation(kind="unit", upper=1.0) for _ in channels),
        "patch": patch,
        "batch": 4,
        "network": plain,
        "weights": WeightsSpec(),
        "stages": (Stage(share=1.0),),
        "loss": ClassLossSpec(),
        "balance": "none",
        "augmentation": STILL,
        "optimiser": OptimiserSpec(
            learning_rate=1e-2, weight_decay=0.01, ema_decay=0.9, gradient_clip=5.0
        ),
        "steps": 20,
        "precision": "float32",
        "coverage": 0.9,
    }
    return ClassificationPlan(
        name=name,
        hardware=Hardware(),
        channels=channels,
        classes=classes,
        **decided(values | changes),
    )


def changed(plan: ClassificationPlan, **values: Any) -> ClassificationPlan:
    """A plan with other decisions, checked again."""
    return ClassificationPlan.model_validate(plan.model_copy(update=decided(values)).model_dump())


class Means(ClassifierNetwork):
    """Logits of the channels' means.

    `weight` (K', C) and `bias` (K',) are given, everything can be computed by hand.
    """

    def __init__(self, weight: Any, bias: Any = None, *, dimensions: int = 3) -> None:
        rows = torch.tensor(weight, dtype=torch.float32)
        spec = ClassifierSpec(
            kind="resnet3d",
            dimensions=3 if dimensions == 3 else 2,
            in_channels=rows.shape[1],
            out_channels=rows.shape[0],
            features=(1,),
            blocks=(1,),
        )
        super().__init__(spec)
        self.head = nn.Linear(rows.shape[1], rows.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(rows)
            self.head.bias.copy_(
                torch.zeros(len(rows)) if bias is None else torch.tensor(bias, dtype=torch.float32)
            )
        self.seen: list[tuple[int, ...]] = []

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(image.shape))
        return image

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean((2, 3, 4))

    def groups(self) -> Groups:
        return (tuple(self.head.parameters()),)


def class_model(
    plan: ClassificationPlan | None = None, *networks: nn.Module, **more: Any
) -> TrainedModel:
    """A model of one `Means` that answers by the mean of its first channel.

    Logits (0, m), (0, m, 2m), ..., unless given.
    """
    plan = plan or class_plan()
    if not networks:
        weight = np.zeros((plan.classes.outputs, plan.inputs))
        weight[:, 0] = np.arange(plan.classes.outputs)
        networks = (Means(weight.tolist()).eval(),)
    return TrainedModel(plan=plan, networks=networks, device=torch.device("cpu"), **more)


SHAPE = (10, 14, 12)


def cube_case(number: int, label: bool, seed: int = 0) -> tuple[Volume, Volume]:
    """Noise with a cube that is bright where the label is, dark where not; and the cube's mask."""
    rng = np.random.default_rng((seed, number))
    geometry = Geometry.from_spacing(SHAPE, (2.0, 1.0, 1.5), origin=(-10.0 + number, 5.0, 40.0))
    z, y, x = (int(v) for v in rng.integers((1, 2, 2), (5, 7, 6)))
    mask = np.zeros((1, *SHAPE), dtype=np.uint8)
    mask[0, z : z + 4, y : y + 5, x : x + 4] = 1
    image = rng.normal(0, 0.5, mask.shape) + (1.0 if label else -1.0) * mask
    return Volume(image.astype(np.float32), geometry), Volume(mask, geometry)


def write_cubes(
    folder: Path, *, cases: int = 16, seed: int = 0, names: tuple[str, ...] = TWO.names
) -> Path:
    """A table of cubes, two cases a patient, the label in turn, with masks.

    The point in their middle and a site.
    """
    rows = ["case,patient,image,mask,label,centre_x,centre_y,centre_z,site"]
    for number in range(cases):
        image, mask = cube_case(number, bool(number % len(names)), seed)
        write_volume(image, folder / "images" / f"cube_{number:02d}.nii.gz")
        write_labels(mask, folder / "masks" / f"cube_{number:02d}.nii.gz")
        inside = np.argwhere(mask.array[0])
        x, y, z = mask.geometry.index_to_world((inside.min(axis=0) + inside.max(axis=0)) / 2)
        name = f"cube_{number:02d}"
        files = f"images/{name}.nii.gz,masks/{name}.nii.gz"
        site = "AB"[number % 3 % 2]
        label = names[number % len(names)]
        rows.append(f"{name},P{number // 2},{files},{label},{x:.3f},{y:.3f},{z:.3f},{site}")
    atomic_write_text(folder / "cases.csv", "\n".join(rows) + "\n")
    return folder
