"""The plots of a report as PNG and SVG, and its tables as CSV and LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.evaluation.estimates import csv_text
from hilum.files import OutputFolder
from hilum.report.canvas import save_png, svg_text
from hilum.report.html.document import Plot, Table, slug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hilum.report.html.document import Document

_LONGEST_NAME = 50
_DPI = 300
_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "–": "--",
    "−": "$-$",
}


def write_plots_and_tables(document: Document, folder: Path) -> None:
    """Write every plot as PNG and SVG, and every table as CSV and LaTeX.

    Files are named by section, place and title: results-1-liver.csv.

    Args:
        document: a report.
        folder: for the files; what an earlier report wrote there is replaced.

    Raises:
        UsageError: a file of these names that no report wrote is in the way.
        ResourceError: the folder cannot be written, or another process writes to it.
    """
    plots: dict[str, Plot] = {}
    texts: dict[str, str] = {}
    for name, block in _blocks(document):
        if isinstance(block, Plot):
            plots[f"{name}.png"] = block
            texts[f"{name}.svg"] = svg_text(block.canvas)
        else:
            texts[f"{name}.csv"] = csv_text(block.head, block.rows)
            texts[f"{name}.tex"] = latex_table(block)
    with OutputFolder(folder, "report") as out:
        out.refuse_foreign([*plots, *texts])
        for name, plot in plots.items():
            save_png(plot.canvas, out.path / name, dpi=_DPI)
            out.record(name)
        out.write(texts)


def _blocks(document: Document) -> Iterator[tuple[str, Plot | Table]]:
    """Name every plot and table of a report; the numbers of a plot have its name."""
    for section in document.sections:
        for number, block in enumerate(section.blocks, start=1):
            if isinstance(block, Plot | Table):
                named = block.title if isinstance(block, Plot) else block.caption.partition(":")[0]
                title = slug(named)
                name = f"{section.anchor}-{number}-{title[:_LONGEST_NAME].rstrip('-')}"
                yield name, block
                if isinstance(block, Plot) and block.data is not None:
                    yield name, block.data


def latex_table(table: Table) -> str:
    """Return a table for LaTeX with the package booktabs."""
    count = len(table.head)
    columns = "l" + "r" * (count - 1)
    if table.wrap:
        columns = rf"p{{{0.9 / count:.2f}\linewidth}}" * count
    head, *rows = (" & ".join(map(_escaped, cells)) + r" \\" for cells in (table.head, *table.rows))
    lines = (
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    )
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return a text in which no sign has a meaning to LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in text)
