"""The predictions of a run, as far as a report shows them: volumes, or probabilities of classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import DataError, HilumError, counted, plain_digits
from hilum.evaluation.segmentation.label_maps import find_label_maps, holds_label_maps, read_by_name
from hilum.evaluation.segmentation.references import read_stated_labels
from hilum.metrics import volume_ml
from hilum.plan.data_card import summarise_numbers
from hilum.report.html.document import Table
from hilum.report.html.values import spread
from hilum.targets.predictions import (
    CLASSES,
    called_classes,
    predictions_file,
    read_classes,
    read_predictions,
)
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.dataset.classes import ClassTable
    from hilum.inference.run_report import RunReport
    from hilum.targets.class_score import ClassScore
    from hilum.volume import LabelTable, Volume

_NOTHING = "–"


class PredictedCases(ABC):
    """Predictions of a run, case by case."""

    @property
    @abstractmethod
    def head(self) -> tuple[str, ...]:
        """Names of the columns that `cells` fills."""

    @abstractmethod
    def cells(self, case: str) -> tuple[str, ...]:
        """Return the cells of one case; dashes where nothing is known of it."""

    @abstractmethod
    def summary(self) -> tuple[Table, ...]:
        """Return tables over all cases."""

    @property
    def refused(self) -> tuple[str, ...]:
        """Cases that the model marks as unlike its training."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences above the table of the cases."""
        return ()

    @property
    @abstractmethod
    def ranked(self) -> tuple[str, ...]:
        """Cases by what is predicted, least first: by volume, by the highest probability."""


class NothingPredicted(PredictedCases):
    """A run whose predictions cannot be read here, as they are objects of DICOM alone."""

    head = ()
    ranked = ()
    notes = (
        "Volumes and probabilities are not shown: the run wrote no file that holds them here.",
    )

    def cells(self, case: str) -> tuple[str, ...]:
        """Return no cell, as nothing of the predictions is known."""
        del case
        return ()

    def summary(self) -> tuple[Table, ...]:
        """Return no table, as nothing of the predictions is known."""
        return ()


@dataclass(frozen=True)
class PredictedLabels(PredictedCases):
    """Volumes of predicted labels.

    Args:
        table: what the labels mean.
        volumes: of each case, of each label in the table's order; ml, or pixels.
        unit: of the volumes: "ml" or "pixels".
        maps: label map of each case.
        unread: cases whose label map cannot be read.
    """

    table: LabelTable
    volumes: Mapping[str, tuple[float, ...]]
    unit: str
    maps: Mapping[str, Path]
    unread: tuple[str, ...] = ()

    @property
    def head(self) -> tuple[str, ...]:
        """A column a label."""
        return tuple(f"{label.name}, {self.unit}" for label in self.table.foreground)

    def cells(self, case: str) -> tuple[str, ...]:
        """Return the volume of each label."""
        volumes = self.volumes.get(case)
        if volumes is None:
            return (_NOTHING,) * len(self.table.foreground)
        return tuple("not found" if not one else plain_digits(one) for one in volumes)

    def summary(self) -> tuple[Table, ...]:
        """Return in how many cases each label was found, and its volumes there."""
        rows = []
        for number, label in enumerate(self.table.foreground):
            found = [one[number] for one in self.volumes.values() if one[number] > 0]
            numbers = summarise_numbers(found)
            rows.append(
                (
                    label.name,
                    f"{len(found)} of {len(self.volumes)}",
                    _NOTHING if numbers is None else spread(numbers),
                )
            )
        head = ("label", "found in", f"volume where found, {self.unit}")
        return (Table("Labels over all predicted cases", head, tuple(rows)),)

    @property
    def notes(self) -> tuple[str, ...]:
        """Name the label maps that cannot be read."""
        if not self.unread:
            return ()
        return (f"The label maps of {counted(len(self.unread), 'case')} cannot be read.",)

    @property
    def ranked(self) -> tuple[str, ...]:
        """Cases by the volume of all labels together."""
        return tuple(sorted(self.volumes, key=lambda case: sum(self.volumes[case])))

    def read(self, case: str) -> Volume:
        """Read the label map (1, Z, Y, X) of a case."""
        return read_by_name(self.maps[case], self.table)


@dataclass(frozen=True)
class PredictedClassTable(PredictedCases):
    """Rows of predictions.csv of the cases of a run."""

    table: ClassTable
    rows: Mapping[str, ClassScore]

    @property
    def head(self) -> tuple[str, ...]:
        """Called class, a probability each, prediction set."""
        calibrated = any(one.calibrated is not None for one in self.rows.values())
        word = "calibrated" if calibrated else "p"
        return ("called", *(f"{word} {name}" for name in self.table.names), "may be")

    def cells(self, case: str) -> tuple[str, ...]:
        """Return what is called, the probabilities, and the set."""
        row = self.rows.get(case)
        if row is None:
            return (_NOTHING,) * (len(self.table.names) + 2)
        chosen = ", ".join(called_classes(row, self.table)) or "none"
        possible = (
            _NOTHING if row.prediction_set is None else ", ".join(row.prediction_set) or "none"
        )
        return (chosen, *(f"{p:.3f}" for p in row.best), possible)

    def summary(self) -> tuple[Table, ...]:
        """Return how often each class is called."""
        called = [called_classes(row, self.table) for row in self.rows.values()]
        rows = tuple(
            (name, f"{sum(name in one for one in called)} of {len(called)}")
            for name in self.table.names
        )
        return (Table("Classes over all predicted cases", ("class", "called in"), rows),)

    @property
    def refused(self) -> tuple[str, ...]:
        """Cases that the model marks as unlike its training."""
        return tuple(case for case, row in self.rows.items() if row.refuse)

    @property
    def ranked(self) -> tuple[str, ...]:
        """Cases by their highest probability: the least certain first."""
        return tuple(sorted(self.rows, key=lambda case: max(self.rows[case].best)))


def read_predicted(folder: Path, run: RunReport) -> PredictedCases:
    """Read the predictions of the cases of a run.

    Raises:
        DataError: a table of them is damaged.
    """
    cases = {one.case for one in run.cases if one.status != "failed"}
    if predictions_file(folder).is_file():
        table = read_classes(folder)
        rows = read_predictions(folder, table)
        if table is None:
            raise DataError(
                f"{folder} has predictions without {CLASSES}",
                needed=f"the {CLASSES} that `hilum predict` writes beside them",
                cure="predict again, or restore the file",
            )
        return PredictedClassTable(table, {row.case: row for row in rows if row.case in cases})
    labels = read_stated_labels(folder) if holds_label_maps(folder) else None
    return NothingPredicted() if labels is None else _read_labels(folder, labels[0], cases)


def _read_labels(folder: Path, table: LabelTable, cases: set[str]) -> PredictedLabels:
    """Measure the volumes in every label map of the cases."""
    maps = {case: file for case, file in find_label_maps(folder).items() if case in cases}
    volumes: dict[str, tuple[float, ...]] = {}
    unread, unscaled = [], True
    for case, file in maps.items():
        try:
            labels = read_by_name(file, table)
        except HilumError:
            unread.append(case)
            continue
        unscaled = unscaled and labels.geometry.unscaled
        volumes[case] = _measure(labels, table)
    unit = "pixels" if unscaled and volumes else "ml"
    return PredictedLabels(table, volumes, unit, maps, tuple(unread))


def _measure(labels: Volume, table: LabelTable) -> tuple[float, ...]:
    """Measure each label of a map (1, Z, Y, X) in ml; of a picture without scale in pixels."""
    array, grid = labels.array[0], labels.geometry
    boxes = label_boxes(array)
    voxels = [
        int(np.count_nonzero(array[boxes[one.id]] == one.id)) if one.id in boxes else 0
        for one in table.foreground
    ]
    return tuple(
        float(count) if grid.unscaled else volume_ml(count, grid.spacing) for count in voxels
    )
