"""Options of a network in the words that users type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar, get_args

from hilum.errors import UsageError
from hilum.plan.classification import RegionSpec, WeightsSpec
from hilum.plan.planner.classification import STAGES
from hilum.plan.planner.overrides import ClassifierKind, Overrides
from hilum.plan.planner.sizing import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkOptions:
    """Options of a network and its fine-tuning; None leaves one to the planner.

    A segmentation takes only `kind`.

    Args:
        kind: backbone, inflated, acs, slices or resnet3d; of a segmentation unet, plain_unet or
            residual_unet.
        backbone: timm's name.
        weights: "pretrained", "none", or a file (.safetensors, or .pth without pickled code).
        stages: probe, head, two, top or all; see `hilum.plan.STAGES`.
        region: whole, middle, centre or mask; "mask" adds the mask as a channel.
    """

    kind: str | None = None
    backbone: str | None = None
    weights: str | None = None
    stages: str | None = None
    region: str | None = None

    def overrides(self, given: Overrides | None = None) -> Overrides | None:
        """Return the decisions that the user fixed; None where the planner decides everything.

        Args:
            given: decisions that are fixed otherwise.

        Raises:
            UsageError: a name that does not exist.
        """
        base = given or Overrides()
        weights = base.weights
        if self.weights is not None:
            named = self.weights in {"none", "pretrained"}
            weights = WeightsSpec(
                origin="random" if self.weights == "none" else "pretrained",
                file="" if named else self.weights,
            )
        made = replace(
            base,
            backbone=self.backbone or base.backbone,
            network=_one_of("network", self.kind, _KINDS) or base.network,
            stages=_one_of("stages", self.stages, STAGES) or base.stages,
            region=_one_of("region", self.region, _REGIONS) or base.region,
            weights=weights,
        )
        return None if made == Overrides() else made


_KINDS: dict[str, Kind | ClassifierKind] = {
    name: name for name in (*get_args(Kind), *get_args(ClassifierKind))
}
_REGIONS = {
    "whole": RegionSpec(kind="whole"),
    "middle": RegionSpec(kind="middle"),
    "centre": RegionSpec(kind="centre"),
    "mask": RegionSpec(kind="mask", mask_channel=True),
}


def _one_of(option: str, name: str | None, known: Mapping[str, T]) -> T | None:
    """Look a name up; None where none was given."""
    if name is None:
        return None
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise UsageError(
            f"{option} {name!r}",
            needed=", ".join(known),
            cure=f"did you mean {near[0]!r}?" if near else "",
        )
    return known[name]
