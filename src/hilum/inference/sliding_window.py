"""A sliding window over a volume of any size: finished rows of logits come out while it runs.

Overlapping outputs are averaged with Gaussian weights, so that a voxel counts most where it lies in
the middle of a patch (Isensee et al., nnU-Net, Nature Methods 2021). The network runs in a thread
of its own, while the caller's averages the logits and brings finished rows home: numpy
and the engines let go of the interpreter's lock meanwhile.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import ModelError, UsageError
from hilum.inference.empty import constant_of
from hilum.inference.memory import RowStorage, resident
from hilum.inference.running_mean import RunningMean, buffer_bytes
from hilum.inference.windows import all_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three, Weighting

    Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_WATCH_SECONDS = 0.01  # between two looks at the memory while the first patch runs


@dataclass
class Tally:
    """Counts of a case's patches so far."""

    run: int = 0
    """Seen by the network (a mirrored patch is one)."""
    reused: int = 0
    """Not run: their content is one constant, whose logits were known."""
    outside: int = 0
    """Not run: nothing but air, whether a window was placed there or not."""
    on_disk: bool = False
    """Whether the rows in the making had to be kept in a file."""

    @property
    def counts(self) -> dict[str, int]:
        """For run.json."""
        return {"run": self.run, "constant": self.reused, "outside": self.outside}


@dataclass(frozen=True)
class Sweep:
    """Options of a sliding window over a volume.

    Args:
        patch: (Z, Y, X) that the network takes.
        overlap: fraction 0 <= overlap < 1 shared by neighbouring patches.
        outputs: K.
        batch: patches a call.
        mirror_axes: among 0 (Z), 1 (Y) and 2 (X): each patch is also seen mirrored along every
            combination of them.
        reuse: give a patch that is one constant a channel the logits that its like got, instead of
            running it.
        weighting: how much the voxels of a patch count; see `gaussian_weights`.
    """

    patch: Three
    overlap: float
    outputs: int
    batch: int = 1
    mirror_axes: tuple[int, ...] = ()
    reuse: bool = False
    weighting: Weighting = "gaussian"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: an option is out of its range.
        """
        if len(self.patch) != 3 or min(self.patch) < 1:
            raise UsageError(f"patch {tuple(self.patch)}", needed="three positive sizes (Z, Y, X)")
        if not 0 <= self.overlap < 1:
            raise UsageError(
                f"overlap {self.overlap}", needed="0 <= overlap < 1", cure="--overlap 0.5"
            )
        if self.outputs < 1 or self.batch < 1:
            raise UsageError(
                f"outputs {self.outputs}, batch {self.batch}", needed="at least 1 of each"
            )
        if len(set(self.mirror_axes)) != len(self.mirror_axes) or not set(self.mirror_axes) <= {
            0,
            1,
            2,
        }:
            raise UsageError(
                f"mirror_axes {self.mirror_axes}",
                needed="distinct axes among 0 (Z), 1 (Y) and 2 (X)",
            )

    @property
    def copies(self) -> int:
        """Number of times that each patch is run."""
        return int(2 ** len(self.mirror_axes))

    def padded(self, shape: Sequence[int]) -> Three:
        """The shape (Z, Y, X) that windows are placed over: nowhere smaller than the patch."""
        z, y, x = (max(n, p) for n, p in zip(shape, self.patch, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Watch:
    """Callbacks beside a sliding window, and the storage of its rows.

    Args:
        rows: storage of the rows in the making.
        progress: called with the patches that are done, and all.
        air: the logits (K, *patch) of a patch (C, *patch) that need not be run; None where it has
            to be. Called by the network's thread.
        tally: counts.
    """

    rows: RowStorage = field(default_factory=RowStorage)
    progress: Callable[[int, int], None] | None = None
    air: Callable[[NDArray[np.float32]], NDArray[np.float32] | None] = lambda _: None
    tally: Tally = field(default_factory=Tally)


@dataclass(eq=False)
class _Waiting:
    """A window without logits yet: its patch (C, *patch) where it has to be run."""

    window: Slices
    patch: NDArray[np.float32] | None
    constant: tuple[float, ...] | None = None
    logits: NDArray[np.float32] | None = None


def slabs(
    image: NDArray[np.floating[Any]], engine: Run, sweep: Sweep, watch: Watch | None = None
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Run a network over a volume, patch by patch, and give the rows that are finished.

    A volume smaller than the patch is padded with zeros on both sides (what training pads with),
    and the output cropped.

    Args:
        image: (C, Z, Y, X), floating.
        engine: maps (B, C, *patch) to logits (B, K, *patch), float32; called in another thread.
        sweep: how.
        watch: what goes on beside it.

    Yields:
        Rows along Z, rising and without gaps, and their logits (K, z, Y, X), float32: a view that
        holds until the next rows. Close the generator (`contextlib.closing`) where it is not run
        to its end.

    Raises:
        UsageError: the volume is not (C, Z, Y, X).
        ModelError: the network returns another shape than (B, K, *patch).
    """
    if image.ndim != 4:
        raise UsageError(f"a volume of shape {tuple(image.shape)}", needed="(C, Z, Y, X)")
    watch = watch or Watch()
    shape, padded = image.shape[1:], sweep.padded(image.shape[1:])
    before = [(p - n) // 2 for n, p in zip(shape, padded, strict=True)]
    windows = all_windows(padded, sweep.patch, sweep.overlap)
    inside = (
        slice(None),
        slice(None),
        *(slice(b, b + n) for b, n in zip(before[1:], shape[1:], strict=True)),
    )

    def cropped(stop: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for rows, logits in mean.finished(stop, most=watch.rows.at_once):
            start, end = max(rows.start, before[0]), min(rows.stop, before[0] + shape[0])
            if start < end:
                yield (
                    slice(start - before[0], end - before[0]),
                    logits[:, start - rows.start : end - rows.start][inside],
                )

    with closing(_Network(image, engine, sweep, windows, before, watch)) as network:
        left = network.memory_left()
        together = max(1, sweep.batch // sweep.copies)
        ahead = 4 * sweep.outputs * math.prod(sweep.patch) * together
        if left is None or buffer_bytes(sweep.outputs, padded, sweep.patch) + ahead <= left:
            network.go_ahead()
        mean = RunningMean(
            sweep.outputs,
            padded,
            sweep.patch,
            windows,
            left,
            watch.rows.folder,
            weighting=sweep.weighting,
        )
        with closing(mean):
            watch.tally.on_disk |= mean.on_disk
            for window, logits in network.results():
                yield from cropped(window[0].start)
                mean.add(logits, window)
                del logits  # K times a patch: not kept while the next is waited for
                if watch.progress is not None:
                    watch.progress(mean.added, len(windows))
            yield from cropped(padded[0])


def sliding_window(
    image: NDArray[np.floating[Any]], engine: Run, sweep: Sweep
) -> NDArray[np.float32]:
    """All slabs together: logits (K, Z, Y, X), float32.

    Needs 4 K bytes a voxel; see `slabs`, which does not.
    """
    logits = np.empty((sweep.outputs, *image.shape[1:]), dtype=np.float32)
    # a generator can be closed
    with closing(slabs(image, engine, sweep)) as parts:  # type: ignore[type-var]
        for rows, part in parts:
            logits[:, rows] = part
    return logits


class _Stopped(Exception):  # noqa: N818  (no error: it ends the thread)
    """The caller wants no more logits."""


class _Network:
    """The thread that runs the network: windows in, logits out, in their order."""

    def __init__(
        self,
        image: NDArray[np.floating[Any]],
        engine: Run,
        sweep: Sweep,
        windows: Sequence[Slices],
        before: Sequence[int],
        watch: Watch,
    ) -> None:
        self._image, self._engine, self._sweep, self._windows = image, engine, sweep, windows
        self._before, self._watch = before, watch
        self._known = np.empty(
            (0, 0, 0, 0), dtype=np.float32
        )  # the logits of the constant patch that was run last
        self._queue: Queue[list[tuple[Slices, NDArray[np.float32]]] | BaseException | None] = (
            Queue()
        )
        self._slots = threading.Semaphore(1)  # groups of logits that may exist
        self._stop = False
        self._ready: deque[list[tuple[Slices, NDArray[np.float32]]] | BaseException | None] = (
            deque()
        )
        self._thread = threading.Thread(target=self._work, name="hilum-network", daemon=True)
        self._thread.start()

    def memory_left(self) -> int | None:
        """Run the first patches and return the bytes that are left for rows; None: no limit.

        What the process holds at most meanwhile is what the network takes.
        """
        limit = self._watch.rows.limit
        if limit is None:
            return None
        most = 0
        while not self._ready:
            most = max(most, resident())
            try:
                self._ready.append(self._queue.get(timeout=_WATCH_SECONDS))
            except Empty:
                continue
        return limit - max(most, resident())

    def go_ahead(self) -> None:
        """Let the network run the next group while the last one is averaged."""
        self._slots.release()

    def results(self) -> Iterator[tuple[Slices, NDArray[np.float32]]]:
        """Every window and its logits (K, *patch), in their order."""
        while True:
            group = self._ready.popleft() if self._ready else self._queue.get()
            if group is None:
                return
            if isinstance(group, BaseException):
                raise group
            while group:
                yield group.pop(0)  # not kept any longer than it is used
            self._slots.release()

    def close(self) -> None:
        """End the thread; a patch that is running is waited for."""
        self._stop = True
        self._slots.release()
        self._thread.join()

    def _work(self) -> None:
        try:
            for group in self._groups():
                self._queue.put(group)
                del group
            self._queue.put(None)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            self._queue.put(error)

    def _groups(self) -> Iterator[list[tuple[Slices, NDArray[np.float32]]]]:
        """Group the windows: a full batch of patches to run, and known logits between them.

        The first group says how much memory the network takes: it is as large as any.
        """
        size = max(1, self._sweep.batch // self._sweep.copies)
        waiting: list[_Waiting] = []
        patches = 0
        last: tuple[float, ...] | None = (
            None  # the constant that was run last, or will be with this group
        )
        for window in self._windows:
            patch = self._patch(window)
            constant = constant_of(patch) if self._sweep.reuse else None
            air = self._watch.air(patch) if constant is None else None
            if air is not None:
                waiting.append(_Waiting(window, None, logits=air))
            elif constant is not None and constant == last:
                waiting.append(_Waiting(window, None, constant))
            else:
                waiting.append(_Waiting(window, patch, constant))
                last = constant or last
                patches += 1
            if patches == size:
                yield self._run(waiting)
                waiting, patches = [], 0
        if waiting:
            yield self._run(waiting)

    def _run(self, waiting: Sequence[_Waiting]) -> list[tuple[Slices, NDArray[np.float32]]]:
        self._slots.acquire()
        if self._stop:
            raise _Stopped
        patches = [one.patch for one in waiting if one.patch is not None]
        results: Iterator[NDArray[np.float32]] = iter(
            mirrored(self._engine, np.stack(patches), self._sweep) if patches else ()
        )
        group = []
        for one in waiting:
            if one.logits is not None:
                group.append((one.window, one.logits))
                self._watch.tally.outside += 1
                continue
            if one.patch is None:
                group.append((one.window, self._known))
                self._watch.tally.reused += 1
                continue
            logits = next(results)
            group.append((one.window, logits))
            self._watch.tally.run += 1
            if one.constant is not None:
                self._known = logits.copy()  # one is kept, without the rest of its batch
        return group

    def _patch(self, window: Slices) -> NDArray[np.float32]:
        """The window's content (C, *patch), zeros where it is beyond the image."""
        sizes = self._image.shape[1:]
        inner = [
            (s.start - b, s.stop - b, n)
            for s, b, n in zip(window, self._before, sizes, strict=True)
        ]
        source = tuple(slice(max(0, a), min(n, z)) for a, z, n in inner)
        part = self._image[(slice(None), *source)]
        if part.shape[1:] == self._sweep.patch:
            return np.ascontiguousarray(part, dtype=np.float32)
        patch = np.zeros((len(self._image), *self._sweep.patch), dtype=np.float32)
        place = tuple(
            slice(s.start - a, s.stop - a) for (a, _, _), s in zip(inner, source, strict=True)
        )
        patch[(slice(None), *place)] = part
        return patch


def mirrored(engine: Run, patches: NDArray[np.float32], sweep: Sweep) -> NDArray[np.float32]:
    """Average the network's logits (n, K, *patch) over patches and their mirror images.

    Raises:
        ModelError: the network returns another shape.
    """
    flips: list[tuple[int, ...]] = [
        tuple(axis + 2 for axis in axes)
        for count in range(len(sweep.mirror_axes) + 1)
        for axes in combinations(sweep.mirror_axes, count)
    ]
    together = max(1, sweep.batch // len(patches))  # copies a call
    mean: NDArray[np.float32] | None = None
    count = 0
    for start in range(0, len(flips), together):
        chosen = flips[start : start + together]
        seen = (
            np.concatenate([np.flip(patches, axes) for axes in chosen])
            if chosen != [()]
            else patches
        )
        logits = _checked(engine(seen), seen, sweep)
        for copy, axes in enumerate(chosen):
            unflipped = np.flip(logits[copy * len(patches) : (copy + 1) * len(patches)], axes)
            count += 1
            if mean is None:
                mean = (
                    unflipped if len(flips) == 1 else unflipped.copy()
                )  # the logits of other copies are not kept with it
                continue
            for patch, new in enumerate(unflipped):  # one patch at a time: no temporary of them all
                mean[patch] += (new - mean[patch]) / np.float32(count)
    if mean is None:  # pragma: no cover  (the first copy is the patch itself)
        raise ModelError("internal error: no patch was run")
    return mean


def _checked(
    logits: NDArray[np.float32], patches: NDArray[np.float32], sweep: Sweep
) -> NDArray[np.float32]:
    expected = (len(patches), sweep.outputs, *sweep.patch)
    if logits.shape != expected:
        raise ModelError(
            f"a network that gives {tuple(logits.shape)} to {tuple(patches.shape)}",
            needed=f"{expected}: one logit for each of {sweep.outputs} outputs at each voxel",
        )
    return logits
