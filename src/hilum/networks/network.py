"""The one contract of every network: five dimensions in, five dimensions out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hilum.errors import UsageError


class Network(nn.Module, ABC):
    """A network from images (B, C, Z, Y, X) to logits (B, K, Z, Y, X), in two or three dimensions.

    A 2D network drops Z inside only: the slices of a volume become samples of the batch and come
    back as slices, so a 2D network on a volume with Z > 1 answers slice by slice. Any size of input
    is taken; sizes that are multiples of the product of the strides are the ones at which no voxel
    is padded inside.

    Args:
        in_channels: C.
        out_channels: K.
        dimensions: 2 or 3.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dimensions: int) -> None:
        super().__init__()
        if dimensions not in (2, 3):
            raise UsageError(
                f"a network cannot have {dimensions} dimensions",
                needed="dimensions 2 or 3",
                cure="dimensions=3",
            )
        if in_channels < 1 or out_channels < 1:
            raise UsageError(
                f"a network cannot have {in_channels} channels in and {out_channels} out",
                needed="at least 1 of each",
            )
        self.in_channels, self.out_channels, self.dimensions = in_channels, out_channels, dimensions

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, K, Z, Y, X) of an image (B, C, Z, Y, X), on the image's own grid.

        Raises:
            UsageError: when the image has not five axes, an empty axis, or another number of
                channels.
        """
        return self._run(image, deep=False)[0]

    def forward_deep(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the logits at every supervised resolution, the full one first.

        One entry where there is no deep supervision.

        Entry *n* is (B, K, z, y, x) with z = ceil(Z / product of the first *n* strides), and so on.

        Raises:
            UsageError: as `forward`.
        """
        return self._run(image, deep=True)

    @abstractmethod
    def levels(self, image: Tensor, *, deep: bool) -> tuple[Tensor, ...]:
        """Return the logits of an image that has only the network's own axes, (N, C, Y, X) in 2D.

        The full resolution alone, or if `deep` every supervised one, the full one first.
        """

    def _run(self, image: Tensor, *, deep: bool) -> tuple[Tensor, ...]:
        """Run the levels; of a 2D network on each slice, with Z dropped and brought back."""
        check_input(image, self.in_channels)
        if self.dimensions == 3:
            return self.levels(image.contiguous(memory_format=torch.channels_last_3d), deep=deep)
        batch, _, slices = image.shape[:3]
        flat = image.transpose(1, 2).flatten(0, 1)  # (B*Z, C, Y, X)
        outputs = self.levels(flat.contiguous(memory_format=torch.channels_last), deep=deep)
        # (B, K, Z, y, x) each
        return tuple(out.reshape(batch, slices, *out.shape[1:]).transpose(1, 2) for out in outputs)


def check_input(image: Tensor, channels: int) -> None:
    """Refuse what is no image (B, C, Z, Y, X) of so many channels.

    Raises:
        UsageError: it has not five axes, an empty axis, or another number of channels.
    """
    if image.ndim != 5 or image.shape[1] != channels or 0 in image.shape:
        raise UsageError(
            f"the network was given an input of shape {tuple(image.shape)}",
            needed=f"(B, {channels}, Z, Y, X) with no empty axis",
            cure="a 2D picture has Z = 1: image[:, :, None]" if image.ndim == 4 else "",
        )
