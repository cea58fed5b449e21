"""Segmentation: the target and the loss of a label table.

Logits become labels in :mod:`hilum.targets.encoding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.targets.encoding import encode_target
from hilum.targets.losses import build_loss

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hilum.plan.segmentation import LossSpec
    from hilum.targets.losses import VoxelLoss
    from hilum.volume import LabelTable


class SegmentationTask:
    """Target and loss of a label table.

    Args:
        table: the labels, or regions, that are learnt.
    """

    def __init__(self, table: LabelTable) -> None:
        self.table = table

    @property
    def outputs(self) -> int:
        """Number of logits K a voxel."""
        return self.table.outputs

    def encode(self, labels: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return the target (1 or R, Z, Y, X) of label ids (Z, Y, X); see `encode_target`."""
        return encode_target(labels, self.table)

    def loss(self, spec: LossSpec) -> VoxelLoss:
        """Return the loss that a plan asks for; see `build_loss`."""
        return build_loss(spec, self.table)
