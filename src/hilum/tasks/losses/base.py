"""The parts that all losses share: encoding of the target, ignored voxels, precision, weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.tasks.encoding import IGNORE

TINY = torch.finfo(torch.float32).tiny


class Voxels(NamedTuple):
    """Logits and target in the form that losses compute with.

    Attributes:
        logits: float32 (B, K, N), N = Z * Y * X.
        classes: exclusive labels: class indices int64 (B, N), 0 where ignored; regions: None.
        truth: regions: 0 or 1 as float32 (B, K, N), 0 where ignored; exclusive labels: None.
        valid: which voxels count, bool (B, 1, N); None when all do.
    """

    logits: Tensor
    classes: Tensor | None
    truth: Tensor | None
    valid: Tensor | None

    def probabilities(self) -> Tensor:
        """Softmax over the labels, or sigmoid of each region, (B, K, N)."""
        return self.logits.softmax(dim=1) if self.truth is None else self.logits.sigmoid()

    def one_hot(self) -> Tensor:
        """The target as 0 and 1 in the type of the logits, (B, K, N)."""
        if self.classes is None:
            return self.truth if self.truth is not None else self.logits.new_zeros(0)
        return torch.zeros_like(self.logits).scatter_(1, self.classes[:, None], 1.0)


class VoxelLoss(nn.Module, ABC):
    """A loss from logits (B, K, Z, Y, X) and a target (B, 1 or R, Z, Y, X), a scalar in float32.

    The target is `encode_target`'s: class indices in one channel, or one channel of 0 and 1 for
    each region, with `IGNORE` (255) in voxels that do not count. Whatever the type of the logits,
    the loss is computed in float32.

    Args:
        outputs: K, the number of logits.
        exclusive: whether the K are exclusive labels (softmax) or overlapping regions (sigmoid).
        class_weights: K weights, or None for equal ones.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        outputs: int,
        *,
        exclusive: bool = True,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if class_weights is not None and (
            len(class_weights) != outputs
            or min(class_weights) < 0
            or not 0 < sum(class_weights) < float("inf")
        ):
            raise UsageError(
                f"class_weights {class_weights}",
                needed=f"{outputs} finite weights of at least 0, one for each output, not all 0",
            )
        self.outputs, self.exclusive = outputs, exclusive
        weights = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        )
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss; see the class.

        Raises:
            UsageError: when the shapes do not fit each other or the number of outputs.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.compute(self._voxels(logits, target))

    @abstractmethod
    def compute(self, voxels: Voxels) -> Tensor:
        """The scalar loss of the voxels."""

    def _voxels(self, logits: Tensor, target: Tensor) -> Voxels:
        channels = 1 if self.exclusive else self.outputs
        expected = (logits.shape[0], channels, *logits.shape[2:])
        if logits.ndim != 5 or logits.shape[1] != self.outputs or tuple(target.shape) != expected:
            raise UsageError(
                f"logits of shape {tuple(logits.shape)} and a target of shape"
                f" {tuple(target.shape)}",
                needed=f"logits (B, {self.outputs}, Z, Y, X) and a target (B, {channels}, Z, Y, X)",
            )
        flat = logits.float().flatten(2)
        target = target.flatten(2)  # (B, 1 or R, N)
        ignored = target == IGNORE
        all_count = (
            target.device.type == "cpu" and not ignored.any()
        )  # elsewhere the question would wait for the device
        valid = None if all_count else ~ignored.any(dim=1, keepdim=True)
        known = target.masked_fill(ignored, 0)
        return (
            Voxels(flat, known[:, 0].long(), None, valid)
            if self.exclusive
            else Voxels(flat, None, known.float(), valid)
        )

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

    def output_mean(self, loss: Tensor) -> Tensor:
        """Average a loss (..., K): weighted over outputs, plainly over the rest."""
        if self.class_weights is None:
            return loss.mean()
        weights = self.class_weights[-loss.shape[-1] :]
        return ((loss * weights).sum(dim=-1) / weights.sum().clamp_min(TINY)).mean()
