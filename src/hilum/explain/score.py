"""Log-odds of a class, which maps explain, and the state of a network while it is explained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.networks import ClassifierNetwork

Networks: TypeAlias = "ClassifierNetwork | Sequence[ClassifierNetwork]"
"""A classifier, or the networks of an ensemble."""


def as_networks(network: Networks) -> tuple[ClassifierNetwork, ...]:
    """List the networks of an ensemble; a classifier is one of one.

    Raises:
        UsageError: an ensemble of none.
    """
    found = (network,) if isinstance(network, torch.nn.Module) else tuple(network)
    if not found:
        raise UsageError("there is no network to score with", needed="at least one network")
    return found


def one_image(image: Tensor, network: ClassifierNetwork) -> Tensor:
    """Make an image (C, Z, Y, X) a batch of one on the network's device, float32.

    Raises:
        UsageError: it is not (C, Z, Y, X).
    """
    if image.ndim != 4 or not image.numel():
        raise UsageError(
            f"the image has shape {tuple(image.shape)}",
            needed="one preprocessed image (C, Z, Y, X)",
        )
    device = next((parameter.device for parameter in network.parameters()), image.device)
    return (
        image.detach()[None].to(device, torch.float32).clone()
    )  # (1, C, Z, Y, X); cloned: no inference tensor any more


def log_odds(logits: Tensor, index: int, kind: ClassKind) -> Tensor:
    """Compute the explained value (B,): logits (B, K) to the log-odds of one class.

    Exclusive classes share their probability by softmax, which knows differences of logits only:
    log(p / (1 - p)) is the logit less the log-sum-exp of the others, of two classes their
    difference. The gradient of one logit alone would miss all that the others say, and shows what
    moves both alike, which changes no answer. The outputs of multi-label classes are log-odds of
    their own. Those of grades are of the steps from one to the next: a grade's are those of the
    step that reaches it, and the lowest grade's, which no step reaches, those of staying below the
    first, the negated logit. And unlike the probability, log-odds do not stand still where the
    network is sure.

    Raises:
        UsageError: there is no such class.
    """
    outputs = logits.shape[1]
    classes = outputs + (kind == "ordinal")
    if not 0 <= index < classes:
        raise UsageError(
            f"there is no class {index}: the network has {classes}", needed=f"0 to {classes - 1}"
        )
    if kind == "ordinal":
        return logits[:, index - 1].float() if index else -logits[:, 0].float()
    own = logits[:, index].float()
    if kind != "exclusive" or outputs == 1:
        return own
    others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)  # (B, K - 1)
    return own - others.float().logsumexp(dim=1)


@contextmanager
def evaluation_mode(network: ClassifierNetwork, device: torch.device) -> Iterator[None]:
    """Keep the network in evaluation mode and float32 meanwhile, with gradients possible.

    Afterwards every module is in the mode it was in, one by one: of a network that is being
    fine-tuned some are frozen. Parameters are left alone; who asks for a gradient asks for that of
    a map.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.inference_mode(mode=False), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def scale_to_one(signed: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale a map to 0..1: negative values become 0, the largest 1; zeros stay zeros."""
    positive = np.maximum(signed, 0.0)
    return np.asarray(positive / (positive.max() or 1.0), dtype=np.float32)
