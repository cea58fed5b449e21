"""The plan of a classification."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hilum.dataset.classes import (
    ClassTable,  # noqa: TC001  pydantic needs the type when the record is made
)
from hilum.plan.plan import ClassifierSpec, Decision, Plan, Record


class RegionSpec(Record):
    """The part of a case that the network receives.

    `whole`: everything, scaled to the patch with its proportions kept, centred. `mask`: a window of
    the patch's size around the middle of the case's mask. `centre`: around the point that the data
    set gives. `middle`: around the middle of the image.
    """

    kind: Literal["whole", "mask", "centre", "middle"] = "whole"
    mask_channel: bool = False
    """True if the mask (1 inside, 0 outside) is the network's last channel."""


class WeightsSpec(Record):
    """The source of the network's first weights: random, or learnt on photographs.

    Pretrained ones are those of `file`, else of the local cache, the hub, or embedded; training
    says which it took.
    """

    origin: Literal["random", "pretrained"] = "random"
    file: str = ""


class Stage(Record):
    """One part of a fine-tuning.

    Args:
        share: of the training's length; those of all stages sum to 1.
        released: how many groups of weights learn, counted from the head (1: the head alone); None:
            all of them.
        rate: learning rate of the head at its height, as a factor of the optimiser's.
        decay: factor of the rate from one group to the one before it (Howard and Ruder 2018).
        warmup: share of the stage in which the rate rises.
        probe: the head is fitted by logistic regression on features that are computed once, instead
            of by steps; the only stage.
    """

    share: float = Field(gt=0, le=1)
    released: int | None = Field(default=None, ge=1)
    rate: float = Field(default=1.0, gt=0)
    decay: float = Field(default=1.0, gt=0, le=1)
    warmup: float = Field(default=0.1, ge=0, le=1)
    probe: bool = False


_HEAD_FIRST = Stage(share=0.15, released=1, rate=3.0)
STAGES: dict[str, tuple[Stage, ...]] = {
    "probe": (Stage(share=1.0, released=1, probe=True),),
    "head": (Stage(share=1.0, released=1, rate=3.0),),
    "two": (_HEAD_FIRST, Stage(share=0.85, rate=1.0, decay=0.75, warmup=0.1)),
    "top": (_HEAD_FIRST, Stage(share=0.85, released=3, rate=1.0, decay=0.75, warmup=0.1)),
    "all": (Stage(share=1.0, rate=1.0, warmup=0.05),),
}
"""Ways to fine-tune, by the name users give: a linear probe on cached features, the head alone, the
head and then everything (or the top blocks), everything at once."""


class ClassLossSpec(Record):
    """Parameters of the classification loss: cross-entropy from logits, softened."""

    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0)
    """Parameter of the beta distribution from which pairs of cases are mixed (Zhang et al. 2018); 0
    mixes none."""


class ClassificationPlan(Plan):
    """Every decision of a classification model. `patch` is the network's input."""

    task: Decision[Literal["classification"]]
    classes: ClassTable
    region: Decision[RegionSpec]
    network: Decision[ClassifierSpec]
    weights: Decision[WeightsSpec]
    stages: Decision[tuple[Stage, ...]]
    loss: Decision[ClassLossSpec]
    balance: Decision[Literal["none", "weights", "sampling"]]
    """Way in which rare classes get their share: not at all, by weights of the loss, or by sampling
    their cases more often."""
    coverage: Decision[float]
    """Share of cases whose class the prediction sets shall hold."""

    @property
    def table(self) -> ClassTable:
        """The meaning of the outputs."""
        return self.classes

    @property
    def makes_steps(self) -> bool:
        """False for a linear probe, which is fitted at once."""
        return not any(stage.probe for stage in self.stages.value)

    @property
    def inputs(self) -> int:
        """Channels that the network sees: the images', and the mask where it is one."""
        return len(self.channels) + self.region.value.mask_channel

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse decisions that contradict each other."""
        region, stages = self.region.value, self.stages.value
        weights, origin = self.loss.value.class_weights, self.weights.value.origin
        self._check_network(in_channels=self.inputs)
        if region.mask_channel and region.kind != "mask":
            raise ValueError(f"a mask channel with region {region.kind!r}: it needs region 'mask'")
        if region.kind != "whole" and self.spacing.value is None:
            raise ValueError(f"region {region.kind!r} without a spacing: a window has a size in mm")
        shares = sum(stage.share for stage in stages)
        if abs(shares - 1) > 1e-6:
            raise ValueError(f"{len(stages)} stages whose shares sum to {shares:g}, not to 1")
        if len(stages) > 1 and any(stage.probe for stage in stages):
            raise ValueError("a probe beside other stages: it is fitted at once, without steps")
        if weights is not None and len(weights) != self.classes.outputs:
            raise ValueError(f"{len(weights)} class weights for {self.classes.outputs} outputs")
        if weights is None and self.balance.value == "weights":
            raise ValueError("balance by weights without class_weights in the loss")
        if origin == "pretrained" and not self.network.value.backbone:
            raise ValueError(
                f"pretrained weights for a {self.network.value.kind}, which has no backbone"
            )
        return self
