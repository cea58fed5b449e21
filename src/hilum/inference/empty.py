"""Patches that need not be run, and why that is safe.

**One constant.** A patch whose content is one value a channel, exactly, gets the answer that the
network gave to the first such patch. This is exact for any model: the network would see the very
same numbers.

**Air.** Where every channel is normalised as CT, intensities are clipped from below, and what lies
around the body is one known value. The rule, the same for every case, whatever the voxel size and
whatever was predicted before:

1. A voxel is air where each channel is within 1 % of its window (from the lower to the upper clip)
   above the lower clip, or below it, as splines swing beside edges. One voxel above that, however
   alone, is not air, and is seen. 2. The model is asked once about a patch of nothing but air. Only
   where it answers background all over, air has that answer. 3. Windows are placed over the box of
   all that is not air, 4 voxels wider on each side and at least a patch wide, with the plan's
   overlap, where that saves at least two of them; else over the whole. 4. A window that is wholly
   air is not run. All others are.

So no voxel that is not air has an answer that the network did not give from a whole patch around
it. Windows over the box lie elsewhere than windows over the whole, so that the answer inside
differs as it does between two overlaps. Images normalised by their own statistics have no known
air: of them only constant patches are not run. `every_patch=True` runs all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hilum.inference.windows import count_windows
from hilum.preprocess.steps import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three
    from hilum.plan.segmentation import SegmentationPlan

_NEAR_AIR = 0.01  # of the window
_MARGIN = 4  # voxels
# patches, one of which asking the model about air costs; whether it was asked before must not
# matter
_WORTHWHILE = 2


def constant_of(patch: NDArray[np.float32]) -> tuple[float, ...] | None:
    """Find the one value of each channel of a patch (C, Z, Y, X); None where one has two."""
    values = []
    for channel in patch:
        value = channel[0, 0, 0]
        if (
            channel[-1, -1, -1] != value
            or (channel[::4, ::4, ::4] != value).any()
            or (channel != value).any()
        ):
            return None
        values.append(float(value))
    return tuple(values)


def air_of(plan: SegmentationPlan) -> tuple[float, ...] | None:
    """Return the value of air in each channel after normalisation.

    None where a channel has no such value.
    """
    if any(how.kind != "ct" for how in plan.normalisation.value):
        return None
    values = np.array([how.lower for how in plan.normalisation.value], dtype=np.float32)
    for value, how in zip(values[:, None, None, None], plan.normalisation.value, strict=True):
        normalise(value, how)  # in place
    return tuple(values.tolist())


@dataclass(frozen=True, eq=False)
class Body:
    """Positions of windows over a case.

    Args:
        box: on the network's grid; None: nothing but air.
        fill: the logit of each output (K,) outside of it.
        saved: windows that are not placed.
    """

    box: Slices | None
    fill: NDArray[np.float32]
    saved: int


class Air:
    """A model's output for air, computed once.

    Args:
        plan: of the model.
        patch: (Z, Y, X).
        overlap: between 0 and 1.
        run: maps one patch (1, C, *patch) to logits (1, K, *patch), as it will be done for all.
    """

    def __init__(
        self,
        plan: SegmentationPlan,
        patch: Three,
        overlap: float,
        run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> None:
        self._plan, self._patch, self._overlap, self._run = plan, patch, overlap, run
        self._values = air_of(plan)
        self._limits = [
            value + _NEAR_AIR * (how.upper - how.lower) / (how.std if how.std > 1e-8 else 1.0)
            for value, how in zip(
                self._values or (), plan.normalisation.value, strict=self._values is not None
            )
        ]

    def body(self, array: NDArray[np.float32]) -> Body | None:
        """Find the box of a preprocessed case (C, Z, Y, X) that windows are placed over.

        None: all of it.
        """
        if self._values is None:
            return None

        def windows(shape: Sequence[int]) -> int:
            padded = [max(n, p) for n, p in zip(shape, self._patch, strict=True)]
            return count_windows(padded, self._patch, self._overlap)

        shape, box = array.shape[1:], body_box(array, self._limits)
        saved = windows(shape)
        if box is not None:
            z, y, x = (_widen(*one) for one in zip(box, shape, self._patch, strict=True))
            box = (z, y, x)
            saved -= windows([side.stop - side.start for side in box])
        fill = self._fill if saved >= _WORTHWHILE else None
        return None if fill is None else Body(box, fill, saved)

    def logits_of_air(self, patch: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the logits (K, Z, Y, X) of a patch (C, Z, Y, X) that is wholly air, read-only.

        None where it has to be run.
        """
        if self._values is None:
            return None
        for part in (patch[:, ::4, ::4, ::4], patch):  # most are not air at first sight
            if any(
                (channel > limit).any() for channel, limit in zip(part, self._limits, strict=True)
            ):
                return None
        if self._fill is None:
            return None
        return np.broadcast_to(self._fill[:, None, None, None], (len(self._fill), *self._patch))

    @cached_property
    def _fill(self) -> NDArray[np.float32] | None:
        """The mean logits (K,) of a patch of air; None where they are not background all over."""
        values = np.array(self._values, dtype=np.float32)
        patch = np.broadcast_to(values[None, :, None, None, None], (1, len(values), *self._patch))
        logits = self._run(np.ascontiguousarray(patch))[0]  # (K, *patch)
        if self._plan.labels.exclusive:
            background = all(bool((logits[0] > other).all()) for other in logits[1:])
        else:
            background = bool((logits <= 0).all())
        if not background:
            return None
        means: NDArray[np.float64] = logits.mean(axis=(1, 2, 3), dtype=np.float64)
        return means.astype(np.float32)


def body_box(array: NDArray[np.float32], limits: Sequence[float]) -> Slices | None:
    """Find the box around every voxel of (C, Z, Y, X) that is above the limit of its channel.

    None where none is.
    """
    lines = [np.zeros(size, dtype=np.bool_) for size in array.shape[1:]]
    least = np.array(limits, dtype=np.float32)[:, None, None]
    for z in range(array.shape[1]):
        above = np.logical_or.reduce(array[:, z] > least)  # (Y, X)
        lines[0][z] = above.any()
        lines[1] |= above.any(axis=1)
        lines[2] |= above.any(axis=0)
    if not lines[0].any():
        return None
    sides = [slice(int(line.argmax()), len(line) - int(line[::-1].argmax())) for line in lines]
    return sides[0], sides[1], sides[2]


def _widen(side: slice, size: int, patch: int) -> slice:
    """Widen a side of the box by its margin, to a patch at least where the image is as large."""
    start, stop = max(0, side.start - _MARGIN), min(size, side.stop + _MARGIN)
    lack = min(patch, size) - (stop - start)
    if lack > 0:
        start = max(0, min(start - lack // 2, size - min(patch, size)))
        stop = start + min(patch, size)
    return slice(start, stop)
