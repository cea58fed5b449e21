"""An evaluation of label maps and its folder."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from hilum.errors import DataError
from hilum.evaluation.estimates import CaseValue, Estimate, csv_text
from hilum.evaluation.markdown import label_map_page
from hilum.evaluation.metric_table import METRICS, metric_of
from hilum.evaluation.records import Record
from hilum.evaluation.saved import CASES, OTHER_TOOLS, read_record, write_evaluation
from hilum.evaluation.segmentation.lesion_curve import LesionCurve
from hilum.evaluation.segmentation.other_tools import ToolMean, tool_table
from hilum.evaluation.segmentation.proposal import Proposal
from hilum.evaluation.segmentation.score import Score
from hilum.evaluation.segmentation.subgroups import LabelMapSubgroup
from hilum.evaluation.segmentation.summary import Summary
from hilum.files import Readable
from hilum.metrics import Surface
from hilum.volume import LabelTable

_COLUMNS = ("case", "patient", "region", *[f.name for f in fields(Score)][3:-2])
"""Columns of cases.csv; those of `Score.further` come after them."""
_BLANK = {"case": "", "patient": None}
"""Values of empty cells in text columns; that of a number is NaN."""


class EvaluationRecord(Record):
    """Contents of summary.json.

    Args:
        format: what kind of file this is.
        version: version of this format.
        hilum: version of hilum that wrote it.
        predictions: the folder that was evaluated.
        reference: what it was evaluated against.
        tolerance_mm: tolerance of the normalised surface distance, in its further columns further
            ones; width of the boundary IoU.
        surface: how surfaces were measured, see `Scoring`.
        lesion_overlap: share of a lesion that counts as found.
        instances: the label maps are objects of one kind.
        scaled: whether the images have a physical scale; pictures without one are measured in
            pixels.
        labels: what was scored.
        missing: reference cases without a prediction, left out on request.
        unexpected: files among the predictions that belong to no reference case.
        cross_validated: whether the cases are those of the folds that the model was trained on.
        notes: what had to be assumed.
        proposals: which metrics to look at, and why.
        other_tools: what other tools would print, where it was asked for.
        summary: mean, median and interval of every metric.
        subgroups: the estimates of parts of the cases.
        lesion_curves: FROC of the regions of lesions, where there were probabilities.
    """

    format: Literal["hilum-evaluation"] = "hilum-evaluation"
    version: Literal[1] = 1
    hilum: str
    predictions: Readable
    reference: Readable
    tolerance_mm: float
    surface: Surface = "voxel"
    lesion_overlap: float = 0.1
    instances: bool = False
    scaled: bool = True
    labels: LabelTable
    missing: tuple[Readable, ...]
    unexpected: tuple[Readable, ...]
    cross_validated: bool = False
    notes: tuple[Readable, ...]
    proposals: tuple[Proposal, ...] = ()
    other_tools: tuple[ToolMean, ...] = ()
    summary: Summary
    subgroups: tuple[LabelMapSubgroup, ...] = ()
    lesion_curves: tuple[LesionCurve, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder of predictions, and their summary.

    Args:
        scores: one row a case and region.
        record: how they came about, and their summary.
    """

    scores: tuple[Score, ...]
    record: EvaluationRecord

    @property
    def summary(self) -> Summary:
        """Mean, median and interval of every metric."""
        return self.record.summary

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every metric of every region, and of their mean, with its interval; then each FROC."""
        return self.summary.estimates + tuple(one.estimate for one in self.record.lesion_curves)

    @property
    def case_values(self) -> tuple[CaseValue, ...]:
        """Every metric of every region of every case."""
        return tuple(
            CaseValue(score.case, score.patient, score.region, metric, score[metric])
            for score in self.scores
            for metric in (*METRICS, *score.further)
        )

    def save(self, folder: Path | str) -> None:
        """Write cases.csv, estimates.csv, summary.md and, last, summary.json.

        Raises:
            UsageError: a file of these names that no evaluation wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        further = tuple(self.scores[0].further) if self.scores else ()
        rows = (
            [*(getattr(score, name) for name in _COLUMNS), *map(score.further.get, further)]
            for score in self.scores
        )
        tables = {CASES: csv_text((*_COLUMNS, *further), rows)}
        if self.record.other_tools:
            tables[OTHER_TOOLS] = tool_table(self.scores)
        write_evaluation(folder, tables, self.estimates, self.markdown(), self.record)

    @classmethod
    def load(cls, folder: Path | str) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            UsageError: the folder holds no evaluation.
            DataError: its files are damaged or of another version.
        """
        record = read_record(folder, EvaluationRecord)
        path = Path(folder) / CASES
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            names = tuple(reader.fieldnames or ())
            further = names[len(_COLUMNS) :]
            if names[: len(_COLUMNS)] != _COLUMNS or not all(map(_is_metric, further)):
                raise DataError(
                    f"{path} has the columns {', '.join(names)}",
                    needed=f"the columns {', '.join(_COLUMNS)}, as this version of"
                    " `hilum evaluate` writes them",
                    cure="evaluate again",
                )
            rows: list[dict[str, object]] = [
                {name: row[name] or _BLANK.get(name, math.nan) for name in _COLUMNS}
                | {"further": {name: row[name] or math.nan for name in further}}
                for row in reader
            ]
        try:
            return cls(TypeAdapter(tuple[Score, ...]).validate_python(rows), record)
        except ValueError as error:
            raise DataError(
                f"{path} is damaged: {error}",
                needed="the file as `hilum evaluate` wrote it",
                cure="evaluate again",
            ) from error

    def markdown(self) -> str:
        """Return the summary as a page of Markdown."""
        return label_map_page(self)


def _is_metric(name: str) -> bool:
    """Return True if there is a metric of that name."""
    try:
        metric_of(name)
    except KeyError:
        return False
    return True
