"""The report of an evaluation of label maps."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import HilumError, counted
from hilum.evaluation.markdown import FROC_REMARK, froc_table, surface_words
from hilum.evaluation.metric_table import DISTANCES, LESION_METRICS, title
from hilum.evaluation.page import ATTENTION, INTERVALS, decimals, median_span, some, span
from hilum.evaluation.segmentation.folder import ScoredFiles
from hilum.report.html.document import Document, KeyNumber, Plot, Section, Table
from hilum.report.html.gallery import (
    GalleryCase,
    case_anchor,
    case_links,
    chosen_cases,
    make_viewer,
)
from hilum.report.html.plots import bland_altman, box_plot, froc_plot
from hilum.report.html.proposals import other_tools_section, proposal_section
from hilum.report.html.subgroups import subgroup_section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.evaluation import Evaluation, MetricSummary, RegionSummary, Score
    from hilum.report.html.document import Viewer

_log = logging.getLogger("hilum")
_BOXES = ("dice", "nsd", "hd95", "volume_error_relative")
"""Metrics whose spread over the cases is shown."""
_WORST = 10
"""Rows of the table of the worst cases."""


def label_map_report(evaluation: Evaluation, *, images: Mapping[str, Path]) -> Document:
    """Return the report of an evaluation of label maps.

    Args:
        evaluation: its scores and summary.
        images: image of each case, where the reference is a plain folder that knows none.
    """
    record = evaluation.record
    tables = tuple(_table(one, scaled=record.scaled) for one in evaluation.summary.regions)
    gallery = _gallery(evaluation, images)
    sections = (
        _data_section(evaluation),
        Section("Results", _results_text(evaluation), tables),
        proposal_section(evaluation),
        Section("Cases", blocks=_plots(evaluation)),
        _lesion_section(evaluation),
        _subgroups(evaluation),
        gallery,
        _failures(evaluation, gallery),
        other_tools_section(evaluation),
        Section("Notes", tuple(f"{note[0].upper()}{note[1:]}." for note in record.notes)),
        _methods(evaluation),
    )
    return Document(
        "Evaluation of label maps", _plain_words(evaluation), _numbers(evaluation), sections
    )


def _plain_words(evaluation: Evaluation) -> tuple[str, ...]:
    """Say in plain words how good the predictions are, on whom, and where they fail."""
    record, summary = evaluation.record, evaluation.summary
    cases, patients = _counts(evaluation)
    dice = summary.overall["dice"]
    lines = [
        (
            f"{record.predictions} was compared with {record.reference}:"
            f" {counted(cases, 'case')} of {counted(patients, 'patient')},"
            f" {counted(len(summary.regions), 'region')}. The mean Dice (1 is perfect overlap) is"
            f" {decimals(dice.mean)}, {summary.level:.0%} interval {span(dice.low, dice.high)}."
        )
    ]
    missed = [f"{r.region} in {r.missed} of {r.present}" for r in summary.regions if r.missed]
    invented = [
        f"{r.region} in {r.invented} of {r.cases - r.present}"
        for r in summary.regions
        if r.invented
    ]
    lines.append(
        f"Missed altogether: {'; '.join(missed) or 'nothing'}."
        f" Found where the reference has none: {'; '.join(invented) or 'nothing'}."
    )
    defined = [r for r in summary.regions if not math.isnan(r.metrics["dice"].mean)]
    if len(defined) > 1:
        worst = min(defined, key=lambda region: region.metrics["dice"].mean)
        lines.append(
            f"The region with the lowest mean Dice is {worst.region}"
            f" ({decimals(worst.metrics['dice'].mean)})."
        )
    lines += [f"{note}." for note in record.notes if note.startswith(ATTENTION)]
    lines.append(
        "These numbers speak of patients like those evaluated here. They say nothing about other"
        " ages, scanners, body parts or kinds of images."
    )
    return tuple(lines)


def _counts(evaluation: Evaluation) -> tuple[int, int]:
    """Count cases and patients."""
    scores = evaluation.scores
    return len({score.case for score in scores}), len({score.group for score in scores})


def _numbers(evaluation: Evaluation) -> tuple[KeyNumber, ...]:
    """Return the three numbers that matter: overlap, surface, misses."""
    summary, scaled = evaluation.summary, evaluation.record.scaled
    dice, nsd = summary.overall["dice"], summary.overall["nsd"]
    present = sum(region.present for region in summary.regions)
    missed = sum(region.missed for region in summary.regions)
    tolerance = f"{evaluation.record.tolerance_mm:g} {'mm' if scaled else 'pixels'}"
    return (
        KeyNumber(decimals(dice.mean), span(dice.low, dice.high), "mean Dice of the regions"),
        KeyNumber(decimals(nsd.mean), span(nsd.low, nsd.high), f"surface within {tolerance} (NSD)"),
        KeyNumber(f"{missed} of {present}", "", "structures missed altogether"),
    )


def _data_section(evaluation: Evaluation) -> Section:
    """Count the evaluated cases and patients, and name what was left out.

    That is cases without a prediction, and predictions without a reference.
    """
    record = evaluation.record
    cases, patients = _counts(evaluation)
    rows = [
        ("cases evaluated", str(cases)),
        ("patients", str(patients)),
        ("reference cases without a prediction, left out on request", str(len(record.missing))),
        ("predictions of no reference case, not used", str(len(record.unexpected))),
    ]
    paragraphs = []
    if record.missing:
        paragraphs.append(f"Without a prediction: {some(record.missing)}.")
    if record.unexpected:
        paragraphs.append(f"Not used: {some(record.unexpected)}.")
    table = Table("Cases in and out", ("count of", "number"), tuple(rows))
    return Section("Data", tuple(paragraphs), (table,))


def _results_text(evaluation: Evaluation) -> tuple[str, ...]:
    """Explain the tables."""
    level = f"{evaluation.summary.level:.0%}"
    return (
        (
            f"Intervals are {level} intervals over patients: of the mean {INTERVALS}, of the median"
            " exact order statistics. A structure that was missed or invented counts as 0"
            ' for Dice and NSD and as the image\'s diagonal for distances; "diagonal" counts them.'
        ),
    )


def _shown(region: RegionSummary) -> dict[str, MetricSummary]:
    """Return the metrics of a region; those of lesions of lesions only."""
    return {
        name: metric
        for name, metric in region.metrics.items()
        if region.lesions or name not in LESION_METRICS
    }


def _table(region: RegionSummary, *, scaled: bool) -> Table:
    """Make the table of one region."""
    rows = [
        (
            title(name, scaled=scaled),
            decimals(metric.mean),
            span(metric.low, metric.high) if metric.n else "–",
            decimals(metric.median),
            median_span(metric.median_low, metric.median_high) if metric.n else "–",
            str(metric.n),
            str(metric.undefined),
            str(metric.one_sided) if name in DISTANCES else "–",
        )
        for name, metric in _shown(region).items()
    ]
    head = ("metric", "mean", "interval", "median", "interval", "n", "undefined", "diagonal")
    caption = (
        f"{region.region}: in {region.present} of {region.cases} references; missed"
        f" {region.missed}, invented {region.invented}"
    )
    return Table(caption, head, tuple(rows))


def _plots(evaluation: Evaluation) -> tuple[Plot, ...]:
    """Draw the spread of metrics over the cases, and the volume errors of every region."""
    by_region: dict[str, list[Score]] = {}
    for score in evaluation.scores:
        by_region.setdefault(score.region, []).append(score)
    scaled = evaluation.record.scaled
    plots: list[Plot | None] = []
    for metric in _BOXES:
        values = {
            name: np.array([getattr(row, metric) for row in rows], dtype=np.float64)
            for name, rows in by_region.items()
        }
        plots.append(box_plot(values, title(metric, scaled=scaled)))
    unit = "ml" if scaled else "1000 pixels"
    for name, rows in by_region.items():
        reference = np.array([row.volume_reference_ml for row in rows])
        prediction = np.array([row.volume_prediction_ml for row in rows])
        plots.append(bland_altman(reference, prediction, name, unit))
    return tuple(plot for plot in plots if plot is not None)


def _lesion_section(evaluation: Evaluation) -> Section:
    """Show the FROC of the regions of lesions, where there were probabilities."""
    curves, name = evaluation.record.lesion_curves, "Lesions"
    if not curves:
        return Section(name)
    head, rows = froc_table(curves)
    table = Table("Share of the lesions found, by false positives a case", head, tuple(rows))
    plot = froc_plot(curves)
    return Section(name, (FROC_REMARK,), (table,) if plot is None else (plot, table))


def _means_of_cases(evaluation: Evaluation) -> list[tuple[str, float]]:
    """Return each case's mean Dice over the regions in which it is defined."""
    values: dict[str, list[float]] = {}
    for score in evaluation.scores:
        if not math.isnan(score.dice):
            values.setdefault(score.case, []).append(score.dice)
    return [(case, sum(dices) / len(dices)) for case, dices in values.items()]


def _gallery(evaluation: Evaluation, images: Mapping[str, Path]) -> Section:
    """Show the worst, the median and the best cases on their images."""
    name = "Gallery"
    try:
        files = ScoredFiles.of(evaluation.record)
    except HilumError as error:
        _log.warning("no gallery in the report: %s", error)
        return Section(name, (f"No images: {error.found}.",))
    values = _means_of_cases(evaluation)
    of_case = dict(values)
    record = evaluation.record
    labels = () if record.instances else record.labels.foreground  # ids of objects have no names
    names = {one.id: one.name for one in labels}
    viewers: list[Viewer] = []
    unknown = 0
    for case, reason in chosen_cases(values).items():
        try:
            prediction, reference = files.labels(case)
            image = files.image(case, images.get(case))
            unknown += image is None
        except HilumError as error:
            _log.warning("case %s is not in the report's gallery: %s", case, error)
            continue
        viewers.append(
            make_viewer(
                GalleryCase(
                    title=f"{case}, {reason}",
                    text=f"Mean Dice {of_case[case]:.3f}.",
                    image=reference if image is None else image,
                    prediction=prediction,
                    reference=reference,
                    names=names,
                    anchor=case_anchor(case),
                )
            )
        )
    text = (
        "Left of the patient is on the right of axial and coronal slices. The sliders move through"
        " the slices, by mouse or by the arrow keys."
    )
    if unknown:
        text += f" Of {counted(unknown, 'case')} no image is known; the reference is shown instead."
    return Section(name, (text,), tuple(viewers))


def _subgroups(evaluation: Evaluation) -> Section:
    """Show the subgroups, where the reference has columns."""
    overall = next(one for one in evaluation.estimates if (one.metric, one.part) == ("dice", ""))
    record = evaluation.record
    return subgroup_section(record.subgroups, overall, scaled=record.scaled)


def _failures(evaluation: Evaluation, gallery: Section) -> Section:
    """List the worst cases, each with what went wrong, and where the gallery has it."""
    worst = sorted(
        (score for score in evaluation.scores if not math.isnan(score.dice)),
        key=lambda score: score.dice,
    )[:_WORST]

    def fault(score: Score) -> str:
        if score.one_sided:
            return "missed" if score.volume_reference_ml else "invented"
        too = "large" if score.volume_error_ml > 0 else "small"
        return f"{abs(score.volume_error_relative):.0%} too {too}"

    rows = tuple(
        (score.case, score.region, decimals(score.dice), decimals(score.hd95), fault(score))
        for score in worst
    )
    head = ("case", "region", "Dice", title("hd95", scaled=evaluation.record.scaled), "volume")
    table = Table("Lowest Dice first", head, rows, case_links(gallery, [row[0] for row in rows]))
    return Section("Worst cases", blocks=(table,))


def _methods(evaluation: Evaluation) -> Section:
    """Say how the numbers were made."""
    record = evaluation.record
    shown = dict.fromkeys(one for region in record.summary.regions for one in _shown(region))
    return Section(
        "Methods",
        (
            (
                f"hilum {record.hilum} compared the label maps in {record.predictions} with"
                f" {record.reference} on the reference's own grid. Metrics:"
                f" {'; '.join(title(metric, scaled=record.scaled) for metric in shown)}."
                f" {surface_words(record)} Definitions and the rules for empty structures:"
                " docs/explanation/metrics.md."
            ),
        ),
    )
