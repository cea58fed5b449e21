"""Candidates for alignment: each picture's perceptual signature, compared with all others.

The signature is the picture without its broad shades, at 16 x 16 points, of length 1, so that two
of them correlate by a matrix product. It is made of three frames, so that a copy is met again in
one of them:

- the whole picture, in the eight ways of mirroring and turning it by quarters;
- the picture around the centre of its brightness and scaled by its spread, in the same eight ways:
  what was moved, zoomed or turned a little on an empty ground;
- parts of the picture, and the picture turned a little, as it stands and mirrored: what was cut out
  of another and enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.leaks.align import points, sample, square
from hilum.dataset.leaks.thumbnail import averaging, without_shades

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hilum.dataset.leaks.align import Pictures, Poses

PARTS_LIMIT = 2000
"""Parts are looked for in data sets of up to this many pictures: there are ten of each picture, so
it takes longest."""
_SIGNATURE = 16
_BROAD = 3 / 32  # standard deviation of the blur that is taken off, as a share of the picture
_KEPT, _KEPT_PARTS = 3, 6
_LIKELY = 0.5
_SPREAD = 2.0
_BATCH = 256
_BLOCK = 512
_FLIPS = (
    *(
        np.array(rows, float)
        for rows in ([[1, 0], [0, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, 1]], [[-1, 0], [0, -1]])
    ),
    *(
        np.array(rows, float)
        for rows in ([[0, 1], [1, 0]], [[0, 1], [-1, 0]], [[0, -1], [1, 0]], [[0, -1], [-1, 0]])
    ),
)
_CORNERS = ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
_SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))
_PARTS = tuple(
    np.array([[scale, 0.0, y * (1 - scale)], [0.0, scale, x * (1 - scale)]])
    for scale, places in ((0.85, _CORNERS), (0.7, _CORNERS + _SIDES))
    for y, x in places
)
_TURNS = tuple(
    np.array([[np.cos(angle), np.sin(angle), 0.0], [-np.sin(angle), np.cos(angle), 0.0]])
    for angle in np.deg2rad((-9.0, 9.0))
)


@dataclass(frozen=True)
class Candidates:
    """Pairs to look at.

    Args:
        one: (P,) index of the first picture of each pair.
        other: (P,) index of the second one, larger.
        poses: (P, 2, 3) where the second is likely to lie on the first (see
            :mod:`hilum.dataset.leaks.align`).
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    poses: Poses


def candidates(pictures: Pictures) -> Candidates:
    """The likeliest partners of each picture.

    Args:
        pictures: (N, n, n).
    """
    found: dict[tuple[int, int, int], tuple[float, Poses]] = {}
    for kind, (row, column, score, pose) in _found(pictures):
        one, other = min(row, column), max(row, column)
        if score > found.get((one, other, kind), (_LIKELY,))[0]:
            found[one, other, kind] = (
                score,
                pose if row < column else np.linalg.inv(square(pose[None])[0])[:2],
            )
    keys = sorted(found)
    return Candidates(
        np.array([key[0] for key in keys], np.int64),
        np.array([key[1] for key in keys], np.int64),
        np.array([found[key][1] for key in keys]).reshape(-1, 2, 3),
    )


def _found(pictures: Pictures) -> Iterator[tuple[int, tuple[int, int, float, Poses]]]:
    """Each frame's number, and a pair with its score and its pose."""
    count = len(pictures)
    whole = np.broadcast_to(np.eye(3)[:2], (count, 2, 3))
    spread = frames_of_brightness(pictures)
    flips = _FLIPS
    for kind, frames in enumerate((whole, spread)):
        signatures = _signatures(_posed(pictures, frames))
        others = [
            (_flipped(signatures, flip), frames @ square(_pose(flip)[None])[0]) for flip in flips
        ]
        for pair in _best(signatures, others, frames, later=True):
            yield kind, pair
    if count <= PARTS_LIMIT:
        signatures = _signatures(pictures)
        others = []
        for frame in (*_PARTS, *_TURNS):
            parts = _signatures(_posed(pictures, np.broadcast_to(frame, (count, 2, 3))))
            for flip in flips[:2]:
                pose = (square(frame[None])[0] @ square(_pose(flip)[None])[0])[:2]
                others.append((_flipped(parts, flip), np.broadcast_to(pose, (count, 2, 3))))
        for pair in _best(signatures, others, whole, later=False, kept=_KEPT_PARTS):
            yield 2, pair


def frames_of_brightness(pictures: Pictures) -> Poses:
    """(N, 2, 3): the frame around each centre of brightness, twice its spread."""
    count, size, _ = pictures.shape
    weights = pictures.reshape(count, -1)
    weights = np.clip(weights - np.percentile(weights, 10, axis=1, keepdims=True), 0, None)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    places = points(size)[:2]
    centres = weights @ places.T  # (N, 2)
    variance = weights @ (places**2).T - centres**2
    frames = np.zeros((count, 2, 3))
    frames[:, 0, 0] = frames[:, 1, 1] = _SPREAD * np.sqrt(np.maximum(variance.mean(axis=1), 1e-4))
    frames[:, :, 2] = centres
    return frames


def _pose(flip: NDArray[np.float64]) -> Poses:
    return np.concatenate([flip, np.zeros((2, 1))], axis=1)


def _posed(pictures: Pictures, poses: Poses) -> Pictures:
    """(N, n, n): the pictures as they look through their frames."""
    size = pictures.shape[1]
    parts = [
        sample(pictures[s : s + _BATCH], poses[s : s + _BATCH])[0]
        for s in range(0, len(pictures), _BATCH)
    ]
    return np.concatenate(parts).reshape(-1, size, size)


def _signatures(pictures: Pictures) -> Pictures:
    """(N, 16, 16) of mean 0 and length 1: what is left without the broad shades."""
    shrink = averaging(pictures.shape[1], _SIGNATURE)
    small = shrink @ without_shades(pictures, _BROAD * pictures.shape[1]) @ shrink.T
    small = small - small.mean(axis=(1, 2), keepdims=True)
    return np.asarray(
        small / np.maximum(np.sqrt((small * small).sum(axis=(1, 2), keepdims=True)), 1e-6),
        np.float32,
    )


def _flipped(signatures: Pictures, flip: NDArray[np.float64]) -> Pictures:
    """The signatures of the flipped pictures: f(p) = picture(flip p)."""
    if flip[0, 0] == 0:  # y reads along x
        signatures = signatures.transpose(0, 2, 1)
        return signatures[:, :: int(flip[1, 0]), :: int(flip[0, 1])]
    return signatures[:, :: int(flip[0, 0]), :: int(flip[1, 1])]


def _best(
    signatures: Pictures,
    others: list[tuple[Pictures, Poses]],
    frames: Poses,
    *,
    later: bool,
    kept: int = _KEPT,
) -> Iterator[tuple[int, int, float, Poses]]:
    """The likeliest partners of each picture, with their score and pose.

    Args:
        signatures: (N, 16, 16).
        others: signatures of the same pictures seen in other ways, and the pose of each way.
        frames: the frame in which the signatures were taken.
        later: whether a partner must come later: enough where the ways are the same seen from the
            other side.
        kept: how many partners of each.
    """
    count = len(signatures)
    flat = signatures.reshape(count, -1)
    backs = np.linalg.inv(square(frames))
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        first = start if later else 0
        best = np.full((len(rows), count - first), -1.0, np.float32)
        way = np.zeros(best.shape, np.int8)
        for number, (seen, _) in enumerate(others):
            score = flat[rows] @ seen[first:].reshape(count - first, -1).T
            better = score > best
            best[better], way[better] = score[better], number
        columns = np.arange(first, count)
        best[columns[None] <= rows[:, None] if later else columns[None] == rows[:, None]] = -1.0
        for index, row in enumerate(rows):
            for place in np.argsort(-best[index])[:kept]:
                if best[index, place] >= _LIKELY:
                    column = int(columns[place])
                    pose = (square(others[way[index, place]][1][column][None])[0] @ backs[row])[:2]
                    yield int(row), column, float(best[index, place]), pose
