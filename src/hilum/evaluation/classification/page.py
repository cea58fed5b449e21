"""The summary of a classification as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.evaluation.classification.measures import CALIBRATION
from hilum.evaluation.classification.subgroups import SMALL
from hilum.evaluation.metric_table import CLASS_METRICS
from hilum.evaluation.page import joined_sentence, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.classification.estimates import ClassSummary, Estimate
    from hilum.evaluation.classification.subgroups import Subgroup


def summary_page(summary: ClassSummary, subgroups: Sequence[Subgroup]) -> list[str]:
    """Lines of a page: counts, all metrics, those of each part, confusion matrix, subgroups."""
    lines = [*_intro(summary), "", *_overall(summary)]
    if summary.parts:
        lines += ["## Each alone", "", *_parts(summary.figures)]
    if summary.confusion:
        lines += ["## Confusion", "", *_confusion(summary)]
    if subgroups:
        lines += ["## Subgroups", "", *_subgroups(subgroups)]
    remarks = _remarks(summary.figures)
    return [*lines, *remarks, ""] if remarks else lines


def _intro(summary: ClassSummary) -> list[str]:
    classes = summary.classes
    counts = ", ".join(
        f"{count} {name}" for name, count in zip(classes.names, summary.counts, strict=True)
    )
    asked = f"Positive is {classes.names[1]}. " if classes.binary else ""
    whose = (
        "calibrated probabilities"
        if summary.calibrated
        else "the probabilities as the model gives them"
    )
    said = (
        f"{summary.cases} cases of {summary.patients} patients: {counts}. {asked}Figures of"
        f" {whose}. Intervals: {summary.level:.0%}, over patients; DeLong's for the AUROC of a"
        f" class, for the rest {summary.resamples} bootstrap draws."
    )
    lines = [said, "", joined_sentence(summary.joined)] if summary.joined else [said]
    if summary.threshold is not None:
        called = "each finding" if classes.kind == "multilabel" else classes.names[1]
        lines += [
            "",
            (
                f"The operating point is {summary.threshold:g}: {called} is called from this"
                " probability on."
            ),
        ]
    if summary.refused is not None:
        lines += [
            "",
            f"The model would refuse {summary.refused} of these cases; they count in all figures.",
        ]
    return lines


def _overall(summary: ClassSummary) -> list[str]:
    before = {figure.metric: figure for figure in summary.uncalibrated}
    head = ["figure", "value and interval", "n", *(["before calibration"] if before else [])]
    rows = []
    for figure in _in_order(figure for figure in summary.figures if not figure.part):
        row = [_name(figure, summary), str(figure), str(figure.n)]
        rows.append(
            [*row, str(before[figure.metric]) if figure.metric in before else ""] if before else row
        )
    return table(head, rows)


def _name(figure: Estimate, summary: ClassSummary) -> str:
    """Of more than two classes some figures are means over the classes."""
    several = not summary.classes.binary
    kind = (
        {"auroc": "mean ", "f1": "mean ", "auprc": "mean "}.get(figure.metric, "")
        if several
        else ""
    )
    return kind + CLASS_METRICS[figure.metric].title


def _parts(estimates: Sequence[Estimate]) -> list[str]:
    """Make a table for the parts that have the same metrics: steps have others than grades.

    What is decided, what is read off at a fixed point, and what probabilities are worth stand in a
    table each: all in one row would be wider than any screen.
    """
    lines = []
    for topic in ("decisions", "points", "probabilities"):
        cells: dict[str, dict[str, str]] = {}
        for figure in _in_order(
            figure for figure in estimates if figure.part and _topic(figure.metric) == topic
        ):
            cells.setdefault(figure.part, {})[figure.metric] = str(figure)
        alike: dict[tuple[str, ...], list[str]] = {}
        for part in dict.fromkeys(figure.part for figure in estimates if figure.part in cells):
            alike.setdefault(tuple(cells[part]), []).append(part)
        for shown, parts in alike.items():
            lines += table(
                ["", *(CLASS_METRICS[metric].title for metric in shown)],
                [[p, *cells[p].values()] for p in parts],
            )
    return lines


def _topic(metric: str) -> str:
    if metric in CALIBRATION:
        return "probabilities"
    return "points" if "_at_" in metric else "decisions"


def _remarks(estimates: Sequence[Estimate]) -> list[str]:
    """Why figures are undefined or have no interval.

    Those of a part that have one reason stand together.
    """
    told: dict[tuple[str, str], list[str]] = {}
    for figure in estimates:
        if figure.note:
            told.setdefault((figure.part, figure.note), []).append(
                CLASS_METRICS[figure.metric].title
            )
    return [
        f"- {', '.join(titles)}{f' of {part}' if part else ''}: {note}."
        for (part, note), titles in told.items()
    ]


def _confusion(summary: ClassSummary) -> list[str]:
    names = summary.classes.names
    rows = [
        [name, *map(str, line), str(sum(line))]
        for name, line in zip(names, summary.confusion, strict=True)
    ]
    return [
        "Rows are what cases are, columns what they are called.",
        "",
        *table(["", *names, "all"], rows),
    ]


def _subgroups(subgroups: Sequence[Subgroup]) -> list[str]:
    shown = list(
        dict.fromkeys(figure.metric for subgroup in subgroups for figure in subgroup.figures)
    )
    rows = []
    for subgroup in subgroups:
        cells = {figure.metric: str(figure) for figure in subgroup.figures}
        mark = " (small)" if subgroup.small else ""
        counts = " / ".join(map(str, subgroup.counts))
        rows.append(
            [
                subgroup.column,
                subgroup.value + mark,
                str(subgroup.cases),
                counts,
                *(cells[m] for m in shown),
            ]
        )
    head = [
        "column",
        "value",
        "n",
        "of each class",
        *(CLASS_METRICS[metric].title for metric in shown),
    ]
    said = (
        f"Small: fewer than {SMALL} patients of a class, figures to be read with doubt. Intervals"
        " are not corrected for the number of subgroups: of twenty, one is expected to look unlike"
        " the others by chance."
    )
    return [said, "", *table(head, rows)]


def _in_order(estimates: Iterable[Estimate]) -> list[Estimate]:
    order = list(CLASS_METRICS)
    return sorted(estimates, key=lambda one: order.index(one.metric))
