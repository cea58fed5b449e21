"""Prediction by a model of either task: its own options, its predictor, its pictures; no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeAlias, cast

from hilum.errors import UsageError
from hilum.io import read_labels, read_volume
from hilum.plan import ClassificationPlan, SegmentationPlan
from hilum.targets.predictions import in_file_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hilum.dataset import Case, ClassTable
    from hilum.engines.torch_engine import Precision
    from hilum.inference import (
        ClassPredictor,
        ExportedModel,
        Predictor,
        RunnableModel,
        TrainedModel,
    )
    from hilum.report import PredictedClasses
    from hilum.volume import Volume

    AnyModel = TrainedModel | ExportedModel


@dataclass(frozen=True)
class SegmentationOptions:
    """Options of predicting with a segmentation model.

    Args:
        overlap: fraction shared by neighbouring patches, 0 <= overlap < 1; the plan's if None.
        every_patch: run the patches that show only air or one constant, too; see
            `hilum.inference.empty`.
        memory: memory limit of this process, as "4GB" or a number of bytes; None: three quarters of
            what is free.
        alpha: share of patients for whom an interval of the confidence may fail; None: a tenth.
        contours: also write the inner and outer contours of the regions.
    """

    overlap: float | None = None
    every_patch: bool = False
    memory: str | int | None = None
    alpha: float | None = None
    contours: bool = False


@dataclass(frozen=True)
class ClassificationOptions:
    """Options of predicting with a classifier.

    Args:
        explain: method of the heat maps `<case>_<class>_map.nii.gz`: grad_cam, hires_cam or
            occlusion; None: no maps, but grad_cam for the cases that are drawn.
        sets_per_class: class-conditional prediction sets: coverage holds within each class.
    """

    explain: str | None = None
    sets_per_class: bool = False


@dataclass(frozen=True)
class RunOptions:
    """Options of predicting with any model.

    Args:
        engine: "torch", "openvino", "onnx" or "auto".
        precision: None: the engine's choice.
        tta: average over the mirrored images that the plan allows.
        pictures: number of cases to draw.
    """

    engine: str
    precision: str | None
    tta: bool
    pictures: int


@dataclass(frozen=True)
class SegmentationPrediction:
    """Prediction by a segmentation model: label maps, drawn as outlines."""

    plan: SegmentationPlan
    options: SegmentationOptions
    dicom_formats: ClassVar[tuple[str, ...]] = ("dicom-seg",)

    def make_predictor(self, model: AnyModel, run: RunOptions) -> Predictor:
        """Make the predictor of a model that has this plan."""
        from hilum.inference import Predictor

        return Predictor(
            cast("RunnableModel", model),  # its plan is a segmentation's
            tta=run.tta,
            engine=run.engine,
            precision=run.precision,
            memory=self.options.memory,
            overlap=self.options.overlap,
            every_patch=self.options.every_patch,
            alpha=self.options.alpha,
            contours=self.options.contours,
        )

    def write_picture(self, case: Case, files: Sequence[Path], path: Path) -> None:
        """Draw the outlines of the label map in the first file."""
        from hilum.inference import read_source
        from hilum.report import plot_overlay

        plot_overlay(read_source(case), read_labels(files[0]), self.plan.labels, path)


@dataclass(frozen=True)
class ClassificationPrediction:
    """Prediction by a classifier: probabilities, drawn with the heat maps of the classes."""

    plan: ClassificationPlan
    options: ClassificationOptions
    dicom_formats: ClassVar[tuple[str, ...]] = ("dicom-sr",)

    def make_predictor(self, model: AnyModel, run: RunOptions) -> ClassPredictor:
        """Make the predictor of a model that has this plan.

        Raises:
            UsageError: an engine other than torch.
        """
        from hilum.inference import ClassPredictor

        options = self.options
        if run.engine not in {"auto", "torch"}:
            raise UsageError(
                f"engine={run.engine!r} does not run a classifier",
                needed="engine='torch'",
                cure=f"leave out engine={run.engine!r}",
            )
        return ClassPredictor(
            cast("TrainedModel", model),  # classifiers are not exported
            tta=run.tta,
            precision=cast("Precision | None", run.precision),
            explain=options.explain or ("grad_cam" if run.pictures else None),
            most_explained=None if options.explain else run.pictures,
            sets_per_class=options.sets_per_class,
        )

    def write_picture(self, case: Case, files: Sequence[Path], path: Path) -> None:
        """Draw the heat maps among the files, a row a class."""
        from hilum.inference import read_source
        from hilum.report import plot_maps

        maps, prediction = read_maps(files, self.plan.classes)
        image = read_source(case)
        plot_maps(image, maps, self.plan.classes, path, prediction=prediction, case=case)


def read_maps(
    files: Sequence[Path], table: ClassTable
) -> tuple[list[tuple[str, Volume]], PredictedClasses | None]:
    """Read the maps of classes among the files of a case, and the prediction where it is there."""
    from hilum.report import PredictedClasses

    parts = in_file_names(table)
    maps = []
    for file in files:
        if file.name.endswith("_map.nii.gz"):
            name = (one for one, part in parts.items() if file.name.endswith(f"_{part}_map.nii.gz"))
            maps.append((next(name, ""), read_volume(file)))
    texts = [file.read_text("utf-8") for file in files if file.suffix == ".json" and file.is_file()]
    return maps, PredictedClasses.model_validate_json(texts[0]) if texts else None


AnyPrediction: TypeAlias = SegmentationPrediction | ClassificationPrediction


def prediction_of(
    model: AnyModel,
    segmentation: SegmentationOptions | None,
    classification: ClassificationOptions | None,
) -> AnyPrediction:
    """Choose the prediction of a model's task.

    Raises:
        UsageError: an option of the other task is given.
    """
    plan = model.plan
    if isinstance(plan, ClassificationPlan):
        _refuse_options(segmentation, "a classifier", needed="a segmentation model")
        return ClassificationPrediction(plan, classification or ClassificationOptions())
    _refuse_options(classification, "a segmentation", needed="a classifier")
    return SegmentationPrediction(
        cast("SegmentationPlan", plan), segmentation or SegmentationOptions()
    )


def _refuse_options(
    options: SegmentationOptions | ClassificationOptions | None, model: str, *, needed: str
) -> None:
    """Refuse options of the other task that differ from their defaults."""
    for field in () if options is None else fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            given = f"{field.name}={value!r}"
            raise UsageError(
                f"{given} does not apply to {model}", needed=needed, cure=f"leave out {given}"
            )
