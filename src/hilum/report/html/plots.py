"""Plots of an evaluation of label maps and of a comparison, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import counted, plain_digits
from hilum.evaluation.page import decimals, span
from hilum.evaluation.segmentation.lesion_curve import RATES
from hilum.report.canvas import BLUE, GREY, GRID, ORANGE, SERIES, new_canvas, plain
from hilum.report.html.document import Plot, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.evaluation import Difference, Estimate, LesionCurve

    Numbers = NDArray[np.float64]

_FROC_RATES = np.geomspace(RATES[0], RATES[-1], 200).tolist()
_QUARTILES = (0, 0.25, 0.5, 0.75, 1)


def box_plot(values: Mapping[str, Numbers], metric: str) -> Plot:
    """Draw every case of each region as a dot, with quartiles; undefined ones are left out."""
    canvas = new_canvas(7.0, 0.7 * len(values) + 1.1)
    axes = canvas.subplots()
    random = np.random.default_rng(0)
    names, rows = list(values), list[tuple[str, ...]]()
    for row, name in enumerate(names):
        defined = values[name][~np.isnan(values[name])]
        axes.boxplot(
            defined,
            positions=[row],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": ORANGE, "linewidth": 2},
        )
        heights = row + random.uniform(-0.18, 0.18, len(defined))
        axes.plot(defined, heights, ".", color=BLUE, alpha=0.6, markersize=5)
        ends = np.quantile(defined, _QUARTILES) if defined.size else np.full(5, np.nan)
        rows.append((name, str(defined.size), *map(decimals, ends)))
    axes.set_yticks(range(len(names)), list(map(plain, names)))
    axes.invert_yaxis()
    axes.set_xlabel(plain(metric))
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    medians = "; ".join(f"{name} {cells[2]}" for name, _, *cells in rows)
    text = f"A dot is a case, the box holds the middle half of them. Medians: {medians}."
    head = ("region", "n", "least", "first quartile", "median", "third quartile", "most")
    return Plot(f"Each case: {metric}", canvas, text, Table(metric, head, tuple(rows)))


def forest_plot(rows: Sequence[tuple[str, Estimate]], name: str, metric: str) -> Plot:
    """Draw estimates with their intervals below each other, the first one as a line through all."""
    canvas = new_canvas(7.0, 0.32 * len(rows) + 1.1)
    axes = canvas.subplots()
    for row, (_, one) in enumerate(rows):
        axes.plot([one.low, one.high], [row, row], color=BLUE, linewidth=2)
        axes.plot([one.value], [row], "o", color=BLUE, markersize=5)
    axes.axvline(rows[0][1].value, color=ORANGE, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(rows)), [plain(f"{label}, n = {one.n}") for label, one in rows])
    axes.invert_yaxis()
    axes.set_xlabel(plain(metric))
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    apart = [
        label
        for label, one in rows[1:]
        if one.high < rows[0][1].value or one.low > rows[0][1].value
    ]
    text = (
        "Dots are estimates, lines their intervals, the dashed line is that of all cases. Intervals"
        f" without it: {', '.join(apart) or 'none'}. The table below has the numbers."
    )
    return Plot(name, canvas, text)


def bland_altman(
    reference: Numbers, prediction: Numbers, region: str, millilitres: str
) -> Plot | None:
    """Draw the volume error of each case against the mean of both volumes.

    With the mean error and the limits of agreement, mean +- 1.96 standard deviations (Bland and
    Altman, Lancet 327, 1986). `millilitres` names what volumes are counted in. None with fewer than
    three cases.
    """
    if len(reference) < 3:
        return None
    error = prediction - reference
    mean, spread = float(error.mean()), float(error.std(ddof=1))
    limits = mean - 1.96 * spread, mean + 1.96 * spread
    canvas = new_canvas(7.0, 3.6)
    axes = canvas.subplots()
    axes.plot((reference + prediction) / 2, error, "o", color=BLUE, alpha=0.6, markersize=4)
    axes.axhline(mean, color=ORANGE, linewidth=1.8)
    for limit in limits:
        axes.axhline(limit, color=ORANGE, linewidth=1.2, linestyle="--")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(f"mean of both volumes, {millilitres}")
    axes.set_ylabel(f"prediction - reference, {millilitres}")
    text = (
        f"Mean error {plain_digits(mean, 3)} {millilitres} (solid line); limits of agreement"
        f" {plain_digits(limits[0], 3)} to {plain_digits(limits[1], 3)} {millilitres} (dashed),"
        " between which 95 % of the errors are expected."
    )
    return Plot(f"Volumes of {region}", canvas, text)


def froc_plot(curves: Sequence[LesionCurve]) -> Plot | None:
    """Draw the share of lesions found against false positives a case; None without a lesion."""
    shown = [one for one in curves if one.lesions]
    if not shown:
        return None
    canvas = new_canvas(6.0, 3.6)
    axes = canvas.subplots()
    for number, one in enumerate(shown):
        colour = SERIES[number % len(SERIES)]
        ends = max(one.false_positives, default=0.0)
        for rates, style in ((_FROC_RATES, ":"), ([r for r in _FROC_RATES if r <= ends], "-")):
            found = [one.sensitivity_at(rate) for rate in rates]
            name = plain(one.region) if style == "-" else None
            axes.plot(rates, found, style, color=colour, drawstyle="steps-post", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positives a case")
    axes.set_ylabel("share of the lesions found")
    axes.grid(color=GRID)
    axes.legend(loc="lower right")
    said = "; ".join(
        f"{one.region} {decimals(one.mean_sensitivity)} ({span(one.low, one.high)}) of"
        f" {counted(one.lesions, 'lesion')}"
        for one in shown
    )
    text = (
        f"Mean of the sensitivities at the marked numbers of false positives: {said}. Dotted:"
        " beyond the last component of the label maps."
    )
    return Plot("Lesions found against false positives (FROC)", canvas, text)


def difference_plot(rows: Sequence[tuple[str, Difference]]) -> Plot | None:
    """Draw differences with their intervals, those of one scale; None where there are none."""
    shown = [(name, one) for name, one in rows if not np.isnan(one.low + one.high)]
    if not shown:
        return None
    canvas = new_canvas(7.0, 0.35 * len(shown) + 1.1)
    axes = canvas.subplots()
    for row, (_, one) in enumerate(shown):
        colour = GREY if one.better == "undecided" else ORANGE
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=2)
        axes.plot([one.difference], [row], "o", color=colour, markersize=5)
        if one.margin is not None:
            axes.plot([-one.margin, one.margin], [row, row], "|", color=BLUE, markersize=12)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(shown)), [plain(name) for name, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("a - b")
    decided = sum(one.better != "undecided" for _, one in shown)
    text = (
        f"Dots are mean differences, lines their intervals; {decided} of {len(shown)} are decided"
        " (orange). Bars across a line are its margin of equivalence."
    )
    return Plot("Differences", canvas, text)
