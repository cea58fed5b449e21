"""Strides and kernels of each stage of the network (nnU-Net's rule, Isensee et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.plan import Three

SMALLEST_MAP = 4
"""An axis is halved only while at least this many voxels are left afterwards."""


@dataclass(frozen=True)
class Topology:
    """Stages of a U-Net for a patch.

    `patch` is what was asked for, rounded up to multiples of the strides' product.
    """

    patch: Three
    strides: tuple[Three, ...]
    kernels: tuple[Three, ...]

    @property
    def stages(self) -> int:
        """Number of resolutions."""
        return len(self.strides)


def make_topology(
    patch: Sequence[int], spacing: Sequence[float], *, dimensions: int, max_stages: int
) -> Topology:
    """Halve each axis while it is long enough and at most twice the finest spacing.

    Args:
        patch: (Z, Y, X) voxels wanted; Z = 1 in 2D.
        spacing: mm along (Z, Y, X).
        dimensions: 2 or 3.
        max_stages: resolutions at most, at least two.

    A kernel is 1 along an axis as long as its spacing is twice that of the finest axis or more. At
    least two stages come out: a patch too small to be halved (below 8 voxels along every axis) is
    halved once along its longest axes.
    """
    size = [float(n) for n in patch]
    step = list(spacing)
    axes = [0, 1, 2] if dimensions == 3 else [1, 2]
    kernel = [1, 1, 1]
    strides: list[Three] = [(1, 1, 1)]
    kernels: list[Three] = []
    while len(strides) < max_stages:
        halve = _axes_to_halve(size, step, axes)
        if not halve and len(strides) > 1:
            break
        halve = halve or [axis for axis in axes if size[axis] >= 0.5 * max(size[a] for a in axes)]
        finest = min(step[axis] for axis in axes)
        for axis in axes:  # it stays 3 in deeper stages
            if step[axis] / finest < 2:
                kernel[axis] = 3
        kernels.append(_three(kernel))
        strides.append(_three([2 if axis in halve else 1 for axis in range(3)]))
        size = [n / 2 if axis in halve else n for axis, n in enumerate(size)]
        step = [s * 2 if axis in halve else s for axis, s in enumerate(step)]
    kernels.append(_three([3 if axis in axes else 1 for axis in range(3)]))
    divisors = [math.prod(along) for along in zip(*strides, strict=True)]
    rounded = _three([-(-int(n) // d) * d for n, d in zip(patch, divisors, strict=True)])
    return Topology(patch=rounded, strides=tuple(strides), kernels=tuple(kernels))


def _axes_to_halve(size: Sequence[float], step: Sequence[float], axes: Sequence[int]) -> list[int]:
    """Choose the axes that the next stage halves: long ones of nearly the finest spacing."""
    long_enough = [axis for axis in axes if size[axis] >= 2 * SMALLEST_MAP]
    if not long_enough:
        return []
    finest = min(step[axis] for axis in long_enough)
    near = [axis for axis in long_enough if step[axis] / finest < 2]
    if len(near) == 1 and size[near[0]] < 3 * SMALLEST_MAP:
        return []
    return near


def _three(values: Sequence[int]) -> Three:
    z, y, x = (int(v) for v in values)
    return z, y, x
