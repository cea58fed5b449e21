"""A timm backbone and a linear head: for pictures, slices of volumes, or turned to 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.networks.classifier import ClassifierNetwork, Groups, linear_head, spread
from hilum.networks.encoder import Encoder
from hilum.networks.inflated import AcsConv, InflatedConv
from hilum.networks.to_3d import to_3d

if TYPE_CHECKING:
    from torch import Tensor

    from hilum.plan.plan import ClassifierSpec


class TimmClassifier(ClassifierNetwork):
    """Any timm backbone by name.

    Slices of a volume are pictures of the batch; their logits are averaged.

    The average is taken of the features, which is the same because the head is linear.

    Args:
        spec: of kind "backbone".

    Raises:
        UsageError: timm has no such backbone.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self.encoder = Encoder(spec.backbone, spec.in_channels)
        self.head = linear_head(self.encoder.width, spec)

    def encode(self, image: Tensor) -> Tensor:
        """Compute the feature maps of every slice by itself, (B, F, Z, y, x)."""
        return encode_slices(self.encoder, image)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the mean over the slices of what the backbone's own pooling gives."""
        return pool_slices(self.encoder, maps).mean(1)

    def on_image(self, weights: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Resample weights slice by slice to the image; what lies on padding is cut off."""
        return spread_slices(self.encoder, weights, size)

    def groups(self) -> Groups:
        """Return the backbone's groups, then the head."""
        return (*self.encoder.groups(), tuple(self.head.parameters()))


class VolumeClassifier(TimmClassifier):
    """A timm CNN turned to 3D by `to_3d`, the mean over the volume and a linear head.

    Args:
        spec: of kind "inflated" or "acs".

    Raises:
        UsageError: timm has no such backbone, or it cannot be turned to 3D.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        convolution = InflatedConv if spec.kind == "inflated" else AcsConv
        to_3d(self.encoder.model, convolution, name=spec.backbone)

    def encode(self, image: Tensor) -> Tensor:
        """Compute the feature maps (B, F, z, y, x) of the volume in 3D."""
        return self.encoder.maps(image)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the mean over the volume."""
        return self.encoder.pool(maps)

    def on_image(self, weights: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Resample weights (B, z, y, x) of the maps to the image (B, Z, Y, X)."""
        return spread(weights, size)


def encode_slices(encoder: Encoder, image: Tensor) -> Tensor:
    """Compute the maps (B, F, Z, y, x) of the slices of (B, C, Z, Y, X)."""
    flat = image.transpose(1, 2).flatten(0, 1)  # (B*Z, C, Y, X)
    maps = encoder.maps(flat)
    return maps.reshape(len(image), -1, *maps.shape[1:]).transpose(1, 2)


def spread_slices(encoder: Encoder, weights: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Spread numbers (B, S, y, x), one a cell of the maps, over slices of a size (S, Y, X)."""
    rows, columns = encoder.covered(size[1:], (weights.shape[2], weights.shape[3]))
    return spread(weights, (size[0], rows, columns))[:, :, : size[1], : size[2]]


def pool_slices(encoder: Encoder, maps: Tensor) -> Tensor:
    """Pool maps (B, F, Z, y, x) to features (B, Z, F') of each slice."""
    features = encoder.pool(maps.transpose(1, 2).flatten(0, 1))  # (B*Z, F')
    return features.reshape(len(maps), -1, features.shape[1])
