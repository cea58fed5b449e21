"""Decisions about training: loss, augmentation, optimiser, steps, sampling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from hilum.plan.plan import AugmentationSpec, Decision, OptimiserSpec
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
_PICTURES = ("rgb", "picture", "unknown")
_NAMES = {"LR": "left and right", "PA": "front and back", "SI": "up and down"}
_OFF_CENTRE = 0.1
"""A label whose centre of mass lies further than this fraction of the image from the middle, on one
side in nearly all cases."""
PASSES = 300
"""How often training sees each case when no time is given."""
STEPS = (5_000, 60_000)


def decide_loss(fingerprint: Fingerprint, sizing: Sizing, grid: Grid) -> Decision[LossSpec]:
    """Dice + cross-entropy; Dice over the batch where a patch may well hold no foreground."""
    part = any(p < n for p, n in zip(sizing.topology.patch, grid.median_shape, strict=True))
    text = "Dice counters the rarity of foreground, cross-entropy gives smooth gradients"
    share = _foreground_share(fingerprint)
    if part:
        return Decision(
            value=LossSpec(kind="dice_ce", batch_dice=True),
            because=(
                f"{text}; Dice over the whole batch, because a patch is only part of a case and may"
                f" hold no foreground ({share:.2%} of the voxels are foreground)"
            ),
        )
    return Decision(
        value=LossSpec(kind="dice_ce"), because=f"{text} ({share:.2%} of the voxels are foreground)"
    )


def decide_augmentation(fingerprint: Fingerprint, grid: Grid) -> Decision[AugmentationSpec]:
    """Rotations within the planes that are finely sampled.

    Mirrors only where both sides look alike.
    """
    axes, mirror = decide_mirror(fingerprint, grid)
    rotation, turn = _rotation(fingerprint, grid, mirrored=len(axes))
    return Decision(
        value=AugmentationSpec(rotation_degrees=rotation, mirror_axes=axes),
        because=f"{turn}; {mirror}",
    )


def decide_mirror(fingerprint: Fingerprint, grid: Grid) -> tuple[tuple[int, ...], str]:
    """The array axes along which a mirrored case is as plausible as the case, and why.

    Pictures without an orientation in a patient may be mirrored along both axes, cases only from
    left to right; neither where a label's name speaks of a side, or a label lies on one side in
    nearly all cases.
    """
    pictures = grid.orientation == "source" and all(
        c.kind in _PICTURES for c in fingerprint.channels
    )
    allowed, reasons = [], []
    first = 3 - grid.dimensions
    for axis in range(first, 3):
        pair = side_pair(grid.orientation, axis)
        sided = named_side([label.name for label in fingerprint.labels.foreground], pair)
        off = _off_centre(fingerprint, _PAIRS.index(pair))
        letter = "ZYX"[axis]
        if sided:
            reasons.append(
                f"not along {letter}, because the label {sided!r} tells {_NAMES[pair]} apart"
            )
        elif off is not None:
            reasons.append(
                f"not along {letter}, because {off} lies on one side in nearly all cases"
            )
        elif not pictures and pair != "LR":
            reasons.append(
                f"not along {letter}, because {_NAMES[pair]} are never interchangeable in a patient"
            )
        else:
            allowed.append(axis)
            alike = (
                "pictures have no orientation in a patient"
                if pictures
                else "nothing tells left from right"
            )
            reasons.append(f"mirrored along {letter}, because {alike}")
    return tuple(allowed), "; ".join(reasons)


def decide_optimiser() -> Decision[OptimiserSpec]:
    """AdamW with a warm-up and cosine."""
    return Decision(
        value=OptimiserSpec(),
        because=(
            "AdamW with cosine decay and averaged weights converges in few steps, as short"
            " trainings need; on an inner fold of hippocampus 4e-3 did best of 1, 2, 4 and 8e-3"
            " (docs/benchmarks.md)"
        ),
    )


def decide_steps(
    fingerprint: Fingerprint, sizing: Sizing, grid: Grid, hardware: Hardware
) -> Decision[int]:
    """Decide the number of steps that the time allows.

    Without a time limit a number of passes over the data.
    """
    if hardware.minutes is not None:
        steps = max(1, int(hardware.minutes * 60 * USABLE / sizing.seconds))
        how = "measured" if sizing.measured else "estimated"
        return Decision(
            value=steps,
            because=(
                f"{hardware.minutes:g} minutes, of which {USABLE:.0%} for steps of"
                f" {sizing.seconds:.3g} s ({how}); the schedule ends with the time"
            ),
        )
    patches = max(1.0, float(grid.case_voxels / np.prod(sizing.topology.patch)))
    wanted = int(len(fingerprint.cases) * patches * PASSES / sizing.batch)
    steps = int(np.clip(wanted, *STEPS))
    return Decision(
        value=steps,
        because=(
            f"no time limit: {PASSES} passes over {len(fingerprint.cases)} cases of {patches:.3g}"
            f" patches at batch {sizing.batch} would be {wanted:,} steps, kept within {STEPS[0]:,}"
            f" .. {STEPS[1]:,}; a plateau ends it earlier"
        ),
    )


def decide_foreground_fraction(
    fingerprint: Fingerprint, sizing: Sizing, grid: Grid
) -> Decision[float]:
    """A third (nnU-Net); half where foreground is rare and a patch holds little of a case."""
    share = _foreground_share(fingerprint)
    coverage = float(np.prod(sizing.topology.patch) / np.prod(grid.median_shape))
    if share < 0.005 and coverage < 0.25:
        return Decision(
            value=0.5,
            because=(
                f"only {share:.3%} of the voxels are foreground and a patch holds {coverage:.0%} of"
                " a case, so every other patch is centred on foreground"
            ),
        )
    return Decision(
        value=0.33,
        because=(
            f"one patch in three is centred on foreground, {share:.2%} of the voxels (nnU-Net's"
            " share)"
        ),
    )


def _rotation(
    fingerprint: Fingerprint, grid: Grid, *, mirrored: int
) -> tuple[tuple[float, float, float], str]:
    if grid.dimensions == 2:
        # half a turn exchanges left and right as two mirrors do, so it is allowed only where both
        # of them are
        free = (
            mirrored == 2
            and grid.orientation == "source"
            and all(c.kind in _PICTURES for c in fingerprint.channels)
        )
        if free:
            why = "turned by any angle in the plane, because pictures have no upright"
            return (180.0, 0.0, 0.0), why
        return (15.0, 0.0, 0.0), "turned by up to 15 degrees in the plane"
    spacing = np.array(grid.spacing)
    worst = int(spacing.argmax())
    if spacing[worst] > 3 * np.delete(spacing, worst).max():
        degrees = [15.0 if axis == worst else 0.0 for axis in range(3)]
        why = f"turned only about {'ZYX'[worst]}, because its {spacing[worst]:.3g} mm are coarse"
        return (degrees[0], degrees[1], degrees[2]), why
    return (15.0, 15.0, 15.0), "turned by up to 15 degrees about every axis"


def side_pair(orientation: str, axis: int) -> str:
    """The two sides, a key of the sides' words, that an array axis runs between."""
    return (
        _PAIRS[axis]
        if orientation == "source"
        else next(pair for pair in _PAIRS if orientation[axis] in pair)
    )


def named_side(names: Sequence[str], pair: str) -> str | None:
    """The first name that speaks of one of two sides."""
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
