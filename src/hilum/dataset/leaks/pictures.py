"""Near-duplicates among pictures: found by signature, laid over each other, and compared in detail.

Measured (tests/dataset/test_real_leaks.py holds some of it): among 800 chest X-rays no two people
are more alike than 0.5, among 5232 of 28 x 28 pixels nobody but copies reaches 0.75. Copies of 60
of those chest X-rays, put among 400, and of as many breast ultrasound pictures, among 312, were
found as follows: mirrored, turned by quarters, half the size, gamma 0.5 or 2, JPEG of quality 20:
all; turned by 5 degrees 0.98 and 1.0, by 10 degrees 0.95 and 1.0; noise of 15 of 255 0.88 and 1.0;
padded by a tenth on each side 0.82 and 0.62; cut to 90 % of the side 0.83 and 0.93, to 80 % 0.55
and 0.62, to 70 % 0.22 and 0.28. Inverted grey scales are not looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.leaks.align import align, likeness
from hilum.dataset.leaks.candidates import candidates
from hilum.dataset.leaks.thumbnail import PICTURE, averaging, even_contrast, without_shades

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.dataset.leaks.align import Pictures, Poses

ALIKE = 0.75
"""From this likeness on, two images are near-duplicates."""
ALIKE_AS_WHOLE, ALIKE_AT_LEAST = 0.985, 0.4
"""So are two that correlate like the first number at low resolution and have the second as
likeness: noise hides the detail."""
_SMALL = 48  # pixels of the shorter side below which a picture is compared at 32 x 32 points
_BATCH = 128
_COARSE = (
    (3, 0.55),
    (3, 0.7),
)  # steps at 32 x 32 points, and the correlation that a pair must have reached by then
_FINE_STEPS = 4
_LEAST_SCALE, _MOST_SCALE, _MOST_STRETCH = 0.4, 2.5, 1.35


@dataclass(frozen=True)
class Match:
    """Two images that are alike.

    Args:
        one: index of the first.
        other: index of the second, larger.
        likeness: 0.75 to 1: the correlation that three quarters of their parts reach, or of the
            whole (`ALIKE_AS_WHOLE`).
        mirrored: whether one is the mirror image of the other.
        how: what was done to one to make the other, in words; "" where nothing.
    """

    one: int
    other: int
    likeness: float
    mirrored: bool
    how: str


def matching_pictures(pictures: Pictures, detail: int) -> tuple[Match, ...]:
    """Return every pair of pictures that are copies of each other, or nearly so.

    Args:
        pictures: (N, 64, 64) thumbnails.
        detail: pixels of the shorter side of the originals.

    Returns:
        By index. Of many copies of one picture not every pair is named, but all hang together.
    """
    if len(pictures) < 2:
        return ()
    found = candidates(pictures)
    coarse, fine, block = _views(pictures, detail)
    best: dict[tuple[int, int], tuple[float, Poses]] = {}
    for start in range(0, len(found.one), _BATCH):
        part = slice(start, start + _BATCH)
        one, other = found.one[part], found.other[part]
        poses = found.poses[part]
        for steps, needed in _COARSE:
            poses, correlation = align(coarse[one], coarse[other], poses, steps=steps)
            likely = correlation > needed
            one, other, poses = one[likely], other[likely], poses[likely]
        poses, _ = align(fine[one], fine[other], poses, steps=_FINE_STEPS)
        alike = likeness(fine[one], fine[other], poses, block=block)
        _, as_whole = align(coarse[one], coarse[other], poses, steps=0)
        alike = np.where(
            (as_whole >= ALIKE_AS_WHOLE) & (alike >= ALIKE_AT_LEAST),
            np.maximum(alike, as_whole),
            alike,
        )
        for index in np.flatnonzero((alike >= ALIKE) & _plausible(poses)):
            key = int(one[index]), int(other[index])
            if alike[index] > best.get(key, (0.0,))[0]:
                best[key] = float(alike[index]), poses[index]
    matches = []
    for (row, column), (value, pose) in sorted(best.items()):
        mirrored = bool(np.linalg.det(pose[:, :2]) < 0)
        how = ", ".join(_words(pose[:, :2], mirrored=mirrored))
        matches.append(Match(row, column, value, mirrored, how))
    return tuple(matches)


def _views(pictures: Pictures, detail: int) -> tuple[Pictures, Pictures, int]:
    """Return pictures for finding the pose, for comparing details, and the latter's block side."""
    from scipy.ndimage import gaussian_filter

    half = averaging(PICTURE, PICTURE // 2)
    small = np.asarray(half @ pictures @ half.T, np.float32)
    coarse = gaussian_filter(without_shades(small, 2.0), (0, 0.7, 0.7), mode="nearest")
    if detail < _SMALL:
        return coarse, even_contrast(without_shades(small, 1.2), 1.2), 4
    return coarse, even_contrast(without_shades(pictures, 2.0), 2.0), 8


def _plausible(poses: Poses) -> NDArray[np.bool_]:
    """Return True for a pose that people give to copies: not too small, large or stretched."""
    stretches = np.linalg.svd(poses[:, :, :2], compute_uv=False)  # (B, 2), larger first
    scale = np.sqrt(stretches.prod(axis=1))
    return np.asarray(
        (scale > _LEAST_SCALE)
        & (scale < _MOST_SCALE)
        & (stretches[:, 0] < _MOST_STRETCH * stretches[:, 1])
    )


def _words(linear: NDArray[np.float64], *, mirrored: bool) -> list[str]:
    """Describe a pose: mirrored, turned by so many degrees, so many times the size."""
    words = ["mirrored"] if mirrored else []
    upright = linear @ np.diag([1.0, -1.0]) if mirrored else linear  # left and right changed first
    angle = math.degrees(math.atan2(upright[1, 0] - upright[0, 1], upright[0, 0] + upright[1, 1]))
    if mirrored and abs(abs(angle) - 180) < abs(angle):
        words, angle = ["mirrored upside down"], angle - math.copysign(180, angle)
    if abs(angle) >= 2:
        words.append(f"turned by {abs(angle):.0f} degrees")
    scale = math.sqrt(abs(float(np.linalg.det(linear))))
    if abs(math.log(scale)) > math.log(1.03):
        words.append(f"{scale:.2f} times the size")
    return words
