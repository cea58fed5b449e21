"""The curves of a classification: ROC, precision-recall, calibration, decision.

Colours are those of Okabe and Ito, which people who do not see all colours can tell apart; beyond
eight questions lines are dashed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from hilum.errors import counted
from hilum.evaluation import ClassRows, questions
from hilum.evaluation.classification.arrays import calibration_changed
from hilum.evaluation.classification.curves import RISKS
from hilum.evaluation.page import span
from hilum.metrics import (
    auprc,
    calibration_curve,
    delong_interval,
    expected_calibration_error,
    net_benefit,
    precision_recall_curve,
    roc_curve,
)
from hilum.report.canvas import SERIES, new_canvas, plain, save_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.lines import Line2D

    from hilum.dataset import ClassTable
    from hilum.evaluation import ClassScore, Question

    _LineStyle = Literal["-", ":", "none"] | tuple[float, tuple[float, ...]]

_Corner = Literal["lower right", "lower left", "upper right", "upper left"]
_DASHES: tuple[_LineStyle, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
_GUIDE, _TEXT, _GRID = "#8C8C8C", "#262626", "#E6E6E6"
_FEW = 3  # questions up to which intervals of bins are drawn and each panel has a legend of its own


class _Style(TypedDict, total=False):
    """Options of a line of matplotlib."""

    color: str
    linestyle: _LineStyle
    linewidth: float
    marker: str
    markersize: float


_DOTS: _Style = {"linestyle": ":", "linewidth": 1.2}


@dataclass(frozen=True, eq=False)
class _Line:
    """One class's curve: its style and the texts of its legends."""

    question: Question
    style: _Style
    area: str
    precision: str
    error: str

    @property
    def colour(self) -> str:
        """Give the colour of the line and of what belongs to it."""
        return self.style["color"]

    @property
    def defined(self) -> bool:
        """True if some cases are positive and some negative."""
        return 0 < int(self.question.positive.sum()) < len(self.question.positive)


def plot_curves(scores: Sequence[ClassScore], table: ClassTable, path: Path) -> None:
    """Write the panels of `curves_canvas` as PNG.

    Raises:
        DataError: see `ClassRows.of`.
        ResourceError: the file cannot be written.
    """
    save_png(curves_canvas(scores, table), path)


def curves_canvas(scores: Sequence[ClassScore], table: ClassTable) -> Figure:
    """Draw four panels, one line a yes-no question.

    A question is the second of two classes, each class against the rest, each step between grades,
    or each finding. ROC with the AUROC and its DeLong interval over patients; precision-recall with
    the AUPRC; observed share against predicted probability in ten bins of as many cases, with
    Wilson intervals, and the spread of the probabilities below; net benefit against treating all
    and treating none. Calibrated probabilities are drawn where every case has them. A question that
    all cases answer alike has no ROC, and the legend says so. Of more than three questions there is
    one legend for all panels, and no intervals of bins.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.

    Raises:
        DataError: see `ClassRows.of`.
    """
    rows = ClassRows.of(scores, table)
    lines = _lines(rows)
    figure = new_canvas(11.0, 10.4, padding=0.12)
    grid = figure.add_gridspec(2, 2)
    for place, panel in zip(((0, 0), (0, 1), (1, 0), (1, 1)), _PANELS.values(), strict=True):
        panel(figure, grid[place], lines)
    kind = (
        "calibrated probabilities"
        if calibration_changed(scores)
        else "probabilities as the model gives them"
    )
    about = f"{lines[0].question.name}: " if len(lines) == 1 else ""
    title = f"{about}{counted(len(scores), 'case')} of {counted(rows.patients, 'patient')}, {kind}"
    figure.suptitle(plain(title), fontsize=12, color=_TEXT)
    if len(lines) > _FEW:
        _common_legend(figure, lines)
    return figure


def panel_canvases(scores: Sequence[ClassScore], table: ClassTable) -> dict[str, Figure]:
    """Draw each panel of `curves_canvas` as a figure of its own.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.

    Returns:
        "roc", "precision_recall", "calibration" and "decision".

    Raises:
        DataError: see `ClassRows.of`.
    """
    lines = _lines(ClassRows.of(scores, table))
    figures = {}
    for name, panel in _PANELS.items():
        figures[name] = figure = new_canvas(6.6, 5.6)
        panel(figure, figure.add_gridspec(1, 1)[0, 0], lines)
        if len(lines) > _FEW:
            _common_legend(figure, lines)
    return figures


def _common_legend(canvas: Figure, lines: Sequence[_Line]) -> None:
    """Draw one legend for all panels."""
    texts = [f"{one.question.name}, {one.area}, {one.precision}, {one.error}" for one in lines]
    canvas.legend(
        handles=[_handle(text, one.style) for text, one in zip(texts, lines, strict=True)],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )


def _lines(rows: ClassRows) -> list[_Line]:
    """Return the line of each question."""
    lines, every = [], questions(rows)
    for number, question in enumerate(every):
        arrays = question.probability, question.positive
        interval = delong_interval(*arrays, groups=rows.groups.tolist())
        ends = "" if math.isnan(interval.estimate) else f" ({span(interval.low, interval.high)})"
        style: _Style = {
            "color": SERIES[number % len(SERIES)],
            "linestyle": _DASHES[number // len(SERIES) % len(_DASHES)],
            "linewidth": 1.3 if len(every) > _FEW else 2.0,
        }
        area = f"AUROC {_number(interval.estimate)}{ends}"
        error = f"ECE {_number(expected_calibration_error(*arrays))}"
        lines.append(_Line(question, style, area, f"AUPRC {_number(auprc(*arrays))}", error))
    return lines


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"


def _handle(label: str, style: _Style) -> Line2D:
    """Return an entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=plain(label), **style)


def _panel(axes: Axes, title: str, x: str, y: str) -> None:
    """Give a panel its title, axis labels, grid and limits of 0 to 1."""
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left", color=_TEXT)
    axes.set_xlabel(x, color=_TEXT)
    axes.set_ylabel(y, color=_TEXT)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(color=_GUIDE, labelcolor=_TEXT, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_GUIDE)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _legend(
    axes: Axes,
    lines: Sequence[_Line],
    texts: Sequence[str],
    corner: _Corner,
    guides: dict[str, _Style],
) -> None:
    """Draw a panel's legend: each class, where they are few, and the panel's other marks.

    Marks in the colour of each line are grey where there are many.
    """
    single = len(lines) == 1
    handles = [
        _handle(text if single else f"{line.question.name}, {text}", line.style)
        for line, text in zip(lines, texts, strict=True)
        if len(lines) <= _FEW
    ]
    own: _Style = {"linewidth": 1.2, "color": lines[0].colour if single else _GUIDE}
    handles += [_handle(label, {**own, **style}) for label, style in guides.items()]
    axes.legend(
        handles=handles, loc=corner, fontsize=9, frameon=True, framealpha=0.85, edgecolor="none"
    ).set_zorder(5)


def _plot_roc(canvas: Figure, place: SubplotSpec, lines: Sequence[_Line]) -> None:
    """Draw the ROC curves, with a point where cases are called."""
    axes = canvas.add_subplot(place)
    _panel(axes, "ROC", "1 − specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=_GUIDE, **_DOTS)
    for line in lines:
        if line.defined:
            positive, called = line.question.positive, line.question.called
            curve = roc_curve(line.question.probability, positive)
            axes.plot(1 - curve.specificity, curve.sensitivity, **line.style)
            axes.plot(
                called[~positive].mean(),
                called[positive].mean(),
                "o",
                color=line.colour,
                markersize=7,
                markeredgecolor="white",
                clip_on=False,
                zorder=4,
            )
    as_called: _Style = {"marker": "o", "linestyle": "none", "markersize": 7}
    areas = [line.area for line in lines]
    _legend(axes, lines, areas, "lower right", {"as called": as_called})


def _plot_precision(canvas: Figure, place: SubplotSpec, lines: Sequence[_Line]) -> None:
    """Draw precision over recall, with each prevalence."""
    axes = canvas.add_subplot(place)
    _panel(axes, "Precision and recall", "recall (sensitivity)", "precision (PPV)")
    for line in lines:
        if line.defined:
            curve = precision_recall_curve(line.question.probability, line.question.positive)
            recall, precision = (
                np.append(0.0, curve.recall),
                np.append(curve.precision[0], curve.precision),
            )
            axes.step(recall, precision, where="pre", **line.style)
            axes.axhline(curve.prevalence, color=line.colour, **_DOTS)
    precisions = [line.precision for line in lines]
    _legend(axes, lines, precisions, "lower left", {"prevalence": {"linestyle": ":"}})


def _plot_calibration(canvas: Figure, place: SubplotSpec, lines: Sequence[_Line]) -> None:
    """Draw observed over predicted shares, and below them how many cases were predicted so."""
    parts = place.subgridspec(2, 1, height_ratios=(4, 1), hspace=0.02)
    axes = canvas.add_subplot(parts[0])
    spread = canvas.add_subplot(parts[1], sharex=axes)
    _panel(axes, "Calibration", "", "observed share")
    _panel(spread, "", "predicted probability", "cases")
    spread.set_ylim(auto=True)
    axes.plot([0, 1], [0, 1], color=_GUIDE, **_DOTS)
    edges = np.linspace(0, 1, 41)
    for line in lines:
        probability = line.question.probability
        curve = calibration_curve(probability, line.question.positive)
        points = curve.predicted, curve.observed
        axes.plot(*points, marker="o", markersize=4.5, markeredgecolor="white", **line.style)
        if len(lines) <= _FEW:
            reach = np.stack([curve.observed - curve.low, curve.high - curve.observed])
            axes.errorbar(
                *points, np.maximum(reach, 0), fmt="none", ecolor=line.colour, elinewidth=1.2
            )
        spread.stairs(
            np.histogram(probability, edges)[0],
            edges,
            color=line.colour,
            linestyle=line.style["linestyle"],
            linewidth=1.4,
            fill=len(lines) == 1,
            alpha=0.8,
        )
    axes.tick_params(labelbottom=False)
    calibrated: _Style = {"linestyle": ":", "color": _GUIDE}
    errors = [line.error for line in lines]
    _legend(axes, lines, errors, "upper left", {"calibrated": calibrated})


def _plot_decision(canvas: Figure, place: SubplotSpec, lines: Sequence[_Line]) -> None:
    """Draw the net benefit of the model, of acting on all and of acting on none."""
    axes = canvas.add_subplot(place)
    _panel(axes, "Decision", "risk from which one would act", "net benefit")
    axes.axhline(0, color=_TEXT, linewidth=1.2)
    for line in lines:
        curve = net_benefit(line.question.probability, line.question.positive, RISKS)
        axes.plot(curve.thresholds, curve.model, **line.style)
        axes.plot(curve.thresholds, curve.treat_all, color=line.colour, **_DOTS)
    top = max(0.1, *(float(line.question.positive.mean()) for line in lines))
    axes.set_ylim(-0.12 * top, (1.12 + 0.05 * min(len(lines), _FEW)) * top)
    guides: dict[str, _Style] = {"act on all": {"linestyle": ":"}, "act on none": {"color": _TEXT}}
    _legend(axes, lines, ["the model" for _ in lines], "upper right", guides)


_PANELS = {
    "roc": _plot_roc,
    "precision_recall": _plot_precision,
    "calibration": _plot_calibration,
    "decision": _plot_decision,
}
"""Panels by name, in the order in which they are shown."""
