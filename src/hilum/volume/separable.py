"""Separable interpolation: a narrow band matrix for each axis, applied in blocks.

A volume is resampled along Z, then Y, then X, one block of output slices at a time, so that the
memory needed beyond the result stays below :data:`WORKING_BYTES` (or one row of blocks, where a
single row of the volume is larger than that).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Value = TypeVar("Value", bound=np.generic)
WORKING_BYTES = 64 * 2**20
"""Bytes that resampling may hold at a time beyond its input and its output."""

# of the cubic B-spline's inverse filter (Unser 1999, "Splines: a perfect fit", table 1)
_POLE = 3.0**0.5 - 2.0
# the inverse filter is cut where it has fallen to |pole|^12 = 1.4e-7, the precision of float32
_REACH = 12
# Products of a dense piece of the band and a part of the volume stay small: OpenBLAS shares larger
# ones (2^18 multiplications)
# out to threads, which takes ten times longer where another process has the processor;
# preprocessing has threads of its own.
_COLUMNS = 256
_DENSE = 2**18 // _COLUMNS
_CACHE_BYTES = 2**20
_ROWS = 32  # wider pieces multiply more zeros, narrower ones cost more calls


@dataclass(frozen=True)
class Axis:
    """Resampling of one axis: output *i* is the sum of weights[i, t] * source[positions[i, t]].

    Args:
        size: source positions n.
        positions: (m, T) source positions, each in 0..n-1, rising along m.
        weights: (m, T), each row sums to 1.
        identity: whether output and source positions are the same.
    """

    size: int
    positions: NDArray[np.intp]
    weights: NDArray[np.float64]
    identity: bool

    @property
    def count(self) -> int:
        """Output positions m."""
        return len(self.positions)

    def pieces(self, rows: int) -> list[Piece]:
        """Cut the band matrix into dense pieces of at most `rows` output positions."""
        while rows > 1 and rows * _reads(self, rows) > _DENSE:
            rows -= 1
        return [self.piece(slice(a, min(a + rows, self.count))) for a in range(0, self.count, rows)]

    def piece(self, rows: slice) -> Piece:
        """Cut out the dense piece of the band matrix that makes these output positions."""
        positions, weights = self.positions[rows], self.weights[rows]
        first, last = int(positions.min()), int(positions.max())
        matrix = np.zeros((len(positions), last + 1 - first))
        np.add.at(matrix, (np.arange(len(positions))[:, None], positions - first), weights)
        return Piece(rows, slice(first, last + 1), matrix.astype(np.float32))


@dataclass(frozen=True)
class Piece:
    """A dense piece (len(rows), len(source)) of an axis's band matrix."""

    rows: slice
    source: slice
    matrix: NDArray[np.float32]


def block_coordinates(n: int, m: int) -> NDArray[np.float64]:
    """Return source coordinates of m output voxels over the same block of n source voxels."""
    # one rounding, so that ties are ties on every platform
    return np.asarray(((2 * np.arange(m) + 1) * n - m) / (2 * m))


def make_axis(coordinates: NDArray[np.float64], n: int, order: int) -> Axis:
    """Find positions and weights of an interpolation along one axis.

    Beyond the ends the outermost value goes on.

    Args:
        coordinates: (m,) rising or falling source coordinates; voxel k has its centre at k.
        n: source positions.
        order: 0 nearest (ties to the higher position, as scipy.ndimage), 1 linear, 3 cubic
            B-spline.
    """
    identity = len(coordinates) == n and bool(np.array_equal(coordinates, np.arange(n)))
    if order == 0 or identity:
        positions = np.clip(np.floor(coordinates + 0.5), 0, n - 1).astype(np.intp)[:, None]
        weights = np.ones(positions.shape)
    elif order == 1:
        positions, weights = _linear(coordinates, n)
    else:
        positions, weights = _cubic(coordinates, n)
    return Axis(n, positions, weights, identity)


def make_linear_axis(coordinates: NDArray[np.float64], n: int) -> Axis:
    """Find the two neighbours of each coordinate and their weights; T is always 2."""
    return Axis(n, *_linear(coordinates, n), identity=False)


def _linear(
    coordinates: NDArray[np.float64], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the two neighbours of each coordinate, and their weights."""
    inside = np.clip(coordinates, 0, n - 1)
    low = np.floor(inside).astype(np.intp)
    share = inside - low
    return np.stack([low, np.minimum(low + 1, n - 1)], axis=1), np.stack([1 - share, share], axis=1)


def _cubic(
    coordinates: NDArray[np.float64], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the B-spline's four weights times its inverse filter, for unfiltered sources."""
    base = np.floor(coordinates)
    t = (coordinates - base)[:, None]
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    spline = np.concatenate(parts, axis=1) / 6
    inverse = _POLE ** np.abs(np.arange(-_REACH, _REACH + 1))
    inverse /= inverse.sum()
    weights = np.zeros((len(t), 4 + 2 * _REACH))
    for tap in range(4):
        weights[:, tap : tap + len(inverse)] += spline[:, tap : tap + 1] * inverse
    centre = _REACH + 1
    # on a source voxel a spline has that voxel's very value
    weights[t[:, 0] == 0] = np.eye(weights.shape[1])[centre]
    positions = base.astype(np.intp)[:, None] + np.arange(weights.shape[1]) - centre
    return np.clip(positions, 0, n - 1), weights


def check_order(order: int) -> None:
    """Refuse an interpolation order that is not offered."""
    if order not in (0, 1, 3):
        raise UsageError(
            f"the interpolation order is {order}", needed="one of 0, 1, 3 (nearest, linear, cubic)"
        )


def gather(array: NDArray[Value], axes: Sequence[Axis]) -> NDArray[Value]:
    """Copy nearest neighbours: (C, Z, Y, X) to (C, *m) of the same dtype.

    Holds some rows beyond its result.
    """
    z, y, x = (axis.positions[:, 0] for axis in axes)
    out = np.empty((array.shape[0], len(z), len(y), len(x)), dtype=array.dtype)
    rows = max(1, _CACHE_BYTES // (array.shape[3] * array.itemsize))
    for channel, target in zip(array, out, strict=True):
        for i, position in enumerate(z):
            if i and z[i - 1] == position:
                target[i] = target[i - 1]
                continue
            for a in range(0, len(y), rows):
                lines = channel[position].take(y[a : a + rows], axis=0)
                target[i, a : a + rows] = lines.take(x, axis=1)
    return out


class Planes:
    """Resamples planes (K, Y, X) to (K, Y', X'), some output rows at a time: in bands.

    How rows are cut into bands changes their values by rounding only.

    Args:
        y, x: the axes.
        rows: output rows that a band may have, at least 1.
        shared_by: threads that share the bands: as many for each, of about equal size, where there
            are rows enough.
    """

    def __init__(self, y: Axis, x: Axis, *, rows: int, shared_by: int = 1) -> None:
        self._y_same, self._x_same, self._width = y.identity, x.identity, x.count
        self._x = x.pieces(_ROWS)
        pieces = y.pieces(min(_ROWS, rows))
        together = max(1, rows // len(pieces[0].matrix))
        count = min(len(pieces), -(-len(pieces) // (together * shared_by)) * shared_by)
        edges = [n * len(pieces) // count for n in range(count + 1)]
        self._groups = [pieces[a:b] for a, b in pairwise(edges)]
        self.bands = [slice(group[0].rows.start, group[-1].rows.stop) for group in self._groups]
        """Output rows of each band."""
        self.sources = [
            slice(min(p.source.start for p in group), max(p.source.stop for p in group))
            for group in self._groups
        ]
        """Source rows that each band is made from."""

    def band(
        self, planes: NDArray[np.float32], number: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Make band `number` (K, rows, X') of the source rows (K, Y, X) that it is made from.

        In `out` where that is given; else a view of them where nothing is resampled.
        """
        block, rows, first = planes, self.bands[number], self.sources[number].start
        if not self._y_same:
            block = np.empty((len(planes), rows.stop - rows.start, planes.shape[2]), np.float32)
            for piece in self._groups[number]:
                lines = planes[:, piece.source.start - first : piece.source.stop - first]
                into = block[:, piece.rows.start - rows.start : piece.rows.stop - rows.start]
                for part in _parts(planes.shape[2]):
                    np.matmul(piece.matrix, lines[..., part], out=into[..., part])
        if self._x_same and out is None:
            return block
        made = np.empty((*block.shape[:2], self._width), np.float32) if out is None else out
        if self._x_same:
            made[...] = block
            return made
        for piece in self._x:
            matrix = np.ascontiguousarray(piece.matrix.T)
            for part in _parts(block.shape[1]):
                np.matmul(block[:, part, piece.source], matrix, out=made[:, part, piece.rows])
        return made


def interpolate(array: NDArray[np.generic], axes: Sequence[Axis]) -> NDArray[np.float32]:
    """Resample (C, Z, Y, X) of any real dtype along all three axes to float32 (C, *m).

    Z and, for huge slices, Y are cut into pieces so that a block fits into `WORKING_BYTES`.
    """
    z_axis, y_axis, x_axis = axes
    z_rows, y_rows = min(_ROWS, z_axis.count), y_axis.count

    def is_too_much() -> bool:
        z_source, y_source = _reads(z_axis, z_rows), _reads(y_axis, y_rows)
        source = (z_source + z_rows) * y_source * x_axis.size
        return 4 * (source + z_rows * y_rows * max(x_axis.size, x_axis.count)) > WORKING_BYTES

    while is_too_much() and z_rows > 4:
        z_rows = (z_rows + 1) // 2
    while is_too_much() and y_rows > _ROWS:
        y_rows = (y_rows + 1) // 2
    while is_too_much() and z_rows > 1:
        z_rows = (z_rows + 1) // 2
    planes = Planes(y_axis, x_axis, rows=y_rows)
    starts = range(0, z_axis.count, z_rows)
    slabs = [z_axis.piece(slice(a, min(a + z_rows, z_axis.count))) for a in starts]
    out = np.empty((len(array), *(axis.count for axis in axes)), dtype=np.float32)
    for channel, target in zip(array, out, strict=True):
        for z, (number, source) in product(slabs, enumerate(planes.sources)):
            block = np.ascontiguousarray(channel[z.source, source], dtype=np.float32)  # (z, y, X)
            if not z_axis.identity:
                block = _along_z(block, z)  # (z', y, X)
            planes.band(block, number, out=target[z.rows, planes.bands[number]])  # (z', y', X')
    return out


def _along_z(block: NDArray[np.float32], z: Piece) -> NDArray[np.float32]:
    """Interpolate a block (z, y, X) along its first axis."""
    made = np.empty((len(z.matrix), *block.shape[1:]), dtype=np.float32)
    lines, out = block.transpose(1, 0, 2), made.transpose(1, 0, 2)  # (y, z, X)
    rows = max(1, _DENSE // z.matrix.shape[1])
    for a in range(0, len(z.matrix), rows):
        for part in _parts(block.shape[2]):
            np.matmul(z.matrix[a : a + rows], lines[..., part], out=out[:, a : a + rows, part])
    return made


def _parts(size: int) -> list[slice]:
    return [slice(a, min(a + _COLUMNS, size)) for a in range(0, size, _COLUMNS)]


def _reads(axis: Axis, rows: int) -> int:
    """Count the source positions that `rows` output positions read, about."""
    if axis.identity:
        return rows
    return min(axis.size, -(-rows * axis.size // axis.count) + int(axis.weights.shape[1]))
