"""Small classifiers and images for the tests of classifiers."""

from typing import Any

import torch

from hilum.plan.plan import ClassifierSpec


def classifier_spec(
    kind: str = "backbone", backbone: str | None = None, **changes: Any
) -> ClassifierSpec:
    plain = kind == "resnet3d"
    backbone = ("" if plain else "resnet18") if backbone is None else backbone
    fields: dict[str, Any] = {
        "kind": kind,
        "dimensions": 3,
        "in_channels": 2,
        "out_channels": 3,
        "backbone": backbone,
    }
    if kind == "backbone":
        fields["dimensions"] = 2
    if plain:
        fields |= {"features": (6, 8, 12), "blocks": (1, 2, 1)}
    return ClassifierSpec(**fields | changes)


SPECS = {
    "resnet": classifier_spec(),
    "lite0": classifier_spec(backbone="tf_efficientnet_lite0"),
    "densenet": classifier_spec(backbone="densenet121"),
    "convnext": classifier_spec(backbone="convnext_atto"),
    "vit": classifier_spec(backbone="vit_tiny_patch16_224"),
    "swin": classifier_spec(backbone="swin_tiny_patch4_window7_224"),
    "inflated resnet": classifier_spec("inflated"),
    "inflated lite0": classifier_spec("inflated", "tf_efficientnet_lite0"),
    "acs resnet": classifier_spec("acs"),
    "acs lite0": classifier_spec("acs", "tf_efficientnet_lite0"),
    "slices": classifier_spec("slices"),
    "slices of three planes": classifier_spec("slices", planes="three"),
    "resnet3d": classifier_spec("resnet3d"),
}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
