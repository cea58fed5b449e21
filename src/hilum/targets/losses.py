"""Segmentation losses from logits, and the same loss at several resolutions.

A loss has one class here and one entry in `LOSSES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.targets.encoding import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.segmentation import LossSpec
    from hilum.volume import LabelTable

TINY = torch.finfo(torch.float32).tiny
SMOOTH = 1e-5


class Voxels(NamedTuple):
    """Logits and target in the form that losses compute with.

    Attributes:
        logits: float32 (B, K, N), N = Z * Y * X.
        classes: exclusive labels: class indices int64 (B, N), 0 where ignored; regions: None.
        truth: 0 or 1 as float32 (B, K, N) for regions, 0 where ignored; exclusive labels: empty.
        valid: which voxels count, bool (B, 1, N); None when all do.
    """

    logits: Tensor
    classes: Tensor | None
    truth: Tensor
    valid: Tensor | None

    def one_hot(self) -> Tensor:
        """Return the target as 0 and 1 in the type of the logits, (B, K, N)."""
        if self.classes is None:
            return self.truth
        return torch.zeros_like(self.logits).scatter_(1, self.classes[:, None], 1.0)


class VoxelLoss(nn.Module, ABC):
    """A loss from logits (B, K, Z, Y, X) and a target (B, 1 or R, Z, Y, X), a scalar in float32.

    The target is `encode_target`'s: class indices in one channel, or one channel of 0 and 1 for
    each region, with `IGNORE` (255) in voxels that do not count. Whatever the type of the logits,
    the loss is computed in float32.

    Args:
        spec: parameters, among them K class weights or None for equal ones.
        table: the K outputs: exclusive labels (softmax) or overlapping regions (sigmoid).

    Raises:
        UsageError: when the class weights are not one for each output.
    """

    class_weights: Tensor | None

    def __init__(self, spec: LossSpec, table: LabelTable) -> None:
        super().__init__()
        self.spec, self.outputs, self.exclusive = spec, table.outputs, table.exclusive
        given, weights = spec.class_weights, None
        if given is not None:
            if len(given) != self.outputs or min(given) < 0 or not 0 < sum(given) < float("inf"):
                raise UsageError(
                    f"class_weights={given} cannot weigh {self.outputs} outputs",
                    needed=(
                        f"{self.outputs} finite weights of at least 0, one for each output, not"
                        " all 0"
                    ),
                )
            weights = torch.tensor(given, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss; see the class.

        Raises:
            UsageError: when the shapes do not fit each other or the number of outputs.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.compute(self._voxels(logits, target))

    @abstractmethod
    def compute(self, voxels: Voxels) -> Tensor:
        """Return the scalar loss of the voxels."""

    def _voxels(self, logits: Tensor, target: Tensor) -> Voxels:
        """Flatten logits and target, and mark the voxels that count."""
        channels = 1 if self.exclusive else self.outputs
        expected = (logits.shape[0], channels, *logits.shape[2:])
        if logits.ndim != 5 or logits.shape[1] != self.outputs or tuple(target.shape) != expected:
            raise UsageError(
                f"the logits have shape {tuple(logits.shape)}, the target {tuple(target.shape)}",
                needed=f"logits (B, {self.outputs}, Z, Y, X) and a target (B, {channels}, Z, Y, X)",
            )
        flat = logits.float().flatten(2)
        target = target.flatten(2)  # (B, 1 or R, N)
        ignored = target == IGNORE
        # elsewhere the question would wait for the device
        all_count = target.device.type == "cpu" and not ignored.any()
        valid = None if all_count else ~ignored.any(dim=1, keepdim=True)
        known = target.masked_fill(ignored, 0)
        if self.exclusive:
            return Voxels(flat, known[:, 0].long(), flat.new_zeros(0), valid)
        return Voxels(flat, None, known.float(), valid)

    def voxel_mean(self, loss: Tensor, voxels: Voxels) -> Tensor:
        """Weighted mean of a loss (B, 1 or R, N) over the voxels that count; 0 where none does."""
        if self.class_weights is None and voxels.valid is None:
            return loss.mean()
        if self.class_weights is None:
            weights = torch.ones_like(loss)
        elif voxels.classes is not None:
            weights = self.class_weights[voxels.classes][:, None]  # (B, 1, N)
        else:
            weights = self.class_weights[:, None].expand_as(loss)
        if voxels.valid is not None:
            weights = weights * voxels.valid
        return (loss * weights).sum() / weights.sum().clamp_min(TINY)


class CrossEntropy(VoxelLoss):
    """Mean negative log-likelihood (natural logarithm) over the voxels that count.

    Exclusive labels: softmax cross-entropy; with class weights the weighted mean, as torch's
    `cross_entropy`. Regions: the mean over regions and voxels of the binary cross-entropy, region
    *n* weighted by its class weight; the mean divides by the sum of the weights. No voxel that
    counts: 0.
    """

    def compute(self, voxels: Voxels) -> Tensor:
        """Return the mean cross-entropy of the voxels that count."""
        if voxels.classes is not None:
            loss = functional.cross_entropy(voxels.logits, voxels.classes, reduction="none")
            return self.voxel_mean(loss[:, None], voxels)  # (B, 1, N)
        loss = functional.binary_cross_entropy_with_logits(
            voxels.logits, voxels.truth, reduction="none"
        )  # (B, R, N)
        return self.voxel_mean(loss, voxels)


class Focal(VoxelLoss):
    """Focal loss: -(1 - p)^gamma log p, p the probability of the true label.

    Lin et al., "Focal loss for dense object detection", ICCV 2017. Exclusive labels: p is the
    softmax of the true label. Regions: p is the sigmoid of a region inside it, one minus that
    outside. Weights (the alpha of the paper) and mean as in `CrossEntropy`; with gamma 0 it is the
    cross-entropy. No voxel that counts: 0.

    Raises:
        UsageError: when gamma is negative.
    """

    def __init__(self, spec: LossSpec, table: LabelTable) -> None:
        super().__init__(spec, table)
        if not spec.focal_gamma >= 0:
            raise UsageError(
                f"focal_gamma={spec.focal_gamma:g} is negative",
                needed="0 or more",
                cure="focal_gamma=2.0",
            )

    def compute(self, voxels: Voxels) -> Tensor:
        """Return the mean focal loss of the voxels that count."""
        if voxels.classes is not None:
            every = functional.log_softmax(voxels.logits, dim=1)
            log_p = every.gather(1, voxels.classes[:, None])  # (B, 1, N)
        else:
            sign = 2 * voxels.truth - 1
            log_p = functional.logsigmoid(sign * voxels.logits)  # (B, R, N)
        return self.voxel_mean(-((1 - log_p.exp()) ** self.spec.focal_gamma) * log_p, voxels)


class Tversky(VoxelLoss):
    """1 - TP / (TP + alpha FP + beta FN) of probabilities, averaged over outputs and samples.

    Salehi et al., MLMI 2017: beta above alpha punishes missed voxels more. TP, FP and FN are sums
    over the voxels that count of p g, p (1 - g) and (1 - p) g, for probability p and truth g. With
    exclusive labels the background (index 0) is left out, unless it is the only output; with
    regions every output counts. `batch_dice` sums over the whole batch before the quotient instead
    of for each sample. Class weights are those of the mean over outputs (the background's is not
    used).

    Empty case: numerator and denominator each carry 1e-5 (Dice: both doubled sums do, as MONAI's
    `DiceLoss`), so an output that is absent from the truth costs 0 where nothing is predicted
    either, and nearly 1 as soon as something is; a sample in which no voxel counts costs 0.

    Raises:
        UsageError: when alpha and beta are negative or both 0.
    """

    scale = 1.0

    def __init__(self, spec: LossSpec, table: LabelTable) -> None:
        super().__init__(spec, table)
        self.alpha, self.beta = self.false_weights()
        if min(self.alpha, self.beta) < 0 or not self.alpha + self.beta > 0:
            raise UsageError(
                f"tversky_alpha={self.alpha:g} and tversky_beta={self.beta:g} are no weights",
                needed="weights of at least 0, one of them above 0",
                cure="tversky_alpha=0.3, tversky_beta=0.7",
            )

    def false_weights(self) -> tuple[float, float]:
        """Return the weights of false positives and of false negatives."""
        return self.spec.tversky_alpha, self.spec.tversky_beta

    def compute(self, voxels: Voxels) -> Tensor:
        """Return 1 minus the index, averaged over outputs and samples by class weights."""
        first = 1 if self.exclusive and self.outputs > 1 else 0
        logits = voxels.logits
        likely = logits.softmax(dim=1) if self.exclusive else logits.sigmoid()
        probability, truth = likely[:, first:], voxels.one_hot()[:, first:]  # (B, K', N)
        if voxels.valid is not None:
            probability, truth = probability * voxels.valid, truth * voxels.valid
        axes = (0, 2) if self.spec.batch_dice else (2,)
        both = (probability * truth).sum(axes)  # (B, K') or (K',)
        predicted, true = probability.sum(axes), truth.sum(axes)
        denominator = both + self.alpha * (predicted - both) + self.beta * (true - both)
        loss = 1 - (self.scale * both + SMOOTH) / (self.scale * denominator + SMOOTH)
        if self.class_weights is None:
            return loss.mean()
        weights = self.class_weights[first:]
        return ((loss * weights).sum(dim=-1) / weights.sum().clamp_min(TINY)).mean()


class Dice(Tversky):
    """1 - 2 TP / (2 TP + FP + FN) of probabilities: Tversky with alpha = beta = 1/2.

    Milletari et al., 3DV 2016, with plain (not squared) sums in the denominator. Background, batch
    and empty case as in `Tversky`.
    """

    scale = 2.0

    def false_weights(self) -> tuple[float, float]:
        """Return one half for each, which makes Tversky's index the Dice."""
        return 0.5, 0.5


class DiceCrossEntropy(VoxelLoss):
    """The sum of `Dice` and `CrossEntropy`, nnU-Net's loss plus 1; weights are those of both."""

    def __init__(self, spec: LossSpec, table: LabelTable) -> None:
        super().__init__(spec, table)
        self.dice, self.cross_entropy = Dice(spec, table), CrossEntropy(spec, table)

    def compute(self, voxels: Voxels) -> Tensor:
        """Return the sum of both losses."""
        total: Tensor = self.dice.compute(voxels) + self.cross_entropy.compute(voxels)
        return total


LOSSES: dict[str, type[VoxelLoss]] = {
    "cross_entropy": CrossEntropy,
    "dice": Dice,
    "dice_ce": DiceCrossEntropy,
    "tversky": Tversky,
    "focal": Focal,
}


def build_loss(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    """Build the loss of a spec for the outputs of a label table.

    Raises:
        UsageError: when the class weights are not one for each output, or an option is out of its
            range.
    """
    return LOSSES[spec.kind](spec, table)


def deep_supervision_loss(loss: VoxelLoss, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return the weighted sum of a loss over the resolutions of `Network.forward_deep`.

    Weights halve with each resolution and sum to 1, as nnU-Net's. The
    target is brought to each resolution by its nearest voxel, so that labels stay labels.

    Args:
        loss: the loss of one resolution.
        outputs: logits (B, K, z, y, x), full resolution first.
        target: the target (B, 1 or R, Z, Y, X) of the full resolution.

    Returns:
        A scalar; with one output it is that output's loss.

    Raises:
        UsageError: when there is no output.
    """
    if not outputs:
        raise UsageError(
            "there are no outputs to supervise", needed="at least the full resolution's logits"
        )
    weights = [0.5**n for n in range(len(outputs))]
    terms = [
        w / sum(weights) * loss(y, _nearest(target, y.shape[2:]))
        for w, y in zip(weights, outputs, strict=True)
    ]
    return torch.stack(terms).sum()


def _nearest(target: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the target (B, C, Z, Y, X) by the voxels nearest to the new voxel centres."""
    for axis, (new, old) in enumerate(zip(size, target.shape[2:], strict=True), start=2):
        if new != old:
            centres = (torch.arange(new, device=target.device) + 0.5) * (old / new)
            target = target.index_select(axis, centres.long().clamp_max(old - 1))
    return target
