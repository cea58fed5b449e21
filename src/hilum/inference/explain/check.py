"""Checks of one map: a map by another method, and maps of networks with random weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from hilum.inference.explain.cam import grad_cam
from hilum.inference.explain.occlusion import occlusion
from hilum.inference.explain.sanity import agreement, sanity_check
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.inference.explain.sanity import Sanity
    from hilum.inference.explain.score import Networks

_SEED = 0  # the same map gets the same check
_DRAWS = 20
_DRAWS_OF_OCCLUSION = 10  # each of them is as slow as the map itself


class MapCheck(Record):
    """Result of the checks of a map.

    Args:
        beside: how the map it is compared with was made: by occlusion, which asks the network
            itself; of an occlusion by grad_cam.
        agreement: rank correlation of the two, -1 to 1, see `agreement`; None where one of them is
            the same everywhere.
        random_weights: the same with the map of the network after all its weights were drawn anew,
            the mean of several draws, see `sanity_check`; low is right.
        passed: whether the map has contrast and random weights give another one.
        because: what these numbers say.
    """

    beside: str
    agreement: float | None
    random_weights: float
    passed: bool
    because: str


def check_map(
    network: Networks,
    image: Tensor,
    index: int,
    found: NDArray[np.float32],
    *,
    explainer: Callable[..., NDArray[np.float32]] = grad_cam,
    kind: ClassKind = "exclusive",
) -> MapCheck:
    """Check a map (Z, Y, X) by one of another method and by maps of random weights.

    Args:
        network: a classifier, or the members of an ensemble; never changed.
        image: (C, Z, Y, X), preprocessed.
        index: of the class.
        found: the map.
        explainer: among `EXPLAINERS`, what made it.
        kind: of the classes.

    Raises:
        UsageError: what the explainer raises, or a map of another image.
    """
    beside, other = ("grad_cam", grad_cam) if explainer is occlusion else ("occlusion", occlusion)
    agreed = agreement(found, other(network, image, index, kind=kind))
    generator = torch.Generator().manual_seed(_SEED)
    draws = _DRAWS_OF_OCCLUSION if explainer is occlusion else _DRAWS
    sanity = sanity_check(
        network, image, index, generator, kind=kind, explainer=explainer, draws=draws
    )
    return MapCheck(
        beside=beside,
        agreement=None if math.isnan(agreed) else agreed,
        random_weights=sanity.mean,
        passed=sanity.passed,
        because=f"{_compared(beside, agreed)}; {_sane(sanity)}",
    )


def _compared(beside: str, agreed: float) -> str:
    if math.isnan(agreed):
        return (
            f"this map or that of {beside} is the same everywhere, so that they cannot be compared"
        )
    return (
        f"it ranks the places of the image as {beside} does with a correlation of {agreed:.2f} (1"
        " the same, 0 no relation)"
    )


def _sane(sanity: Sanity) -> str:
    if not sanity.informative:
        return "it has no contrast and explains nothing"
    still = f"correlation with maps of random weights {sanity.mean:.2f}"
    if sanity.passed:
        return f"{still}, below {sanity.bound:g}: it shows what the network has learnt"
    return (
        f"{still}, not below {sanity.bound:g}: it shows the image rather than what the network has"
        " learnt"
    )
