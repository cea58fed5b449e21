"""Resampling of planes band by band: some output rows of all channels at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hilum.volume.separable import along_x, along_y, block_coordinates, make_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROWS = 32  # output positions of one dense piece of the band matrix, as in `separable`


class Planes:
    """Resamples planes (K, Y, X) to (K, Y', X'), `rows` output rows at a time.

    See `resample_array` for what is computed.

    How rows are cut into bands changes their values by rounding only.

    Args:
        size: (Y, X).
        target: (Y', X').
        orders: of the interpolation along Y and X: 0 nearest, 1 linear, 3 cubic B-spline.
        rows: output rows that a band may have, at least 1.
        shared_by: threads that share the bands: as many for each, of about equal size, where there
            are rows enough.
    """

    def __init__(
        self,
        size: tuple[int, int],
        target: tuple[int, int],
        orders: Sequence[int],
        *,
        rows: int,
        shared_by: int = 1,
    ) -> None:
        y, x = (
            make_axis(block_coordinates(n, m), n, order)
            for n, m, order in zip(size, target, orders, strict=True)
        )
        self._y_same, self._x_same = y.identity, x.identity
        self._width = x.count
        self._x = x.pieces(_ROWS)
        pieces = y.pieces(min(_ROWS, rows))
        together = max(1, rows // len(pieces[0].matrix))
        count = min(len(pieces), -(-len(pieces) // (together * shared_by)) * shared_by)
        edges = [n * len(pieces) // count for n in range(count + 1)]
        self._groups = [pieces[a:b] for a, b in pairwise(edges)]
        self.bands = [slice(group[0].rows.start, group[-1].rows.stop) for group in self._groups]
        """Output rows of each band."""

    def band(self, planes: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Band `number` of the resampled planes: (K, rows, X').

        A view of the given ones where nothing is resampled.
        """
        group, rows = self._groups[number], self.bands[number]
        source = slice(min(p.source.start for p in group), max(p.source.stop for p in group))
        block = planes[:, source]  # (K, y, X)
        if not self._y_same:
            block = along_y(block, group, rows, source.start)  # (K, y', X)
        if self._x_same:
            return block
        made = np.empty((*block.shape[:2], self._width), dtype=np.float32)
        along_x(block, self._x, made)  # (K, y', X')
        return made
