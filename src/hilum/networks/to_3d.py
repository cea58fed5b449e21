"""Turn a 2D convolutional network of timm to 3D; module names stay, so that weights fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_AS_THEY_ARE = (
    "Sequential ModuleList ModuleDict Identity Dropout DropPath Flatten Linear"
    " ReLU ReLU6 LeakyReLU SiLU Swish GELU Sigmoid Hardswish Hardsigmoid HardSwish HardSigmoid"
    " ResNet BasicBlock Bottleneck"
    " EfficientNet ConvBnAct DepthwiseSeparableConv InvertedResidual EdgeResidual"
    " DenseNet DenseBlock DenseLayer DenseTransition"
    " RegNet RegStage ConvNormAct ClassifierHead"
    " SelectAdaptivePool2d AdaptiveAvgPool2d"  # at the end only; `Encoder.pool` does it in 3D
)
"""Modules whose own code works in three dimensions, or is not run."""


class BatchNormAct(nn.BatchNorm3d):
    """timm's batch norm with an activation behind it, in 3D."""

    def __init__(self, flat: Any) -> None:
        super().__init__(flat.num_features, flat.eps, flat.momentum, flat.weight is not None)
        self.drop, self.act = flat.drop, flat.act

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate (B, C, Z, Y, X)."""
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


class SqueezeExcite(nn.Sequential):
    """Channels weighted by what their means over the whole volume say.

    The children are those of the 2D module.
    """

    @classmethod
    def of(cls, flat: nn.Module) -> Self:
        """Take over the children of the 2D module."""
        return cls(OrderedDict(flat.named_children()))

    def forward(self, x: Tensor) -> Tensor:
        """Rescale the channels of (B, C, Z, Y, X)."""
        gate = x.mean((2, 3, 4), keepdim=True)
        for module in self:
            gate = module(gate)
        return x * gate


class Pool(nn.Module):
    """A 2D pooling in the plane, then the same along the depth.

    There the last block may be smaller, n is ceil(n / stride).
    """

    def __init__(self, flat: nn.MaxPool2d | nn.AvgPool2d) -> None:
        super().__init__()
        self.flat = flat
        sizes = flat.kernel_size, flat.stride, flat.padding
        self.kernel, self.stride, self.padding = (
            size if isinstance(size, int) else size[0] for size in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, Z, Y, X) to (B, C, z, y, x)."""
        batch, _, slices = x.shape[:3]
        plane = self.flat(x.transpose(1, 2).flatten(0, 1))  # (B*Z, C, y, x)
        plane = plane.reshape(batch, slices, *plane.shape[1:]).transpose(1, 2)
        kernel = (min(self.kernel, slices + 2 * self.padding), 1, 1)
        stride, padding = (self.stride, 1, 1), (min(self.padding, kernel[0] // 2), 0, 0)
        ceil_mode = not self.padding
        if isinstance(self.flat, nn.MaxPool2d):
            return functional.max_pool3d(plane, kernel, stride, padding, ceil_mode=ceil_mode)
        return functional.avg_pool3d(
            plane, kernel, stride, padding, ceil_mode=ceil_mode, count_include_pad=False
        )


def _batch_norm(flat: nn.BatchNorm2d) -> nn.Module:
    """Return the 3D batch norm with the state of a 2D one."""
    scaled = flat.weight is not None
    deep: nn.Module = nn.BatchNorm3d(flat.num_features, flat.eps, flat.momentum, scaled)
    if type(flat) is not nn.BatchNorm2d:
        deep = BatchNormAct(flat)
    deep.load_state_dict(flat.state_dict())
    return deep


def to_3d(model: nn.Module, convolution: Callable[[nn.Conv2d], nn.Module], *, name: str) -> None:
    """Turn a 2D network to 3D where it is; each convolution becomes what `convolution` makes of it.

    ResNets, RegNets, EfficientNets, MobileNets V2 and DenseNets can be turned. Batch norms,
    squeeze-and-excitation and pooling become those over volumes. Pooling and strided convolutions
    go along the depth with the stride of the plane, n slices becoming ceil(n / stride): volumes of
    any depth are taken.

    Raises:
        UsageError: the network has modules of which it is not known how they would be in 3D; they
            are named.
    """
    replace: dict[str, Callable[[Any], nn.Module]] = {
        "Conv2d": convolution,
        "Conv2dSame": convolution,
        "BatchNorm2d": _batch_norm,
        "BatchNormAct2d": _batch_norm,
        "MaxPool2d": Pool,
        "AvgPool2d": Pool,
        "SqueezeExcite": SqueezeExcite.of,
        "SEModule": SqueezeExcite.of,
    }
    kinds = {type(module).__name__ for module in model.modules()}
    unknown = sorted(kinds - {*_AS_THEY_ARE.split()} - {*replace})
    if unknown:
        raise UsageError(
            f"backbone={name!r} cannot be turned to 3D: it has {', '.join(unknown)}",
            needed=(
                "for 3D a ResNet, RegNet, EfficientNet, MobileNetV2 or DenseNet of plain"
                " convolutions"
            ),
            cure=(
                "kind='slices', which takes any backbone slice by slice, or a backbone such as"
                " resnet18, tf_efficientnet_lite0"
            ),
        )
    _replace_children(model, replace)


def _replace_children(module: nn.Module, replace: dict[str, Callable[[Any], nn.Module]]) -> None:
    """Replace the layers of a module, at any depth, by the name of their type."""
    for name, child in list(module.named_children()):
        _replace_children(child, replace)
        make = replace.get(type(child).__name__)
        if make is not None:
            setattr(module, name, make(child))
