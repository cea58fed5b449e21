"""A slice encoder with attention pooling over the slices of one or three planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.networks.classifier import ClassifierNetwork, Groups, linear_head, spread
from hilum.networks.encoder import Encoder
from hilum.networks.timm_classifier import encode_slices, pool_slices, spread_slices

if TYPE_CHECKING:
    from hilum.plan.plan import ClassifierSpec

HIDDEN = 128


class GatedAttention(nn.Module):
    """Attention weights of slices: softmax over s of ``w . (tanh(V h_s) * sigmoid(U h_s))``.

    Source: Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning", ICML 2018,
    with their 128 hidden units.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(features, HIDDEN), nn.Linear(features, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, slices: Tensor) -> Tensor:
        """Return the weights (B, S) in float32 that sum to 1, of features (B, S, F')."""
        score = self.score(torch.tanh(self.content(slices)) * torch.sigmoid(self.gate(slices)))
        weights: Tensor = score[..., 0].float().softmax(1)
        return weights


class SliceClassifier(ClassifierNetwork):
    """Every slice through one 2D backbone, the slices' features averaged by learnt attention.

    With planes "axial" the maps (B, F, Z, y, x) lie on the image. With "three" the coronal (z by x)
    and sagittal (z by y) slices go the same way, first resized to Y by X pixels, the size of an
    axial slice; all slices share one attention. The maps are then (B, F, Z + Y + X, y, x), axial,
    coronal and sagittal ones in this order, and only `on_image` knows how they lie.

    Args:
        spec: of kind "slices".

    Raises:
        UsageError: timm has no such backbone.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self.planes = spec.planes
        self.encoder = Encoder(spec.backbone, spec.in_channels)
        self.attention = GatedAttention(self.encoder.width)
        self.head = linear_head(self.encoder.width, spec)

    def encode(self, image: Tensor) -> Tensor:
        """Compute the feature maps of every slice, of three planes one after the other along z."""
        if self.planes == "three":
            # coronal (B, C, Y, Z, X) and sagittal (B, C, X, Z, Y) slices
            planes = image.transpose(2, 3), image.permute(0, 1, 4, 2, 3)
            image = torch.cat([image, *(_resize(plane, image) for plane in planes)], dim=2)
        return encode_slices(self.encoder, image)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the attention-weighted mean (B, F') of the slices' features."""
        slices = pool_slices(self.encoder, maps)
        weights: Tensor = self.attention(slices)
        return (weights[..., None] * slices).sum(1)

    def slice_weights(self, image: Tensor) -> Tensor:
        """Compute the weight of each slice (B, S) for an image (B, C, Z, Y, X); each row sums to 1.

        S is Z, or Z + Y + X with three planes; raises as `maps`.
        """
        weights: Tensor = self.attention(pool_slices(self.encoder, self.maps(image)))
        return weights

    def on_image(self, weights: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Resample the weights of the slices to the image; those of three planes are added."""
        if self.planes == "axial":
            return spread_slices(self.encoder, weights, size)
        # each slice as the encoder saw it, at the size of an axial one: there it may have been
        # padded
        seen = [
            spread_slices(self.encoder, one, (one.shape[1], *size[1:]))
            for one in torch.split(weights, list(size), dim=1)
        ]
        axial, coronal, sagittal = seen  # (B, Z, Y, X), (B, Y, z, x), (B, X, z, y)
        turned = axial, coronal.transpose(1, 2), sagittal.permute(0, 2, 3, 1)
        return torch.stack([spread(plane, size) for plane in turned]).sum(0)

    def groups(self) -> Groups:
        """Return the backbone's groups.

        Last the attention with the head, since neither comes from pretrained weights.
        """
        return (*self.encoder.groups(), (*self.attention.parameters(), *self.head.parameters()))


def _resize(plane: Tensor, like: Tensor) -> Tensor:
    """Resize each picture of (B, C, S, h, w) bilinearly to the slices of `like`."""
    if plane.shape[3:] == like.shape[3:]:
        return plane
    size = (plane.shape[2], *like.shape[3:])  # along S nothing moves
    return functional.interpolate(
        plane.float(), size=size, mode="trilinear", align_corners=False
    ).to(plane.dtype)
