"""The textbook's transfer learning in one line: a pretrained backbone, frozen, with a new head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hilum.errors import UsageError
from hilum.networks.rng import use_generator
from hilum.networks.timm_classifier import TimmClassifier
from hilum.networks.weights import Adoption, adopt, find_weights
from hilum.plan.plan import ClassifierSpec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Classifier(TimmClassifier):
    """A pretrained backbone and a new head.

    ::

        model = Classifier(num_classes=2, backbone="resnet50", freeze=True)
        logits = model(pictures)  # (B, 3, Y, X), normalised as ImageNet's are, to (B, 2)
        model.release(None)  # the second stage: everything learns

    Besides images (B, C, Z, Y, X), as all of hilum's networks, it takes pictures (B, C, Y, X).
    Frozen means that only the head learns and that batch norms keep their statistics in `train()`.
    Where the weights came from is `adoption`.

    Args:
        num_classes: number of logits.
        backbone: timm's name; tf_efficientnet_lite0 needs no network, its weights are installed
            with hilum.
        freeze: whether only the head learns.
        in_channels: C; the first convolution is adapted, see `hilum.networks.weights.adopt`.
        pretrained: False begins with weights drawn anew.
        weights: a file to take them from; "none" is `pretrained=False`, as on the command line;
            otherwise local cache, hub, embedded, see `find_weights`.
        hub: whether the hub may be asked.
        dropout: before the last layer.
        seed: of the head, and of the backbone where that is not pretrained.

    Raises:
        UsageError: there is no such backbone, no weights were found, or a number is impossible.
        ModelError: the file does not fit the backbone, or holds more than weights.
    """

    def __init__(  # noqa: PLR0913  (the textbook's three by position, the rest by name)
        self,
        num_classes: int,
        backbone: str = "resnet50",
        freeze: bool = True,
        *,
        in_channels: int = 3,
        pretrained: bool = True,
        weights: Path | str | None = None,
        hub: bool = True,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        if num_classes < 1 or in_channels < 1 or not 0 <= dropout < 1:
            raise UsageError(
                f"a classifier cannot have {num_classes} classes, {in_channels}"
                f" channels and dropout {dropout}",
                needed="at least 1 class and 1 channel, dropout from 0 to below 1",
            )
        spec = ClassifierSpec(
            kind="backbone",
            dimensions=2,
            in_channels=in_channels,
            out_channels=num_classes,
            backbone=backbone,
            dropout=dropout,
        )
        with use_generator(torch.Generator().manual_seed(seed)):
            super().__init__(spec)
        self.adoption: Adoption | None = None
        if weights != "none" and (pretrained or weights is not None):
            self.adoption = adopt(self, find_weights(backbone, file=weights, hub=hub))
        self.release(1 if freeze else None)

    def maps(self, image: Tensor) -> Tensor:
        """Return the last feature map, also of pictures (B, C, Y, X), which have Z = 1."""
        return super().maps(image[:, :, None] if image.ndim == 4 else image)
