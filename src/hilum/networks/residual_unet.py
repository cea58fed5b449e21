"""The U-Net with a residual encoder."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

from hilum.networks.blocks import ResidualBlock, conv_stack
from hilum.networks.network import Network
from hilum.networks.plain_unet import Decoder, own_axes

if TYPE_CHECKING:
    from hilum.plan.plan import NetworkSpec


class ResidualUNet(Network):
    """U-Net whose encoder stages are residual blocks; stem and decoder are those of the plain one.

    nnU-Net's ResEnc (Isensee et al., "nnU-Net Revisited", MICCAI 2024): a convolution as stem, then
    `encoder_blocks[n]` residual blocks in stage *n*, the first with the stride.

    Args:
        spec: widths, kernels, strides and numbers of blocks of each stage.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec.in_channels, spec.out_channels, dimensions=spec.dimensions)
        kernels, strides = own_axes(spec, spec.kernels), own_axes(spec, spec.strides)
        ones = (1,) * spec.dimensions
        self.stem = conv_stack(spec.in_channels, spec.features[0], blocks=1, kernel=kernels[0])
        self.encoder = nn.ModuleList()
        for n, (before, after) in enumerate(pairwise((spec.features[0], *spec.features))):
            first = ResidualBlock(before, after, kernel=kernels[n], stride=strides[n])
            more = (
                ResidualBlock(after, after, kernel=kernels[n], stride=ones)
                for _ in range(spec.encoder_blocks[n] - 1)
            )
            self.encoder.append(nn.Sequential(first, *more))
        self.decoder = Decoder(spec)

    def levels(self, image: Tensor, *, deep: bool) -> tuple[Tensor, ...]:
        """Return the logits at the full resolution, and if `deep` at those below it."""
        x, skips = self.stem(image), []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        outputs: tuple[Tensor, ...] = self.decoder(skips, deep=deep)
        return outputs
