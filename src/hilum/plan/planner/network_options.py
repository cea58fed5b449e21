"""Options of a network in the words that users type."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, get_args

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

    def overrides(self, **more: Any) -> Overrides | None:
        """Return the decisions that the user fixed; None where the planner decides everything.

        Raises:
            UsageError: a name that does not exist.
        """
        asked: dict[str, Any] = dict(more)
        if self.kind is not None:
            asked["network"] = _one_of(
                "network",
                self.kind,
                {name: name for name in (*get_args(Kind), *get_args(ClassifierKind))},
            )
        if self.backbone is not None:
            asked["backbone"] = self.backbone
        if self.stages is not None:
            asked["stages"] = _one_of("stages", self.stages, STAGES)
        if self.weights is not None:
            random = self.weights == "none"
            file = "" if self.weights in {"none", "pretrained"} else self.weights
            asked["weights"] = WeightsSpec(origin="random" if random else "pretrained", file=file)
        if self.region is not None:
            kind = _one_of(
                "region",
                self.region,
                {name: name for name in ("whole", "middle", "centre", "mask")},
            )
            asked["region"] = RegionSpec(kind=kind, mask_channel=kind == "mask")
        return Overrides(**asked) if asked else None


def _one_of(option: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise UsageError(
            f"{option} {name!r}",
            needed=", ".join(known),
            cure=f"did you mean {near[0]!r}?" if near else "",
        )
    return known[name]
