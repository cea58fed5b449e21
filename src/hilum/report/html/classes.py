"""The report of an evaluation of classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.metric_table import CLASS_METRICS, title
from hilum.evaluation.page import decimals, span
from hilum.report.confusion import confusion_canvas
from hilum.report.curves import curves_canvas
from hilum.report.html.document import KeyNumber, Plot, Section, Table, render
from hilum.report.html.plots import svg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilum.evaluation import ClassEvaluation, Estimate

_MATTER = ("auroc", "sensitivity", "specificity", "balanced_accuracy", "brier")
"""Metrics of which the first three that are defined are shown large."""
_WORST = 10


def class_report(evaluation: ClassEvaluation) -> str:
    """Return the page of an evaluation of classes."""
    record, summary = evaluation.record, evaluation.summary
    overall = [one for one in summary.figures if not one.part]
    tables = [_estimates("All classes", overall)]
    tables += [
        _estimates(part, [one for one in summary.figures if one.part == part])
        for part in summary.parts
    ]
    sections = [
        _data_section(evaluation),
        Section("Results", (_results_text(evaluation),), tuple(tables)),
        Section("Curves", blocks=_plots(evaluation)),
        _subgroups(evaluation),
        _failures(evaluation),
        Section("Notes", tuple(f"{note[0].upper()}{note[1:]}." for note in record.notes)),
    ]
    return render("Evaluation of classes", _plain_words(evaluation), _numbers(overall), sections)


def _plain_words(evaluation: ClassEvaluation) -> list[str]:
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
    lines.append(
        "These numbers speak of patients like those evaluated here, at this share of classes. They"
        " say nothing about other ages, scanners, body parts or kinds of images."
    )
    return lines


def _numbers(overall: Iterable[Estimate]) -> list[KeyNumber]:
    """Return the numbers that matter."""
    known = {one.metric: one for one in overall if not math.isnan(one.value)}
    shown = [known[metric] for metric in _MATTER if metric in known][:3]
    return [KeyNumber(decimals(o.value), span(o.low, o.high), title(o.metric)) for o in shown]


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
    curves = Plot(
        "ROC, precision and recall, calibration, decision curve",
        svg(curves_canvas(evaluation.scores, evaluation.classes)),
        "One line a question. The dotted lines are chance, perfect calibration, and treating all or"
        " no cases. The numbers of the curves are in curves.json of the evaluation.",
    )
    if evaluation.classes.kind == "multilabel":
        return (curves,)
    called = "; ".join(
        f"{name}: {', '.join(map(str, row))}"
        for name, row in zip(evaluation.classes.names, evaluation.summary.confusion, strict=True)
    )
    names = ", ".join(evaluation.classes.names)
    confusion = Plot(
        "Which class is taken for which",
        svg(confusion_canvas(evaluation.scores, evaluation.classes)),
        f"Called {names}, of those that are {called}.",
    )
    return curves, confusion


def _subgroups(evaluation: ClassEvaluation) -> Section:
    """Make the table of subgroups; empty where none were asked for."""
    groups = evaluation.record.subgroups
    if not groups:
        return Section("Subgroups")
    shown = list(dict.fromkeys(one.metric for group in groups for one in group.figures))
    rows = tuple(
        (
            f"{group.column} = {group.value}",
            str(group.cases),
            *(str(group[metric]) for metric in shown),
            "few patients" if group.small else "",
        )
        for group in groups
    )
    head = ("subgroup", "n", *map(title, shown), "remark")
    text = (
        "Intervals are not corrected for the number of subgroups: of twenty, one is expected to"
        " look unlike the others by chance."
    )
    return Section("Subgroups", (text,), (Table("Parts of the cases", head, rows),))


def _failures(evaluation: ClassEvaluation) -> Section:
    """List the cases that are most wrong."""
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
    table = Table("Highest Brier score first", ("case", "is", "predicted", "Brier score"), rows)
    return Section("Worst cases", blocks=(table,) if rows else ())
