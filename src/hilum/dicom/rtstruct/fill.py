"""Covered fraction of each pixel by the closed contours of one plane.

The rule is even-odd over all contours together, so that a contour inside another one is a hole, and
a keyhole contour, which runs in and out along one line, has the hole that it goes around. Coverage
is exact along a row and sampled at `SAMPLES` lines a row across it: exact for edges along the
pixels' borders, else off by less than 1 / (8 SAMPLES) for each edge that ends within a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAMPLES = 16
"""Lines in each row of pixels."""


def coverage(
    polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Compute the share of each pixel that lies inside an odd number of polygons.

    Args:
        polygons: (N, 2) each, vertices (row, column), pixel centres at whole numbers; the last
            vertex is joined to the first. Parts outside of the image are cut off.
        shape: (rows, columns).

    Returns:
        (rows, columns), 0 to 1.
    """
    covered = np.zeros(shape)
    heights = np.concatenate([np.zeros(0), *(one[:, 0] for one in polygons)])
    if not len(heights):
        return covered
    top, bottom = np.clip(np.rint([heights.min(), heights.max() + 1]), 0, shape[0]).astype(int)
    moved = [one - (top, 0) for one in polygons]
    covered[top:bottom] = _cover(moved, (bottom - top, shape[1]))
    return covered


def _cover(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Compute `coverage` of the rows that the polygons reach."""
    rows, columns = shape
    lines, crossings = _crossings(polygons, rows)
    order = np.lexsort((crossings, lines))
    lines, crossings = lines[order], crossings[order]
    # the shape begins at every even crossing of a line, and ends at every odd one
    signs = np.where(np.arange(len(lines)) % 2 == 0, 1.0, -1.0)
    right = np.clip(crossings + 0.5, 0.0, columns)  # in pixels from the image's left border
    pixel = np.minimum(right.astype(np.int64), columns - 1)
    into = right - pixel
    places = lines // SAMPLES * (columns + 1) + pixel
    changes = np.zeros(rows * (columns + 1))
    np.add.at(changes, places, signs * (1.0 - into))
    np.add.at(changes, places + 1, signs * into)
    covered = np.cumsum(changes.reshape(rows, columns + 1), axis=1)[:, :columns]
    return np.asarray(covered / SAMPLES)


def _crossings(
    polygons: Sequence[NDArray[np.float64]], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """List where the edges cross the sampling lines: number of the line, column.

    An edge holds its upper end and not its lower one, so that every polygon crosses every line an
    even number of times.
    """
    starts = np.concatenate([np.zeros((0, 2)), *polygons])
    ends = np.concatenate([np.zeros((0, 2)), *(np.roll(one, -1, axis=0) for one in polygons)])
    # in sampling lines: line k lies at row (k + 0.5) / SAMPLES - 0.5
    start, end = ((one[:, 0] + 0.5) * SAMPLES - 0.5 for one in (starts, ends))
    first = np.clip(np.ceil(np.minimum(start, end)), 0, rows * SAMPLES).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(start, end)), 0, rows * SAMPLES).astype(np.int64)
    counts = stop - first
    edges = np.repeat(np.arange(len(starts)), counts)
    lines = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    part = (lines - start[edges]) / (end - start)[edges]
    return lines, starts[edges, 1] + part * (ends - starts)[edges, 1]
