"""Planes resampled band by band: some of their output rows at a time, whatever the number of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.volume.separable import along_x, along_y, block_coordinates, make_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROWS = 32  # output positions of one dense piece of the band matrix, as in `separable`


class Planes:
    """Resamples planes (K, Y, X) to (K, Y', X'), `rows` output rows at a time; see `resample_array` for what is computed.

    A band's values do not depend on how many planes or bands are asked for.

    Args:
        size: (Y, X).
        target: (Y', X').
        orders: of the interpolation along Y and X: 0 nearest, 1 linear, 3 cubic B-spline.
        rows: output rows a band, at least 1.
    """

    def __init__(self, size: tuple[int, int], target: tuple[int, int], orders: Sequence[int], *, rows: int) -> None:
        y, x = (make_axis(block_coordinates(n, m), n, order) for n, m, order in zip(size, target, orders, strict=True))
        self._y_same, self._x_same = y.identity, x.identity
        self._width = x.count
        self._x = x.pieces(_ROWS)
        pieces = y.pieces(min(_ROWS, rows))
        together = max(1, rows // len(pieces[0].matrix))
        self._groups = [pieces[n : n + together] for n in range(0, len(pieces), together)]
        self.bands = [slice(group[0].rows.start, group[-1].rows.stop) for group in self._groups]
        """Output rows of each band."""

    def band(self, planes: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Band `number` of the resampled planes: (K, rows, X'); a view of the given ones where nothing is resampled."""
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
