"""2D-pretrained backbones on volumes, their convolutions inflated or split over three planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.networks.classifier import ClassifierNetwork, Groups, linear_head
from hilum.networks.encoder import Encoder
from hilum.networks.inflated import AcsConv, InflatedConv
from hilum.networks.to_3d import to_3d

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from hilum.plan.plan import ClassifierSpec

CONVOLUTIONS: dict[str, Callable[[nn.Conv2d], nn.Module]] = {
    "inflated": InflatedConv,
    "acs": AcsConv,
}


class VolumeClassifier(ClassifierNetwork):
    """A timm CNN turned to 3D by `to_3d`, the mean over the volume and a linear head.

    Args:
        spec: of kind "inflated" or "acs".

    Raises:
        UsageError: timm has no such backbone, or it cannot be turned to 3D.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self.encoder = Encoder(spec.backbone, spec.in_channels)
        to_3d(self.encoder.model, CONVOLUTIONS[spec.kind], name=spec.backbone)
        self.head = linear_head(self.encoder.width, spec)

    def encode(self, image: Tensor) -> Tensor:
        """See `ClassifierNetwork.maps`."""
        return self.encoder.maps(image)

    def pooled(self, maps: Tensor) -> Tensor:
        """The mean over the volume."""
        return self.encoder.pool(maps)

    def groups(self) -> Groups:
        """The backbone's, then the head."""
        return (*self.encoder.groups(), tuple(self.head.parameters()))
