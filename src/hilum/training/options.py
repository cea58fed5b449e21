"""Options of a training, and the listener that is notified."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from hilum.dataset.open import Labelling
from hilum.errors import UsageError
from hilum.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hilum.dataset import Dataset
    from hilum.plan import Overrides

WORK = "training"
"""Sub-folder of the model folder that holds plan, store, checkpoints, logs and validation."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training.

    Args:
        minutes: wall-clock time of one fold, all but the look for leaks included; None leaves the
            length to the plan's steps.
        steps: optimiser steps instead; the run is then a function of plan, data and seed alone.
        fold: which split is trained (0 ...); ignored with `folds`.
        folds: cross-validation over so many folds, and a model that is the ensemble of all.
        seed: of folds, initial weights, sampling and augmentation.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        memory_gb: what may be used; by default what the machine has.
        plan: a plan, or the file of one, to follow instead of making one.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.
        labelling: what is learnt from the data set.
        overrides: what is not for the planner to decide.
        resume: go on where the folder's checkpoints are.
        checkpoint_seconds: time between checkpoints.
    """

    minutes: float | None = None
    steps: int | None = None
    fold: int = 0
    folds: int | None = None
    seed: int = 0
    device: str = "auto"
    memory_gb: float | None = None
    plan: Path | Plan | None = None
    patients: str | None = None
    labelling: Labelling = field(default_factory=Labelling)
    overrides: Overrides | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse minutes and steps together, and numbers that are too small."""
        if self.minutes is not None and self.steps is not None:
            raise UsageError(
                "minutes and steps were both given",
                needed="one of them",
                cure="minutes=20 or steps=5000",
            )
        for name, possible, needed, example in (
            ("minutes", self.minutes is None or self.minutes > 0, "a positive number", "20"),
            ("steps", self.steps is None or self.steps >= 1, "at least one step", "5000"),
            ("folds", self.folds is None or self.folds >= 2, "at least 2 folds", "5"),
            ("seed", self.seed >= 0, "a seed of at least 0", "0"),
            ("memory_gb", self.memory_gb is None or self.memory_gb > 0, "a positive number", "8"),
        ):
            if not possible:
                found = f"{name}={getattr(self, name):g} is too small"
                raise UsageError(found, needed=needed, cure=f"{name}={example}")

    def open(self, data: Path | str) -> Dataset:
        """Open a data set with the label column, classes and patients of these options.

        Raises:
            HilumError: see `hilum.open_dataset`.
        """
        return self.labelling.open(data, patients=self.patients)

    def as_json(self) -> dict[str, str | float | int | bool | None]:
        """Return every option as a plain value, for run.json."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            values |= vars(value) if isinstance(value, Labelling) else {each.name: value}
        for name in ("label", "classes"):
            if isinstance(values[name], tuple):
                values[name] = ", ".join(values[name])
        for name in ("overrides", "plan"):
            values[name] = None if values[name] is None else str(values[name])
        return values | ({"plan": "given"} if isinstance(self.plan, Plan) else {})


@dataclass(frozen=True)
class Listener:
    """Callbacks that are told what happens; the command line shows bars by them.

    Args:
        say: a sentence for the user.
        advance: advance(stage, done, total, text); total is a number of cases, or 1.0 for the
            training's own progress.
    """

    say: Callable[[str], None] = lambda _: None
    advance: Callable[[str, float, float, str], None] = lambda *_: None
