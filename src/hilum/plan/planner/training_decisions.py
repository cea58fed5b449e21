"""Decisions about training: loss, augmentation, optimiser, steps, sampling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from hilum.plan.plan import AugmentationSpec, Decision, OptimiserSpec, decide
from hilum.plan.planner.overrides import ASKED
from hilum.plan.planner.sizing import USABLE
from hilum.plan.segmentation import LossSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Hardware
    from hilum.plan.planner.grid import Grid
    from hilum.plan.planner.sizing import Sizing

_SIDES = {
    "LR": "left right l r lt rt sinister dexter",
    "PA": "anterior posterior ventral dorsal front back frontal occipital ant post",
    "SI": "superior inferior upper lower cranial caudal top bottom head tail",
}
_PAIRS = ("SI", "PA", "LR")
_NAMES = {"LR": "left and right", "PA": "front and back", "SI": "up and down"}
_OFF_CENTRE = 0.1
"""A label whose centre of mass lies further than this fraction of the image from the middle, on one
side in nearly all cases."""
PASSES = 300
"""Epochs of a training when no time is given."""
STEPS = (5_000, 60_000)


def decide_loss(fingerprint: Fingerprint, sizing: Sizing, grid: Grid) -> Decision[LossSpec]:
    """Decide for Dice + cross-entropy; Dice over the batch where a patch may hold no foreground."""
    part = any(p < n for p, n in zip(sizing.topology.patch, grid.median_shape, strict=True))
    text = "Dice counters the rarity of foreground, cross-entropy gives smooth gradients"
    share = f"({_foreground_share(fingerprint):.2%} of the voxels are foreground)"
    if not part:
        return decide(LossSpec(kind="dice_ce"), f"{text} {share}")
    return decide(
        LossSpec(kind="dice_ce", batch_dice=True),
        f"{text}; Dice over the batch, because a patch may hold no foreground {share}",
    )


def decide_augmentation(
    fingerprint: Fingerprint, grid: Grid, mirror_axes: tuple[int, ...] | None
) -> Decision[AugmentationSpec]:
    """Decide for rotations within the planes that are finely sampled.

    Mirrors only where both sides look alike, unless the user fixed the axes.
    """
    axes, mirror = decide_mirror(fingerprint, grid)
    rotation, turn = _rotation(fingerprint, grid, mirrored=len(axes))
    if mirror_axes is not None:
        axes, mirror = mirror_axes, f"{mirror}; mirror axes {ASKED}"
    return decide(
        AugmentationSpec(rotation_degrees=rotation, mirror_axes=axes), f"{turn}; {mirror}"
    )


def decide_mirror(fingerprint: Fingerprint, grid: Grid) -> tuple[tuple[int, ...], str]:
    """Decide the array axes along which a mirrored case is as plausible as the case, and why.

    Pictures without an orientation in a patient may be mirrored along both axes, cases only from
    left to right; neither where a label's name speaks of a side, or a label lies on one side in
    nearly all cases.
    """
    pictures = _without_orientation(fingerprint, grid)
    allowed, reasons = [], []
    for axis in range(3 - grid.dimensions, 3):
        pair = side_pair(grid.orientation, axis)
        sided = named_side([label.name for label in fingerprint.labels.foreground], pair)
        off = _off_centre(fingerprint, _PAIRS.index(pair))
        if sided:
            why = f"the label {sided!r} tells {_NAMES[pair]} apart"
        elif off is not None:
            why = f"{off} lies on one side in nearly all cases"
        elif not pictures and pair != "LR":
            why = f"{_NAMES[pair]} are never interchangeable in a patient"
        else:
            allowed.append(axis)
            why = "nothing tells left from right"
            if pictures:
                why = "pictures have no orientation in a patient"
        along = "mirrored along" if axis in allowed else "not along"
        reasons.append(f"{along} {'ZYX'[axis]}, because {why}")
    return tuple(allowed), "; ".join(reasons)


def decide_optimiser() -> Decision[OptimiserSpec]:
    """Decide for AdamW with a warm-up and cosine."""
    return decide(
        OptimiserSpec(),
        "AdamW with cosine decay and averaged weights converges in few steps; the rate was tried on"
        " an inner fold of hippocampus (docs/benchmarks.md)",
    )


def steps_in_time(minutes: float, seconds: float, how: str) -> Decision[int]:
    """Decide for as many steps of so many seconds as the time allows."""
    return decide(
        max(1, int(minutes * 60 * USABLE / seconds)),
        f"{minutes:g} minutes, of which {USABLE:.0%} for steps of {seconds:.3g} s ({how}); the"
        " schedule ends with the time",
    )


def decide_steps(
    fingerprint: Fingerprint, sizing: Sizing, grid: Grid, hardware: Hardware
) -> Decision[int]:
    """Decide the number of steps that the time allows.

    Without a time limit a number of passes over the data.
    """
    if hardware.minutes is not None:
        how = "measured" if sizing.measured else "estimated"
        return steps_in_time(hardware.minutes, sizing.seconds, how)
    patches = max(1.0, float(grid.case_voxels / np.prod(sizing.topology.patch)))
    wanted = int(len(fingerprint.cases) * patches * PASSES / sizing.batch)
    return decide(
        int(np.clip(wanted, *STEPS)),
        f"no time limit: {PASSES} passes over {len(fingerprint.cases)} cases of {patches:.3g}"
        f" patches at batch {sizing.batch} would be {wanted:,} steps, kept within {STEPS[0]:,} .."
        f" {STEPS[1]:,}; a plateau ends it earlier",
    )


def decide_foreground_fraction(
    fingerprint: Fingerprint, sizing: Sizing, grid: Grid
) -> Decision[float]:
    """Decide for a third (nnU-Net); half where foreground is rare and a patch small."""
    share = _foreground_share(fingerprint)
    coverage = float(np.prod(sizing.topology.patch) / np.prod(grid.median_shape))
    if share < 0.005 and coverage < 0.25:
        return decide(
            0.5,
            f"every other patch is centred on foreground: only {share:.3%} of the voxels are, and"
            f" a patch holds {coverage:.0%} of a case",
        )
    return decide(
        0.33, f"one patch in three (nnU-Net) is centred on foreground, {share:.2%} of all"
    )


def _rotation(
    fingerprint: Fingerprint, grid: Grid, *, mirrored: int
) -> tuple[tuple[float, float, float], str]:
    """Decide the rotation about each axis, in degrees, by dimensions and coarsest spacing."""
    if grid.dimensions == 2:
        # half a turn exchanges left and right as two mirrors do
        if mirrored == 2 and _without_orientation(fingerprint, grid):
            why = "turned by any angle in the plane, because pictures have no upright"
            return (180.0, 0.0, 0.0), why
        return (15.0, 0.0, 0.0), "turned by up to 15 degrees in the plane"
    spacing = np.array(grid.spacing)
    worst = int(spacing.argmax())
    if spacing[worst] > 3 * np.delete(spacing, worst).max():
        z, y, x = (15.0 if axis == worst else 0.0 for axis in range(3))
        why = f"turned only about {'ZYX'[worst]}, because its {spacing[worst]:.3g} mm are coarse"
        return (z, y, x), why
    return (15.0, 15.0, 15.0), "turned by up to 15 degrees about every axis"


def _without_orientation(fingerprint: Fingerprint, grid: Grid) -> bool:
    """Return True for pictures that are of no known orientation in a patient."""
    kinds = {channel.kind for channel in fingerprint.channels}
    return grid.orientation == "source" and kinds <= {"rgb", "picture", "unknown"}


def side_pair(orientation: str, axis: int) -> str:
    """Return the two sides, a key of the sides' words, that an array axis runs between."""
    letter = "SPL"[axis] if orientation == "source" else orientation[axis]
    return next(pair for pair in _PAIRS if letter in pair)


def named_side(names: Sequence[str], pair: str) -> str | None:
    """Find the first name that speaks of one of two sides."""
    sides = {*_SIDES[pair].split()}
    return next((name for name in names if sides & {*re.split(r"[^a-z]+", name.lower())}), None)


def _off_centre(fingerprint: Fingerprint, axis: int) -> str | None:
    """Find the first label that lies on one side along an axis in nearly all cases."""
    for label in fingerprint.labels.foreground:
        centres = [
            one.centroid[axis]
            for case in fingerprint.cases
            for one in case.labels
            if one.id == label.id
        ]
        if len(centres) < 3:
            continue
        low, middle, high = np.percentile(centres, (5, 50, 95)) - 0.5
        before = high < -_OFF_CENTRE / 2 and middle < -_OFF_CENTRE
        if before or (low > _OFF_CENTRE / 2 and middle > _OFF_CENTRE):
            return f"the label {label.name!r}"
    return None


def _foreground_share(fingerprint: Fingerprint) -> float:
    inside = sum(label.voxels for case in fingerprint.cases for label in case.labels)
    return inside / sum(float(np.prod(case.shape)) for case in fingerprint.cases)
