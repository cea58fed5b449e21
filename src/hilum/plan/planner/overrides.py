"""Decisions that the user fixes instead of leaving them to the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from hilum.errors import UsageError
from hilum.plan.plan import Decision

if TYPE_CHECKING:
    from hilum.plan.classification import ClassLossSpec, RegionSpec, Stage, WeightsSpec
    from hilum.plan.plan import Three
    from hilum.plan.planner.sizing import Kind
    from hilum.plan.segmentation import LossSpec

T = TypeVar("T")
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
        sizes = {
            "spacing": self.spacing,
            "patch": self.patch,
            "batch": self.batch,
            "width": self.width,
            "steps": self.steps,
        }
        for name, value in sizes.items():
            values = value if isinstance(value, tuple) else (value,)
            if any(one is not None and one <= 0 for one in values):
                raise UsageError(f"{name} {value}", needed="positive numbers")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError(
                f"overlap {self.overlap}", needed="a fraction of at least 0 and below 1, e.g. 0.5"
            )

    def refuse_foreign(self, task: str) -> None:
        """Refuse what the user fixed and the task does not have.

        Raises:
            UsageError: there is such a thing.
        """
        others = {
            name: other for other, names in OF_ONE_TASK.items() if other != task for name in names
        }
        foreign = next((name for name in others if getattr(self, name) is not None), None)
        if foreign is not None:
            raise UsageError(
                f"{foreign} for a {task}",
                needed=f"a {others[foreign]}",
                cure=f"leave it out, or task={others[foreign]!r}",
            )


OF_ONE_TASK = {
    "segmentation": ("width", "loss", "overlap"),
    "classification": ("backbone", "weights", "region", "stages", "class_loss", "balance"),
}
"""What only plans of one task have."""


def or_override(fixed: T | None, decided: Decision[T]) -> Decision[T]:
    """Return the user's decision where there is one, else the planner's."""
    return decided if fixed is None else Decision(value=fixed, because=ASKED)
