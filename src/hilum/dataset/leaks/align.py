"""Registration of two pictures: the move, turn, mirror and scale that make them most alike.

Coordinates are (y, x) from -1 to 1 over a picture. A pose is (2, 3): the point p of the one picture
lies at pose @ (p, 1) of the other. Poses are refined by Gauss-Newton on the correlation of the two
(inverse compositional; Evangelidis and Psarakis, "Parametric image alignment using enhanced
correlation coefficient maximization", IEEE TPAMI 30, 2008), many pairs at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]
    Poses = NDArray[np.float64]

SMALLEST_OVERLAP = 0.4
"""Share of the one picture that must lie on the other."""
_LARGEST_STEP = 0.15
_RIDGE = 1e-4
_EPSILON = 1e-9
_TEXTURED = 0.03
"""A block counts where one of the two has this share of the energy of the strongest block."""
_FEWEST_BLOCKS = 8
_COVERED = 0.5
_MARGIN = 6 / 64
"""Along its sides a picture without its shades shows what was beyond them: not the same in a
picture and a part of it."""


@lru_cache(maxsize=8)
def points(size: int) -> Pictures:
    """Return (3, size * size): the pixel centres of a picture as (y, x, 1)."""
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.ones(size * size)]).astype(np.float32)


def sample(
    pictures: Pictures, poses: Poses, *, margin: float = 0.0
) -> tuple[Pictures, NDArray[np.bool_]]:
    """Read pictures at their posed pixel centres, bilinearly.

    Args:
        pictures: (B, n, n).
        poses: (B, 2, 3).
        margin: what does not count along the sides of a picture, as a share of half its side.

    Returns:
        Values (B, n * n), and whether each point lies on the picture.
    """
    size = pictures.shape[1]
    where = poses.astype(np.float32) @ points(size)  # (B, 2, n * n)
    inside = (np.abs(where) <= 1 - margin).all(axis=1)
    index = np.clip((where + 1) * (size / 2) - 0.5, 0, size - 1.001)
    corner = index.astype(np.int32)  # a batch has far fewer pixels than an int32 counts
    weight = (index - corner).astype(np.float32)
    base = (
        np.arange(len(pictures), dtype=np.int32)[:, None] * (size * size)
        + corner[:, 0] * size
        + corner[:, 1]
    )
    flat = pictures.reshape(-1)
    down, right = weight[:, 0], weight[:, 1]
    above = flat[base] * (1 - right) + flat[base + 1] * right
    below = flat[base + size] * (1 - right) + flat[base + size + 1] * right
    return above * (1 - down) + below * down, inside


def align(
    fixed: Pictures, moving: Pictures, poses: Poses, *, steps: int
) -> tuple[Poses, NDArray[np.float64]]:
    """Refine poses so that fixed(p) and moving(pose p) correlate.

    Args:
        fixed: (B, n, n).
        moving: (B, n, n).
        poses: (B, 2, 3) to start from.
        steps: how many.

    Returns:
        The best poses met, and their correlations over what overlaps; -2 where the pictures overlap
        too little.
    """
    count, size, _ = fixed.shape
    values = fixed.reshape(count, size * size)
    slopes = _slopes(fixed)  # (B, 6, n * n)
    within = _within(size)
    needed = SMALLEST_OVERLAP * within.mean()
    current = poses.astype(np.float64).copy()
    best, best_poses = np.full(count, -2.0), current.copy()
    for step in range(steps + 1):
        seen, inside = sample(moving, current, margin=_MARGIN)
        weights = (inside & within).astype(np.float32)
        one, scale = _standardise(values, weights)
        other, _ = _standardise(seen, weights)
        correlation = (one * other).sum(axis=1)
        better = (correlation > best) & (weights.mean(axis=1) > needed)
        best[better], best_poses[better] = correlation[better], current[better]
        if step < steps:
            current = _step(current, slopes, weights, other - one, scale)
    return best_poses, best


def _within(size: int) -> NDArray[np.bool_]:
    """Return (n * n,): whether a pixel lies within the margin."""
    return np.asarray((np.abs(points(size)[:2]) <= 1 - _MARGIN).all(axis=0))


def _slopes(pictures: Pictures) -> Pictures:
    """Return (B, 6, n * n): how a picture changes with each entry of a pose near the identity."""
    count, size, _ = pictures.shape
    along_y, along_x = (
        slope.reshape(count, size * size) * (size / 2)
        for slope in np.gradient(pictures, axis=(1, 2))
    )
    y, x, _ = points(size)
    return np.stack(
        [along_y * y, along_y * x, along_y, along_x * y, along_x * x, along_x], axis=1
    ).astype(np.float32)


def _standardise(values: Pictures, weights: Pictures) -> tuple[Pictures, Pictures]:
    """Return values of mean 0 and length 1 where the weight is 1, 0 elsewhere.

    And what their length was, (B, 1).
    """
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    centred = (values - (values * weights).sum(axis=1, keepdims=True) / total) * weights
    length = np.maximum(np.sqrt((centred * centred).sum(axis=1, keepdims=True)), _EPSILON)
    return centred / length, length


def _step(
    poses: Poses, slopes: Pictures, weights: Pictures, residual: Pictures, scale: Pictures
) -> Poses:
    """Make one Gauss-Newton step, found on the fixed picture and applied inverted."""
    jacobian = slopes * (weights / scale)[:, None]
    total = np.maximum(weights.sum(axis=1), 1.0)[:, None, None]
    jacobian -= jacobian.sum(axis=2, keepdims=True) / total * weights[:, None]
    normal = (jacobian @ jacobian.transpose(0, 2, 1)).astype(np.float64) + _RIDGE * np.eye(6)
    change = np.linalg.solve(normal, (jacobian @ residual[:, :, None]).astype(np.float64))[:, :, 0]
    change = np.clip(change, -_LARGEST_STEP, _LARGEST_STEP).reshape(-1, 2, 3)
    return (_square(poses) @ np.linalg.inv(_square(change) + np.diag([1.0, 1.0, 0.0])))[:, :2]


def _square(poses: Poses) -> Poses:
    """Return (B, 3, 3): poses that can be multiplied and inverted."""
    whole = np.zeros((len(poses), 3, 3))
    whole[:, :2] = poses
    whole[:, 2, 2] = 1.0
    return whole


def likeness(fixed: Pictures, moving: Pictures, poses: Poses, *, block: int) -> NDArray[np.float64]:
    """Correlate details of two pictures: what three quarters of textured blocks reach.

    Two people's chests have their outline in common, and correlate well as a whole; a copy agrees
    in nearly every part.

    Args:
        fixed: (B, n, n), without their coarse shades.
        moving: (B, n, n).
        poses: (B, 2, 3).
        block: pixels along the side of a block.

    Returns:
        (B,) the lower quartile of the blocks' correlations; -1 where fewer than eight blocks show
        anything.
    """
    values, inside = sample(moving, poses, margin=_MARGIN)
    weights = (inside & _within(fixed.shape[1])).astype(np.float32)
    one, other, counted = (
        blocks(part.reshape(fixed.shape), block) for part in (fixed, values, weights)
    )
    return quartiles(one, other, counted)


def quartiles(one: Pictures, other: Pictures, weights: Pictures) -> NDArray[np.float64]:
    """The lower quartile of the blocks' correlations; -1 where fewer than eight blocks count.

    Args:
        one: (B, blocks, values).
        other: the same of another image.
        weights: of the values, 0 or 1; a block counts where it is covered by half.
    """
    total = np.maximum(weights.sum(axis=2, keepdims=True), 1.0)
    one, other = (
        (part - (part * weights).sum(axis=2, keepdims=True) / total) * weights
        for part in (one, other)
    )
    energies = (one * one).sum(axis=2), (other * other).sum(axis=2)
    scale = np.sqrt(np.maximum(energies[0] * energies[1], _EPSILON**2))
    correlation = (one * other).sum(axis=2) / scale
    energy = np.maximum(*energies)
    counted = energy > _TEXTURED * energy.max(axis=1, keepdims=True)
    counted &= weights.mean(axis=2) > _COVERED
    found = np.full(len(one), -1.0)
    for index in np.flatnonzero(counted.sum(axis=1) >= _FEWEST_BLOCKS):
        found[index] = np.quantile(correlation[index, counted[index]], 0.25)
    return found


def blocks(images: Pictures, block: int) -> Pictures:
    """Return (B, blocks, values) of images (B, n, n) or (B, n, n, n)."""
    parts, axes = images.shape[1] // block, images.ndim - 1
    cut = images.reshape(len(images), *(parts, block) * axes)
    order = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2))
    return cut.transpose(order).reshape(len(images), parts**axes, block**axes)
