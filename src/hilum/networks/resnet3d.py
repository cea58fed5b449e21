"""A plain 3D residual network, trained from scratch."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks.blocks import AveragePool
from hilum.networks.classifier import ClassifierNetwork, Groups, linear_head

if TYPE_CHECKING:
    from hilum.plan.plan import ClassifierSpec

GROUPS = 8


class ResNet3d(ClassifierNetwork):
    """A 3x3x3 stem with stride 2, then stages of `blocks[n]` blocks of `features[n]` channels.

    Each stage after the first begins with stride 2. He et al. 2016 with the shortcut of ResNet-D
    (average pooling, then a projection). Norms are batch norms, or group norms of up to 8 groups
    (Wu and He 2018) for batches too small for statistics; an instance norm would take away each
    channel's mean, which is what the pooling at the end is to see. No axis is ever emptied: n
    becomes ceil(n / stride).

    Args:
        spec: of kind "resnet3d"; one entry of `features` and `blocks` a stage.

    Raises:
        UsageError: they are empty, unequal in number, or below 1.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        features, blocks = spec.features, spec.blocks
        if not features or len(features) != len(blocks) or min(*features, *blocks) < 1:
            raise UsageError(
                f"a resnet3d cannot have features {features} and blocks {blocks}",
                needed="one entry a stage in both, each at least 1",
                cure="features=(32, 64, 128, 256), blocks=(1, 1, 1, 1)",
            )
        self.stem = nn.Sequential(
            nn.Conv3d(spec.in_channels, features[0], 3, stride=2, padding=1, bias=False),
            _norm(spec, features[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise((features[0], *features))):
            first = BasicBlock(spec, before, after, stride=2 if number else 1)
            more = (BasicBlock(spec, after, after, stride=1) for _ in range(blocks[number] - 1))
            self.stages.append(nn.Sequential(first, *more))
        self.head = linear_head(features[-1], spec)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def encode(self, image: Tensor) -> Tensor:
        """Compute the feature maps (B, F, z, y, x) of the stem and the stages."""
        x: Tensor = self.stem(image.contiguous(memory_format=torch.channels_last_3d))
        for stage in self.stages:
            x = stage(x)
        return x

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the mean over the volume."""
        return maps.mean((2, 3, 4))

    def groups(self) -> Groups:
        """Stem, each stage, head."""
        return tuple(tuple(part.parameters()) for part in (self.stem, *self.stages, self.head))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut."""

    def __init__(
        self, spec: ClassifierSpec, in_channels: int, out_channels: int, *, stride: int
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            _norm(spec, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            _norm(spec, out_channels),
        )
        shortcut: list[nn.Module] = [AveragePool((stride,) * 3)] if stride > 1 else []
        if in_channels != out_channels:
            project = nn.Conv3d(in_channels, out_channels, 1, bias=False)
            shortcut += [project, _norm(spec, out_channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, Z, Y, X) to (B, C_out, ...) at ceil(size / stride)."""
        return functional.relu(self.body(x) + self.shortcut(x))


def _norm(spec: ClassifierSpec, channels: int) -> nn.Module:
    if spec.norm == "batch":
        return nn.BatchNorm3d(channels)
    return nn.GroupNorm(gcd(GROUPS, channels), channels)
