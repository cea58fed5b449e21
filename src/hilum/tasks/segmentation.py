"""Segmentation: what the target is, what the loss is, how logits become labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from hilum.errors import UsageError
from hilum.tasks.encoding import decode_indices, decode_regions, encode_target
from hilum.tasks.losses import build_loss

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.plan.segmentation import LossSpec
    from hilum.tasks.losses import VoxelLoss
    from hilum.volume import LabelTable


class SegmentationTask:
    """The seam between a label table and everything that learns or answers.

    Args:
        table: the labels, or regions, that are learnt.
    """

    def __init__(self, table: LabelTable) -> None:
        self.table = table

    @property
    def outputs(self) -> int:
        """Number of logits K a voxel."""
        return self.table.outputs

    def encode(self, labels: NDArray[Any]) -> NDArray[np.uint8]:
        """The target (1 or R, Z, Y, X) of label ids (Z, Y, X); see `encode_target`."""
        return encode_target(labels, self.table)

    def loss(self, spec: LossSpec) -> VoxelLoss:
        """The loss that a plan asks for; see `build_loss`."""
        return build_loss(spec, self.table)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (K, ...) of logits (K, ...), float32: softmax over labels, or the sigmoid of each region.

        Raises:
            UsageError: when the first axis is not K.
        """
        self._check(logits)
        return logits.float().softmax(dim=0) if self.table.exclusive else logits.float().sigmoid()

    def decode(self, logits: Tensor | NDArray[Any]) -> NDArray[np.int32]:
        """Label ids (...) of logits (K, ...), int32, as a numpy array.

        Exclusive labels: the label with the largest logit, the first of equal ones. Regions: those with a probability above
        one half, written in order of the table, later ones over earlier ones. The ignored id is never answered.

        Raises:
            UsageError: when the first axis is not K.
        """
        scores = torch.as_tensor(logits)
        self._check(scores)
        if self.table.exclusive:
            return decode_indices(scores.argmax(dim=0).cpu().numpy(), self.table)
        return decode_regions((scores > 0).cpu().numpy(), self.table)

    def _check(self, logits: Tensor) -> None:
        if logits.ndim < 1 or logits.shape[0] != self.outputs:
            raise UsageError(
                f"logits of shape {tuple(logits.shape)}",
                needed=f"({self.outputs}, ...), one entry for each of {[r.name for r in self.table.regions] or 'the labels'}",
                cure="one case at a time: logits[0]" if logits.ndim == 5 else "",
            )
