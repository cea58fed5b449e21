"""The weighted mean of overlapping patches, of only the rows that patches may still touch.

Patches come with rising Z. Rows below the first row of the next patch are final: they are taken
out, and their place is used again, so that K x (depth of a patch) x Y x X values exist and never K
x Z x Y x X. The rows lie in memory, or, where they do not fit there, in a file without a name, of
which some columns are held in memory at a time.

The mean is a running one (West, CACM 1979): equal values give that very value, bit for bit, and no
second pass divides by the weights. Each voxel sees the same operations in the same order wherever
its row lies, so that both give the same bits.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise, product
from typing import IO, TYPE_CHECKING

import numpy as np

from hilum.errors import ResourceError
from hilum.inference.memory import disk_full, nameless_file
from hilum.inference.windows import gaussian_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three, Weighting

    Column = tuple[slice, slice]

_BLOCK = 2**16  # values that are worked on at a time: 256 KiB, which stay in the processor's cache


def buffer_bytes(outputs: int, shape: Sequence[int], patch: Three) -> int:
    """Bytes of the rows that exist at a time for a volume (Z, Y, X): logits and weights."""
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
        self._columns: tuple[Column, ...] = ((slice(0, shape[1]), slice(0, shape[2])),)
        self._valid = [0]  # a column: rows up to here hold something
        self._held: OrderedDict[int, NDArray[np.float32]] = (
            OrderedDict()
        )  # (depth, K + 1, y, x), least recently used first
        self._most = total
        self._file: IO[bytes] | None = None
        if not self.on_disk:
            self._held[0] = np.zeros((self._depth, outputs + 1, *self._plane), dtype=np.float32)
            return
        self._columns = tuple(product(_cells(w[1] for w in windows), _cells(w[2] for w in windows)))
        self._valid = [0] * len(self._columns)
        self._most = memory or 0
        largest = max(
            4 * self._depth * (outputs + 1) * (y.stop - y.start) * (x.stop - x.start)
            for y, x in self._columns
        )
        if largest > self._most:
            raise ResourceError(
                f"{max(0, self._most) / 2**20:.0f} MiB of memory left for the logits of {outputs}"
                " outputs",
                needed=f"{largest / 2**20:.0f} MiB, even with the rest in a file",
                cure="allow more memory with --memory",
            )
        sizes = [
            4 * (outputs + 1) * (y.stop - y.start) * (x.stop - x.start) for y, x in self._columns
        ]
        self._row_bytes = sum(sizes)
        self._offsets = [sum(sizes[:n]) for n in range(len(sizes))]
        self._file = nameless_file(folder, self._depth * self._row_bytes)

    def add(self, logits: NDArray[np.float32], window: Slices) -> None:
        """Take the logits (K, *patch) of a patch."""
        z, y, x = window
        self.added += 1
        for column, sides in enumerate(self._columns):
            ys, xs = _shared(y, sides[0]), _shared(x, sides[1])
            if ys is None or xs is None:
                continue
            rows = self._open(column)
            for row in range(max(self._valid[column], z.start), z.stop):
                rows[row % self._depth] = 0  # of an earlier slab
            self._valid[column] = max(self._valid[column], z.stop)
            inside = (_within(ys, sides[0]), _within(xs, sides[1]))
            part = (_within(ys, y), _within(xs, x))
            for row in range(z.start, z.stop):
                n = row - z.start
                there = rows[(row % self._depth, slice(None), *inside)]
                _average(there, logits[(slice(None), n, *part)], self._weights[(n, *part)])

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
            yield slice(start, end), self._together(start, end)
            self.first = end

    def close(self) -> None:
        """Give memory and file back."""
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def _together(self, start: int, end: int) -> NDArray[np.float32]:
        place = slice(start % self._depth, (end - 1) % self._depth + 1)
        if not self.on_disk:
            return self._held[0][place, : self._outputs].swapaxes(0, 1)
        logits = np.empty((end - start, self._outputs, *self._plane), dtype=np.float32)
        for column, sides in enumerate(self._columns):
            if column in self._held:
                logits[(slice(None), slice(None), *sides)] = self._held[column][
                    place, : self._outputs
                ]
            else:
                for row in range(start, end):
                    logits[(row - start, slice(None), *sides)] = self._read(column, row)[
                        : self._outputs
                    ]
        return logits.swapaxes(0, 1)

    def _open(self, column: int) -> NDArray[np.float32]:
        """The rows of a column, in memory."""
        if column in self._held:
            self._held.move_to_end(column)
            return self._held[column]
        shape = (
            self._depth,
            self._outputs + 1,
            *(side.stop - side.start for side in self._columns[column]),
        )
        needed = 4 * int(np.prod(shape))
        while self._held and sum(rows.nbytes for rows in self._held.values()) + needed > self._most:
            self._put_away(*self._held.popitem(last=False))
        rows = np.empty(shape, dtype=np.float32)
        for row in range(self.first, self._valid[column]):
            rows[row % self._depth] = self._read(column, row)
        self._held[column] = rows
        return rows

    def _put_away(self, column: int, rows: NDArray[np.float32]) -> None:
        for row in range(self.first, self._valid[column]):
            self._write(column, row, rows[row % self._depth].data.cast("B"))

    def _write(self, column: int, row: int, values: memoryview) -> None:
        file, written = self._seek(column, row), 0
        try:
            while written < len(values):  # a raw file may take only a part
                written += file.write(values[written:])
        except OSError as error:
            raise disk_full(self._depth * self._row_bytes, error) from error

    def _read(self, column: int, row: int) -> NDArray[np.float32]:
        values = np.empty(
            (self._outputs + 1, *(side.stop - side.start for side in self._columns[column])),
            dtype=np.float32,
        )
        # a raw file has it
        got = self._seek(column, row).readinto(values.data.cast("B"))  # type: ignore[attr-defined]
        if got != values.nbytes:
            raise ResourceError(
                f"a temporary file gave {got} of {values.nbytes} bytes", cure="check the disk"
            )
        return values

    def _seek(self, column: int, row: int) -> IO[bytes]:
        if self._file is None:  # pragma: no cover  (a mean in memory has all its columns at hand)
            raise ResourceError("a running mean without a file")
        self._file.seek(row % self._depth * self._row_bytes + self._offsets[column])
        return self._file


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


def _cells(sides: Iterator[slice]) -> tuple[slice, ...]:
    """The parts that the windows' edges cut an axis into: each inside or outside of a window."""
    edges = sorted({edge for side in sides for edge in (side.start, side.stop)})
    return tuple(slice(*pair) for pair in pairwise(edges))


def _shared(a: slice, b: slice) -> slice | None:
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start, stop) if start < stop else None


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
