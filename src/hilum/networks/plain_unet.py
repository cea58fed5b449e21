"""The plain U-Net with strided convolutions, and the decoder that the residual one shares."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hilum.networks.blocks import conv_stack, crop_like, layer
from hilum.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.plan import NetworkSpec


def own_axes(spec: NetworkSpec, sizes: Sequence[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    """Kernels or strides with the network's own axes only: Z is dropped in 2D."""
    return [tuple(size[3 - spec.dimensions :]) for size in sizes]


class Decoder(nn.Module):
    """Transposed convolution, concatenation with the skip, convolutions.

    A head at each supervised resolution.

    The up-sampled map is cropped to the skip, so that any input size works. With deep supervision
    every resolution has a head but the two lowest (nnU-Net has one for the second lowest too, and
    gives it the weight 0).
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        kernels, strides = own_axes(spec, spec.kernels), own_axes(spec, spec.strides)
        features, blocks = spec.features, spec.decoder_blocks
        up, head = layer("ConvTranspose", spec.dimensions), layer("Conv", spec.dimensions)
        self.up = nn.ModuleList()
        self.stages = nn.ModuleList()
        for n in reversed(range(len(features) - 1)):  # lowest resolution first, as they run
            wide = features[n]
            self.up.append(up(features[n + 1], wide, strides[n + 1], strides[n + 1]))
            self.stages.append(conv_stack(2 * wide, wide, blocks=blocks[n], kernel=kernels[n]))
        supervised = max(1, len(features) - 2) if spec.deep_supervision else 1
        # full resolution first
        self.heads = nn.ModuleList(
            head(wide, spec.out_channels, 1) for wide in features[:supervised]
        )

    def forward(self, skips: Sequence[Tensor], *, deep: bool) -> tuple[Tensor, ...]:
        """Decode the encoder's maps, highest resolution first, to logits, full resolution first."""
        x, outputs = skips[-1], []
        for level, (up, stage) in enumerate(zip(self.up, self.stages, strict=True), start=2):
            skip = skips[-level]
            x = stage(torch.cat((crop_like(up(x), skip), skip), dim=1))
            index = len(skips) - level
            if index == 0 or (deep and index < len(self.heads)):
                outputs.append(self.heads[index](x))
        return tuple(reversed(outputs))


class PlainUNet(Network):
    """U-Net of convolutions with instance norm, strided down and transposed up.

    nnU-Net's plain network (Isensee et al., Nature Methods 18, 2021): kernels and strides of each
    stage come from the spec and may be anisotropic.

    Args:
        spec: widths, kernels, strides and numbers of convolutions of each stage.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec.in_channels, spec.out_channels, dimensions=spec.dimensions)
        kernels, strides = own_axes(spec, spec.kernels), own_axes(spec, spec.strides)
        widths, blocks = (spec.in_channels, *spec.features), spec.encoder_blocks
        self.encoder = nn.ModuleList(
            conv_stack(before, after, blocks=blocks[n], kernel=kernels[n], stride=strides[n])
            for n, (before, after) in enumerate(pairwise(widths))
        )
        self.decoder = Decoder(spec)

    def levels(self, image: Tensor, *, deep: bool) -> tuple[Tensor, ...]:
        """Return the logits at the full resolution, and if `deep` at those below it."""
        skips = []
        for stage in self.encoder:
            image = stage(image)
            skips.append(image)
        outputs: tuple[Tensor, ...] = self.decoder(skips, deep=deep)
        return outputs
