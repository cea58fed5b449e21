"""The report of an evaluation of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.metric_table import CLASS_METRICS, title
from hilum.evaluation.page import ATTENTION, decimals, span
from hilum.report.html.curves import confusion_plot, curve_plots
from hilum.report.html.document import Document, KeyNumber, Section, Table
from hilum.report.html.gallery import case_links
from hilum.report.html.saliency import saliency_section
from hilum.report.html.subgroups import subgroup_section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from hilum.evaluation import ClassEvaluation, Estimate
    from hilum.report.html.document import Plot

_MATTER = ("auroc", "sensitivity", "specificity", "balanced_accuracy", "brier")
"""Metrics of which the first three that are defined are shown large."""
_WORST = 10


def class_report(evaluation: ClassEvaluation, *, images: Mapping[str, Path]) -> Document:
    """Return the report of an evaluation of classes.

    Args:
        evaluation: its scores and summary.
        images: image of each case, where the reference is a table that knows none.
    """
    record, summary = evaluation.record, evaluation.summary
    overall = [one for one in summary.figures if not one.part]
    tables = [_estimates("All classes", overall)]
    tables += [
        _estimates(part, [one for one in summary.figures if one.part == part])
        for part in summary.parts
    ]
    maps = saliency_section(evaluation, images)
    sections = (
        _data_section(evaluation),
        Section("Results", (_results_text(evaluation),), tuple(tables)),
        Section("Curves", blocks=_plots(evaluation)),
        subgroup_section(record.subgroups, _main_estimate(overall)),
        maps,
        _failures(evaluation, maps),
        Section("Notes", tuple(f"{note[0].upper()}{note[1:]}." for note in record.notes)),
    )
    return Document("Evaluation of classes", _plain_words(evaluation), _numbers(overall), sections)


def _plain_words(evaluation: ClassEvaluation) -> tuple[str, ...]:
    """Say in plain words how good the predictions are, and on whom."""
    record, summary = evaluation.record, evaluation.summary
    counts = ", ".join(
        f"{count} {name}" for name, count in zip(summary.classes.names, summary.counts, strict=True)
    )
    lines = [
        (
            f"{record.predictions} was compared with {record.reference}:"
            f" {counted(summary.cases, 'case')} of {counted(summary.patients, 'patient')}"
            f" ({counts})."
        )
    ]
    area = next((one for one in summary.figures if not one.part and one.metric == "auroc"), None)
    if area is not None and not math.isnan(area.value):
        lines.append(
            f"The AUROC is {area}: of a case with and a case without the class, the one with it has"
            f" the higher probability {area.value:.0%} of the time; chance is 50 %."
        )
    lines += [f"{note}." for note in record.notes if note.startswith(ATTENTION)]
    lines.append(
        "These numbers speak of patients like those evaluated here, at this share of classes. They"
        " say nothing about other ages, scanners, body parts or kinds of images."
    )
    return tuple(lines)


def _numbers(overall: Iterable[Estimate]) -> tuple[KeyNumber, ...]:
    """Return the numbers that matter."""
    known = {one.metric: one for one in overall if not math.isnan(one.value)}
    shown = [known[metric] for metric in _MATTER if metric in known][:3]
    return tuple(
        KeyNumber(decimals(one.value), span(one.low, one.high), title(one.metric)) for one in shown
    )


def _data_section(evaluation: ClassEvaluation) -> Section:
    """Say which cases were evaluated and which were not, and why."""
    record, summary = evaluation.record, evaluation.summary
    rows = [
        ("cases evaluated", str(summary.cases)),
        ("patients", str(summary.patients)),
        *(
            (f"cases that are {name}", str(count))
            for name, count in zip(summary.classes.names, summary.counts, strict=True)
        ),
        ("reference cases without a prediction, left out on request", str(len(record.missing))),
        ("predictions of no reference case, not used", str(len(record.unexpected))),
    ]
    if summary.refused is not None:
        rows.append(("cases that the model marks as unlike its training", str(summary.refused)))
    return Section("Data", blocks=(Table("Cases in and out", ("count of", "number"), tuple(rows)),))


def _results_text(evaluation: ClassEvaluation) -> str:
    """Explain the tables."""
    summary = evaluation.summary
    whose = "calibrated" if summary.calibrated else "the model's own"
    return (
        f"Of {whose} probabilities. Intervals are {summary.level:.0%} intervals over patients:"
        " DeLong's for the AUROC of a class, Wilson's for shares of 0 and 1, bootstrap for the"
        " rest."
    )


def _estimates(caption: str, estimates: Iterable[Estimate]) -> Table:
    """Make a table of estimates in the order of the metrics."""
    order = list(CLASS_METRICS)
    rows = tuple(
        (title(one.metric), decimals(one.value), one.note or span(one.low, one.high), str(one.n))
        for one in sorted(estimates, key=lambda one: order.index(one.metric))
    )
    return Table(caption, ("metric", "value", "interval", "n"), rows)


def _plots(evaluation: ClassEvaluation) -> tuple[Plot, ...]:
    """Draw the curves, and the confusion matrix where there is one."""
    confusion = confusion_plot(evaluation)
    return (*curve_plots(evaluation), *(() if confusion is None else (confusion,)))


def _main_estimate(overall: Iterable[Estimate]) -> Estimate | None:
    """Choose the metric by which subgroups are plotted: the AUROC, else the accuracy."""
    known = {one.metric: one for one in overall if not math.isnan(one.value)}
    return known.get("auroc", known.get("accuracy"))


def _failures(evaluation: ClassEvaluation, maps: Section) -> Section:
    """List the cases that are most wrong, and where their maps are."""
    worst = sorted(
        (value for value in evaluation.case_values if value.metric == "brier" and not value.part),
        key=lambda value: -value.value,
    )[:_WORST]
    by_case = {score.case: score for score in evaluation.scores}
    names = evaluation.classes.names

    def probabilities(case: str) -> str:
        score = by_case[case]
        shown = score.calibrated or score.probabilities
        return ", ".join(f"{name} {p:.2f}" for name, p in zip(names, shown, strict=True))

    rows = tuple(
        (one.case, str(by_case[one.case].reference), probabilities(one.case), decimals(one.value))
        for one in worst
    )
    head = ("case", "is", "predicted", "Brier score")
    links = case_links(maps, [row[0] for row in rows])
    table = Table("Highest Brier score first", head, rows, links)
    return Section("Worst cases", blocks=(table,) if rows else ())
