"""The names of weights, nnU-Net's and ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from hilum.errors import ModelError
from hilum.networks import blank_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from hilum.plan.plan import NetworkSpec

_PARTS = {"0": "conv", "1": "norm"}  # of our ConvBlock
_WRAPPERS = re.compile(r"^(_orig_mod\.)?(module\.)?")
"""Prefixes that torch.compile and training on several GPUs put before names."""


def to_hilum(
    theirs: Mapping[str, Tensor], spec: NetworkSpec, *, source: str = "checkpoint"
) -> dict[str, Tensor]:
    """nnU-Net's weights under our names, float32.

    Biases of convolutions before an instance norm are left out: the norm takes them away again. So
    are heads of lower resolutions where the spec has no deep supervision.

    Raises:
        ModelError: a weight is missing, has another shape than the spec's network, or belongs to no
            part of it. Nothing of that network takes memory before.
    """
    given = {_WRAPPERS.sub("", name): tensor for name, tensor in theirs.items()}
    expected = {name: tensor.shape for name, tensor in blank_network(spec).state_dict().items()}
    known = dict(weight_names(spec))
    weights = {}
    for ours, shape in expected.items():
        tensor = given.get(known[ours])
        if tensor is None and ours.startswith("decoder.up.") and ours.endswith(".bias"):
            tensor = torch.zeros(shape)  # a network without biases
        if tensor is None or tensor.shape != shape:
            found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise ModelError(
                f"{source}: weight {known[ours]} is {found}",
                needed=f"shape {tuple(shape)}, by the architecture in plans.json",
                cure="use the plans of this checkpoint; its trainer may also build another network",
            )
        weights[ours] = tensor.detach().to(torch.float32).contiguous()
    theirs_known = set(known.values())
    for name in given:  # but those that change nothing
        stem, _, what = name.rpartition(".")
        copy = name.startswith("decoder.encoder.") or ".all_modules." in name
        idle = what == "bias" and stem.endswith(".conv") and f"{stem}.weight" in theirs_known
        other = name.startswith("decoder.seg_layers.")
        if name not in theirs_known and not (copy or idle or other):
            raise ModelError(
                f"{source}: a weight {name[:80]} that the architecture in plans.json has no"
                " place for",
                needed="a PlainConvUNet or a ResidualEncoderUNet as nnU-Net builds it",
                cure="predict with nnU-Net itself",
            )
    return weights


def weight_names(spec: NetworkSpec) -> Iterator[tuple[str, str]]:
    """Yield every weight of our network with nnU-Net's name of it."""
    for ours in blank_network(spec).state_dict():
        match ours.split("."):
            case ["stem", block, piece, what]:
                name = f"encoder.stem.convs.{block}.{_PARTS[piece]}.{what}"
            case ["encoder", stage, block, piece, what] if spec.kind == "plain_unet":
                name = f"encoder.stages.{stage}.0.convs.{block}.{_PARTS[piece]}.{what}"
            case ["encoder", stage, block, ("first" | "second") as half, piece, what]:
                number = 1 if half == "first" else 2
                name = f"encoder.stages.{stage}.blocks.{block}.conv{number}.{_PARTS[piece]}.{what}"
            case ["encoder", stage, block, "shortcut", place, piece, what]:
                name = f"encoder.stages.{stage}.blocks.{block}.skip.{place}.{_PARTS[piece]}.{what}"
            case ["decoder", "stages", stage, block, piece, what]:
                name = f"decoder.stages.{stage}.convs.{block}.{_PARTS[piece]}.{what}"
            case ["decoder", "up", stage, what]:
                name = f"decoder.transpconvs.{stage}.{what}"
            case ["decoder", "heads", level, what]:
                name = f"decoder.seg_layers.{len(spec.features) - 2 - int(level)}.{what}"
            case _:
                raise ModelError(
                    f"the {spec.kind} has a weight {ours} that nnU-Net has no name for",
                    needed="a plain_unet or a residual_unet",
                )
        yield ours, name
