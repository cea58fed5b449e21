"""The weighted mean of overlapping patches, of only the rows that patches may still touch.

Patches come with rising Z. Rows below the first row of the next patch are final: they are taken
out, and their place is used again, so that K x (depth of a patch) x Y x X values exist and never K
x Z x Y x X. The rows lie in memory, or, where they do not fit there, in a mapped file without a
name, whose pages the system holds as it can.

The mean is a running one (West, CACM 1979): equal values give that very value, bit for bit, and no
second pass divides by the weights. Each voxel sees the same operations in the same order wherever
its row lies, so that both give the same bits.
"""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from hilum.engines.memory import file_array
from hilum.errors import ResourceError
from hilum.inference.windows import gaussian_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three, Weighting

_BLOCK = 2**16  # values that are worked on at a time: 256 KiB, which stay in the processor's cache


def buffer_bytes(outputs: int, shape: Sequence[int], patch: Three) -> int:
    """Count the bytes of the rows that exist at a time for a volume (Z, Y, X)."""
    return 4 * (outputs + 1) * patch[0] * shape[1] * shape[2]


class RunningMean:
    """The mean of patches over a volume.

    Args:
        outputs: K.
        shape: (Z, Y, X) of the volume, no smaller than the patch.
        patch: (Z, Y, X).
        windows: all that will come.
        memory: bytes that the rows may take; None: as many as they need, all in memory.
        folder: for a file where they are not enough; None: the system's own for temporary files.
        weighting: of the voxels of a patch.

    Raises:
        ResourceError: the rows have to be kept in a file, for which there is not enough room
            either.
    """

    def __init__(
        self,
        outputs: int,
        shape: Sequence[int],
        patch: Three,
        windows: Sequence[Slices],
        memory: int | None = None,
        folder: Path | None = None,
        *,
        weighting: Weighting = "gaussian",
    ) -> None:
        self._outputs, self._depth, self._plane = outputs, patch[0], (shape[1], shape[2])
        self._weights = gaussian_weights(patch, weighting)
        self.first = 0
        """The first row that is not final."""
        self.added = 0
        """Patches so far."""
        total = buffer_bytes(outputs, shape, patch)
        self.on_disk = memory is not None and total > memory
        # a file is read and written by the parts of a plane that no window cuts
        columns = [(slice(0, shape[1]), slice(0, shape[2]))]
        if self.on_disk:
            columns = [*product(_cells(w[1] for w in windows), _cells(w[2] for w in windows))]
        shapes = [
            (self._depth, outputs + 1, y.stop - y.start, x.stop - x.start) for y, x in columns
        ]
        sizes = [math.prod(one) for one in shapes]
        if memory is not None and 4 * max(sizes) > memory:
            missing = math.ceil((4 * max(sizes) - memory) / 2**20)
            raise ResourceError(
                f"{max(0, memory) / 2**20:.0f} MiB of memory are left for the logits of"
                f" {outputs} outputs",
                needed=f"{4 * max(sizes) / 2**20:.0f} MiB, even with the rest in a file",
                cure=f"allow {missing} MiB more memory, or crop the image",
            )
        values = (
            file_array((total // 4,), folder)
            if self.on_disk
            else np.zeros(total // 4, dtype=np.float32)
        )
        parts = np.split(values, np.cumsum(sizes)[:-1])
        self._columns = [
            (*sides, part.reshape(one))
            for sides, part, one in zip(columns, parts, shapes, strict=True)
        ]
        self._valid = [0] * len(columns)  # rows of a column up to here hold something

    def add(self, logits: NDArray[np.float32], window: Slices) -> None:
        """Take the logits (K, *patch) of a patch."""
        z, y, x = window
        self.added += 1
        for column, (ys, xs, rows) in enumerate(self._columns):
            top, bottom = max(y.start, ys.start), min(y.stop, ys.stop)
            left, right = max(x.start, xs.start), min(x.stop, xs.stop)
            if top >= bottom or left >= right:
                continue
            for row in range(max(self._valid[column], z.start), z.stop):
                rows[row % self._depth] = 0  # of an earlier slab
            self._valid[column] = max(self._valid[column], z.stop)
            inside = (
                slice(top - ys.start, bottom - ys.start),
                slice(left - xs.start, right - xs.start),
            )
            part = (slice(top - y.start, bottom - y.start), slice(left - x.start, right - x.start))
            for n in range(z.stop - z.start):
                mean = rows[((z.start + n) % self._depth, slice(None), *inside)]
                _average(mean, logits[(slice(None), n, *part)], self._weights[(n, *part)])

    def finished(self, stop: int, *, most: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Take out the rows below `stop`, which every patch that touches them has been added to.

        Args:
            stop: the first row that is not asked for.
            most: bytes of logits at a time (one row at least) where they have to be put together.

        Yields:
            The rows, and their logits (K, z, Y, X): a view that holds until the next is asked for.
        """
        step = (
            self._depth
            if not self.on_disk
            else max(1, most // (4 * self._outputs * self._plane[0] * self._plane[1]))
        )
        while self.first < stop:
            start = self.first
            end = min(
                stop, start + step, start - start % self._depth + self._depth
            )  # up to where the places begin again
            place = slice(start % self._depth, (end - 1) % self._depth + 1)
            if self.on_disk:
                logits = np.empty((end - start, self._outputs, *self._plane), dtype=np.float32)
                for ys, xs, rows in self._columns:
                    logits[:, :, ys, xs] = rows[place, : self._outputs]
            else:
                logits = self._columns[0][2][place, : self._outputs]
            yield slice(start, end), logits.swapaxes(0, 1)
            self.first = end

    def close(self) -> None:
        """Give memory and file back."""
        self._columns.clear()


def _average(
    mean: NDArray[np.float32], logits: NDArray[np.float32], weights: NDArray[np.float32]
) -> None:
    """Update a row's running means (K + 1, y, x), whose last are the summed weights, in place."""
    total = mean[-1]
    total += weights
    share = weights / total
    step = max(1, _BLOCK // share.size)
    for start in range(0, len(logits), step):
        there = mean[start : min(start + step, len(logits))]
        way = logits[start : start + step] - there
        way *= share
        there += way


def _cells(sides: Iterable[slice]) -> list[slice]:
    """Cut an axis at the windows' edges: each part is inside or outside of a window."""
    edges = sorted({edge for side in sides for edge in (side.start, side.stop)})
    return [slice(*pair) for pair in pairwise(edges)]
