"""The curves of a classification: ROC, precision-recall, calibration, decision.

Drawn with matplotlib's objects, without pyplot, so that nothing global changes and threads may draw
at once. Colours are those of Okabe and Ito, which people who do not see all colours can tell apart;
beyond eight questions lines are dashed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum.evaluation import ClassRows, questions
from hilum.evaluation.classification.curves import RISKS
from hilum.evaluation.classification.rows import calibration_changed
from hilum.evaluation.page import span
from hilum.io import atomic_path
from hilum.metrics import (
    auprc,
    calibration_curve,
    delong_interval,
    expected_calibration_error,
    net_benefit,
    precision_recall_curve,
    roc_curve,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from hilum.dataset import ClassTable
    from hilum.evaluation import ClassScore, Question

_Corner = Literal["lower right", "lower left", "upper right", "upper left"]
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
_GUIDE, _TEXT, _GRID = "#8C8C8C", "#262626", "#E6E6E6"
_FEW = 3  # questions up to which intervals of bins are drawn and each panel has a legend of its own


def draw_curves(scores: Sequence[ClassScore], table: ClassTable, path: Path) -> None:
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
        path: of the PNG.

    Raises:
        DataError: see `ClassRows.of`.
        ResourceError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = ClassRows.of(scores, table)
    asked = questions(rows)
    drawn = [
        _Line.of(question, number, rows, many=len(asked) > _FEW)
        for number, question in enumerate(asked)
    ]
    figure = Figure(
        figsize=(11.0, 10.4),
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2)
    lower = grid[1, 0].subgridspec(2, 1, height_ratios=(4, 1), hspace=0.02)
    curve = figure.add_subplot(lower[0])
    _draw_roc(figure.add_subplot(grid[0, 0]), drawn)
    _draw_precision(figure.add_subplot(grid[0, 1]), drawn)
    _draw_calibration(curve, figure.add_subplot(lower[1], sharex=curve), drawn)
    _draw_decision(figure.add_subplot(grid[1, 1]), drawn)
    kind = (
        "calibrated probabilities"
        if calibration_changed(scores)
        else "probabilities as the model gives them"
    )
    about = f"{asked[0].name}: " if len(asked) == 1 else ""
    figure.suptitle(
        f"{about}{len(scores)} cases of {rows.patients} patients, {kind}", fontsize=12, color=_TEXT
    )
    if len(drawn) > _FEW:
        handles = [
            line.handle(f"{line.question.name}, {line.area}, {line.precision}, {line.error}")
            for line in drawn
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9
        )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


@dataclass(frozen=True, eq=False)
class _Line:
    """Line style and legend text of one class's curve."""

    question: Question
    style: dict[str, Any]
    area: str
    precision: str
    error: str

    @classmethod
    def of(cls, question: Question, number: int, rows: ClassRows, *, many: bool) -> _Line:
        """The line of the question of that number."""
        asked = question.probability, question.positive
        interval = delong_interval(*asked, groups=rows.groups.tolist())
        ends = "" if math.isnan(interval.estimate) else f" ({span(interval.low, interval.high)})"
        return cls(
            question=question,
            style={
                "color": _COLOURS[number % len(_COLOURS)],
                "linestyle": _DASHES[number // len(_COLOURS) % len(_DASHES)],
                "linewidth": 1.3 if many else 2.0,
            },
            area=f"AUROC {_number(interval.estimate)}{ends}",
            precision=f"AUPRC {_number(auprc(*asked))}",
            error=f"ECE {_number(expected_calibration_error(*asked))}",
        )

    @property
    def colour(self) -> str:
        return str(self.style["color"])

    @property
    def defined(self) -> bool:
        """True if some cases are positive and some negative."""
        return 0 < int(self.question.positive.sum()) < len(self.question.positive)

    def handle(self, label: str) -> Any:
        """An entry of a legend."""
        from matplotlib.lines import Line2D

        return Line2D([], [], label=label, **self.style)


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"


def _panel(place: Axes, title: str, x: str, y: str) -> None:
    place.set_title(title, fontsize=12, fontweight="bold", loc="left", color=_TEXT)
    place.set_xlabel(x, color=_TEXT)
    place.set_ylabel(y, color=_TEXT)
    place.grid(color=_GRID, linewidth=0.8)
    place.set_axisbelow(True)
    place.tick_params(color=_GUIDE, labelcolor=_TEXT, labelsize=9)
    for side, spine in place.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_GUIDE)


def _legend(
    place: Axes,
    drawn: Sequence[_Line],
    said: Sequence[str],
    where: _Corner,
    *guides: dict[str, Any],
) -> None:
    """Draw a panel's legend: each class, where they are few, and the panel's other marks."""
    from matplotlib.lines import Line2D

    texts = (
        said
        if len(drawn) == 1
        else [f"{line.question.name}, {text}" for line, text in zip(drawn, said, strict=True)]
    )
    handles = (
        [line.handle(text) for line, text in zip(drawn, texts, strict=True)]
        if len(drawn) <= _FEW
        else []
    )
    own = (
        drawn[0].colour if len(drawn) == 1 else _GUIDE
    )  # what is drawn in the colour of each line is grey where there are many
    handles += [Line2D([], [], **{"linewidth": 1.2, "color": own, **guide}) for guide in guides]
    place.legend(
        handles=handles, loc=where, fontsize=9, frameon=True, framealpha=0.85, edgecolor="none"
    ).set_zorder(5)


def _draw_roc(place: Axes, drawn: Sequence[_Line]) -> None:
    _panel(place, "ROC", "1 − specificity", "sensitivity")
    place.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":", linewidth=1.2)
    for line in drawn:
        question = line.question
        if line.defined:
            curve = roc_curve(question.probability, question.positive)
            place.plot(1 - curve.specificity, curve.sensitivity, **line.style)
            called = question.called
            alarms, found = called[~question.positive].mean(), called[question.positive].mean()
            place.plot(
                alarms,
                found,
                "o",
                color=line.colour,
                markersize=7,
                markeredgecolor="white",
                clip_on=False,
                zorder=4,
            )
    place.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    as_called = {"label": "as called", "marker": "o", "linestyle": "none", "markersize": 7}
    _legend(place, drawn, [line.area for line in drawn], "lower right", as_called)


def _draw_precision(place: Axes, drawn: Sequence[_Line]) -> None:
    _panel(place, "Precision and recall", "recall (sensitivity)", "precision (PPV)")
    for line in drawn:
        if line.defined:
            curve = precision_recall_curve(line.question.probability, line.question.positive)
            recall, precision = (
                np.append(0.0, curve.recall),
                np.append(curve.precision[0], curve.precision),
            )
            place.step(recall, precision, where="pre", **line.style)
            place.axhline(curve.prevalence, color=line.colour, linestyle=":", linewidth=1.2)
    place.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(
        place,
        drawn,
        [line.precision for line in drawn],
        "lower left",
        {"label": "prevalence", "linestyle": ":"},
    )


def _draw_calibration(place: Axes, spread: Axes, drawn: Sequence[_Line]) -> None:
    _panel(place, "Calibration", "", "observed share")
    place.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":", linewidth=1.2)
    edges = np.linspace(0, 1, 41)
    for line in drawn:
        question = line.question
        curve = calibration_curve(question.probability, question.positive)
        place.plot(
            curve.predicted,
            curve.observed,
            marker="o",
            markersize=4.5,
            markeredgecolor="white",
            **line.style,
        )
        if len(drawn) <= _FEW:
            reach = np.stack([curve.observed - curve.low, curve.high - curve.observed])
            place.errorbar(
                curve.predicted,
                curve.observed,
                np.maximum(reach, 0),
                fmt="none",
                ecolor=line.colour,
                elinewidth=1.2,
            )
        counts, _ = np.histogram(question.probability, edges)
        spread.stairs(
            counts,
            edges,
            color=line.colour,
            linestyle=line.style["linestyle"],
            linewidth=1.4,
            fill=len(drawn) == 1,
            alpha=0.8,
        )
    place.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    place.tick_params(labelbottom=False)
    _legend(
        place,
        drawn,
        [line.error for line in drawn],
        "upper left",
        {"label": "calibrated", "linestyle": ":", "color": _GUIDE},
    )
    _panel(spread, "", "predicted probability", "cases")


def _draw_decision(place: Axes, drawn: Sequence[_Line]) -> None:
    _panel(place, "Decision", "risk from which one would act", "net benefit")
    place.axhline(0, color=_TEXT, linewidth=1.2)
    highest = 0.0
    for line in drawn:
        curve = net_benefit(line.question.probability, line.question.positive, RISKS)
        place.plot(curve.thresholds, curve.model, **line.style)
        place.plot(
            curve.thresholds, curve.treat_all, color=line.colour, linestyle=":", linewidth=1.2
        )
        highest = max(highest, float(line.question.positive.mean()))
    place.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.12 * max(highest, 0.1), (1.12 + 0.05 * min(len(drawn), _FEW)) * max(highest, 0.1)),
    )
    guides = {"label": "act on all", "linestyle": ":"}, {"label": "act on none", "color": _TEXT}
    _legend(place, drawn, ["the model" for _ in drawn], "upper right", *guides)
