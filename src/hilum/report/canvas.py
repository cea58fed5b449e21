"""Figures of matplotlib without pyplot: nothing global changes, and threads may draw at once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hilum.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


BLUE, ORANGE, DARK_ORANGE = "#0072B2", "#D55E00", "#B34700"
GREY, GRID = "#6E6E6E", "#E0E0E0"
"""Colours of plots, those of Okabe and Ito, which people who do not see all colours can tell apart;
the dark one is for letters."""
SERIES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
"""Colours of lines that are drawn together, in this order."""


def new_canvas(width: float, height: float, *, padding: float | None = None) -> Figure:
    """Make a white figure of so many inches, whose panels find their own places."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=padding, h_pad=padding)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(text: str) -> str:
    """Return a user's text so that matplotlib draws it as it is: "$" starts no formula."""
    return text.replace("$", r"\$")


def save_png(canvas: Figure, path: Path, *, dpi: int = 110) -> None:
    """Write a figure as PNG.

    Raises:
        ResourceError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        canvas.savefig(temporary, dpi=dpi)


def svg_text(canvas: Figure) -> str:
    """Return a figure as SVG, the same text every time."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.hashsalt": "hilum"}):
        canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
