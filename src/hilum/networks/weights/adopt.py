"""A network takes over pretrained weights: any number of channels, two or three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.errors import ModelError, UsageError
from hilum.networks.encoder import Encoder
from hilum.networks.inflated import inflate

if TYPE_CHECKING:
    from torch import Tensor

    from hilum.networks.classifier import ClassifierNetwork
    from hilum.networks.weights.find import Weights


@dataclass(frozen=True)
class Adoption:
    """Record of the weights that a network took over, for the user and the model's record."""

    backbone: str
    origin: str
    sha256: str
    channels: tuple[int, int]
    """Channels of the first convolution: in the weights, in the network."""
    inflated: bool
    """True if 2D kernels became 3D ones."""
    ignored: tuple[str, ...]
    """Names in the weights that the backbone has not: the head, and what else was in the file."""

    @property
    def sentence(self) -> str:
        """The weights that were taken, and what was done to them, in one line."""
        theirs, ours = self.channels
        parts = [f"{self.backbone} starts from {self.origin}"]
        if theirs != ours:
            parts.append(
                f"its first convolution summed over {theirs} channels and divided among {ours}"
            )
        if self.inflated:
            parts.append("kernels repeated over the depth")
        return "; ".join(parts)


def adopt(network: ClassifierNetwork, weights: Weights) -> Adoption:
    """Put pretrained weights into a network's backbone; its head stays as it is.

    The first convolution of weights for I channels, kernels W_i, becomes one for C by ``W'_c = (W_1
    + ... + W_I) / C`` where C is not I. A picture whose C channels are all alike then gives exactly
    what the grey photograph gave: the size of the responses that the next layers are used to is
    kept. (Channels that have nothing to do with each other give sqrt(C) less; those of one anatomy
    are mostly alike, as those of photographs are.) C = I keeps the kernels as they are.

    A name may have anything before it ("module.", "backbone."), as long as all of the backbone has
    the same.

    Raises:
        UsageError: the network has no backbone.
        ModelError: weights of the backbone are missing or have another shape.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise UsageError(
            f"a {type(network).__name__} has no backbone to take pretrained weights",
            needed="a classifier with a backbone",
            cure="weights='none'",
        )
    known: dict[str, Tensor] = encoder.model.state_dict()
    wanted = {name: v for name, v in known.items() if not name.endswith("num_batches_tracked")}
    # what stands before the backbone's names, judged by the first one
    name = next(iter(wanted))
    ending = [one for one in weights.state if one == name or one.endswith(f".{name}")]
    prefix = min(ending, key=len).removesuffix(name) if ending else ""
    given = {
        name.removeprefix(prefix): value
        for name, value in weights.state.items()
        if name.startswith(prefix)
    }
    missing = [name for name in wanted if name not in given]
    if missing:
        named = [name for name in weights.state if not name.endswith("num_batches_tracked")]
        raise ModelError(
            f"the weights for {weights.backbone} lack {_few(missing)}; they have {_few(named)}",
            needed="all of the backbone; only the head may be missing",
            cure=f"weights of {weights.backbone}, or the backbone that these are of",
        )
    # the first convolution: as timm says, else the first with spatial axes
    stated = f"{getattr(encoder.model, 'pretrained_cfg', {}).get('first_conv')}.weight"
    spatial = [name for name, value in wanted.items() if value.ndim in (4, 5)]
    first = stated if stated in wanted else spatial[0]
    channels = (given[first].shape[1] if given[first].ndim > 1 else 0, wanted[first].shape[1])
    fitted = {}
    for name, value in wanted.items():
        fitted[name] = given[name]
        if name == first and given[name].ndim in (4, 5):
            fitted[name] = share_over_channels(given[name], value.shape[1])
        if given[name].ndim == 4 and value.ndim == 5:
            fitted[name] = inflate(fitted[name], value.shape[2])
    odd = [
        f"{name} {tuple(given[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if fitted[name].shape != value.shape
    ]
    if odd:
        raise ModelError(
            f"these weights are of another shape than the backbone's: {_few(odd)}",
            needed=f"weights of {weights.backbone}",
            cure="give the weights of that backbone, or their backbone's name",
        )
    encoder.model.load_state_dict(fitted, strict=False)
    encoder.expect(weights.mean, weights.std)
    ignored = tuple(
        name
        for name in weights.state
        if name.removeprefix(prefix) not in known or not name.startswith(prefix)
    )
    inflated = any(given[name].ndim != value.ndim for name, value in wanted.items())
    return Adoption(weights.backbone, weights.origin, weights.sha256, channels, inflated, ignored)


def share_over_channels(kernels: Tensor, channels: int) -> Tensor:
    """Adapt kernels (O, I, ...) to C channels: their sum over I, divided among C; see `adopt`."""
    if kernels.shape[1] == channels:
        return kernels
    shared = kernels.sum(1, keepdim=True) / channels
    return shared.expand(-1, channels, *(-1,) * (kernels.ndim - 2))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
