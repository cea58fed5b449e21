"""The evaluation of a classification and its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hilum.evaluation.classification.arrays import ClassRows
from hilum.evaluation.classification.curves import ClassCurves, curves_of
from hilum.evaluation.classification.measures import case_values
from hilum.evaluation.classification.subgroups import Subgroup
from hilum.evaluation.classification.summary import ClassSummary
from hilum.evaluation.markdown import class_page
from hilum.evaluation.records import Record
from hilum.evaluation.saved import CASES, read_record, write_evaluation
from hilum.files import Readable
from hilum.targets.predictions import predictions_text, read_predictions

if TYPE_CHECKING:
    from hilum.dataset import ClassTable
    from hilum.evaluation.estimates import CaseValue, Estimate
    from hilum.targets.class_score import ClassScore

CURVES = "curves.json"


class ClassEvaluationRecord(Record):
    """Contents of summary.json.

    Args:
        format: what kind of file this is.
        version: version of this format.
        hilum: version of hilum that wrote it.
        predictions: the predictions that were evaluated.
        reference: what they were evaluated against.
        missing: reference cases without a prediction, left out on request.
        unexpected: predicted cases that the reference does not have.
        cross_validated: whether the cases are those of the folds that the model was trained on.
        notes: what had to be assumed.
        summary: the estimates.
        subgroups: the estimates of parts of the cases.
    """

    format: Literal["hilum-class-evaluation"] = "hilum-class-evaluation"
    version: Literal[1] = 1
    hilum: str
    predictions: Readable
    reference: Readable
    missing: tuple[Readable, ...] = ()
    unexpected: tuple[Readable, ...] = ()
    cross_validated: bool = False
    notes: tuple[Readable, ...] = ()
    summary: ClassSummary
    subgroups: tuple[Subgroup, ...] = ()


@dataclass(frozen=True)
class ClassEvaluation:
    """The scores of many cases, and their summary.

    Args:
        scores: one a case, each with its reference.
        record: how they came about, and their summary.
    """

    scores: tuple[ClassScore, ...]
    record: ClassEvaluationRecord

    @property
    def summary(self) -> ClassSummary:
        """Every estimate with its interval."""
        return self.record.summary

    @property
    def classes(self) -> ClassTable:
        """The classes."""
        return self.record.summary.classes

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every metric of all classes and of each part, with its interval."""
        return self.summary.figures

    @property
    def case_values(self) -> tuple[CaseValue, ...]:
        """The contribution of each case to accuracy, Brier score and log loss of every question."""
        return case_values(self.scores, ClassRows.of(self.scores, self.classes))

    @property
    def curves(self) -> ClassCurves:
        """ROC, precision-recall, calibration and decision curves in numbers."""
        return curves_of(self.scores, self.classes)

    def save(self, folder: Path | str) -> None:
        """Write cases.csv (like predictions.csv), estimates.csv, curves.json, then the summaries.

        Raises:
            UsageError: a file of these names that no evaluation wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        tables = {
            CASES: predictions_text(self.scores, self.classes),
            CURVES: self.curves.model_dump_json() + "\n",
        }
        write_evaluation(folder, tables, self.estimates, self.markdown(), self.record)

    @classmethod
    def load(cls, folder: Path | str) -> ClassEvaluation:
        """Read what `save` wrote.

        Raises:
            UsageError: the folder holds no evaluation.
            DataError: its files are damaged or of another version.
        """
        record = read_record(folder, ClassEvaluationRecord)
        return cls(read_predictions(Path(folder) / CASES, record.summary.classes), record)

    def markdown(self) -> str:
        """Return the summary as a page of Markdown."""
        return class_page(self)
