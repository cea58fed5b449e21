"""Segmentation, from top to bottom: what its plan, training, validation and tuning are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hilum.evaluation import Score
from hilum.plan import SegmentationPlan, make_plan
from hilum.preprocess import CaseStore, build_store
from hilum.training.benchmark_step import (
    SegmentationTrial,
    choose_precision,
    step_timer,
    time_while,
)
from hilum.training.fit_confidence import confidence_after_training
from hilum.training.out_of_fold import write_out_of_fold_scores
from hilum.training.steps import SegmentationStep
from hilum.training.task import Task
from hilum.training.time_plan import segmentation_needs
from hilum.training.tuning.after_training import tune_after_training
from hilum.training.validators import SegmentationValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from hilum.dataset import Case, Dataset
    from hilum.plan import Fingerprint, Hardware, Overrides
    from hilum.training.loop import TrainingJob
    from hilum.training.task import TrainedFolds, TrainingData
    from hilum.training.time_plan import Needs, Pace


class Segmentation(Task[SegmentationPlan, CaseStore, Score]):
    """Labels of voxels: patches of a U-Net, Dice, post-processing."""

    plan_type = SegmentationPlan

    def make_plan(
        self,
        fingerprint: Fingerprint,
        hardware: Hardware,
        device: torch.device,
        overrides: Overrides | None,
        allowed: Callable[[str], bool],
    ) -> SegmentationPlan:
        """Decide everything, with steps timed in the precision of the device."""
        precision = choose_precision(device)
        trial = partial(SegmentationTrial, fingerprint.labels)
        timer = time_while(allowed, step_timer(device, precision.value, trial))
        made = make_plan(
            fingerprint,
            hardware,
            measure=timer if hardware.minutes else None,
            precision=precision,
            overrides=overrides,
        )
        return self.check_plan(made)

    def build_store(
        self,
        dataset: Dataset,
        plan: SegmentationPlan,
        folder: Path,
        cases: Sequence[str],
        progress: Callable[[int, int, str], None],
    ) -> CaseStore:
        """Store whole preprocessed cases, from which patches are read."""
        return build_store(dataset, plan, folder, cases, progress=progress)

    def names_present(
        self, data: TrainingData[SegmentationPlan, CaseStore], cases: Sequence[str]
    ) -> dict[str, bool]:
        """Find for each label if at least one of the cases has it."""
        present = {label for case in cases for label in data.store.open(case).foreground}
        return {label.name: label.id in present for label in data.plan.labels.foreground}

    def validator(
        self, plan: SegmentationPlan, device: torch.device, cases: tuple[Case, ...]
    ) -> SegmentationValidator:
        """Score label maps on the cases' own grids."""
        return SegmentationValidator(plan, device, cases)

    def needs(self, plan: SegmentationPlan, pace: Pace, *, trained: int, validated: int) -> Needs:
        """Validate, and tune on the label maps."""
        del plan, trained
        return segmentation_needs(pace, validated=validated)

    def trial_step(self, plan: SegmentationPlan, images: Tensor) -> SegmentationTrial:
        """Make a step with empty label maps."""
        return SegmentationTrial(plan.labels, images)

    def training_step(self, job: TrainingJob[SegmentationPlan, CaseStore]) -> SegmentationStep:
        """Learn from patches with deep supervision."""
        return SegmentationStep(job)

    def after_training(
        self, folds: TrainedFolds[SegmentationPlan, CaseStore, Score]
    ) -> TrainedFolds[SegmentationPlan, CaseStore, Score]:
        """Learn post-processing."""
        return tune_after_training(folds)

    def fit_uncertainty(
        self, folds: TrainedFolds[SegmentationPlan, CaseStore, Score]
    ) -> TrainedFolds[SegmentationPlan, CaseStore, Score]:
        """Fit calibration, expected Dice, contours and intervals of volumes out of fold."""
        return confidence_after_training(folds)

    def write_report(
        self, folds: TrainedFolds[SegmentationPlan, CaseStore, Score]
    ) -> TrainedFolds[SegmentationPlan, CaseStore, Score]:
        """Write the scores of every case, out of fold, as an evaluation."""
        if folds.scores:
            write_out_of_fold_scores(folds)
        return folds
