"""Networks before their first step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from hilum.networks import Weights, adopt, build_network, find_weights
from hilum.plan import ClassificationPlan

if TYPE_CHECKING:
    from hilum.plan.plan import Plan

T = TypeVar("T", bound=nn.Module)


def new_network(plan: Plan, seed: int, weights: Weights | None = None) -> nn.Module:
    """Make the plan's network: initial weights from the seed, then pretrained ones, if any."""
    network: Any = build_network(plan.network.value, generator=torch.Generator().manual_seed(seed))
    if weights is not None:
        adopt(network, weights)
    made: nn.Module = to_channels_last(network)
    return made


def find_pretrained(plan: Plan) -> Weights | None:
    """Return the weights that the plan begins with; None where it begins with chance.

    Raises:
        UsageError: they are nowhere.
        ModelError: the file is damaged.
    """
    if not isinstance(plan, ClassificationPlan) or plan.weights.value.origin == "random":
        return None
    file = Path(plan.weights.value.file) if plan.weights.value.file else None
    return find_weights(plan.network.value.backbone, file=file)


def to_channels_last(network: T) -> T:
    """Return the network with its weights in the order in which convolutions read them fastest."""
    orders = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weights in network.parameters():
        if weights.ndim in orders:
            weights.data = weights.data.contiguous(memory_format=orders[weights.ndim])
    return network
