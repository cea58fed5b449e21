"""Proposed metrics of an evaluation of label maps, and what other tools would print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.evaluation.markdown import OTHER_TOOLS_REMARK, proposal_rows
from hilum.evaluation.segmentation.other_tools import tool_rows
from hilum.report.html.document import Section, Table

if TYPE_CHECKING:
    from hilum.evaluation import Evaluation


def proposal_section(evaluation: Evaluation) -> Section:
    """Say which metrics to look at, and why."""
    head, *rows = proposal_rows(evaluation)
    table = Table("By the shape of the references", head, tuple(rows), wrap=True)
    return Section("Which metrics to look at", blocks=(table,) if rows else ())


def other_tools_section(evaluation: Evaluation) -> Section:
    """Show what other tools would print for the same masks, where it was asked for."""
    record = evaluation.record
    if not record.other_tools:
        return Section("Other tools")
    head, rows = tool_rows(
        record.other_tools, tolerance_mm=record.tolerance_mm, scaled=record.scaled
    )
    table = Table("Printed by other tools for the same masks", tuple(head), tuple(map(tuple, rows)))
    return Section("Other tools", (OTHER_TOOLS_REMARK,), (table,))
