"""The section on subgroups of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.evaluation.metric_table import title
from hilum.evaluation.subgroups import CAUTION, SMALL
from hilum.report.html.document import Section, Table
from hilum.report.html.plots import forest_plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.evaluation import Estimate
    from hilum.evaluation.subgroups import CaseSubgroup
    from hilum.report.html.document import Block


def subgroup_section(
    groups: Sequence[CaseSubgroup], overall: Estimate | None, *, scaled: bool = True
) -> Section:
    """Show the metrics of subgroups: the first one as a plot, all in a table for each part.

    Args:
        groups: the subgroups; none make a section without content.
        overall: the first metric of all cases, for the plot.
        scaled: distances are in mm, not pixels.
    """
    name = "Subgroups"
    if not groups:
        return Section(name)
    blocks: list[Block] = []
    if overall is not None:
        rows = [
            (_named(group), one)
            for group in groups
            for one in group.figures
            if (one.metric, one.part) == (overall.metric, overall.part)
        ]
        label = title(overall.metric, scaled=scaled)
        blocks.append(forest_plot([("all cases", overall), *rows], f"{label} in subgroups", label))
    parts = dict.fromkeys(one.part for group in groups for one in group.figures)
    shown = sorted(parts)[1:] if len(parts) == 2 else sorted(parts)  # one region is its own mean
    blocks += [_table(groups, part, scaled=scaled) for part in shown]
    text = f'Remark "few": fewer than {SMALL} patients, to be read with doubt. {CAUTION}'
    return Section(name, (text,), tuple(blocks))


def _named(group: CaseSubgroup) -> str:
    return f"{group.column}: {group.value}"


def _table(groups: Sequence[CaseSubgroup], part: str, *, scaled: bool) -> Table:
    """Make the table of one part; "" is all of them."""
    metrics = list(
        dict.fromkeys(one.metric for group in groups for one in group.figures if one.part == part)
    )
    rows = []
    for group in groups:
        of = {one.metric: one for one in group.figures if one.part == part}
        cells = [str(of[m]) for m in metrics]
        remarks = ["few"] if group.small else []
        remarks += [
            f"{title(m, scaled=scaled)}: {of[m].note}"
            for m, cell in zip(metrics, cells, strict=True)
            if of[m].note not in cell
        ]
        rows.append(
            (_named(group), str(group.cases), str(group.patients), *cells, "; ".join(remarks))
        )
    head = ("subgroup", "cases", "patients", *(title(m, scaled=scaled) for m in metrics), "remark")
    return Table(f"Metrics of {part or 'all'} in subgroups", head, tuple(rows))
