"""Classification: the target, the loss, and the probabilities of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from hilum.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.dataset.classes import ClassTable
    from hilum.plan.classification import ClassLossSpec


class ClassificationTask:
    """Target, loss and probabilities of a class table.

    Targets are soft (B, K') from the beginning, so that mixing two cases and smoothing a label are
    arithmetic on them. K' is the number of outputs: exclusive classes have one each (softmax);
    findings have one each (sigmoid); K grades have K - 1, output *n* asks whether the grade is
    above *n* (Frank and Hall 2001).

    Args:
        table: the classes that are learnt.
    """

    def __init__(self, table: ClassTable) -> None:
        self.table = table

    @property
    def outputs(self) -> int:
        """Number of logits K' a case."""
        return self.table.outputs

    def encode(self, label: str) -> NDArray[np.float32]:
        """Return the target (K',) of a case's label.

        Raises:
            LabelError: it names a class that the table does not know.
        """
        members = np.array(self.table.indicators(label), dtype=np.float32)
        if self.table.kind != "ordinal":
            return members
        return (np.arange(self.outputs) < int(members.argmax())).astype(np.float32)

    def loss(self, spec: ClassLossSpec) -> ClassLoss:
        """Return the loss that a plan asks for."""
        return ClassLoss(spec, exclusive=self.table.kind == "exclusive")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return one probability a class, (B, K) float64, of logits (B, K').

        Grades: the differences of the cumulative probabilities, which are made to fall first, then
        scaled to sum to 1.

        Raises:
            UsageError: the last axis is not K'.
        """
        if logits.ndim != 2 or logits.shape[1] != self.outputs:
            raise UsageError(
                f"the logits have shape {tuple(logits.shape)}", needed=f"(B, {self.outputs})"
            )
        logits = logits.double()
        if self.table.kind == "exclusive":
            return logits.softmax(dim=1)
        likely = logits.sigmoid()
        if self.table.kind == "multilabel":
            return likely
        above = torch.cummin(likely, dim=1).values  # P(grade > n) cannot rise with n
        ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1)


class ClassLoss(nn.Module):
    """Cross-entropy from logits (B, K') against soft targets (B, K'), the mean over the batch.

    Label smoothing moves a share of each target to all classes alike (Szegedy et al. 2016; for
    sigmoids towards one half). Class weights multiply each class's part.

    Args:
        spec: weights and smoothing.
        exclusive: softmax over the outputs, else one sigmoid each (their losses summed over the
            outputs, divided by K').
    """

    def __init__(self, spec: ClassLossSpec, *, exclusive: bool) -> None:
        super().__init__()
        self.exclusive, self.smoothing = exclusive, spec.label_smoothing
        given = spec.class_weights
        weights = None if given is None else torch.tensor(given, dtype=torch.float32)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a number."""
        logits, targets = logits.float(), targets.float()
        share = 1 / logits.shape[1] if self.exclusive else 0.5
        targets = targets * (1 - self.smoothing) + self.smoothing * share
        if self.exclusive:
            parts = -targets * logits.log_softmax(dim=1)
        else:
            parts = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            parts = parts / logits.shape[1]
        if isinstance(self.weights, Tensor):
            parts = parts * self.weights
        return parts.sum(dim=1).mean()
