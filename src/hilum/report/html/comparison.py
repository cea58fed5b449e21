"""The report of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.comparison_page import comparison_methods, comparison_table, conclusion
from hilum.evaluation.metric_table import title
from hilum.evaluation.page import decimals, span
from hilum.report.html.document import Document, KeyNumber, Section, Table
from hilum.report.html.plots import difference_plot

if TYPE_CHECKING:
    from hilum.evaluation import Comparison

_NUMBERS = 3


def comparison_report(comparison: Comparison) -> Document:
    """Return the report of a comparison."""
    scaled = comparison.scaled is not False
    names = {
        id(one): f"{title(one.metric, scaled=scaled)} of {one.part or 'all'}"
        for one in comparison.differences
    }
    numbers = tuple(
        KeyNumber(decimals(one.difference), span(one.low, one.high), f"a - b, {names[id(one)]}")
        for one in comparison.differences[:_NUMBERS]
    )
    units = [one for one in comparison.differences if "," not in title(one.metric, scaled=scaled)]
    plot = difference_plot([(names[id(one)], one) for one in units])
    head, rows = comparison_table(comparison)
    left_out = (
        [f"Left out, as only one of the two has them: {', '.join(comparison.left_out)}."]
        if comparison.left_out
        else []
    )
    sections = (
        Section("Differences", blocks=() if plot is None else (plot,)),
        Section("All metrics", blocks=(Table("a minus b", head, tuple(rows)),)),
        Section("Data and methods", (comparison_methods(comparison), *left_out)),
    )
    summary = (
        (
            f"Two evaluations of the same {counted(comparison.cases, 'case')}: a is {comparison.a},"
            f" b is {comparison.b}."
        ),
        conclusion(comparison),
    )
    return Document("Comparison of two evaluations", summary, numbers, sections)
