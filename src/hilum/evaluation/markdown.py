"""Evaluations and comparisons as pages of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.metric_table import (
    CALIBRATION,
    CLASS_METRICS,
    DISTANCES,
    LESION_METRICS,
    title,
)
from hilum.evaluation.page import (
    ATTENTION,
    INTERVALS,
    decimals,
    joined_sentence,
    median_span,
    some,
    span,
)
from hilum.evaluation.saved import SUMMARY
from hilum.evaluation.segmentation.lesion_curve import RATES
from hilum.evaluation.segmentation.other_tools import tool_rows
from hilum.evaluation.segmentation.subgroups import SUBGROUP_METRICS
from hilum.evaluation.segmentation.summary import LESION_SHARE
from hilum.evaluation.subgroups import CAUTION, SMALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hilum.evaluation.classification.evaluation import ClassEvaluation
    from hilum.evaluation.classification.subgroups import Subgroup
    from hilum.evaluation.classification.summary import ClassSummary
    from hilum.evaluation.estimates import Estimate
    from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
    from hilum.evaluation.segmentation.lesion_curve import LesionCurve
    from hilum.evaluation.segmentation.subgroups import LabelMapSubgroup
    from hilum.evaluation.segmentation.summary import MetricSummary

_SURFACES = {
    "voxel": "Surfaces run between voxels and are weighted by area (Nikolov et al., JMIR 23, 2021)",
    "mesh": "Surfaces are the triangles of marching cubes, with exact distances between them",
}
"""Kinds of `Scoring.surface` in words."""

FROC_REMARK = (
    "A predicted component has the largest probability in it as its score; a lesion is found, and a"
    " component false, as in the tables above. Components are those of the label maps: the curve"
    " ends where they end. The mean is over the sensitivities at the numbers of false positives a"
    " case that follow (LUNA16)."
)

OTHER_TOOLS_REMARK = (
    "Computed by the conventions of these tools, so that figures of other papers can be compared:"
    " where the surface lies, how percentiles are taken, what an empty structure counts. MONAI and"
    " nnU-Net leave NaN out of their means."
)


def label_map_page(evaluation: Evaluation) -> str:
    """Return the page of an evaluation of label maps: a table a region, and one of their mean."""
    record, summary = evaluation.record, evaluation.summary
    cases = len({score.case for score in evaluation.scores})
    patients = len({score.group for score in evaluation.scores})
    intro = (
        f"{record.predictions} against {record.reference}:"
        f" {counted(cases, 'case')} of {counted(patients, 'patient')},"
        f" {counted(len(summary.regions), 'region')}. Intervals: {summary.level:.0%}, over"
        f" patients; of the mean {INTERVALS} ({summary.resamples} resamples), of the median"
        f" exact. {surface_words(record)} Undefined values are left out and counted."
    )
    head, *proposals = proposal_rows(evaluation)
    lines = ["## Which metrics to look at", "", *table_lines(head, proposals)] if proposals else []
    for region in summary.regions:
        found = (
            f"In {region.present} of {region.cases} references. Missed: {region.missed} of"
            f" these, where the prediction has none. Invented: {region.invented} of the others,"
            " where the prediction has some. A missed or invented case counts as 0 for Dice"
            " and NSD, and as the image's diagonal for distances; the table counts them."
        )
        lines += [f"## {region.region}", "", found, ""]
        lines += _region_table(region.metrics, lesions=region.lesions, scaled=record.scaled)
    lesions = [region.lesions for region in summary.regions]
    lines += ["## Mean of the regions", ""]
    lines += _region_table(summary.overall, lesions=any(lesions), scaled=record.scaled)
    if not all(lesions):
        few = f"several components in {LESION_SHARE:.0%} of their references"
        lines += [f"Lesions are counted of regions only that have {few}.", ""]
    if record.lesion_curves:
        lines += ["## Lesions found against false positives (FROC)", "", FROC_REMARK, ""]
        lines += table_lines(*froc_table(record.lesion_curves))
    if record.subgroups:
        lines += ["## Subgroups", "", *_label_map_subgroups(record.subgroups, scaled=record.scaled)]
    if record.other_tools:
        lines += ["## Printed by other tools for the same masks", "", OTHER_TOOLS_REMARK, ""]
        lines += table_lines(
            *tool_rows(record.other_tools, tolerance_mm=record.tolerance_mm, scaled=record.scaled)
        )
    names_by_reason = {
        "Without prediction and left out": record.missing,
        "Files that belong to no case": record.unexpected,
    }
    return _page(record.notes, intro, lines, names_by_reason)


def surface_words(record: EvaluationRecord) -> str:
    """Say at which tolerance the NSD was taken, and what the surfaces are."""
    unit = "mm" if record.scaled else "pixels"
    return f"NSD at {record.tolerance_mm:g} {unit}. {_SURFACES[record.surface]}."


def froc_table(curves: Sequence[LesionCurve]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of the table of FROC curves."""
    head = ("region", "lesions", "mean", "interval", *(f"at {rate:g}" for rate in RATES))
    rows = [
        (
            one.region,
            str(one.lesions),
            decimals(one.mean_sensitivity),
            span(one.low, one.high),
            *(decimals(one.sensitivity_at(rate)) for rate in RATES),
        )
        for one in curves
    ]
    return head, rows


def proposal_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the table of which metrics to look at, and why: its head, then its rows."""
    record = evaluation.record
    rows = [
        (
            one.region,
            title(one.metric, scaled=record.scaled),
            decimals(record.summary[one.region].metrics[one.metric].mean)
            if one.computed
            else f"ask for it: also='{one.metric}'",
            one.because,
        )
        for one in record.proposals
    ]
    return [("region", "metric", "mean", "because"), *rows]


def class_page(evaluation: ClassEvaluation) -> str:
    """Return the page of an evaluation of classes."""
    record = evaluation.record
    names_by_reason = {
        "Without prediction and left out": record.missing,
        "Predicted cases that the reference does not have": record.unexpected,
    }
    intro = f"{record.predictions} against {record.reference}."
    return _page(
        record.notes, intro, summary_page(record.summary, record.subgroups), names_by_reason
    )


def summary_page(summary: ClassSummary, subgroups: Sequence[Subgroup]) -> list[str]:
    """Lines of a page: counts, all metrics, those of each part, confusion matrix, subgroups."""
    names = summary.classes.names
    lines = [*_class_intro(summary), "", *_overall(summary)]
    if summary.parts:
        lines += ["## Each alone", "", *_parts(summary.figures)]
    if summary.confusion:
        rows = [
            [name, *map(str, line), str(sum(line))]
            for name, line in zip(names, summary.confusion, strict=True)
        ]
        lines += ["## Confusion", "", "Rows are what cases are, columns what they are called.", ""]
        lines += table_lines(["", *names, "all"], rows)
    if subgroups:
        lines += ["## Subgroups", "", *_subgroups(subgroups)]
    remarks: dict[tuple[str, str], list[str]] = {}  # those of a part that have one reason together
    for one in summary.figures:
        if one.note:
            remarks.setdefault((one.part, one.note), []).append(title(one.metric))
    lines += [
        f"- {', '.join(titles)}{f' of {part}' if part else ''}: {note}."
        for (part, note), titles in remarks.items()
    ]
    return [*lines, ""] if remarks else lines


def _page(
    notes: Sequence[str],
    intro: str,
    body: Sequence[str],
    names_by_reason: Mapping[str, Sequence[str]],
) -> str:
    """Arrange a page: introduction, notes that call for attention, body, left out, other notes.

    Args:
        notes: what had to be assumed.
        intro: what was evaluated.
        body: lines of the tables.
        names_by_reason: of the cases that were left out.
    """
    first = [line for note in notes if note.startswith(ATTENTION) for line in (note, "")]
    gone = [
        line
        for why, names in names_by_reason.items()
        if names
        for line in (f"{why}: {some(names, SUMMARY)}.", "")
    ]
    last = [f"- {note}" for note in notes if not note.startswith(ATTENTION)]
    lines = ["# Evaluation", "", intro, "", *first, *body, *gone, *last]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, and a blank line after it; "|" in a cell is escaped."""
    return [
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |"
        for line in (head, ["---"] * len(head), *rows)
    ] + [""]


def _region_table(metrics: dict[str, MetricSummary], *, lesions: bool, scaled: bool) -> list[str]:
    """Write the metrics of one region as a table."""
    rows = [
        [
            title(name, scaled=scaled),
            decimals(m.mean),
            span(m.low, m.high) if m.n else "–",
            decimals(m.median),
            median_span(m.median_low, m.median_high) if m.n else "–",
            str(m.n),
            str(m.undefined),
            str(m.one_sided) if name in DISTANCES else "–",
        ]
        for name, m in metrics.items()
        if lesions or name not in LESION_METRICS
    ]
    head = ["metric", "mean", "interval", "median", "interval", "n", "undefined", "diagonal"]
    return table_lines(head, rows)


def _class_intro(summary: ClassSummary) -> list[str]:
    """Write which cases, classes, probabilities and intervals the summary is of."""
    classes = summary.classes
    counts = ", ".join(
        f"{count} {name}" for name, count in zip(classes.names, summary.counts, strict=True)
    )
    positive = f"Positive is {classes.names[1]}. " if classes.binary else ""
    whose = (
        "calibrated probabilities"
        if summary.calibrated
        else "the probabilities as the model gives them"
    )
    intro = (
        f"{counted(summary.cases, 'case')} of {counted(summary.patients, 'patient')}: {counts}."
        f" {positive}Figures of"
        f" {whose}. Intervals: {summary.level:.0%}, over patients; DeLong's for the AUROC of a"
        f" class, Wilson's for shares of cases, for the rest {summary.resamples} bootstrap draws."
    )
    lines = [intro]
    if summary.joined:
        lines += ["", joined_sentence(summary.joined)]
    if summary.threshold is not None:
        called = "each finding" if classes.kind == "multilabel" else classes.names[1]
        point = f"The operating point is {summary.threshold:g}"
        lines += ["", f"{point}: {called} is called from this probability on."]
    if summary.refused is not None:
        refused = f"The model would refuse {summary.refused} of these cases"
        lines += ["", f"{refused}; they count in all figures."]
    return lines


def _overall(summary: ClassSummary) -> list[str]:
    """Return the metrics of all classes; of more than two some are means over the classes."""
    before = {one.metric: str(one) for one in summary.uncalibrated}
    means = () if summary.classes.binary else ("auroc", "f1", "auprc")
    head = ["figure", "value and interval", "n", *(["before calibration"] if before else [])]
    rows = [
        [
            ("mean " if one.metric in means else "") + title(one.metric),
            str(one),
            str(one.n),
            *([before.get(one.metric, "")] if before else []),
        ]
        for one in _in_order(one for one in summary.figures if not one.part)
    ]
    return table_lines(head, rows)


def _parts(estimates: Sequence[Estimate]) -> list[str]:
    """Make a table for the parts that have the same metrics: steps have others than grades.

    What is decided, what is read off at a fixed point, and what probabilities are worth stand in a
    table each: all in one row would be wider than any screen.
    """
    lines = []
    points = [metric for metric in CLASS_METRICS if "_at_" in metric]
    decisions = [metric for metric in CLASS_METRICS if metric not in {*points, *CALIBRATION}]
    for topic in (decisions, points, CALIBRATION):
        cells: dict[str, dict[str, str]] = {one.part: {} for one in estimates if one.part}
        for one in _in_order(estimates):
            if one.part and one.metric in topic:
                cells[one.part][one.metric] = str(one)
        alike: dict[tuple[str, ...], list[list[str]]] = {}
        for part, of_part in cells.items():
            if of_part:
                alike.setdefault(tuple(of_part), []).append([part, *of_part.values()])
        for shown, rows in alike.items():
            lines += table_lines(["", *map(title, shown)], rows)
    return lines


def _subgroups(subgroups: Sequence[Subgroup]) -> list[str]:
    """Write the metrics of subgroups as a table, with its caution."""
    shown = list(dict.fromkeys(one.metric for group in subgroups for one in group.figures))
    rows = [
        [
            group.column,
            group.value + (" (small)" if group.small else ""),
            str(group.cases),
            " / ".join(map(str, group.counts)),
            *(str(group[metric]) for metric in shown),
        ]
        for group in subgroups
    ]
    head = ["column", "value", "n", "of each class", *map(title, shown)]
    remark = f"Small: fewer than {SMALL} patients of a class, to be read with doubt. {CAUTION}"
    return [remark, "", *table_lines(head, rows)]


def _label_map_subgroups(groups: Sequence[LabelMapSubgroup], *, scaled: bool) -> list[str]:
    """Write the mean of the regions in each subgroup as a table, with its caution."""
    rows = [
        [
            group.column,
            group.value + (" (small)" if group.small else ""),
            str(group.cases),
            str(group.patients),
            *(str(group.estimate(metric)) for metric in SUBGROUP_METRICS),
            f"{group.missed} of {group.present}",
        ]
        for group in groups
    ]
    metrics = [title(metric, scaled=scaled) for metric in SUBGROUP_METRICS]
    head = ["column", "value", "n", "patients", *metrics, "structures missed"]
    remark = f"Small: fewer than {SMALL} patients, to be read with doubt. {CAUTION}"
    return [remark, "", *table_lines(head, rows)]


def _in_order(estimates: Iterable[Estimate]) -> list[Estimate]:
    order = list(CLASS_METRICS)
    return sorted(estimates, key=lambda one: order.index(one.metric))
