"""Convolutions of 2D networks made 3D: inflated, and axial-coronal-sagittal.

Both begin from a `nn.Conv2d` of timm's.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reach(NamedTuple):
    """Kernel size, stride and padding of a convolution along one axis.

    `padding` None pads as TensorFlow's "same" does.
    """

    kernel: int
    stride: int
    dilation: int
    padding: int | None

    def margins(self, size: int) -> tuple[int, int]:
        """Return the voxels to add before and after an axis of so many."""
        if self.padding is not None:
            return self.padding, self.padding
        reach = self.dilation * (self.kernel - 1) + 1
        both = max(0, (ceil(size / self.stride) - 1) * self.stride + reach - size)
        return both // 2, both - both // 2

    def centres(self, size: int) -> tuple[int, int]:
        """Return the kernel centre's first position and the number of positions along an axis."""
        before, after = self.margins(size)
        count = (size + before + after - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        return self.dilation * (self.kernel // 2) - before, count


def inflate(weight: Tensor, depth: int) -> Tensor:
    """Kernels (O, I, y, x) repeated over the depth and divided by it: (O, I, depth, y, x).

    A volume that repeats one slice then gives what the slice gives. Source: Carreira and Zisserman,
    "Quo vadis, action recognition?", CVPR 2017.
    """
    return (weight / depth)[:, :, None].repeat(1, 1, depth, 1, 1)


class InflatedConv(nn.Module):
    """`inflate`d kernels, as deep as they are high.

    In the plane padding is the 2D convolution's; along the depth the first and last slice are
    repeated instead, so that thin volumes are not darkened from both sides. The stride holds along
    the depth too: n slices become ceil(n / stride), never none.
    """

    def __init__(self, flat: nn.Conv2d) -> None:
        super().__init__()
        self.y, self.x = reaches(flat)
        self.z = self.y._replace(
            padding=None if self.y.padding is None else self.y.dilation * (self.y.kernel // 2)
        )
        self.conv_groups = flat.groups
        self.weight = nn.Parameter(inflate(flat.weight.detach(), self.z.kernel))
        self.bias = None if flat.bias is None else nn.Parameter(flat.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, Z, Y, X) to (B, C_out, z, y, x)."""
        before, after = self.z.margins(x.shape[2])
        if before or after:
            first, last = x[:, :, :1], x[:, :, -1:]
            edges = [one.expand(-1, -1, n, -1, -1) for one, n in ((first, before), (last, after))]
            x = torch.cat((edges[0], x, edges[1]), dim=2)
        axes = (self.z._replace(padding=0), self.y, self.x)
        return _convolve(x, self.weight, self.bias, axes, self.conv_groups)


class AcsConv(nn.Module):
    """The 2D kernels as they are: a third of the outputs each for axial, coronal, sagittal slices.

    Of a grouped convolution a third of the groups each. 1x1 kernels see voxels, which have no
    plane. Parameters are those of the 2D convolution, shapes included. Strides hold along all axes,
    and all three lay their middle on the same voxels; n voxels become what they become in 2D.
    Source: Yang et al., "Reinventing 2D convolutions for 3D images", IEEE JBHI 2021.
    """

    def __init__(self, flat: nn.Conv2d) -> None:
        super().__init__()
        self.rows, self.columns = reaches(flat)
        self.conv_groups = flat.groups
        self.weight = nn.Parameter(flat.weight.detach().clone())
        self.bias = None if flat.bias is None else nn.Parameter(flat.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, Z, Y, X) to (B, C_out, z, y, x)."""
        if self.rows.kernel == self.columns.kernel == 1:
            axes = (self.rows, self.rows, self.columns)
            return _convolve(x, self.weight[:, :, None], self.bias, axes, self.conv_groups)
        count = self.conv_groups if self.conv_groups > 1 else len(self.weight)
        outs, ins = len(self.weight) // count, self.weight.shape[1]
        parts, start = [], 0
        for thin, share in enumerate(thirds(count)):
            if share:
                own = slice(start * outs, (start + share) * outs)
                part = x if self.conv_groups == 1 else x[:, start * ins : (start + share) * ins]
                bias = None if self.bias is None else self.bias[own]
                kernels = self.weight[own].unsqueeze(2 + thin)
                parts.append(self._plane(part, kernels, bias, thin, share))
                start += share
        return torch.cat(parts, dim=1)

    def _plane(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, thin: int, share: int
    ) -> Tensor:
        """Convolve one third: kernels (o, i, *3) with size 1 along the axis `thin`."""
        # what it is for the kernels of the others along this axis
        across = self.columns if thin == 2 else self.rows
        first, count = across.centres(x.shape[2 + thin])
        x = x.narrow(2 + thin, first, (count - 1) * across.stride + 1)
        axes = [self.rows, self.columns]
        axes.insert(thin, Reach(1, across.stride, 1, 0))
        return _convolve(x, weight, bias, axes, 1 if self.conv_groups == 1 else share)


def thirds(count: int) -> tuple[int, int, int]:
    """Split so many into three parts as equal as can be, the first the largest: 8 as 3, 3, 2."""
    return (count + 2) // 3, (count + 1) // 3, count // 3


def reaches(flat: nn.Conv2d) -> tuple[Reach, Reach]:
    """Return the reach of a 2D convolution along rows and along columns.

    Raises:
        UsageError: it is not square and odd, or pads with something else than zeros.
    """
    square = len({*flat.kernel_size}) == len({*flat.stride}) == 1 and flat.kernel_size[0] % 2
    if not square or isinstance(flat.padding, str) or flat.padding_mode != "zeros":
        raise UsageError(
            f"the convolution {flat} cannot be turned to 3D",
            needed="square kernels of odd size, padded with zeros",
            cure="kind='slices', or resnet18",
        )
    same = type(flat).__name__ == "Conv2dSame"
    rows, columns = (
        Reach(flat.kernel_size[n], flat.stride[n], flat.dilation[n], None if same else padding)
        for n, padding in enumerate(flat.padding)
    )
    return rows, columns


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[Reach], groups: int
) -> Tensor:
    """Convolve in 3D, zeros around."""
    margins = [axis.margins(size) for axis, size in zip(axes, x.shape[2:], strict=True)]
    padding = [before for before, _ in margins]
    if any(before != after for before, after in margins):
        x = functional.pad(x, [n for pair in reversed(margins) for n in pair])
        padding = [0, 0, 0]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    return functional.conv3d(x, weight, bias, strides, padding, dilations, groups)
