"""The parts that the U-Nets are made of, alike in two and three dimensions.

Kernels and strides are given in array order with one entry an axis of the network: (y, x) or (z, y,
x).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOPE = 0.01
EPSILON = 1e-5


def layer(family: str, dimensions: int) -> type[nn.Module]:
    """Return the torch module of a family ("Conv", "BatchNorm", ...) in 2 or 3 dimensions."""
    module: type[nn.Module] = getattr(nn, f"{family}{dimensions}d")
    return module


class InstanceNorm(nn.Module):
    """Instance normalisation with learnt scale and shift, as `InstanceNorm*d(affine=True)`.

    Each channel of each sample is brought to mean 0 and variance 1 (biased, plus 1e-5), then scaled
    and shifted. The parameters stay in float32 whatever the input's type; statistics are taken in
    float32. A channel of a single voxel has no variance: it becomes the shift (torch's module
    refuses it). On the CPU, tensors in channels-last order are normalised sample by sample with the
    batch-norm kernel, which reads them in place; torch's instance norm would copy them twice.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...); type, shape and memory order are kept."""
        # torch has no types for it
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        exporting = tracing or torch.compiler.is_exporting()
        if x.device.type != "cpu" or x.is_contiguous() or exporting:
            # of an exported network it is one operation, which every runtime has
            return torch.instance_norm(
                x, self.weight, self.bias, None, None, True, 0.0, EPSILON, True
            )
        samples = [
            torch.batch_norm(s, self.weight, self.bias, None, None, True, 0.0, EPSILON, False)
            for s in torch.split(x, 1)
        ]
        return torch.cat(samples)


class AveragePool(nn.Module):
    """Mean over blocks of the size of the stride.

    The last block of an axis may be smaller, so n becomes ceil(n / stride).
    """

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, ...).

        The type is kept, the mean is taken in float32 (autocast would leave it there).
        """
        pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
        # torch refuses a larger one
        kernel = tuple(min(s, n) for s, n in zip(self.stride, x.shape[2:], strict=True))
        return pool(x.float(), kernel, self.stride, ceil_mode=True).to(x.dtype)


class ConvBlock(nn.Sequential):
    """Convolution, instance norm, leaky ReLU (the last left out where `activate` is false).

    N voxels become ceil(n / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        activate: bool = True,
    ) -> None:
        padding = tuple(k // 2 for k in kernel)
        convolution = layer("Conv", len(kernel))(
            in_channels, out_channels, tuple(kernel), tuple(stride), padding, bias=False
        )
        parts = [convolution, InstanceNorm(out_channels)]
        super().__init__(*parts, *([nn.LeakyReLU(SLOPE, inplace=True)] if activate else []))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, ResNet-D: average-pooled, then projected."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = ConvBlock(in_channels, out_channels, kernel=kernel, stride=stride)
        self.second = ConvBlock(
            out_channels, out_channels, kernel=kernel, stride=ones, activate=False
        )
        shortcut: list[nn.Module] = [AveragePool(stride)] if tuple(stride) != ones else []
        if in_channels != out_channels:
            shortcut += [
                ConvBlock(in_channels, out_channels, kernel=ones, stride=ones, activate=False)
            ]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, ...) to (B, C_out, ...) at ceil(size / stride)."""
        return functional.leaky_relu_(self.second(self.first(x)) + self.shortcut(x), SLOPE)


class DoubleConv(nn.Sequential):
    """The textbook's pair of 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, dimensions: int) -> None:
        parts: list[nn.Module] = []
        for a, b in pairwise((in_channels, out_channels, out_channels)):
            parts += [layer("Conv", dimensions)(a, b, 3, padding=1, bias=False)]
            parts += [layer("BatchNorm", dimensions)(b), nn.ReLU(inplace=True)]
        super().__init__(*parts)


def conv_stack(
    in_channels: int,
    out_channels: int,
    *,
    blocks: int,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
) -> nn.Sequential:
    """Stack so many `ConvBlock`s, the first with the stride."""
    ones = (1,) * len(kernel)
    channels = (in_channels, *(out_channels,) * blocks)
    strides = (stride or ones, *(ones,) * (blocks - 1))
    return nn.Sequential(
        *(
            ConvBlock(a, b, kernel=kernel, stride=step)
            for (a, b), step in zip(pairwise(channels), strides, strict=True)
        )
    )


def crop_like(x: Tensor, like: Tensor) -> Tensor:
    """Crop `x` to its first voxels along each axis, as many as `like` has.

    `x` is at least as large (up-sampled from a ceiling).
    """
    for axis, size in enumerate(like.shape[2:], start=2):
        if x.shape[axis] != size:
            x = x.narrow(axis, 0, size)
    return x
