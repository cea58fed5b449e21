"""The confusion matrix of a classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError, counted
from hilum.evaluation import ClassRows
from hilum.metrics import confusion
from hilum.report.canvas import new_canvas, plain, save_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from hilum.dataset import ClassTable
    from hilum.evaluation import ClassScore

_DARK = 0.55  # share of a row from which its cell is so dark that the text is white

_LETTERS = 40  # of all names together, which fit side by side


def plot_confusion(scores: Sequence[ClassScore], table: ClassTable, path: Path) -> None:
    """Write the table of `confusion_canvas` as PNG.

    Raises:
        UsageError: findings, of which a case may have several.
        DataError: see `ClassRows.of`.
        ResourceError: the file cannot be written.
    """
    save_png(confusion_canvas(scores, table), path)


def confusion_canvas(scores: Sequence[ClassScore], table: ClassTable) -> Figure:
    """Draw the counts of each class (rows) by predicted class (columns), shaded by row share.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are: exclusive ones or grades.

    Raises:
        UsageError: findings, of which a case may have several.
        DataError: see `ClassRows.of`.
    """
    if table.kind == "multilabel":
        raise UsageError(
            "there is no confusion matrix of findings, of which a case may have several",
            needed="classes that exclude each other, or grades",
        )
    rows = ClassRows.of(scores, table)
    classes = len(table.names)
    counts = confusion(rows.index, rows.called, classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)

    side = max(4.2, 0.95 * classes + 2.2)
    figure = new_canvas(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 11 if classes <= 6 else 8
    for line in range(classes):
        for column in range(classes):
            text = f"{counts[line, column]}\n{shares[line, column]:.0%}" if totals[line] else "0"
            colour = "white" if shares[line, column] > _DARK else "#262626"
            axes.text(column, line, text, ha="center", va="center", color=colour, fontsize=size)
    flat = sum(map(len, table.names)) <= _LETTERS
    names = list(map(plain, table.names))
    axes.set_xticks(
        range(classes), names, rotation=0 if flat else 40, ha="center" if flat else "right"
    )
    axes.set_yticks(
        range(classes),
        [f"{name}\n{count}" for name, count in zip(names, totals[:, 0], strict=True)],
    )
    axes.set(xlabel="what they are called", ylabel="what they are")
    axes.set_title(
        f"{counted(len(scores), 'case')}, {np.trace(counts) / len(scores):.1%} called right",
        loc="left",
        fontsize=11,
    )
    axes.tick_params(length=0)
    for edge in np.arange(classes - 1) + 0.5:
        axes.axhline(edge, color="white", linewidth=2)
        axes.axvline(edge, color="white", linewidth=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
