"""A model folder as its report reads it: texts and tables, no weights and no torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hilum.dataset.classes import ClassTable
from hilum.errors import DataError
from hilum.evaluation import load_evaluation
from hilum.inference.assurance import NUMBERS, Assurance
from hilum.inference.export_manifest import EXPORT, ExportManifest
from hilum.inference.manifest import CARD, MANIFEST, Manifest, read_model_folder
from hilum.inference.run_report import RunReport
from hilum.inference.voxel_calibration import CONFIDENCE, VoxelCalibration
from hilum.plan.data_card import DATA_CARD, DataCard
from hilum.report.html.values import kind_of_image
from hilum.targets.run_file import RUN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.evaluation.by_task import AnyEvaluation
    from hilum.inference.manifest import ModelMetrics
    from hilum.plan import Plan

_OUT_OF_FOLD = "training/out_of_fold"


@dataclass(frozen=True)
class CurveRow:
    """One line of a training's log: loss after so many steps, and a score where it was measured."""

    step: int
    loss: float
    score: float | None


@dataclass(frozen=True)
class FoldCases:
    """The cases of one fold, by number.

    Args:
        name: "fold 0".
        train: cases that were learnt from.
        validation: cases that were held out.
        left_out: cases of `train` that the time did not allow to learn from.
        unscored: cases of `validation` that the time did not allow to score; None where the model
            does not say.
        steps: optimiser steps.
    """

    name: str
    train: int
    validation: int
    left_out: int
    unscored: int | None
    steps: int


@dataclass(frozen=True)
class ModelFolder:
    """Contents of a model folder, weights aside.

    Args:
        path: the folder.
        manifest: model.json, or export.json.
        plan: every decision.
        metrics: how good it is.
        model_card: MODEL_CARD.md.
        data_card: None of models that were made without one.
        assurance: of a classifier.
        confidence: of a segmentation.
        run: run.json of the training; None where it is not there.
        curves: log of each fold; empty where `training/` was not given along.
        evaluation: of the held-out cases; None where `training/` was not given along.
    """

    path: Path
    manifest: Manifest
    plan: Plan
    metrics: ModelMetrics
    model_card: str
    data_card: DataCard | None
    assurance: Assurance | None
    confidence: VoxelCalibration | None
    run: RunReport | None
    curves: Mapping[str, tuple[CurveRow, ...]]
    evaluation: AnyEvaluation | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder that `hilum train`, `tune`, `import` or `export` wrote.

        Raises:
            ModelError: a file is missing, altered, or of a newer version.
            DataError: a file beside the model itself is damaged.
        """
        kind = ExportManifest if (folder / EXPORT).is_file() else Manifest
        manifest, plan, metrics = read_model_folder(kind, folder)
        held_out = folder / _OUT_OF_FOLD
        return cls(
            path=folder,
            manifest=manifest,
            plan=plan,
            metrics=metrics,
            model_card=(folder / CARD).read_text(encoding="utf-8"),
            data_card=DataCard.load(folder / DATA_CARD) if DATA_CARD in manifest.files else None,
            assurance=Assurance.load(folder) if NUMBERS in manifest.files else None,
            confidence=VoxelCalibration.load(folder) if CONFIDENCE in manifest.files else None,
            run=read_run(folder / RUN) if (folder / RUN).is_file() else None,
            curves=_read_curves(folder),
            evaluation=load_evaluation(held_out) if (held_out / "summary.json").is_file() else None,
        )

    @property
    def folds(self) -> tuple[FoldCases, ...]:
        """Cases of each fold that was trained; () where the model does not say."""
        details = {} if self.manifest.facts is None else self.manifest.facts.details
        return tuple(
            FoldCases(
                name=name,
                train=_length(fold.get("train")),
                validation=_length(fold.get("validation")),
                left_out=_length(fold.get("left_out")),
                unscored=unscored if isinstance(unscored := fold.get("unscored"), int) else None,
                steps=steps if isinstance(steps := fold.get("steps"), int) else 0,
            )
            for name, fold in details.items()
            if isinstance(fold, dict) and "train" in fold
        )

    @property
    def classifies(self) -> bool:
        """True if it predicts classes of cases, False if labels of voxels."""
        return isinstance(self.plan.table, ClassTable)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels or classes that it predicts."""
        table = self.plan.table
        if isinstance(table, ClassTable):
            return table.names
        return tuple(label.name for label in table.foreground)

    @property
    def manifest_name(self) -> str:
        """Name of the file that seals the folder."""
        return self.manifest.file_name

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of image that it learnt from, each once, as "CT"; () where none is known."""
        ranges = self.plan.seen
        kinds = () if ranges is None else (one.kind for one in ranges.channels)
        return tuple(dict.fromkeys(kind_of_image(one) for one in kinds if one != "unknown"))


def is_model_folder(folder: Path) -> bool:
    """Return True if a folder holds model.json or export.json."""
    return any((folder / name).is_file() for name in (MANIFEST, EXPORT))


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def read_run(path: Path) -> RunReport:
    """Read a run.json.

    Raises:
        DataError: it is damaged, or of another version.
    """
    try:
        return RunReport.load(path)
    except ValueError as error:
        raise DataError(
            f"{path} is damaged or of another version: {error}",
            needed="a run.json as this version of hilum writes it",
            cure="predict or train again, or remove the file",
        ) from error


def _read_curves(folder: Path) -> dict[str, tuple[CurveRow, ...]]:
    """Read log.csv of each fold that has one.

    Raises:
        DataError: one is damaged.
    """
    curves = {}
    for path in sorted(folder.glob("training/fold_*/log.csv")):
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = tuple(
                    CurveRow(
                        int(row["step"]),
                        float(row["loss"]),
                        float(row["score"]) if row["score"] else None,
                    )
                    for row in csv.DictReader(stream)
                )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is damaged: {error}",
                needed="a log with the columns step, loss and score",
                cure="remove the file: the report then has no learning curve of this fold",
            ) from error
        if rows:
            curves[path.parent.name.replace("_", " ")] = rows
    return curves
