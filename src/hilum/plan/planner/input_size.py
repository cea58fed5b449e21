"""Decide the input of a classifier and its size: as large as the training time allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.plan.plan import decide
from hilum.plan.planner.overrides import ASKED, or_override
from hilum.plan.planner.sizing import USABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.classification import RegionSpec
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import ClassifierSpec, Decision, Hardware, Three
    from hilum.plan.planner.grid import Spacing
    from hilum.plan.planner.overrides import Overrides
    from hilum.plan.planner.sizing import Measure

SIDES: dict[int, tuple[int, ...]] = {
    2: (320, 288, 256, 224, 192, 160, 128, 96),
    3: (96, 80, 64, 56, 48, 40, 32, 24),
}
"""Longest sides of the input in voxels, the best first."""
LONGEST = {"cpu": {2: 224, 3: 64}, "other": {2: 320, 3: 96}}
"""The first side that is thought of on a device."""
MULTIPLE = {2: 32, 3: 8}
SMALL_PICTURE = 96
"""Input for pictures that are much smaller than the usual input: more would only blow them up."""
INPUTS = (6_000, 15_000)
PASSES = 12
"""A network is to see so many inputs while it learns, and each case so often."""
WINDOW = 1.3
"""The window is so many times as wide as nearly all masks."""
CONTEXT_MM = 8.0
"""Margin around a small mask at least, on both sides together."""
COARSEST = 2.0
"""An axis with thicker voxels is read at its own spacing, but at most so many times that of the
finest."""
GUESSED = {2: 0.3 / 224**2, 3: 0.04 / 64**3}
"""Seconds that a voxel of one input costs in a training step on two cores, where nothing was
measured."""


def wanted_inputs(cases: int) -> int:
    """Target number of training samples, repetitions included.

    Tuned on data that no benchmark reports.
    """
    return int(np.clip(PASSES * cases, *INPUTS))


@dataclass(frozen=True)
class StepCost:
    """Seconds of a training step.

    Of several sizes only the smallest is measured; others cost in proportion to their voxels.

    Args:
        network: that learns.
        batch: inputs a step.
        measure: seconds of a step; None: nothing can be measured.
    """

    network: ClassifierSpec
    batch: int
    measure: Measure | None
    _known: dict[Three, float] = field(default_factory=dict, repr=False)

    def seconds(self, patch: Three) -> tuple[float, str]:
        """Return the seconds of a step with inputs (Z, Y, X), and in a word how they are known."""
        if not self._known and self.measure is not None:
            measured = self.measure(self.network, patch, self.batch)
            if measured is not None:
                self._known[patch] = measured
        if not self._known:
            return GUESSED[self.network.dimensions] * math.prod(patch) * self.batch, "guessed"
        known, seconds = next(iter(self._known.items()))
        if known == patch:
            return seconds, "measured"
        return seconds * math.prod(patch) / math.prod(known), "measured at a smaller size"


@dataclass(frozen=True)
class ClassView:
    """The network's input: its size, and mm a voxel where that is fixed."""

    patch: Decision[Three]
    spacing: Decision[Spacing | None]


def decide_view(
    fingerprint: Fingerprint,
    region: RegionSpec,
    hardware: Hardware,
    dimensions: Literal[2, 3],
    overrides: Overrides,
    *,
    pace: StepCost,
    wanted: int,
) -> ClassView:
    """Decide the input's size and scale.

    Args:
        fingerprint: what the data look like.
        region: what part of a case is seen.
        hardware: the device, and the minutes there are.
        dimensions: 2 or 3.
        overrides: what the user fixes.
        pace: what a step costs.
        wanted: inputs that the network should see in the minutes; 0 where training does not go by
            steps.
    """
    longest = LONGEST["cpu" if hardware.device == "cpu" else "other"][dimensions]
    look = _whole_view if region.kind == "whole" else _window_view
    view = look(fingerprint, longest, dimensions)
    if overrides.patch is None and hardware.minutes is not None and wanted:
        smaller = [
            look(fingerprint, side, dimensions)
            for side in SIDES[dimensions]
            if side < max(view.patch.value)
        ]
        view = _fitting(view, smaller, hardware.minutes, pace, wanted)
    fixed = overrides.spacing
    return ClassView(
        patch=or_override(overrides.patch, view.patch),
        spacing=view.spacing if fixed is None else decide(fixed, ASKED),
    )


def _fitting(
    view: ClassView, smaller: Sequence[ClassView], minutes: float, pace: StepCost, wanted: int
) -> ClassView:
    """Return the largest input at which the minutes are enough to see so many.

    The smallest where none is. It is measured first: the largest would cost a good part of the
    minutes.
    """
    views = [view, *(one for one in smaller if one.patch.value != view.patch.value)]
    pace.seconds(views[-1].patch.value)
    for one in views:
        seconds, how = pace.seconds(one.patch.value)
        able = minutes * 60 * USABLE / seconds * pace.batch
        if able >= wanted:
            break
    if one is view and able >= wanted:
        return view
    reason = (
        f"{one.patch.because}; no larger, because {minutes:g} minutes are then enough to see about"
        f" {able:,.0f} inputs ({wanted:,} are wanted; a step of {seconds:.2g} s, {how})"
    )
    return ClassView(patch=decide(one.patch.value, reason), spacing=one.spacing)


def _whole_view(fingerprint: Fingerprint, longest: int, dimensions: Literal[2, 3]) -> ClassView:
    """Decide for all of the image: the input has the proportions of the median case."""
    shapes = np.array([case.shape for case in fingerprint.cases], dtype=float)
    sizes = np.median(shapes * np.array([case.spacing for case in fingerprint.cases]), axis=0)
    axes, multiple = slice(3 - dimensions, 3), MULTIPLE[dimensions]
    side = float(np.median(shapes[:, axes].max(axis=1)))
    text = f"the median case has {side:g} voxels along its longest side; the input has "
    if dimensions == 3:
        used = min(longest, _up(side, multiple))
        text += f"{used}"
    elif side <= SMALL_PICTURE / 2:
        used = min(longest, SMALL_PICTURE)
        text += f"{used}, more than there are, because the backbones were made for larger pictures"
    else:
        used = longest
        text += f"{used}"
    z, y, x = (_up(size * (used / sizes[axes].max()), multiple) for size in sizes)
    return ClassView(
        patch=decide(
            (1 if dimensions == 2 else z, y, x), f"{text}, and the proportions of the median case"
        ),
        spacing=decide(None, "each image is scaled so that all of it fits the input"),
    )


def _window_view(fingerprint: Fingerprint, longest: int, dimensions: Literal[2, 3]) -> ClassView:
    """Decide a cubic window in millimetres that is wide enough for nearly all masks."""
    masks = np.array([case.region_mm for case in fingerprint.cases if case.region_mm is not None])
    spacings = np.median([case.spacing for case in fingerprint.cases], axis=0)
    shapes = np.median([case.shape for case in fingerprint.cases], axis=0)
    axes = slice(3 - dimensions, 3)
    scaled = not all(
        case.shape[0] == 1 and case.spacing[1:] == (1.0, 1.0) for case in fingerprint.cases
    )
    mm_or_pixels = "mm" if scaled else "pixels"
    if len(masks):
        usual = float(np.percentile(masks[:, axes].max(axis=1), 95))
        side_mm = max(WINDOW * usual, usual + CONTEXT_MM)
        text = (
            f"95 % of the masks are at most {usual:.3g} {mm_or_pixels} wide; a window of"
            f" {side_mm:.3g} {mm_or_pixels} shows them and what is around"
        )
    else:
        side_mm = float((shapes * spacings)[axes].min())
        text = f"a window of {side_mm:.3g} {mm_or_pixels}, the shortest side of the median image"
    side = min(longest, _up(side_mm / float(spacings[axes].min()), 8))
    mm = side_mm / side
    spacing, patch = [mm] * 3, [side] * 3
    for axis in range(3 - dimensions, 3):
        if spacings[axis] > mm:
            spacing[axis] = min(float(spacings[axis]), COARSEST * mm)
            patch[axis] = _up(side_mm / spacing[axis], 8)
    if dimensions == 2:
        spacing[0], patch[0] = float(spacings[0]), 1
    because = f"{side} voxels across the window"
    if scaled:
        because += f"; the images have {' x '.join(f'{one:.3g}' for one in spacings[axes])} mm"
    else:
        because += f" of {side_mm:.3g} pixels; no scale is known of the pictures"
    if max(spacing[axes]) > mm:
        because += ", and where their voxels are thicker, the input's are too"
    z, y, x = spacing
    depth, height, width = patch
    return ClassView(patch=decide((depth, height, width), text), spacing=decide((z, y, x), because))


def _up(size: float, multiple: int) -> int:
    """Round a size up to a multiple."""
    return max(multiple, math.ceil(size / multiple - 1e-6) * multiple)
