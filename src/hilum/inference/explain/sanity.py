"""Sanity check of explanations: random weights must change the map (Adebayo et al. 2018)."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from hilum.errors import UsageError
from hilum.inference.explain.cam import grad_cam
from hilum.inference.explain.grid import coarsen
from hilum.inference.explain.score import as_networks
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hilum.dataset.classes import ClassKind
    from hilum.inference.explain.score import Networks
    from hilum.networks import ClassifierNetwork

# along each axis: about as sharp as the last feature maps are, so that neighbours are not counted
# many times
_CELLS = 8
_BOUND = 0.5


class Sanity(Record):
    """Result of the check that a map depends on the learnt weights.

    Args:
        correlations: rank correlation of the map with that of each network of random weights, -1 to
            1.
        bound: the mean that is still taken for change.
        informative: whether the trained network's map has any contrast; one that has none explains
            nothing.
    """

    correlations: tuple[float, ...]
    bound: float
    informative: bool

    @property
    def mean(self) -> float:
        """Of the correlations."""
        return sum(self.correlations) / len(self.correlations)

    @property
    def passed(self) -> bool:
        """The map has contrast, and random weights give another."""
        return self.informative and self.mean < self.bound


def agreement(
    map_a: NDArray[np.floating], map_b: NDArray[np.floating], *, cells: int = _CELLS
) -> float:
    """Spearman's rank correlation of two maps (Z, Y, X), averaged in `cells` cells an axis.

    Voxels between the points that a map is interpolated from say nothing new, hence the cells. Not
    a number where a map is the same everywhere: it has no ranks.

    Raises:
        UsageError: maps of two sizes.
    """
    if map_a.shape != map_b.shape:
        raise UsageError(
            f"maps of sizes {map_a.shape} and {map_b.shape}", needed="two maps of one image"
        )
    first, second = coarsen(map_a, cells).ravel(), coarsen(map_b, cells).ravel()
    if _flat(first) or _flat(second):
        return math.nan
    from scipy import stats

    return float(stats.spearmanr(first, second).statistic)


def sanity_check(
    network: Networks,
    image: Tensor,
    index: int,
    generator: torch.Generator,
    *,
    kind: ClassKind = "exclusive",
    explainer: Callable[..., NDArray[np.float32]] = grad_cam,
    draws: int = 20,
    bound: float = _BOUND,
) -> Sanity:
    """Compare a map with those of the same network after all its weights were drawn anew.

    One draw says little: half of all random heads take any bright spot for evidence. The mean of
    many does: of 200 draws of a toy whose map is right, up to 15 % of the means of five were above
    the bound, none of those of twenty.

    Args:
        network: a classifier, or the members of an ensemble; copied, never changed.
        image: (C, Z, Y, X), preprocessed.
        index: of the class.
        generator: on the CPU; draws the weights.
        kind: of the classes.
        explainer: among `EXPLAINERS`, or any function of their signature.
        draws: how often.
        bound: pass with a mean correlation below it.

    Raises:
        UsageError: what the explainer raises.
    """
    own = explainer(network, image, index, kind=kind)
    correlations = []
    for _ in range(draws):
        forgetful = tuple(randomised(member, generator) for member in as_networks(network))
        other = explainer(forgetful, image, index, kind=kind)
        found = agreement(own, other)
        correlations.append(
            0.0 if math.isnan(found) else found
        )  # where there was contrast is none: it did change
    return Sanity(
        correlations=tuple(correlations), bound=bound, informative=not _flat(coarsen(own, _CELLS))
    )


def randomised(network: ClassifierNetwork, generator: torch.Generator) -> ClassifierNetwork:
    """A copy that has learnt nothing: kernels from He's distribution, gains one, biases zero."""
    forgetful = copy.deepcopy(network)
    with torch.no_grad():
        for module in forgetful.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.copy_(_random_values(name, parameter, generator))
            _forget_statistics(module)
    return forgetful


def _random_values(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Fresh values for a parameter, on the CPU."""
    if parameter.ndim < 2:
        return torch.zeros(parameter.shape) if "bias" in name else torch.ones(parameter.shape)
    inputs = parameter[0].numel()
    return torch.randn(parameter.shape, generator=generator) * math.sqrt(2 / inputs)


def _forget_statistics(module: nn.Module) -> None:
    """Of batch normalisation."""
    # torch has no public name for all of them
    if isinstance(module, torch.nn.modules.batchnorm._NormBase):  # noqa: SLF001
        module.reset_running_stats()


def _flat(cells: NDArray[np.float64]) -> bool:
    return bool(np.ptp(cells) <= 1e-6 * np.abs(cells).max(initial=0.0))
