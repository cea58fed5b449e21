"""The plan of a segmentation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from hilum.plan.plan import Decision, NetworkSpec, Plan, Record
from hilum.volume import LabelTable  # noqa: TC001  pydantic needs the type when the record is made


class LossSpec(Record):
    """What `hilum.tasks.build_loss` needs."""

    kind: Literal["cross_entropy", "dice", "dice_ce", "tversky", "focal"] = "dice_ce"
    batch_dice: bool = False
    class_weights: tuple[float, ...] | None = None
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    focal_gamma: float = 2.0


class SegmentationPlan(Plan):
    """Every decision of a segmentation model."""

    task: Decision[Literal["segmentation"]]
    labels: LabelTable
    crop: Decision[Literal["none", "nonzero"]]
    network: Decision[NetworkSpec]
    loss: Decision[LossSpec]
    foreground_fraction: Decision[float]
    """Share of a batch's patches that are centred on an annotated foreground voxel."""
    overlap: Decision[float]
    """Fraction 0..1 shared by neighbouring patches at inference."""

    @property
    def answers(self) -> LabelTable:
        """What the integers of the answer mean."""
        return self.labels

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_network(in_channels=len(self.channels))
        patch = self.patch.value
        wrong = [f"{p} is not a multiple of {d}" for p, d in zip(patch, self.network.value.divisor, strict=True) if p % d]
        if wrong:
            raise ValueError(f"patch {patch}: " + "; ".join(wrong))
        return self
