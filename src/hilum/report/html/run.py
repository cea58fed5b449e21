"""The report of a prediction run: what was predicted, warned of, refused or failed, and why."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from hilum.errors import counted, plain_digits, some
from hilum.report.html.confidence import run_confidence
from hilum.report.html.data_flow import Step, flow_drawing
from hilum.report.html.document import Document, KeyNumber, Section, Table
from hilum.report.html.environment import duration, run_section
from hilum.report.html.predicted import PredictedCases, read_predicted
from hilum.report.html.run_pictures import picture_section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.inference.run_report import CaseOutcome, RunReport
    from hilum.report.html.document import Block

_NOTHING = "–"


def run_report(folder: Path, run: RunReport, *, images: Mapping[str, Path]) -> Document:
    """Return the report of a prediction run.

    Args:
        folder: that `hilum predict` wrote.
        run: its run.json.
        images: of the cases, to be shown with their predictions.

    Raises:
        DataError: the predictions are damaged.
    """
    predicted = read_predicted(folder, run)
    sections = (
        _attention(run, predicted),
        Section("Data flow", blocks=(flow_drawing(_steps(run), ()),)),
        _cases(run, predicted),
        run_confidence(run),
        Section("Over all cases", blocks=predicted.summary()),
        picture_section(folder, run, predicted, images),
        _timing(run),
        run_section(run),
    )
    return Document("Predictions", _plain_words(run, predicted), _numbers(run, predicted), sections)


def _with_status(run: RunReport, status: str) -> list[CaseOutcome]:
    return [one for one in run.cases if one.status == status]


def _warned(run: RunReport) -> list[CaseOutcome]:
    """Return the predicted cases that are unlike the training images."""
    return [one for one in run.cases if one.status != "failed" and one.unlike]


def _plain_words(run: RunReport, predicted: PredictedCases) -> tuple[str, ...]:
    """Say in plain words what became of the cases."""
    done, failed = _with_status(run, "done"), _with_status(run, "failed")
    skipped, warned = _with_status(run, "skipped"), _warned(run)
    lines = [
        (
            f"Model {run.model or 'without an id'} predicted {len(done)} of"
            f" {counted(len(run.cases), 'case')} on {run.started[:10]}, in {duration(run.seconds)}."
        )
    ]
    if run.status == "stopped":
        lines.append("The run was interrupted: there are cases it did not come to.")
    if skipped:
        lines.append(
            f"{counted(len(skipped), 'case')} had been predicted before, from the same files and"
            " the same model, and stayed as they were."
        )
    if failed:
        lines.append(f"Not predicted: {some([one.case for one in failed])}. Why stands below.")
    if warned:
        lines.append(
            f"Unlike the images that the model learnt from: {some([one.case for one in warned])}."
            " Look at these first; their predictions may be wrong."
        )
    if predicted.refused:
        lines.append(f"Marked by the model as not to be used: {some(predicted.refused)}.")
    if run.trained_on:
        lines.append(
            f"Named like cases that the model learnt from: {some(run.trained_on)}. How good these"
            " predictions are says nothing of new patients."
        )
    lines += [f"Warning of the model's training: {one}" for one in run.model_warnings]
    lines.append(
        "How good the predictions are cannot be seen here, as nothing they were compared with is"
        " known: that stands in the report of the model (`hilum report MODEL`), with what images"
        " and patients, by kind of image and age, it is for. No warning does not mean that an image"
        " is like those."
    )
    return tuple(lines)


def _numbers(run: RunReport, predicted: PredictedCases) -> tuple[KeyNumber, ...]:
    """Return the three numbers that matter."""
    done = sum(one.status != "failed" for one in run.cases)
    doubtful = {one.case for one in _warned(run)} | {*predicted.refused}
    return (
        KeyNumber(f"{done} of {len(run.cases)}", "", "cases with a prediction"),
        KeyNumber(str(len(doubtful)), "", "predictions to look at first: warned of or refused"),
        KeyNumber(str(len(_with_status(run, "failed"))), "", "cases that failed"),
    )


def _attention(run: RunReport, predicted: PredictedCases) -> Section:
    """List failures by their cause, warnings, and refused cases."""
    rows = [("failed", some([one.case for one in cases]), cases[0].error) for cases in run.failures]
    rows += [("unlike the training", one.case, "; ".join(one.unlike)) for one in _warned(run)]
    rows += [
        ("refused", case, "the image is unlike the training cases in the network's features")
        for case in predicted.refused
    ]
    unknown = [one.case for one in run.cases if one.status == "skipped" and not one.carried]
    said = ["No case failed, and none was warned of."] if not rows and not unknown else []
    if unknown:
        said.append(
            f"Predicted before: {some(unknown)}. What earlier runs warned of in these is not known."
        )
    if not rows:
        return Section("Look at these first", tuple(said))
    table = Table(
        "Failures, warnings and refusals", ("state", "cases", "why"), tuple(rows), wrap=True
    )
    return Section("Look at these first", tuple(said), (table,))


def _steps(run: RunReport) -> tuple[Step, ...]:
    """Return the way from files to predictions."""
    steps = []
    if run.files is not None:
        groups = (*run.files.left_out, *run.files.unreadable)
        away = tuple(f"{counted(one.count, 'file')}: {one.reason}" for one in groups)
        steps.append(Step(f"{counted(run.files.taken, 'file')} read", away))
    failed = len(_with_status(run, "failed"))
    steps.append(
        Step(
            counted(len(run.cases), "case"),
            (f"{counted(failed, 'case')} failed",) if failed else (),
        )
    )
    counts = Counter(one.status for one in run.cases)
    before = f", {counts['skipped']} predicted before" if counts["skipped"] else ""
    steps.append(Step(f"{counted(counts['done'], 'case')} predicted{before}"))
    return tuple(steps)


def _cases(run: RunReport, predicted: PredictedCases) -> Section:
    """Make the table of all cases."""
    rows = tuple(
        (
            one.case,
            _state(one, predicted),
            *predicted.cells(one.case),
            plain_digits(sum(one.seconds.values()), 3) if one.seconds else _NOTHING,
            ", ".join(one.files) or _NOTHING,
        )
        for one in run.cases
    )
    head = ("case", "state", *predicted.head, "seconds", "files")
    blocks: list[Block] = [Table("Every case", head, rows)]
    chosen = tuple((one.case, " ".join(one.series)) for one in run.cases if one.series)
    if chosen:
        blocks.append(
            Table("Which series of a study was taken", ("case", "why"), chosen, wrap=True)
        )
    return Section("Cases", predicted.notes, tuple(blocks))


def _state(outcome: CaseOutcome, predicted: PredictedCases) -> str:
    """Say in a word or two what became of a case."""
    words = {"done": "predicted", "failed": "failed", "skipped": "predicted before"}
    doubts = ["warned"] if outcome.unlike and outcome.status != "failed" else []
    doubts += ["refused"] if outcome.case in predicted.refused else []
    return ", ".join((words[outcome.status], *doubts))


def _timing(run: RunReport) -> Section:
    """Say where the time went."""
    done = [one for one in run.cases if one.seconds]
    parts = dict.fromkeys(part for one in done for part in one.seconds)
    rows = tuple(
        (
            part,
            plain_digits(sum(values), 3),
            plain_digits(median(values), 3),
            plain_digits(max(values), 3),
        )
        for part in parts
        if (values := [one.seconds.get(part, 0.0) for one in done])
    )
    if not rows:
        return Section("Time")
    text = (
        f"The run took {duration(run.seconds)}. Cases are read and written while others are"
        " predicted, so the parts add up to more than the run."
    )
    table = Table("Seconds by part", ("part", "in all", "median case", "slowest case"), rows)
    return Section("Time", (text,), (table,))
