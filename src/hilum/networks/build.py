"""From a spec to a network with reproducible weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch
from torch import nn

from hilum.errors import UsageError
from hilum.networks.blocks import SLOPE, InstanceNorm
from hilum.networks.plain_unet import PlainUNet
from hilum.networks.residual_unet import ResidualUNet
from hilum.networks.resnet3d import ResNet3d
from hilum.networks.rng import use_generator
from hilum.networks.slice_classifier import SliceClassifier
from hilum.networks.timm_classifier import TimmClassifier, VolumeClassifier
from hilum.networks.unet import UNet
from hilum.plan.plan import ClassifierSpec, NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.networks.classifier import ClassifierNetwork
    from hilum.networks.network import Network


def textbook_spec(
    in_channels: int,
    out_channels: int,
    *,
    dimensions: int = 2,
    features: tuple[int, ...] = (64, 128, 256, 512, 1024),
) -> NetworkSpec:
    """Return the textbook's U-Net: kernels 3, strides 2, two convolutions a stage, one output."""
    stages, flat = len(features), dimensions == 2
    return NetworkSpec(
        kind="unet",
        dimensions=3 if dimensions == 3 else 2,
        in_channels=in_channels,
        out_channels=out_channels,
        features=features,
        kernels=((1 if flat else 3, 3, 3),) * stages,
        strides=((1, 1, 1),) + ((1 if flat else 2, 2, 2),) * (stages - 1),
        encoder_blocks=(2,) * stages,
        decoder_blocks=(2,) * (stages - 1),
        deep_supervision=False,
    )


def _unet(spec: NetworkSpec) -> Network:
    """Build the textbook U-Net; refuse a spec that differs from it."""
    wanted = textbook_spec(
        spec.in_channels, spec.out_channels, dimensions=spec.dimensions, features=spec.features
    )
    if spec != wanted:
        textbook = {n: v for n, v in wanted if v != getattr(spec, n)}
        raise UsageError(
            f"a spec of kind 'unet' whose {', '.join(textbook)} are not the textbook's",
            needed=", ".join(f"{name}={value}" for name, value in textbook.items()),
            cure="hilum.networks.textbook_spec(...), or kind 'plain_unet'",
        )
    return UNet(
        spec.in_channels, spec.out_channels, dimensions=spec.dimensions, features=spec.features
    )


NETWORKS: dict[str, Callable[[NetworkSpec], Network]] = {
    "unet": _unet,
    "plain_unet": PlainUNet,
    "residual_unet": ResidualUNet,
}


CLASSIFIERS: dict[str, Callable[[ClassifierSpec], ClassifierNetwork]] = {
    "backbone": TimmClassifier,
    "inflated": VolumeClassifier,
    "acs": VolumeClassifier,
    "slices": SliceClassifier,
    "resnet3d": ResNet3d,
}


@overload
def build_network(spec: NetworkSpec, *, generator: torch.Generator | None = None) -> Network: ...


@overload
def build_network(
    spec: ClassifierSpec, *, generator: torch.Generator | None = None
) -> ClassifierNetwork: ...


def build_network(
    spec: NetworkSpec | ClassifierSpec, *, generator: torch.Generator | None = None
) -> Network | ClassifierNetwork:
    """Build the network of a spec; nothing is fetched, no global random number is drawn.

    A U-Net's weights are drawn by `initialise`, a classifier's as its backbone's authors draw them.
    Pretrained weights are put in afterwards, by `hilum.networks.weights.adopt`.

    Args:
        spec: what to build.
        generator: where the weights come from; without one, a new generator of seed 0.

    Raises:
        UsageError: when the spec does not fit its kind.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if isinstance(spec, NetworkSpec):
        network = blank_network(spec).to_empty(device="cpu")
        initialise(network, generator)
        return network
    if spec.kind != "backbone" and spec.dimensions != 3:
        raise UsageError(
            f"a classifier of the kind {spec.kind} cannot have {spec.dimensions} dimensions",
            needed="dimensions=3",
            cure="kind='backbone' for pictures",
        )
    if bool(spec.backbone) == (spec.kind == "resnet3d"):
        own = "no backbone; its layers are `features` and `blocks`"
        raise UsageError(
            f"a classifier of the kind {spec.kind} cannot have backbone={spec.backbone!r}",
            needed=own if spec.backbone else "the name of a timm backbone",
        )
    with use_generator(generator):
        return CLASSIFIERS[spec.kind](spec)


def blank_network(spec: NetworkSpec) -> Network:
    """Build the U-Net of a spec on torch's device "meta": weights without memory.

    Raises:
        UsageError: when the spec does not fit its kind.
    """
    _check(spec)
    with torch.device("meta"):  # torch's own initialisation draws no global random number there
        return NETWORKS[spec.kind](spec)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: the same generator state gives the same weights.

    Convolutions: He's normal distribution for the leaky ReLU (fan in), bias 0. Norms: scale 1,
    shift 0 and running statistics at their start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_parameters()
        elif isinstance(module, InstanceNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _check(spec: NetworkSpec) -> None:
    """Refuse kernels, strides and features that no U-Net can have."""
    if any(size % 2 == 0 for kernel in spec.kernels for size in kernel):
        raise UsageError(
            f"the kernels {spec.kernels} are not all of odd size",
            needed="odd sizes, so that an output voxel lies on an input voxel",
            cure="kernels of 3, or of 1 along an axis that the network does not look along",
        )
    if spec.strides[0] != (1, 1, 1) or min(min(stride) for stride in spec.strides) < 1:
        raise UsageError(
            f"the strides {spec.strides} make no U-Net",
            needed="strides of at least 1, the first stage's (1, 1, 1)",
            cure="strides=((1, 1, 1), (2, 2, 2), ...), 1 along an axis that a stage does not halve",
        )
    if min(*spec.features, *spec.encoder_blocks, *spec.decoder_blocks) < 1:
        raise UsageError(
            f"a stage has no features or blocks: features {spec.features}, encoder_blocks"
            f" {spec.encoder_blocks}, decoder_blocks {spec.decoder_blocks}",
            needed="at least 1 of each in every stage",
            cure="leave out the stages that have none",
        )
    if spec.dimensions == 2 and any(size[0] != 1 for size in (*spec.kernels, *spec.strides)):
        raise UsageError(
            f"the 2D network has kernels {spec.kernels} and strides {spec.strides} beyond its"
            " plane",
            needed="1 as the first entry (Z) of each kernel and stride",
            cure="dimensions=3",
        )
