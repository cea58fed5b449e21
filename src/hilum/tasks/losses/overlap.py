"""Soft Dice, Tversky, and Dice with cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import UsageError
from hilum.tasks.losses.base import VoxelLoss
from hilum.tasks.losses.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hilum.tasks.losses.base import Voxels

SMOOTH = 1e-5


class Tversky(VoxelLoss):
    """1 - TP / (TP + alpha FP + beta FN) of probabilities, averaged over outputs and samples.

    Salehi et al., MLMI 2017: beta above alpha punishes missed voxels more. TP, FP and FN are sums
    over the voxels that count of p g, p (1 - g) and (1 - p) g, for probability p and truth g. With
    exclusive labels the background (index 0) is left out, unless it is the only output; with
    regions every output counts. `batch` sums over the whole batch before the quotient (batch Dice)
    instead of for each sample.

    Empty case: numerator and denominator each carry 1e-5 (Dice: both doubled sums do, as MONAI's
    `DiceLoss`), so an output that is absent from the truth costs 0 where nothing is predicted
    either, and nearly 1 as soon as something is; a sample in which no voxel counts costs 0.

    Args:
        outputs: K.
        alpha: weight of false positives, 0 or more.
        beta: weight of false negatives, 0 or more; not both 0.
        batch: one quotient over the batch instead of one a sample.
        exclusive: labels or regions.
        class_weights: K weights of the mean over outputs (the background's is not used).

    Raises:
        UsageError: when alpha and beta are negative or both 0.
    """

    scale = 1.0

    def __init__(
        self,
        outputs: int,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        batch: bool = False,
        exclusive: bool = True,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(outputs, exclusive=exclusive, class_weights=class_weights)
        if min(alpha, beta) < 0 or not alpha + beta > 0:
            raise UsageError(
                f"tversky_alpha {alpha} and tversky_beta {beta}",
                needed="weights of at least 0, one of them above 0",
                cure="tversky_alpha=0.3, tversky_beta=0.7",
            )
        self.alpha, self.beta, self.batch = alpha, beta, batch
        self.first = 1 if exclusive and outputs > 1 else 0

    def compute(self, voxels: Voxels) -> Tensor:
        """See `VoxelLoss.compute`."""
        probability, truth = (
            voxels.probabilities()[:, self.first :],
            voxels.one_hot()[:, self.first :],
        )  # (B, K', N)
        if voxels.valid is not None:
            probability = probability * voxels.valid
            truth = truth * voxels.valid
        axes = (0, 2) if self.batch else (2,)
        both, predicted, true = (
            (probability * truth).sum(axes),
            probability.sum(axes),
            truth.sum(axes),
        )  # (B, K') or (K',)
        denominator = both + self.alpha * (predicted - both) + self.beta * (true - both)
        quotient = (self.scale * both + SMOOTH) / (self.scale * denominator + SMOOTH)
        return self.output_mean(1 - quotient)


class Dice(Tversky):
    """1 - 2 TP / (2 TP + FP + FN) of probabilities: Tversky with alpha = beta = 1/2.

    Milletari et al., 3DV 2016, with plain (not squared) sums in the denominator. Background, batch
    and empty case as in `Tversky`.

    Args:
        outputs: K.
        batch: one quotient over the batch instead of one a sample.
        exclusive: labels or regions.
        class_weights: K weights of the mean over outputs.
    """

    scale = 2.0

    def __init__(
        self,
        outputs: int,
        *,
        batch: bool = False,
        exclusive: bool = True,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(
            outputs,
            alpha=0.5,
            beta=0.5,
            batch=batch,
            exclusive=exclusive,
            class_weights=class_weights,
        )


class DiceCrossEntropy(VoxelLoss):
    """The sum of `Dice` and `CrossEntropy`, nnU-Net's loss plus 1.

    Args:
        outputs: K.
        batch: batch Dice instead of one a sample.
        exclusive: labels or regions.
        class_weights: K weights, used in both terms.
    """

    def __init__(
        self,
        outputs: int,
        *,
        batch: bool = False,
        exclusive: bool = True,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(outputs, exclusive=exclusive, class_weights=class_weights)
        self.dice = Dice(outputs, batch=batch, exclusive=exclusive, class_weights=class_weights)
        self.cross_entropy = CrossEntropy(outputs, exclusive=exclusive, class_weights=class_weights)

    def compute(self, voxels: Voxels) -> Tensor:
        """See `VoxelLoss.compute`."""
        total: torch.Tensor = self.dice.compute(voxels) + self.cross_entropy.compute(voxels)
        return total
