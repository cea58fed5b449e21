"""Proposals of metrics to look at, from the shape of the references, with the reason in words.

The rules follow Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 21, 2024: an overlap
metric together with a metric of the boundary; small structures, tubes, several components and
objects of one kind each have a metric that shows what Dice hides.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.metric_table import ON_REQUEST
from hilum.evaluation.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.segmentation.score import Score
    from hilum.evaluation.segmentation.summary import RegionSummary

SMALL = 0.9
"""Half a voxel of border decides so much of Dice that the grid is measured rather than the model.
Of the public sets in the tests, hippocampus parts have 0.86, nuclei 0.93, a liver 0.97."""

LONG = 0.1
"""Roundness of a tube that is 22 times as long as wide; vessels of liver and retina have 0.005 to
0.03, hippocampus parts 0.2 to 0.4."""


class Proposal(Record):
    """A metric that suits a region, with the reason.

    Args:
        region: of which region.
        metric: see `hilum.evaluation.METRICS`; one on request ("cldice") may not be computed.
        computed: whether it is in this evaluation.
        because: the reason, one sentence without a full stop.
    """

    region: str
    metric: str
    computed: bool
    because: str


def propose(
    scores: Iterable[Score], regions: Sequence[RegionSummary], *, instances: bool
) -> tuple[Proposal, ...]:
    """Propose the metrics to look at, region by region, the most telling first.

    Args:
        scores: rows of all cases.
        regions: their summaries.
        instances: the references are objects of one kind.
    """
    by_region: dict[str, list[Score]] = {region.region: [] for region in regions}
    for score in scores:
        if score.volume_reference_ml > 0:
            by_region[score.region].append(score)
    return tuple(
        Proposal(
            region=region.region,
            metric=metric,
            computed=metric not in ON_REQUEST or metric in region.metrics,
            because=because,
        )
        for region in regions
        for metric, because in _metrics_for(by_region[region.region], region, instances).items()
    )


def _metrics_for(
    present: Sequence[Score], region: RegionSummary, instances: bool
) -> dict[str, str]:
    """Return the proposed metrics of one region, each with its reason."""
    if not present:
        return {}
    half = _median(score.half_voxel_dice for score in present)
    round_ = _median(score.roundness for score in present)
    found: dict[str, str] = {}
    if instances:
        found["pq"] = (
            "each id is an object: objects are matched one by one, so that a split, merged or"
            " invented one counts, which Dice of all together does not show"
        )
    elif region.lesions:
        several = sum(score.lesions_reference > 1 for score in present)
        found["lesion_f1"] = (
            f"{several} of {counted(len(present), 'reference')} have several pieces: Dice hides a"
            " missed small one behind a large one"
        )
    if round_ < LONG:
        found["cldice"] = (
            f"it is long or flat (roundness {round_:.2g}, a ball has 1): of a tube (vessel, airway)"
            " the centreline tells whether it is followed without gaps, whatever its width"
        )
    if half < SMALL:
        found["nsd"] = (
            f"it is small or thin for its voxels: a border half a voxel further out alone leaves a"
            f" Dice of {half:.2f}; choose the tolerance that two experts differ by"
        )
    else:
        found["dice"] = (
            f"it is large for its voxels: a border half a voxel further out still has a Dice of"
            f" {half:.2f}"
        )
        found["nsd"] = "it shows the border, which Dice of a large structure hardly feels"
    return found


def _median(values: Iterable[float]) -> float:
    """Return the median of the defined values; NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return median(defined) if defined else math.nan
