"""From a spec to a loss, and the same loss at several resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hilum.errors import UsageError
from hilum.tasks.losses.cross_entropy import CrossEntropy, Focal
from hilum.tasks.losses.overlap import Dice, DiceCrossEntropy, Tversky

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from hilum.plan.segmentation import LossSpec
    from hilum.tasks.losses.base import VoxelLoss
    from hilum.volume import LabelTable


def _cross_entropy(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    return CrossEntropy(table.outputs, exclusive=table.exclusive, class_weights=spec.class_weights)


def _dice(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    return Dice(
        table.outputs,
        batch=spec.batch_dice,
        exclusive=table.exclusive,
        class_weights=spec.class_weights,
    )


def _dice_ce(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    return DiceCrossEntropy(
        table.outputs,
        batch=spec.batch_dice,
        exclusive=table.exclusive,
        class_weights=spec.class_weights,
    )


def _tversky(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    return Tversky(
        table.outputs,
        alpha=spec.tversky_alpha,
        beta=spec.tversky_beta,
        batch=spec.batch_dice,
        exclusive=table.exclusive,
        class_weights=spec.class_weights,
    )


def _focal(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    return Focal(
        table.outputs,
        gamma=spec.focal_gamma,
        exclusive=table.exclusive,
        class_weights=spec.class_weights,
    )


LOSSES: dict[str, Callable[[LossSpec, LabelTable], VoxelLoss]] = {
    "cross_entropy": _cross_entropy,
    "dice": _dice,
    "dice_ce": _dice_ce,
    "tversky": _tversky,
    "focal": _focal,
}


def build_loss(spec: LossSpec, table: LabelTable) -> VoxelLoss:
    """The loss of a spec for the outputs of a label table.

    Raises:
        UsageError: when the class weights are not one for each output, or an option is out of its
            range.
    """
    return LOSSES[spec.kind](spec, table)


def deep_supervision_loss(loss: VoxelLoss, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """The weighted sum of a loss over the resolutions of `Network.forward_deep`.

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
        raise UsageError("no outputs to supervise", needed="at least the full resolution's logits")
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
            index = (
                ((torch.arange(new, device=target.device) + 0.5) * (old / new))
                .long()
                .clamp_max(old - 1)
            )
            target = target.index_select(axis, index)
    return target
