"""Patches that need not be run, and why that is safe.

**One constant.** A patch whose content is one value a channel, exactly, gets the answer that the network gave to the first such
patch. This is exact for any model: the network would see the very same numbers.

**Air.** Where every channel is normalised as CT, intensities are clipped from below, and what lies around the body is one known
value. Windows are then placed only over the box of what is not air:

1. A voxel is air where each channel is within 1 % of its window (from the lower to the upper clip) above the lower clip, or below
   it, as splines swing beside edges.
2. Of what is not air, connected parts (26 neighbours, in blocks of 4 voxels) of less than 1 ml are specks: noise, a wire, a tag.
   They do not widen the box, but those inside it are seen.
3. The box around the rest, 4 voxels wider on each side, and at least a patch wide, is gone over with the plan's overlap.
4. Outside of it the answer is background. This is done only for a model that answers background all over a patch of nothing but
   air: it is asked once. Otherwise, and where the box would save less than two patches, all patches are run.

Windows over the box lie elsewhere than windows over the whole, so that the answer inside differs as it does between two overlaps.
Images normalised by their own statistics have no known air: of them only constant patches are not run. `--every-patch` runs all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.inference.windows import count_windows
from hilum.preprocess.steps import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three
    from hilum.plan.segmentation import SegmentationPlan

_NEAR_AIR = 0.01  # of the window
_SPECK_MM3 = 1000.0
_BLOCK = 4  # voxels
_MARGIN = 4  # voxels
_WORTHWHILE = 2  # patches, one of which asking the model about air costs


def constant_of(patch: NDArray[np.float32]) -> tuple[float, ...] | None:
    """The one value of each channel of a patch (C, Z, Y, X); None where a channel has two."""
    values = []
    for channel in patch:
        value = channel[0, 0, 0]
        if channel[-1, -1, -1] != value or (channel[::4, ::4, ::4] != value).any() or (channel != value).any():
            return None
        values.append(float(value))
    return tuple(values)


def air_of(plan: SegmentationPlan) -> tuple[float, ...] | None:
    """What air is in each channel after normalisation; None where a channel has no such value."""
    if any(how.kind != "ct" for how in plan.normalisation.value):
        return None
    values = []
    for how in plan.normalisation.value:
        voxel = np.full((1, 1, 1), how.lower, dtype=np.float32)
        normalise(voxel, how)
        values.append(float(voxel[0, 0, 0]))
    return tuple(values)


@dataclass(frozen=True, eq=False)
class Body:
    """What of a case the network has to see.

    Args:
        box: on the network's grid; None: nothing but air.
        fill: the logit of each output (K,) outside of it.
        saved: patches that need not be run.
    """

    box: Slices | None
    fill: NDArray[np.float32]
    saved: int


class Air:
    """What a model says to air, asked once.

    Args:
        plan: of the model.
        patch: (Z, Y, X).
        overlap: between 0 and 1.
        run: maps one patch (1, C, *patch) to logits (1, K, *patch), as it will be done for all.
    """

    def __init__(self, plan: SegmentationPlan, patch: Three, overlap: float, run: Callable[..., NDArray[np.float32]]) -> None:
        self._plan, self._patch, self._overlap, self._run = plan, patch, overlap, run
        self._values = air_of(plan)
        self._asked = False
        self._fill: NDArray[np.float32] | None = None

    def body(self, array: NDArray[np.float32], voxel_mm3: float) -> Body | None:
        """What of a preprocessed case (C, Z, Y, X) the network has to see; None: all of it."""
        if self._values is None:
            return None
        shape = array.shape[1:]
        box = self._box(array, voxel_mm3)
        windows = 0 if box is None else self._count([side.stop - side.start for side in box])
        saved = self._count(shape) - windows
        if saved < (_WORTHWHILE if not self._asked else 1):
            return None
        fill = self._answer()
        return None if fill is None else Body(box, fill, saved)

    def _count(self, shape: Sequence[int]) -> int:
        return count_windows([max(n, p) for n, p in zip(shape, self._patch, strict=True)], self._patch, self._overlap)

    def _box(self, array: NDArray[np.float32], voxel_mm3: float) -> Slices | None:
        limits = [
            value + _NEAR_AIR * (how.upper - how.lower) / (how.std if how.std > 1e-8 else 1.0)
            for value, how in zip(self._values or (), self._plan.normalisation.value, strict=True)
        ]
        found = body_box(array, limits, least=_SPECK_MM3 / voxel_mm3)
        if found is None:
            return None
        a, b, c = (_widened(*one) for one in zip(found, array.shape[1:], self._patch, strict=True))
        return a, b, c

    def _answer(self) -> NDArray[np.float32] | None:
        """The mean logits (K,) of a patch of air; None where they are not background all over."""
        if not self._asked:
            self._asked = True
            values = np.array(self._values, dtype=np.float32)
            patch = np.broadcast_to(values[None, :, None, None, None], (1, len(values), *self._patch))
            logits = self._run(np.ascontiguousarray(patch))[0]  # (K, *patch)
            if self._plan.labels.exclusive:
                background = all(bool((logits[0] > other).all()) for other in logits[1:])
            else:
                background = bool((logits <= 0).all())
            self._fill = logits.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32) if background else None
        return self._fill


def body_box(array: NDArray[np.float32], limits: Sequence[float], *, least: float) -> Slices | None:
    """The box around what is above the limits of a channel, of (C, Z, Y, X), without parts of fewer voxels than `least`.

    Bounds are multiples of a block of 4 voxels. None where nothing is left.
    """
    from scipy import ndimage

    depth, height, width = array.shape[1:]
    blocks = [math.ceil(n / _BLOCK) for n in (depth, height, width)]
    counts = np.zeros(blocks, dtype=np.int64)
    plane = np.zeros((blocks[1] * _BLOCK, blocks[2] * _BLOCK), dtype=np.uint8)
    for z in range(depth):
        seen = plane[:height, :width]
        seen[...] = array[0, z] > limits[0]
        for channel, limit in zip(array[1:], limits[1:], strict=True):
            seen |= channel[z] > limit
        counts[z // _BLOCK] += plane.reshape(blocks[1], _BLOCK, blocks[2], _BLOCK).sum(axis=(1, 3), dtype=np.int64)
    parts, number = ndimage.label(counts > 0, structure=np.ones((3, 3, 3)))
    sizes: NDArray[Any] = np.bincount(parts.ravel(), weights=counts.ravel(), minlength=number + 1)
    large = sizes >= least
    large[0] = False
    kept = large[parts]
    if not kept.any():
        return None
    sides: list[slice] = []
    for axis, size in enumerate((depth, height, width)):
        there = np.flatnonzero(kept.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(there[0]) * _BLOCK, min(size, (int(there[-1]) + 1) * _BLOCK)))
    return sides[0], sides[1], sides[2]


def _widened(side: slice, size: int, patch: int) -> slice:
    """A side of the box with its margin, at least a patch wide where the image is."""
    start, stop = max(0, side.start - _MARGIN), min(size, side.stop + _MARGIN)
    lack = min(patch, size) - (stop - start)
    if lack > 0:
        start = max(0, min(start - lack // 2, size - min(patch, size)))
        stop = start + min(patch, size)
    return slice(start, stop)
