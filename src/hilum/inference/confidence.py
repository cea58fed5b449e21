"""Confidence of a predicted label map: the records that run.json keeps of each case."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from hilum.errors import plain_digits
from hilum.metrics.risk_control import alpha_text
from hilum.plan.plan import Record


class RegionConfidence(Record):
    """Confidence of one region of one case; None where the held-out patients do not allow it.

    Args:
        region: its name.
        volume_ml: predicted volume.
        low_ml: lower end of the interval of the volume.
        high_ml: upper end.
        inner_ml: volume within the inner contour.
        outer_ml: volume within the outer contour.
        dice: expected Dice; None also where nothing was predicted.
        least_dice: Dice that is reached in about a share 1 - alpha of patients.
    """

    region: str
    volume_ml: float = Field(ge=0)
    low_ml: float | None = Field(default=None, ge=0)
    high_ml: float | None = Field(default=None, ge=0)
    inner_ml: float | None = Field(default=None, ge=0)
    outer_ml: float | None = Field(default=None, ge=0)
    dice: float | None = Field(default=None, ge=0, le=1)
    least_dice: float | None = Field(default=None, ge=0, le=1)

    @property
    def in_words(self) -> str:
        """The volume and Dice for people, as in a segment's description."""
        words = f"{plain_digits(self.volume_ml, 3)} ml"
        if self.low_ml is not None and self.high_ml is not None:
            words += f" ({plain_digits(self.low_ml, 3)} to {plain_digits(self.high_ml, 3)})"
        return words if self.dice is None else f"{words}, expected Dice {self.dice:.2f}"


class CaseConfidence(Record):
    """Confidence of a case's label map.

    Args:
        alpha: share of new patients for whom an interval may fail; of contours the expected share
            of missed, or of false, voxels.
        smallest_alpha: the smallest that the held-out patients allow, 1 / (n + 1).
        patients: n, the held-out patients that it was learnt from.
        guarantee: in words.
        regions: in the order of the label table.
        notes: in words, what weakens the guarantee.
        impossible: in words, what the held-out cases do not allow.
    """

    alpha: float = Field(gt=0, lt=1)
    smallest_alpha: float = Field(gt=0, le=1)
    patients: int = Field(ge=0)
    guarantee: str
    regions: tuple[RegionConfidence, ...] = ()
    notes: tuple[str, ...] = ()
    impossible: tuple[str, ...] = ()

    @property
    def least_alpha(self) -> str:
        """The smallest alpha for people."""
        return alpha_text(self.smallest_alpha)

    def with_note(self, note: str) -> Self:
        """Add a sentence of what weakens the guarantee."""
        return self.model_copy(update={"notes": (*self.notes, note)})
