"""Table of what MONAI, medpy, surface-distance and nnU-Net would print for the scored masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.estimates import csv_text
from hilum.evaluation.metric_table import nsd_name, title
from hilum.evaluation.page import decimals
from hilum.evaluation.records import Number, Record
from hilum.metrics import Tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.segmentation.score import Score

COLUMNS = ("case", "region", "tool", "metric", "value")
"""Columns of other_tools.csv; a value is empty where the tool has NaN, "error" where it raises."""

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",  # and its tolerance, see `tool_rows`
    "hd": "HD",
    "hd95": "HD95",
    "asd": "ASD, prediction to reference",
    "assd": "ASSD",
}


class ToolMean(Record):
    """One metric of one region, as a tool prints it over all cases.

    Args:
        region: its name.
        tool: whose number it is.
        metric: see `hilum.metrics.PeerValue`.
        mean: over the cases that the tool has a number for, as MONAI and nnU-Net take it; NaN where
            there is none or one is infinite.
        cases: cases.
        left_out: those where the tool has NaN.
        infinite: those where it has infinity, which makes its mean infinite.
        errors: those where it raises an error.
    """

    region: str
    tool: Tool
    metric: str
    mean: Number
    cases: int
    left_out: int
    infinite: int
    errors: int

    def __str__(self) -> str:
        """Return what the tool prints, for people: 0.912, inf, "nan", and why."""
        counts = {
            f"NaN left out in {counted(self.left_out, 'case')}": self.left_out,
            f"error in {counted(self.errors, 'case')}": self.errors,
        }
        notes = "; ".join(note for note, number in counts.items() if number)
        value = "inf" if self.infinite else decimals(self.mean)
        return f"{value} ({notes})" if notes else value


def tool_means(scores: Iterable[Score]) -> tuple[ToolMean, ...]:
    """Average what each tool prints of each region, over the cases."""
    values: dict[tuple[str, Tool, str], list[float | None]] = {}
    for score in scores:
        for tool, metric, value in score.peers:
            values.setdefault((score.region, tool, metric), []).append(value)
    means = []
    for (region, tool, metric), found in values.items():
        numbers = [value for value in found if value is not None and not math.isnan(value)]
        infinite = sum(math.isinf(value) for value in numbers)
        means.append(
            ToolMean(
                region=region,
                tool=tool,
                metric=metric,
                mean=sum(numbers) / len(numbers) if numbers and not infinite else math.nan,
                cases=len(found),
                left_out=sum(value is not None and math.isnan(value) for value in found),
                infinite=infinite,
                errors=sum(value is None for value in found),
            )
        )
    return tuple(means)


def tool_table(scores: Iterable[Score]) -> str:
    """Return the text of other_tools.csv."""
    return csv_text(
        COLUMNS,
        (
            (score.case, score.region, tool, metric, "error" if value is None else value)
            for score in scores
            for tool, metric, value in score.peers
        ),
    )


def tool_rows(
    means: Sequence[ToolMean], *, tolerance_mm: float, scaled: bool
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table for people: a row a region and metric, a column a tool.

    Args:
        means: of every tool.
        tolerance_mm: of the normalised surface distance; of pictures without a scale in pixels.
        scaled: distances are in mm, not pixels.
    """
    titles = _TITLES | {"nsd": title(nsd_name(tolerance_mm), scaled=scaled)}
    tools = list(dict.fromkeys(one.tool for one in means))
    cells = {(one.region, one.metric, one.tool): str(one) for one in means}
    regions = dict.fromkeys(one.region for one in means)
    metrics = [name for name in titles if any(one.metric == name for one in means)]
    rows = [
        [region, titles[metric], *(cells.get((region, metric, tool), "–") for tool in tools)]
        for region in regions
        for metric in metrics
    ]
    return ["region", "metric", *tools], rows
