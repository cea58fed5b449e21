"""Restore predictions slab by slab: slabs of logits in, labels on the source's grid out.

Each output row along Z is interpolated from the two rows of logits beside it; nothing else of the
logits is kept. Where K planes of a row are more than the working memory (118 labels at 512 x 512
are 118 MiB), a row is made in bands. Each thread has bands of its own, so the threads share the
working memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError, UsageError
from hilum.volume import Volume, reorient
from hilum.volume.separable import Planes, block_coordinates, make_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike, NDArray

    from hilum.preprocess.restore import Restore

WORKING_BYTES = 64 * 2**20
"""Bytes that a stream may hold beside the output array and the row of logits that the next slab
still needs."""

# arrays of the size of a band of K planes that exist at a time: two rows, their steps, the mean,
# the decoding's
_BUFFERS = 6


class _Stream:
    """Slabs of logits in, a full array on the source's grid out; see the subclasses.

    Args:
        restore: the case's way back.
        outputs: K.
        convert: maps logits (K, z, Y, X), contiguous, to (C, z, Y, X); called in several threads.
        out: (C, Z, Y, X) on the source's grid; the box is filled.
        working_bytes: memory for bands.
        threads: that make bands at a time, as far as the memory is enough for a row of each.
    """

    def __init__(
        self,
        restore: Restore,
        outputs: int,
        convert: Callable[[NDArray[np.float32]], NDArray[np.generic]],
        out: NDArray[np.generic],
        working_bytes: int,
        threads: int,
    ) -> None:
        if outputs < 1 or working_bytes < 1 or threads < 1:
            raise UsageError(
                f"{outputs} outputs cannot be restored in {working_bytes} bytes by"
                f" {threads} threads",
                needed="at least 1 of each",
            )
        if not set(restore.orders) <= {0, 1}:
            raise UsageError(
                "logits cannot be brought back to the case's grid with the interpolation orders"
                f" {restore.orders}",
                needed="0 (nearest) or 1 (linear) along each axis",
            )
        self._restore, self._convert, self._out = restore, convert, out
        turned = reorient(Volume(out, restore.source), restore.orientation)
        self._inside = turned.array[(slice(None), *restore.box.slices)]  # (C, Z, Y, X), a view
        self._shape = (outputs, *restore.shape[1:])
        z, y, x = (
            make_axis(block_coordinates(n, m), n, order)
            for n, m, order in zip(restore.shape, restore.box.shape, restore.orders, strict=True)
        )
        self._low, self._high = z.positions[:, 0], z.positions[:, -1]
        self._share = z.weights[:, -1].astype(np.float32)  # of the higher row
        wide = max(restore.shape[2], restore.box.shape[2])
        together = max(1, working_bytes // (_BUFFERS * 4 * outputs * wide))  # rows in the making
        self._threads = min(threads, together)
        self._planes = Planes(y, x, rows=together // self._threads, shared_by=self._threads)
        self._kept = np.empty((outputs, 0, *restore.shape[1:]), dtype=np.float32)  # still needed
        self._first = 0  # the row of the network's grid that comes first in `_kept`
        self._done = 0  # rows of the box that are finished

    def feed(self, logits: NDArray[np.float32]) -> None:
        """Take the next finished rows (K, z, Y, X) of the network's grid, in rising Z; z >= 0.

        They are not kept.

        Raises:
            GeometryError: they are of another shape, or more rows than preprocessing gave.
        """
        fed, size = self._first + self._kept.shape[1], self._restore.shape[0]
        fits = logits.ndim == 4 and (logits.shape[0], *logits.shape[2:]) == self._shape
        if not fits or fed + logits.shape[1] > size:
            outputs, height, width = self._shape
            raise GeometryError(
                f"a slab of logits has shape {logits.shape}, after {fed} rows of {size}",
                needed=(
                    f"({outputs}, z, {height}, {width}) and {size} rows in all, as"
                    " preprocessing gave"
                ),
            )
        end = fed + logits.shape[1]
        planes = self._planes
        ready = range(self._done, int(np.searchsorted(self._high, end)))

        def row(n: int) -> NDArray[np.float32]:
            return self._kept[:, n - self._first] if n < fed else logits[:, n - fed]

        def make(number: int) -> None:
            """Convert one band of every ready row, reading each coarse row once."""
            source, rows = planes.sources[number], planes.bands[number]
            bands: dict[int, NDArray[np.float32]] = {}  # of the rows that the next one may need
            for n in ready:
                a, b, share = int(self._low[n]), int(self._high[n]), self._share[n]
                needed = (a, b) if a != b and share != 0 else (a,)
                bands = {
                    one: bands[one] if one in bands else planes.band(row(one)[:, source], number)
                    for one in needed
                }
                values = bands[a]
                if len(bands) == 2:
                    values = bands[b] - bands[a]
                    values *= share
                    values += bands[a]
                made = self._convert(np.ascontiguousarray(values[:, np.newaxis]))
                self._inside[:, n, rows] = made[:, 0]

        if ready:
            with ThreadPoolExecutor(self._threads, "hilum-restore") as pool:
                list(pool.map(make, range(len(planes.bands))))  # raises what a thread raised
        self._done = ready.stop
        first = min(int(self._low[self._done]), end) if self._done < len(self._low) else end
        # a copy: the caller may use its slab again
        still = [self._kept[:, :0], *(row(n)[:, np.newaxis] for n in range(first, end))]
        self._kept, self._first = np.concatenate(still, axis=1), first

    def finish(self) -> Volume:
        """Return the array, full, on the source's grid.

        Raises:
            GeometryError: rows are missing.
        """
        fed, size = self._first + self._kept.shape[1], self._restore.shape[0]
        if fed != size:
            raise GeometryError(
                f"{fed} rows of logits were given, not all", needed=f"{size}, as preprocessing gave"
            )
        return Volume(self._out, self._restore.source)


class LabelStream(_Stream):
    """Labels (1, Z, Y, X) on the source's grid from slabs of logits; 0 outside the box.

    Beside the array of labels it holds at most `working_bytes` and the rows of logits that the next
    slab still needs.

    Args:
        restore: the case's way back.
        outputs: K.
        decode: maps logits (K, z, Y, X), contiguous, to label ids (z, Y, X); called in several
            threads.
        dtype: of the labels.
        working_bytes: memory for rows in progress.
        threads: that make rows; their number changes logits by rounding only.

    Raises:
        UsageError: no outputs, memory or threads; logits that would have to be restored with
            splines.
    """

    def __init__(
        self,
        restore: Restore,
        outputs: int,
        decode: Callable[[NDArray[np.float32]], NDArray[np.generic]],
        dtype: DTypeLike,
        *,
        working_bytes: int = WORKING_BYTES,
        threads: int = 1,
    ) -> None:
        labels = np.zeros((1, *restore.source.shape), dtype=dtype)
        super().__init__(
            restore,
            outputs,
            lambda logits: decode(logits)[np.newaxis],
            labels,
            working_bytes,
            threads,
        )


class ProbabilityStream(_Stream):
    """Probabilities on the source's grid from slabs of logits, written into a given array.

    Args:
        restore: the case's way back.
        outputs: K.
        activate: maps logits (K, z, Y, X), contiguous, to probabilities of the same shape; called
            in several threads.
        out: (K, Z, Y, X) float32 of the source's shape, in memory or mapped from a file; filled
            completely.
        outside: K probabilities outside the box: (1, 0, ...) for exclusive labels, zeros for
            regions.
        working_bytes: memory for rows in progress.
        threads: that make rows; their number changes logits by rounding only.

    Raises:
        GeometryError: `out` has not the source's shape, or `outside` has not K entries.
        UsageError: no outputs, memory or threads; logits that would have to be restored with
            splines.
    """

    def __init__(
        self,
        restore: Restore,
        outputs: int,
        activate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        out: NDArray[np.float32],
        *,
        outside: Sequence[float],
        working_bytes: int = WORKING_BYTES,
        threads: int = 1,
    ) -> None:
        if out.shape != (outputs, *restore.source.shape):
            raise GeometryError(
                f"out has shape {out.shape}",
                needed=f"{(outputs, *restore.source.shape)}: outputs and the source's (Z, Y, X)",
            )
        if len(outside) != outputs:
            raise GeometryError(
                f"{len(outside)} probabilities were given for what lies outside the box",
                needed=f"one for each of {outputs} outputs",
            )
        super().__init__(restore, outputs, activate, out, working_bytes, threads)
        if restore.box.shape != restore.reoriented.shape:
            for one, value in zip(out, outside, strict=True):
                one[...] = value


class CodeStream(_Stream):
    """Codes of 8 bits that a given function makes of slabs of logits, on the source's grid.

    (R, Z, Y, X), one channel a region; 0 outside the box.

    Args:
        restore: the case's way back.
        outputs: K.
        encode: maps logits (K, z, Y, X), contiguous, to codes (R, z, Y, X) of 8 bits; called in
            several threads.
        out: (R, Z, Y, X) uint8 of zeros, of the source's shape, in memory or mapped from a file.
        working_bytes: memory for rows in progress.
        threads: that make rows.

    Raises:
        GeometryError: `out` has not the source's shape.
        UsageError: no outputs, memory or threads; logits that would have to be restored with
            splines.
    """

    def __init__(
        self,
        restore: Restore,
        outputs: int,
        encode: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
        out: NDArray[np.uint8],
        *,
        working_bytes: int = WORKING_BYTES,
        threads: int = 1,
    ) -> None:
        if out.shape[1:] != restore.source.shape:
            raise GeometryError(
                f"out has shape {out.shape}",
                needed=f"(R, *{restore.source.shape}): regions and the source's (Z, Y, X)",
            )
        super().__init__(restore, outputs, encode, out, working_bytes, threads)


def restore_logits_to_labels(
    logits: NDArray[np.float32],
    decode: Callable[[NDArray[np.float32]], NDArray[np.generic]],
    restore: Restore,
) -> Volume:
    """Bring logits to the source's grid and decode them there row by row.

    Args:
        logits: (K, Z, Y, X) on the network's grid.
        decode: maps logits (K, z, Y, X) of some rows to label ids (z, Y, X), always of one integer
            dtype.
        restore: the case's way back.

    Returns:
        labels (1, Z, Y, X) on the source's grid; background (0) outside the box.

    Raises:
        GeometryError: the logits have not the shape that preprocessing gave.
    """
    restore.check(logits.shape[1:])
    dtype = decode(np.ascontiguousarray(logits[:, :1, :1, :1])).dtype
    stream = LabelStream(restore, logits.shape[0], decode, dtype)
    stream.feed(logits)
    return stream.finish()
