"""Optimisers and the average of the weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.optim import Optimizer

    from hilum.plan.plan import OptimiserSpec


def build_optimiser(groups: Sequence[Sequence[nn.Parameter]], spec: OptimiserSpec) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD with Nesterov momentum 0.99 (nnU-Net).

    No weight decay on scales and shifts.

    Args:
        groups: weights that share a learning rate; the number of theirs is in each
            `param_groups[...]["number"]`.
        spec: kind and strength.
    """
    parts: list[dict[str, Any]] = []
    for number, group in enumerate(groups):
        decayed, free = [p for p in group if p.ndim > 1], [p for p in group if p.ndim <= 1]
        parts += [
            {"params": params, "weight_decay": decay, "number": number}
            for params, decay in ((decayed, spec.weight_decay), (free, 0.0))
            if params
        ]
    if spec.kind == "sgd":
        return torch.optim.SGD(parts, lr=spec.learning_rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(parts, lr=spec.learning_rate, betas=(0.9, 0.99), fused=True)


class WeightAverage:
    """Exponential moving average of a network's weights.

    Young averages forget faster: decay = min(decay, (1 + n) / (10 + n)).

    Args:
        network: what is averaged.
        decay: of the weights so far, a step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self._decay = decay
        self._own = [t for t in self.network.state_dict().values() if t.is_floating_point()]
        self._theirs = [t for t in network.state_dict().values() if t.is_floating_point()]

    def update(self, steps: int) -> None:
        """Take the network's present weights in; `steps` have been made before this one."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._own, self._theirs, 1.0 - decay)

    def restart(self) -> None:
        """Forget the weights so far: the average is the network as it is now."""
        for own, theirs in zip(self._own, self._theirs, strict=True):
            own.copy_(theirs)
