"""The learning curve of one fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.report.canvas import BLUE, DARK_ORANGE, new_canvas
from hilum.report.html.document import Plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.report.html.model_folder import CurveRow

_PALE_BLUE = "#9EC9E2"
_MOST = 600
"""Points of a curve; more would not be told apart."""
_WINDOW = 0.05
"""Part of the rows over which the bold line of the loss is averaged."""


def learning_curves(name: str, rows: Sequence[CurveRow]) -> Plot:
    """Draw loss and held-out score over the steps.

    Args:
        name: of the fold.
        rows: of its log, at least one.
    """
    steps = np.array([row.step for row in rows])
    losses = np.array([row.loss for row in rows])
    scored = [(row.step, row.score) for row in rows if row.score is not None]
    canvas = new_canvas(7.0, 3.4)
    axes = canvas.subplots()
    thin = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int))
    half = int(_WINDOW * len(rows) / 2)
    drawn = losses
    if half:
        axes.plot(steps[thin], losses[thin], color=_PALE_BLUE, linewidth=1)
        drawn = _running_mean(losses, half)
    axes.plot(steps[thin], drawn[thin], color=BLUE, linewidth=2, marker="" if half else ".")
    axes.set_xlabel("step")
    axes.set_ylabel("loss of training", color=BLUE)
    text = (
        f"Loss of training from {losses[0]:.3g} at step {steps[0]} to {losses[-1]:.3g} at step"
        f" {steps[-1]} (blue{'; the bold line is its running mean' if half else ''})."
    )
    if scored:
        right = axes.twinx()
        right.plot(*zip(*scored, strict=True), color=DARK_ORANGE, linewidth=1.8, marker="o")
        right.set_ylabel("score of held-out cases", color=DARK_ORANGE)
        best = max(scored, key=lambda pair: pair[1])
        text += (
            f" Score of held-out cases (orange): last {scored[-1][1]:.3f}, best {best[1]:.3f} at"
            f" step {best[0]}."
        )
    else:
        text += " No held-out case was scored during the training."
    return Plot(f"Learning curve, {name}", canvas, text)


def _running_mean(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], half: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the mean of the values around each, `half` of them on either side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))
