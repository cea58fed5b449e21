"""An evaluation and its folder: cases.csv, summary.json, summary.md."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hilum.errors import DataError
from hilum.evaluation.metric_table import title
from hilum.evaluation.page import decimals, evaluation_page, span, table
from hilum.evaluation.saved import CASES, read_record, write_evaluation
from hilum.evaluation.segmentation.score import COUNT_FIELDS, SCORE_FIELDS, Score
from hilum.evaluation.segmentation.summary import (
    LESION_METRICS,
    LESION_SHARE,
    MetricSummary,
    Summary,
)
from hilum.io import Readable
from hilum.volume import LabelTable

_COLUMNS = ("case", "patient", *(name for name in SCORE_FIELDS if name not in ("case", "patient")))
_TEXT_FIELDS = ("case", "patient", "region")

NO_SCALE = (
    "no scale is known of these pictures: distances and the tolerance are in pixels; in cases.csv"
    " and summary.json a column in ml holds thousands of pixels"
)


class EvaluationRecord(BaseModel):
    """Contents of summary.json.

    Args:
        format: what kind of file this is.
        version: version of this format.
        hilum: version of hilum that wrote it.
        predictions: the folder that was evaluated.
        reference: what it was evaluated against.
        tolerance_mm: tolerance of the normalised surface distance.
        scaled: whether the images have a physical scale; pictures without one are measured in
            pixels.
        labels: what was scored.
        missing: reference cases without a prediction, left out on request.
        unexpected: files among the predictions that belong to no reference case.
        notes: what had to be assumed.
        summary: the figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    format: Literal["hilum-evaluation"] = "hilum-evaluation"
    version: Literal[1] = 1
    hilum: str
    predictions: Readable
    reference: Readable
    tolerance_mm: float
    scaled: bool = True
    labels: LabelTable
    missing: tuple[Readable, ...]
    unexpected: tuple[Readable, ...]
    notes: tuple[Readable, ...]
    summary: Summary


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

    def save(self, folder: Path | str) -> None:
        """Write cases.csv, summary.md and, last, summary.json.

        Raises:
            UsageError: a file of these names that no evaluation wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        write_evaluation(folder, {CASES: _to_csv(self.scores)}, self.markdown(), self.record)

    @classmethod
    def load(cls, folder: Path | str) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            UsageError: the folder holds no evaluation.
            DataError: its files are damaged or of another version.
        """
        record = read_record(folder, EvaluationRecord)
        return cls(_from_csv(Path(folder) / CASES), record)

    def markdown(self) -> str:
        """The summary as a page of Markdown."""
        record, summary = self.record, self.summary
        cases = len({score.case for score in self.scores})
        patients = len({score.group for score in self.scores})
        unit = "mm" if record.scaled else "pixels"
        intro = (
            f"{record.predictions} against {record.reference}: {cases} cases of {patients}"
            f" patients, {len(summary.regions)} regions. Intervals: {summary.level:.0%} bootstrap"
            f" of the mean, {summary.resamples} draws of patients. NSD at {record.tolerance_mm:g}"
            f" {unit}. Undefined values are left out and counted."
        )
        lines: list[str] = []
        for region in summary.regions:
            found = (
                f"In {region.present} of {region.cases} references. Missed: {region.missed} of"
                f" these, where the prediction has none. Invented: {region.invented} of the others,"
                " where the prediction has some. A missed or invented case counts as 0 for Dice"
                " and NSD, and is left out of HD95 and ASSD, which have no value there."
            )
            lines += [f"## {region.region}", "", found, ""]
            lines += _table(region.metrics, lesions=region.lesions, scaled=record.scaled)
        lesions = [region.lesions for region in summary.regions]
        lines += ["## Mean of the regions", ""]
        lines += _table(summary.overall, lesions=any(lesions), scaled=record.scaled)
        if not all(lesions):
            lines += [
                (
                    "Lesions are counted of regions only that have several components in"
                    f" {LESION_SHARE:.0%} of their references."
                ),
                "",
            ]
        left_out = [
            f"{what}: {', '.join(names)}."
            for what, names in (
                ("Without prediction and left out", record.missing),
                ("Files that belong to no case", record.unexpected),
            )
            if names
        ]
        return evaluation_page(record.notes, intro, lines, left_out)


def _table(metrics: dict[str, MetricSummary], *, lesions: bool, scaled: bool) -> list[str]:
    rows = [
        [
            title(name, scaled=scaled),
            decimals(m.mean),
            span(m.low, m.high) if m.n else "–",
            decimals(m.median),
            str(m.n),
            str(m.undefined),
        ]
        for name, m in metrics.items()
        if lesions or name not in LESION_METRICS
    ]
    return table(["metric", "mean", "interval", "median", "n", "undefined"], rows)


def _to_csv(scores: tuple[Score, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for score in scores:
        writer.writerow([_cell(getattr(score, name)) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    """Text of one value, exact; empty where it is undefined or unknown."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _from_csv(path: Path) -> tuple[Score, ...]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise DataError(
                f"{path} has the columns {reader.fieldnames}",
                needed=f"the columns {', '.join(_COLUMNS)}",
            )
        try:
            return tuple(
                Score(**{name: _value(name, text) for name, text in row.items()}) for row in reader
            )
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path} is damaged: {error}",
                needed="the file as `hilum evaluate` wrote it",
                cure="evaluate again",
            ) from error


def _value(name: str, text: str) -> Any:
    if name == "patient":
        return text or None
    if name in _TEXT_FIELDS:
        return text
    if name in COUNT_FIELDS:
        return int(text)
    return float(text) if text else math.nan
