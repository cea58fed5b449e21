"""The contract of a task: what a training does differently for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from hilum.errors import UsageError
from hilum.plan import Plan
from hilum.preprocess import CaseStore, ClassifierStore
from hilum.training.validators.validator import CaseScore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import torch
    from torch import Tensor

    from hilum.dataset import Case, Dataset, Fold
    from hilum.inference import Assurance
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.plan import Fingerprint, Hardware, Overrides
    from hilum.training.benchmark_step import TrialStep
    from hilum.training.fold import TrainedFold
    from hilum.training.loop import TrainingJob
    from hilum.training.options import Listener, TrainOptions
    from hilum.training.steps import TrainingStep
    from hilum.training.time_plan import Needs, Pace, TimePlan
    from hilum.training.validators import Validator

P = TypeVar("P", bound=Plan)
S = TypeVar("S", bound=CaseScore)
StoreT = TypeVar("StoreT", bound=CaseStore | ClassifierStore)


@dataclass(frozen=True)
class TrainingData(Generic[P, StoreT]):
    """The data of a training: cases, plan and preprocessed store.

    Args:
        dataset: with the channels and names of the plan.
        plan: every decision.
        store: preprocessed training cases.
        groups: group of each case (see `fold_groups`): its patient, joined with near-duplicates.
    """

    dataset: Dataset
    plan: P
    store: StoreT
    groups: Mapping[str, str]


@dataclass(frozen=True)
class TrainedFolds(Generic[P, StoreT, S]):
    """Trained folds, and what was learnt from their out-of-fold scores so far.

    Args:
        data: of the training.
        plan: every decision, with what was tuned after the training.
        folds: number and split of each trained fold.
        members: the trained folds.
        scores: out of fold, of each case those of the first fold that validates on it.
        work: `training/` in the model folder.
        device: where the networks are.
        options: of the training.
        listener: is notified.
        time_plan: of the last fold, with the deadlines of what follows it.
        assurance: calibration, prediction sets and out-of-distribution check of a classifier.
        confidence: calibrated voxels, intervals of volumes and expected Dice of a segmentation.
        notes: sentences for the model card.
    """

    data: TrainingData[P, StoreT]
    plan: P
    folds: tuple[tuple[int, Fold], ...]
    members: tuple[TrainedFold[S], ...]
    work: Path
    device: torch.device
    options: TrainOptions
    listener: Listener
    time_plan: TimePlan
    scores: tuple[S, ...] = ()
    assurance: Assurance | None = None
    confidence: VoxelCalibration | None = None
    notes: tuple[str, ...] = ()

    def with_notes(self, *notes: str) -> Self:
        """Add sentences for the model card, and say them."""
        for note in notes:
            self.listener.say(note)
        return replace(self, notes=(*self.notes, *notes))


class Task(ABC, Generic[P, StoreT, S]):
    """A task: its plan, store, training step, validation, and the stages after the folds.

    `training.run` calls the methods in the order in which they stand here.
    """

    @property
    @abstractmethod
    def plan_type(self) -> type[P]:
        """The plan of this task."""

    @abstractmethod
    def make_plan(
        self,
        fingerprint: Fingerprint,
        hardware: Hardware,
        device: torch.device,
        overrides: Overrides | None,
        allowed: Callable[[str], bool],
    ) -> P:
        """Decide everything that makes a model, with step times measured on the device.

        `allowed`: see `time_while`.
        """

    def check_plan(self, plan: Plan) -> P:
        """Return a given plan as one of this task.

        Raises:
            UsageError: it is of another task.
        """
        if isinstance(plan, self.plan_type):
            return plan
        raise UsageError(
            f"{plan.name} is a plan of {plan.task.value}, which the data set is not opened for",
            needed="one task on both sides",
            cure="give a plan that was made for this data set, or none",
        )

    @abstractmethod
    def build_store(
        self,
        dataset: Dataset,
        plan: P,
        folder: Path,
        cases: Sequence[str],
        progress: Callable[[int, int, str], None],
    ) -> StoreT:
        """Preprocess the training cases into a folder."""

    @abstractmethod
    def names_present(self, data: TrainingData[P, StoreT], cases: Sequence[str]) -> dict[str, bool]:
        """Find for each label or class if at least one of the cases has it."""

    @abstractmethod
    def validator(self, plan: P, device: torch.device, cases: tuple[Case, ...]) -> Validator[S]:
        """Make the validator of a fold's validation cases."""

    @abstractmethod
    def needs(self, plan: P, pace: Pace, *, trained: int, validated: int) -> Needs:
        """Estimate the seconds of the stages after the steps, for so many cases of a fold."""

    @abstractmethod
    def trial_step(self, plan: P, images: Tensor) -> TrialStep:
        """Make a training step with made-up targets, whose duration is measured."""

    @abstractmethod
    def training_step(self, job: TrainingJob[P, StoreT]) -> TrainingStep:
        """Make the task's part of every step of the training loop."""

    def after_training(self, folds: TrainedFolds[P, StoreT, S]) -> TrainedFolds[P, StoreT, S]:
        """Tune what follows the network on the validation predictions; by default nothing."""
        return folds

    def fit_uncertainty(self, folds: TrainedFolds[P, StoreT, S]) -> TrainedFolds[P, StoreT, S]:
        """Fit calibration and its like on the out-of-fold scores; by default nothing."""
        return folds

    def write_report(self, folds: TrainedFolds[P, StoreT, S]) -> TrainedFolds[P, StoreT, S]:
        """Write an evaluation of the out-of-fold scores; by default none."""
        return folds


AnyTask: TypeAlias = Task[Any, Any, Any]
"""A task that is chosen while the program runs."""
