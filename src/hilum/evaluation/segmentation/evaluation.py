"""An evaluation and its folder: cases.csv, summary.json, summary.md."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hilum.errors import DataError, UsageError
from hilum.evaluation.page import figure, span, split_notes
from hilum.evaluation.segmentation.score import COUNT_FIELDS, SCORE_FIELDS, Score
from hilum.evaluation.segmentation.summary import (
    LESION_METRICS,
    LESION_SHARE,
    MetricSummary,
    Summary,
)
from hilum.io import OutputFolder, Readable
from hilum.volume import LabelTable

CASES, SUMMARY, SUMMARY_TEXT = "cases.csv", "summary.json", "summary.md"
_COLUMNS = ("case", "patient", *(name for name in SCORE_FIELDS if name not in ("case", "patient")))
_TEXT_FIELDS = ("case", "patient", "region")

TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "hd95": "HD95, mm",
    "assd": "ASSD, mm",
    "volume_error_ml": "volume error, ml",
    "volume_error_relative": "volume error, relative",
    "lesion_recall": "lesion recall",
    "lesion_precision": "lesion precision",
    "lesion_f1": "lesion F1",
}
"""Names of the metrics for people."""
_OF_PICTURES = {
    "hd95": "HD95, pixels",
    "assd": "ASSD, pixels",
    "volume_error_ml": "area error, 1000 pixels",
}
NO_SCALE = (
    "no scale is known of these pictures: distances and the tolerance are in pixels; in cases.csv"
    " and summary.json a column in ml holds thousands of pixels"
)


def titles(*, scaled: bool) -> dict[str, str]:
    """Names of the metrics for people, with the units that there are."""
    return TITLES if scaled else TITLES | _OF_PICTURES


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
        with OutputFolder(folder, "evaluate") as out:
            summary = self.record.model_dump_json(indent=2) + "\n"
            out.write(
                {CASES: _to_csv(self.scores), SUMMARY_TEXT: self.markdown(), SUMMARY: summary}
            )

    @classmethod
    def load(cls, folder: Path | str) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            UsageError: the folder holds no evaluation.
            DataError: its files are damaged or of another version.
        """
        source = Path(folder)
        for name in (CASES, SUMMARY):
            if not (source / name).is_file():
                raise UsageError(
                    f"no {name} in {source}",
                    needed="a folder that `hilum evaluate` wrote",
                    cure=f"hilum evaluate ... -o {source}",
                )
        try:
            record = EvaluationRecord.model_validate_json(
                (source / SUMMARY).read_text(encoding="utf-8")
            )
        except ValidationError as error:
            raise DataError(
                f"{source / SUMMARY} is damaged or of another version: {error}",
                needed="an evaluation of version 1",
                cure="evaluate again with this version of hilum",
            ) from error
        return cls(_from_csv(source / CASES), record)

    def markdown(self) -> str:
        """The summary as a page of Markdown."""
        record, summary = self.record, self.summary
        cases = len({score.case for score in self.scores})
        patients = len({score.group for score in self.scores})
        unit = "mm" if record.scaled else "pixels"
        said = (
            f"{record.predictions} against {record.reference}: {cases} cases of {patients}"
            f" patients, {len(summary.regions)} regions. Intervals: {summary.level:.0%} bootstrap"
            f" of the mean, {summary.resamples} draws of patients. NSD at {record.tolerance_mm:g}"
            f" {unit}. Undefined values are left out and counted."
        )
        warnings, notes = split_notes(record.notes)
        names = titles(scaled=record.scaled)
        lines = ["# Evaluation", "", said, "", *warnings]
        for region in summary.regions:
            found = (
                f"In {region.present} of {region.cases} references. Missed: {region.missed} of"
                f" these, where the prediction has none. Invented: {region.invented} of the others,"
                " where the prediction has some. A missed or invented case counts as 0 for Dice"
                " and NSD, and is left out of HD95 and ASSD, which have no value there."
            )
            lines += [
                f"## {region.region}",
                "",
                found,
                "",
                *_table(_shown(region.metrics, lesions=region.lesions), names),
            ]
        lesions = any(region.lesions for region in summary.regions)
        lines += [
            "## Mean of the regions",
            "",
            *_table(_shown(summary.overall, lesions=lesions), names),
        ]
        if not all(region.lesions for region in summary.regions):
            lines += [
                (
                    "Lesions are counted of regions only that have several components in"
                    f" {LESION_SHARE:.0%} of their references."
                ),
                "",
            ]
        if record.missing:
            lines += [f"Without prediction and left out: {', '.join(record.missing)}.", ""]
        if record.unexpected:
            lines += [f"Files that belong to no case: {', '.join(record.unexpected)}.", ""]
        lines += notes
        return "\n".join(lines).rstrip() + "\n"


def _shown(metrics: dict[str, MetricSummary], *, lesions: bool) -> dict[str, MetricSummary]:
    return {name: one for name, one in metrics.items() if lesions or name not in LESION_METRICS}


def _table(metrics: dict[str, MetricSummary], names: dict[str, str]) -> list[str]:
    rows = [
        f"| {names[name]} | {figure(m.mean)} | {span(m.low, m.high) if m.n else '–'} | "
        f"{figure(m.median)} | {m.n} | {m.undefined} |"
        for name, m in metrics.items()
    ]
    return [
        "| metric | mean | interval | median | n | undefined |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


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
