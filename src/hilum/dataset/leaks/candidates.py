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
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.leaks.align import points, sample
from hilum.dataset.leaks.thumbnail import averaging, without_shades

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def _pose(linear: Sequence[Sequence[float]], move: tuple[float, float] = (0.0, 0.0)) -> Poses:
    """Return (3, 3): a pose that can be multiplied and inverted."""
    pose = np.eye(3)
    pose[:2, :2], pose[:2, 2] = linear, move
    return pose


_SIGNS = tuple(product((1.0, -1.0), repeat=2))
_FLIPS = (
    *(_pose([[y, 0.0], [0.0, x]]) for y, x in _SIGNS),
    *(_pose([[0.0, y], [x, 0.0]]) for y, x in _SIGNS),
)
_CORNERS = ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
_SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))
_PARTS = tuple(
    _pose([[scale, 0.0], [0.0, scale]], (y * (1 - scale), x * (1 - scale)))
    for scale, places in ((0.85, _CORNERS), (0.7, _CORNERS + _SIDES))
    for y, x in places
)
_TURNS = tuple(
    _pose([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for angle in np.deg2rad((-9.0, 9.0))
)


@dataclass(frozen=True)
class Candidates:
    """Pairs of pictures that may be copies, to be compared closely.

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
    """Return the likeliest partners of each picture.

    Args:
        pictures: (N, n, n).
    """
    best: dict[tuple[int, int, int], tuple[float, Poses]] = {}
    for kind, (frames, ways, later) in enumerate(_views(pictures)):
        own = _signatures(_look_through(pictures, frames))
        backs = np.linalg.inv(frames)
        kept = _KEPT if later else _KEPT_PARTS
        shapes = [shape for shape, _ in ways]
        for row, column, score, way in partners(own, shapes, later=later, kept=kept):
            pose = ways[way][1][column] @ backs[row]
            pair = (min(row, column), max(row, column), kind)
            if score > best.get(pair, (0.0,))[0]:
                best[pair] = score, pose if row < column else np.linalg.inv(pose)
    keys = sorted(best)
    return Candidates(
        np.array([key[0] for key in keys], np.int64),
        np.array([key[1] for key in keys], np.int64),
        np.array([best[key][1][:2] for key in keys]).reshape(-1, 2, 3),
    )


def _views(
    pictures: Pictures,
) -> Iterator[tuple[Poses, list[tuple[Pictures, Poses]], bool]]:
    """Yield each frame (N, 3, 3), with the signatures and poses of the ways to look at the others.

    And whether a partner must come later: enough where the ways are the same from the other side.
    """
    whole = np.broadcast_to(np.eye(3), (len(pictures), 3, 3))
    for frames in (whole, _frames_of_brightness(pictures)):
        own = _signatures(_look_through(pictures, frames))
        yield frames, [(_flip_signatures(own, flip), frames @ flip) for flip in _FLIPS], True
    if len(pictures) <= PARTS_LIMIT:
        parts = []
        for frame in (*_PARTS, *_TURNS):
            own = _signatures(_look_through(pictures, whole @ frame))
            parts += [(_flip_signatures(own, flip), whole @ frame @ flip) for flip in _FLIPS[:2]]
        yield whole, parts, False


def partners(
    signatures: Pictures, ways: Sequence[Pictures], *, later: bool, kept: int
) -> Iterator[tuple[int, int, float, int]]:
    """The likeliest partners of each image: its index, the partner's, their score, and the way.

    Args:
        signatures: (N, ...), each of length 1.
        ways: signatures of the same images looked at in other ways.
        later: whether a partner must come later.
        kept: how many partners of each.
    """
    count = len(signatures)
    flat = signatures.reshape(count, -1)
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        columns = np.arange(start if later else 0, count)
        best = np.full((len(rows), len(columns)), -1.0, np.float32)
        way = np.zeros(best.shape, np.int8)
        for number, seen in enumerate(ways):
            score = flat[rows] @ seen.reshape(count, -1)[columns[0] :].T
            better = score > best
            best[better], way[better] = score[better], number
        before = columns[None] <= rows[:, None] if later else columns[None] == rows[:, None]
        best[before] = -1.0
        for index, row in enumerate(rows):
            for place in np.argsort(-best[index])[:kept]:
                if best[index, place] >= _LIKELY:
                    found = float(best[index, place])
                    yield int(row), int(columns[place]), found, int(way[index, place])


def _frames_of_brightness(pictures: Pictures) -> Poses:
    """Return (N, 3, 3): the frame around each centre of brightness, twice its spread."""
    count, size, _ = pictures.shape
    weights = pictures.reshape(count, -1)
    weights = np.clip(weights - np.percentile(weights, 10, axis=1, keepdims=True), 0, None)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    places = points(size)[:2]
    centres = weights @ places.T  # (N, 2)
    variance = weights @ (places**2).T - centres**2
    frames = np.zeros((count, 3, 3))
    frames[:, 0, 0] = frames[:, 1, 1] = _SPREAD * np.sqrt(np.maximum(variance.mean(axis=1), 1e-4))
    frames[:, :2, 2], frames[:, 2, 2] = centres, 1.0
    return frames


def _look_through(pictures: Pictures, poses: Poses) -> Pictures:
    """Return (N, n, n): the pictures as they look through their frames."""
    size = pictures.shape[1]
    parts = [
        sample(pictures[s : s + _BATCH], poses[s : s + _BATCH, :2])[0]
        for s in range(0, len(pictures), _BATCH)
    ]
    return np.concatenate(parts).reshape(-1, size, size)


def _signatures(pictures: Pictures) -> Pictures:
    """Return (N, 16, 16) of mean 0 and length 1: what is left without the broad shades."""
    shrink = averaging(pictures.shape[1], _SIGNATURE)
    small = shrink @ without_shades(pictures, _BROAD * pictures.shape[1]) @ shrink.T
    small = small - small.mean(axis=(1, 2), keepdims=True)
    return np.asarray(
        small / np.maximum(np.sqrt((small * small).sum(axis=(1, 2), keepdims=True)), 1e-6),
        np.float32,
    )


def _flip_signatures(signatures: Pictures, flip: Poses) -> Pictures:
    """Return the signatures of the flipped pictures: f(p) = picture(flip p)."""
    if flip[0, 0] == 0:  # y reads along x
        signatures = signatures.transpose(0, 2, 1)
        return signatures[:, :: int(flip[1, 0]), :: int(flip[0, 1])]
    return signatures[:, :: int(flip[0, 0]), :: int(flip[1, 1])]
