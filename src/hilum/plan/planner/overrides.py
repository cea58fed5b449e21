"""Decisions that the user fixes instead of leaving them to the planner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from hilum.errors import UsageError, find_named
from hilum.plan.classification import STAGES, RegionSpec, WeightsSpec
from hilum.plan.plan import Decision

if TYPE_CHECKING:
    from hilum.plan.classification import ClassLossSpec, Stage
    from hilum.plan.plan import Three
    from hilum.plan.segmentation import LossSpec

T = TypeVar("T")
Kind = Literal["unet", "plain_unet", "residual_unet"]
ClassifierKind = Literal["backbone", "inflated", "acs", "slices", "resnet3d"]
Precision = Decision[Literal["float32", "bfloat16"]]
ASKED = "asked for by the user"


@dataclass(frozen=True)
class Overrides:
    """Decisions that the user fixes.

    None leaves a decision to the planner, and decisions that depend on a fixed one follow it.

    Sizes and spacing are in the order (Z, Y, X) of the plan's orientation; a patch is rounded up to
    what the network can halve.

    Raises:
        UsageError: a size is not positive, or the overlap no fraction below 1.
    """

    dimensions: Literal[2, 3] | None = None
    spacing: tuple[float, float, float] | None = None
    patch: Three | None = None
    batch: int | None = None
    width: int | None = None
    network: Kind | ClassifierKind | None = None
    loss: LossSpec | None = None
    mirror_axes: tuple[int, ...] | None = None
    steps: int | None = None
    overlap: float | None = None
    backbone: str | None = None
    weights: WeightsSpec | None = None
    region: RegionSpec | None = None
    stages: tuple[Stage, ...] | None = None
    class_loss: ClassLossSpec | None = None
    balance: Literal["none", "weights", "sampling"] | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive."""
        for name in ("spacing", "patch", "batch", "width", "steps"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if any(one is not None and one <= 0 for one in values):
                raise UsageError(
                    f"{name}={value} is not positive",
                    needed="positive numbers",
                    cure=f"leave {name} out: hilum then decides it",
                )
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError(
                f"overlap={self.overlap:g} is out of range",
                needed="a fraction of at least 0 and below 1",
                cure="overlap=0.5",
            )

    def refuse_foreign(self, task: str) -> None:
        """Refuse what the user fixed and the task does not have.

        Raises:
            UsageError: there is such a thing.
        """
        for other, names in OF_ONE_TASK.items():
            foreign = [name for name in names if getattr(self, name) is not None]
            if foreign and other != task:
                raise UsageError(
                    f"{foreign[0]} was fixed, which a {task} does not have",
                    needed=f"a {other}",
                    cure=f"leave it out, or task={other!r}",
                )


OF_ONE_TASK = {
    "segmentation": ("width", "loss", "overlap"),
    "classification": ("backbone", "weights", "region", "stages", "class_loss", "balance"),
}
"""Decisions that only plans of one task have."""


def or_override(fixed: T | None, decided: Decision[T]) -> Decision[T]:
    """Return the user's decision where there is one, else the planner's."""
    return decided if fixed is None else Decision(value=fixed, because=ASKED)


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
            network=find_named("network", "network", self.kind, _KINDS)
            if self.kind is not None
            else base.network,
            stages=find_named("stages", "stages", self.stages, STAGES)
            if self.stages is not None
            else base.stages,
            region=find_named("region", "region", self.region, _REGIONS)
            if self.region is not None
            else base.region,
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
