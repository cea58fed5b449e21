"""A classification in a few figures, each with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset import (
    ClassTable,  # noqa: TC001  (pydantic reads the annotation when the class is made)
)
from hilum.errors import UsageError
from hilum.evaluation.classification.figures import ClassFigure, Intervals
from hilum.evaluation.classification.measures import CALIBRATION, measures, set_measures
from hilum.evaluation.classification.rows import ClassRows, calibration_changed
from hilum.evaluation.records import Record
from hilum.metrics import confusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.tasks.class_score import ClassScore


class ClassSummary(Record):
    """Every figure of a classification.

    Args:
        classes: what the classes are.
        level: coverage that the intervals aim at.
        resamples: bootstrap draws.
        cases: how many there are.
        patients: how many patients they are of; a case of no known patient counts as one, and so do
            all patients whom near-duplicates join: they are one unit, which is what intervals draw.
        joined: how many further patients there are by name.
        counts: cases that have each class.
        calibrated: whether the figures are those of calibrated probabilities, and these are others
            than the model's.
        threshold: the operating point, where one was stated.
        figures: those of all classes, then those of each part.
        uncalibrated: those that calibration is to change, before it; () where nothing was
            calibrated.
        confusion: cases by class (rows) and called class (columns); () for findings, of which a
            case may have several.
        refused: cases that the model would not have answered; None where nobody asked it. They
            count in all figures.
    """

    classes: ClassTable
    level: float
    resamples: int
    cases: int
    patients: int
    joined: int = 0
    counts: tuple[int, ...]
    calibrated: bool
    threshold: float | None
    figures: tuple[ClassFigure, ...]
    uncalibrated: tuple[ClassFigure, ...]
    confusion: tuple[tuple[int, ...], ...]
    refused: int | None

    def __getitem__(self, key: str | tuple[str, str]) -> ClassFigure:
        """The figure of a metric of all classes ("auroc"), or of a (part, metric).

        Raises:
            KeyError: there is no such figure.
        """
        part, metric = ("", key) if isinstance(key, str) else key
        for figure in self.figures:
            if (figure.part, figure.metric) == (part, metric):
                return figure
        raise KeyError(key)

    @property
    def parts(self) -> tuple[str, ...]:
        """The classes, steps or findings that have figures of their own."""
        return tuple(dict.fromkeys(figure.part for figure in self.figures if figure.part))


def summarise_classes(
    scores: Sequence[ClassScore],
    table: ClassTable,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    threshold: float | None = None,
) -> ClassSummary:
    """Every figure of classes of this kind, with intervals over patients.

    Patients are resampled, not cases; a case of no known patient counts as a patient of its own,
    and patients of one unit (see `ClassScore`) as one. AUROC has DeLong's interval for patients
    with several cases. Calibrated probabilities are used where every case has them, those of the
    network otherwise.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.
        threshold: an operating point chosen on other cases: the probability from which the second
            of two classes is called, or each finding.

    Raises:
        DataError: see `ClassRows.of`.
        LabelError: a reference that the table does not know.
        UsageError: a threshold that is no probability, or of more than two classes that exclude
            each other.
    """
    if threshold is not None:
        _check_threshold(threshold, table)
    rows = ClassRows.of(scores, table)
    how = Intervals(level, resamples, seed)
    groups = rows.groups
    calibrated = calibration_changed(scores)
    before = measures(ClassRows.of(scores, table, calibrated=False)) if calibrated else ()
    refusals = [score.refuse for score in scores if score.refuse is not None]
    return ClassSummary(
        classes=table,
        level=level,
        resamples=resamples,
        cases=len(scores),
        patients=rows.patients,
        joined=rows.joined,
        counts=tuple(rows.members.sum(axis=0).tolist()),
        calibrated=calibrated,
        threshold=threshold,
        figures=how.figures(
            (*measures(rows, threshold=threshold), *set_measures(scores, rows)), groups
        ),
        uncalibrated=how.figures(
            (m for m in before if not m.part and m.metric in CALIBRATION), groups
        ),
        confusion=_confusion(rows),
        refused=sum(refusals) if refusals else None,
    )


def _check_threshold(threshold: float, table: ClassTable) -> None:
    if not 0 <= threshold <= 1:
        raise UsageError(
            f"a threshold of {threshold:g}",
            needed="a probability from 0 to 1",
            cure="such as --threshold 0.3",
        )
    if not table.binary and table.kind != "multilabel":
        raise UsageError(
            f"a threshold of {threshold:g} for {len(table.names)} classes",
            needed="two classes, or findings: of several classes the most probable is called",
            cure="leave --threshold out, or name the two that are asked about with --classes",
        )


def _confusion(rows: ClassRows) -> tuple[tuple[int, ...], ...]:
    if rows.table.kind == "multilabel":
        return ()
    matrix = confusion(rows.index, rows.called, len(rows.table.names))
    return tuple(tuple(line) for line in matrix.tolist())
