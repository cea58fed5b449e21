"""Rules of scoring label maps: tolerances, surface, overlap of lesions, metrics on request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from hilum.errors import UsageError, did_you_mean
from hilum.evaluation.metric_table import ON_REQUEST, nsd_name

if TYPE_CHECKING:
    from hilum.metrics import Surface


class Scoring(TypedDict, total=False):
    """Rules of scoring label maps; what is not given has its default.

    Args:
        tolerance_mm: tolerance of the normalised surface distance, 2 mm; of several the first is
            that of `nsd`, and each further one has a metric of its own, `nsd_0.5mm`.
        surface: "voxel" (default) or "mesh", see `hilum.metrics.surface_distances`.
        lesion_overlap: share of a lesion that must be covered for it to count as found, 0.1.
        also: further metrics, "boundary_iou" (its width is the first tolerance) and "cldice".
        instances: the ids of a label map are objects of one kind, not labels. A map of a single id
            is a mask, and its components are the objects.
        other_tools: also what MONAI, medpy, surface-distance and nnU-Net would print.
    """

    tolerance_mm: float | Sequence[float]
    surface: Surface
    lesion_overlap: float
    also: Sequence[str]
    instances: bool
    other_tools: bool


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """`Scoring` with every default.

    Raises:
        UsageError: a tolerance below 0, two that are equal, or an unknown metric.
    """

    tolerance_mm: float | Sequence[float] = 2.0
    surface: Surface = "voxel"
    lesion_overlap: float = 0.1
    also: Sequence[str] = ()
    instances: bool = False
    other_tools: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be scored."""
        if not self.tolerances or not all(0 <= mm < math.inf for mm in self.tolerances):
            raise UsageError(
                f"tolerance_mm is {self.tolerance_mm}",
                needed="tolerances of 0 mm or more",
                cure="tolerance_mm=2",
            )
        if len(set(self.further)) < len(self.tolerances) - 1 + len(self.also):
            raise UsageError(
                "a tolerance or metric is there twice: tolerances"
                f" {', '.join(f'{mm:g}' for mm in self.tolerances)} mm, metrics"
                f" {', '.join(self.also) or 'none'}",
                needed="each of them once",
                cure="leave out what is named twice",
            )
        for name in self.also:
            if name not in ON_REQUEST:
                raise UsageError(
                    f"there is no metric {name!r} on request",
                    needed=f"one of {', '.join(ON_REQUEST)}",
                    cure=did_you_mean(name, ON_REQUEST),
                )

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Every tolerance in mm, that of `nsd` first."""
        given = self.tolerance_mm
        return tuple(map(float, given)) if isinstance(given, Sequence) else (float(given),)

    @property
    def further(self) -> tuple[str, ...]:
        """Names of the metrics that `Score.further` has."""
        return (*map(nsd_name, self.tolerances[1:]), *self.also)
