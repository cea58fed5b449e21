"""The U-Net of the textbook."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks.blocks import DoubleConv, crop_like, layer
from hilum.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

FEATURES = (64, 128, 256, 512, 1024)


class UNet(Network):
    """Ronneberger's textbook U-Net: double convolutions, max-pool, up-sampling, skips.

    Down: `DoubleConv`, 2x2 max-pool. Up: bilinear (3D: trilinear) up-sampling by 2, concatenation
    with the skip of the same resolution, `DoubleConv`; the decoder never pools. At the end a 1x1
    convolution to the K logits. Odd sizes: pooling rounds up, and the up-sampled map is cropped to
    its skip, so that voxels stay aligned and any input size works.

    Args:
        in_channels: C.
        out_channels: K.
        dimensions: 2 or 3.
        features: width of each resolution, the highest first.

    Raises:
        UsageError: when there are fewer than two widths or one below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dimensions: int = 2,
        features: Sequence[int] = FEATURES,
    ) -> None:
        super().__init__(in_channels, out_channels, dimensions=dimensions)
        if len(features) < 2 or min(features) < 1:
            raise UsageError(
                f"U-Net features {tuple(features)} make no U-Net",
                needed="two or more widths, each at least 1",
            )
        self.down = nn.ModuleList(
            DoubleConv(a, b, dimensions=dimensions) for a, b in pairwise((in_channels, *features))
        )
        self.pool = layer("MaxPool", dimensions)(2, ceil_mode=True)
        rising = tuple(reversed(features))
        self.up = nn.ModuleList(
            DoubleConv(a + b, b, dimensions=dimensions) for a, b in pairwise(rising)
        )
        self.head = layer("Conv", dimensions)(features[0], out_channels, 1)

    # the textbook supervises one resolution
    def levels(self, image: Tensor, *, deep: bool) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Return the logits at the full resolution only: the textbook has no deep supervision."""
        skips = []
        for n, stage in enumerate(self.down):
            image = stage(self.pool(image) if n else image)
            skips.append(image)
        mode = "trilinear" if self.dimensions == 3 else "bilinear"
        for stage in self.up:
            low, skip = skips.pop(), skips[-1]
            low = functional.interpolate(low, scale_factor=2, mode=mode, align_corners=False)
            skips[-1] = stage(torch.cat((crop_like(low, skip), skip), dim=1))
        return (self.head(skips[0]),)
