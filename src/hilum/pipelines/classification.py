"""Classification, from top to bottom: its plan, training, validation, uncertainty and report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hilum.errors import HilumError, UsageError
from hilum.plan import ClassificationPlan, make_plan
from hilum.preprocess import ClassifierStore, build_classifier_store
from hilum.targets.class_score import ClassScore
from hilum.training.augmentation import enlarged_patch
from hilum.training.baselines_report import write_out_of_fold_report
from hilum.training.benchmark_step import (
    ClassificationTrial,
    choose_precision,
    choose_precision_by_trial_step,
    step_timer,
    time_while,
)
from hilum.training.fit_uncertainty import fit_uncertainty
from hilum.training.init_network import find_pretrained
from hilum.training.steps import ClassificationStep
from hilum.training.task import Task
from hilum.training.time_plan import classification_needs
from hilum.training.validators import ClassificationValidator

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


class Classification(Task[ClassificationPlan, ClassifierStore, ClassScore]):
    """Classes of cases: one input of a pretrained network, AUROC, calibrated probabilities."""

    plan_type = ClassificationPlan

    def make_plan(
        self,
        fingerprint: Fingerprint,
        hardware: Hardware,
        device: torch.device,
        overrides: Overrides | None,
        allowed: Callable[[str], bool],
    ) -> ClassificationPlan:
        """Decide everything; the precision last, by a step of the very network.

        The network may be any of timm's, so its gradient in bfloat16 is tried.
        """
        if fingerprint.classes is None:
            raise UsageError(
                f"{fingerprint.name} has no classes",
                needed="a label for each case",
                cure="name the column of the classes: label='COLUMN'",
            )
        trial = partial(ClassificationTrial, fingerprint.classes)
        timer = time_while(allowed, step_timer(device, "float32", trial))
        made = make_plan(
            fingerprint,
            hardware,
            measure=timer if hardware.minutes else None,
            precision=choose_precision(device),
            overrides=overrides,
        )
        precision = choose_precision_by_trial_step(made, device, trial, find_pretrained(made))
        return self.check_plan(made.model_copy(update={"precision": precision}))

    def build_store(
        self,
        dataset: Dataset,
        plan: ClassificationPlan,
        folder: Path,
        cases: Sequence[str],
        progress: Callable[[int, int, str], None],
    ) -> ClassifierStore:
        """Store inputs with the margin that rotations and shifts need, the same on both sides.

        Their centre is the input of a prediction.
        """
        patch = plan.patch.value
        size = enlarged_patch(plan.augmentation.value, patch, dimensions=plan.dimensions.value)
        z, y, x = (n + (n - p) % 2 for n, p in zip(size, patch, strict=True))
        return build_classifier_store(
            dataset, plan, folder, cases, size=(z, y, x), progress=progress
        )

    def names_present(
        self, data: TrainingData[ClassificationPlan, ClassifierStore], cases: Sequence[str]
    ) -> dict[str, bool]:
        """Find for each class if at least one of the cases has it."""
        table = data.plan.classes
        rows = [table.indicators(data.dataset[case].label or "") for case in cases]
        return {name: any(row[number] for row in rows) for number, name in enumerate(table.names)}

    def validator(
        self, plan: ClassificationPlan, device: torch.device, cases: tuple[Case, ...]
    ) -> ClassificationValidator:
        """Predict the probabilities of the classes."""
        return ClassificationValidator(plan, device, cases)

    def needs(self, plan: ClassificationPlan, pace: Pace, *, trained: int, validated: int) -> Needs:
        """Validate, fit the out-of-distribution check, and write the report."""
        return classification_needs(
            pace, trained=trained, validated=validated, outputs=plan.classes.outputs
        )

    def trial_step(self, plan: ClassificationPlan, images: Tensor) -> ClassificationTrial:
        """Make a step with uniform targets."""
        return ClassificationTrial(plan.classes, images)

    def training_step(
        self, job: TrainingJob[ClassificationPlan, ClassifierStore]
    ) -> ClassificationStep:
        """Fine-tune in stages, or fit a linear probe."""
        return ClassificationStep(job)

    def fit_uncertainty(
        self, folds: TrainedFolds[ClassificationPlan, ClassifierStore, ClassScore]
    ) -> TrainedFolds[ClassificationPlan, ClassifierStore, ClassScore]:
        """Fit calibration, prediction sets and the out-of-distribution check out of fold."""
        failures: list[str] = []
        scores, assurance = fit_uncertainty(
            folds.plan,
            folds.members,
            folds.data.store,
            folds.device,
            failures.append,
            groups=folds.data.groups,
            deadline=folds.time_plan.deadline("uncertainty"),
        )
        return replace(folds, scores=scores, assurance=assurance).with_notes(*failures)

    def write_report(
        self, folds: TrainedFolds[ClassificationPlan, ClassifierStore, ClassScore]
    ) -> TrainedFolds[ClassificationPlan, ClassifierStore, ClassScore]:
        """Write predictions.csv, its evaluation, and baselines that use no image.

        An error in them does not cost the trained model.
        """
        try:
            notes = write_out_of_fold_report(
                folds.data.dataset,
                folds.plan,
                [fold for _, fold in folds.folds],
                folds.scores,
                folds.work / "out_of_fold",
                folds.data.groups,
            )
        except HilumError as error:
            return folds.with_notes(
                f"the baselines beside the network could not be made: {error.found}"
            )
        return replace(folds, notes=(*folds.notes, *notes))
