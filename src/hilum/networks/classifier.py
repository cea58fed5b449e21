"""The contract of every classifier: image in, logits out, with maps and features between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks.network import check_input

if TYPE_CHECKING:
    from hilum.plan.plan import ClassifierSpec

Groups = tuple[tuple[nn.Parameter, ...], ...]


class ClassifierNetwork(nn.Module, ABC):
    """A network from images (B, C, Z, Y, X) to logits (B, K').

    The way is image -> `maps` (B, F, z, y, x) -> `pooled` (B, F') -> `head` (B, K'); `forward` is
    exactly that, so that an explanation of the maps explains the answer. Images come as the plan
    normalises them, with mean 0 and standard deviation 1; what pretrained weights expect instead is
    seen to inside (see `Encoder`). A member sets `head` in its constructor.

    Args:
        spec: channels in, outputs and dimensions.
    """

    head: nn.Module

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.in_channels, self.out_channels = spec.in_channels, spec.out_channels
        self.dimensions = spec.dimensions

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, K') of an image (B, C, Z, Y, X).

        Raises:
            UsageError: as `maps`.
        """
        return self.classify(self.maps(image))

    def maps(self, image: Tensor) -> Tensor:
        """Return the last feature map (B, F, z, y, x) of an image (B, C, Z, Y, X).

        Gradients flow through it.

        Raises:
            UsageError: the image has not five axes, an empty axis or another number of channels, or
                a size that the backbone refuses.
        """
        check_input(image, self.in_channels)
        return self.encode(image)

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """`maps` of an image whose shape is right."""

    @abstractmethod
    def pooled(self, maps: Tensor) -> Tensor:
        """Return the features (B, F') of maps (B, F, z, y, x)."""

    @abstractmethod
    def groups(self) -> Groups:
        """Group every parameter from input to head: groups learn at one learning rate."""

    def features(self, image: Tensor) -> Tensor:
        """Compute the input of the head (B, F') from an image (B, C, Z, Y, X); raises as `maps`."""
        return self.pooled(self.maps(image))

    def classify(self, maps: Tensor) -> Tensor:
        """Return the logits (B, K') of maps (B, F, z, y, x)."""
        logits: Tensor = self.head(self.pooled(maps))
        return logits

    def on_image(self, weights: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Resample one value a cell of the maps, (B, z, y, x), to the image (B, Z, Y, X)."""
        return spread(weights, size)

    def release(self, n: int | None) -> None:
        """Let the last `n` groups learn and freeze the rest; None lets all learn, 0 none.

        What is frozen has `requires_grad` False and stays in evaluation mode through every later
        `train()`: its batch norms keep their statistics, its dropout does nothing.

        Raises:
            UsageError: there are not so many groups.
        """
        groups = self.groups()
        if n is not None and not 0 <= n <= len(groups):
            raise UsageError(
                f"{n} groups cannot be released",
                needed=f"0 to {len(groups)}, or None for all of this network",
            )
        frozen = 0 if n is None else len(groups) - n
        for number, group in enumerate(groups):
            for parameter in group:
                parameter.requires_grad_(number >= frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but keep frozen parts in evaluation mode.

        The network's own `training` says what was asked.
        """
        super().train(mode)
        if mode:
            for part in self.children():
                _calm(part)
        return self


def _calm(module: nn.Module) -> None:
    """Put into evaluation mode whatever has parameters of which none learns."""
    own = list(module.parameters())
    if own and not any(parameter.requires_grad for parameter in own):
        module.eval()
        return
    for part in module.children():
        _calm(part)


def spread(weights: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resample cells (B, z, y, x) to a grid (B, Z, Y, X) that they fill, trilinearly."""
    return functional.interpolate(
        weights[:, None].float(), size=size, mode="trilinear", align_corners=False
    )[:, 0]


def linear_head(features: int, spec: ClassifierSpec) -> nn.Sequential:
    """Dropout and one linear layer from (B, F') to (B, K')."""
    return nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(features, spec.out_channels))
