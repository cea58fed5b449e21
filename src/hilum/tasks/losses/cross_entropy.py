"""Cross-entropy, and the focal loss that grew out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from hilum.errors import UsageError
from hilum.tasks.losses.base import VoxelLoss

if TYPE_CHECKING:
    from torch import Tensor

    from hilum.tasks.losses.base import Voxels


class CrossEntropy(VoxelLoss):
    """Mean negative log-likelihood (natural logarithm) over the voxels that count.

    Exclusive labels: softmax cross-entropy; with class weights the weighted mean, as torch's
    `cross_entropy`. Regions: the mean over regions and voxels of the binary cross-entropy, region
    *n* weighted by its class weight; the mean divides by the sum of the weights. No voxel that
    counts: 0.
    """

    def compute(self, voxels: Voxels) -> Tensor:
        """See `VoxelLoss.compute`."""
        if voxels.classes is not None:
            loss = functional.cross_entropy(voxels.logits, voxels.classes, reduction="none")[
                :, None
            ]  # (B, 1, N)
        else:
            loss = functional.binary_cross_entropy_with_logits(
                voxels.logits, voxels.one_hot(), reduction="none"
            )  # (B, R, N)
        return self.voxel_mean(loss, voxels)


class Focal(VoxelLoss):
    """Focal loss: -(1 - p)^gamma log p, p the probability of the true label.

    Lin et al., "Focal loss for dense object detection", ICCV 2017. Exclusive labels: p is the
    softmax of the true label. Regions: p is the sigmoid of a region inside it, one minus that
    outside. Weights and mean as in `CrossEntropy`; with gamma 0 it is the cross-entropy. No voxel
    that counts: 0.

    Args:
        outputs: K.
        gamma: 0 or more.
        exclusive: labels or regions.
        class_weights: K weights, the alpha of the paper.

    Raises:
        UsageError: when gamma is negative.
    """

    def __init__(
        self,
        outputs: int,
        *,
        gamma: float = 2.0,
        exclusive: bool = True,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(outputs, exclusive=exclusive, class_weights=class_weights)
        if not gamma >= 0:
            raise UsageError(f"focal_gamma {gamma}", needed="0 or more", cure="focal_gamma=2.0")
        self.gamma = gamma

    def compute(self, voxels: Voxels) -> Tensor:
        """See `VoxelLoss.compute`."""
        if voxels.classes is not None:
            log_p = functional.log_softmax(voxels.logits, dim=1).gather(
                1, voxels.classes[:, None]
            )  # (B, 1, N)
        else:
            sign = 2 * voxels.one_hot() - 1
            log_p = functional.logsigmoid(sign * voxels.logits)  # (B, R, N)
        return self.voxel_mean(-((1 - log_p.exp()) ** self.gamma) * log_p, voxels)
