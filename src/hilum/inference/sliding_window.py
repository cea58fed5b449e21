"""A sliding window over a volume of any size: finished rows of logits come out while it runs.

Overlapping outputs are averaged with Gaussian weights, so that a voxel counts most where it lies in
the middle of a patch (Isensee et al., nnU-Net, Nature Methods 2021). The network runs in a thread
of its own, while the caller's averages the logits and brings finished rows home: numpy
and the engines let go of the interpreter's lock meanwhile.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hilum.engines.memory import RowStorage, resident
from hilum.errors import ModelError, UsageError
from hilum.inference.empty import constant_of
from hilum.inference.running_mean import RunningMean, buffer_bytes
from hilum.inference.windows import all_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.inference.windows import Slices, Three, Weighting

    Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
    Group = list[tuple[Slices, NDArray[np.float32]]]
    """Windows and their logits (K, *patch)."""
    _Window = tuple[Slices, NDArray[np.float32] | None, NDArray[np.float32] | None, bool]
    """A window, its patch (C, *patch) where it has to be run, its logits where they are known, and
    whether the patch is one constant."""

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
    """True if the rows in the making had to be kept in a file."""

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
        """Refuse options that are out of range.

        Raises:
            UsageError: overlap or batch.
        """
        if not 0 <= self.overlap < 1:
            raise UsageError(
                f"overlap={self.overlap:g} is out of range",
                needed="a fraction of at least 0 and below 1",
                cure="overlap=0.5",
            )
        if self.batch < 1:
            raise UsageError(f"batch={self.batch} is too small", needed="at least 1")

    @property
    def copies(self) -> int:
        """Number of times that each patch is run."""
        return int(2 ** len(self.mirror_axes))

    def padded(self, shape: Sequence[int]) -> Three:
        """Return the shape (Z, Y, X) that windows are placed over: no smaller than the patch."""
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


def slabs(
    image: NDArray[np.floating], engine: Run, sweep: Sweep, watch: Watch | None = None
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
        raise UsageError(f"the image has shape {tuple(image.shape)}", needed="(C, Z, Y, X)")
    watch = watch or Watch()
    shape, padded = image.shape[1:], sweep.padded(image.shape[1:])
    before = [(p - n) // 2 for n, p in zip(shape, padded, strict=True)]
    windows = all_windows(padded, sweep.patch, sweep.overlap)
    inside = (
        slice(None),
        slice(None),
        *(slice(b, b + n) for b, n in zip(before[1:], shape[1:], strict=True)),
    )

    def crop_rows(stop: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for rows, logits in mean.finished(stop, most=watch.rows.at_once):
            start, end = max(rows.start, before[0]), min(rows.stop, before[0] + shape[0])
            if start < end:
                yield (
                    slice(start - before[0], end - before[0]),
                    logits[:, start - rows.start : end - rows.start][inside],
                )

    groups = _run_windows(image, engine, sweep, windows, before, watch)
    with ThreadPoolExecutor(1, "hilum-network") as network:
        running: Future[Group | None] = network.submit(next, groups, None)
        left = _memory_left(running, watch.rows.limit)
        together = max(1, sweep.batch // sweep.copies)
        logits_bytes = 4 * sweep.outputs * math.prod(sweep.patch) * together
        # the network runs the next group while the last one is averaged
        ahead = left is None or (
            buffer_bytes(sweep.outputs, padded, sweep.patch) + logits_bytes <= left
        )
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
            while (group := running.result()) is not None:
                if ahead:
                    running = network.submit(next, groups, None)
                while group:
                    window, logits = group.pop(0)  # not kept any longer than it is used
                    yield from crop_rows(window[0].start)
                    mean.add(logits, window)
                    del logits
                    if watch.progress is not None:
                        watch.progress(mean.added, len(windows))
                if not ahead:
                    running = network.submit(next, groups, None)
            yield from crop_rows(padded[0])


def _memory_left(running: Future[Group | None], limit: int | None) -> int | None:
    """Return the bytes that are left for rows beside the network; None: no limit.

    What the process holds at most while the first patches run is what the network takes.
    """
    if limit is None:
        return None
    most = resident()
    while not running.done():
        wait([running], timeout=_WATCH_SECONDS)
        most = max(most, resident())
    return limit - most


def sliding_window(image: NDArray[np.floating], engine: Run, sweep: Sweep) -> NDArray[np.float32]:
    """Put all slabs together: logits (K, Z, Y, X), float32.

    Needs 4 K bytes a voxel; see `slabs`, which does not.
    """
    logits = np.empty((sweep.outputs, *image.shape[1:]), dtype=np.float32)
    # a generator can be closed
    with closing(slabs(image, engine, sweep)) as parts:  # type: ignore[type-var]
        for rows, part in parts:
            logits[:, rows] = part
    return logits


def _run_windows(
    image: NDArray[np.floating],
    engine: Run,
    sweep: Sweep,
    windows: Sequence[Slices],
    before: Sequence[int],
    watch: Watch,
) -> Iterator[Group]:
    """Run groups of windows: a full batch of patches, and windows of known logits between them.

    The first group says how much memory the network takes: it is as large as any.
    """
    size = max(1, sweep.batch // sweep.copies)
    waiting: list[_Window] = []
    known = np.empty(0, dtype=np.float32)  # the logits of the constant that was run last
    last: tuple[float, ...] | None = None  # that constant, or the one that will be with these
    for number, place in enumerate(windows, start=1):
        patch = cut_patch(image, place, before, sweep.patch)
        constant = constant_of(patch) if sweep.reuse else None
        air = watch.air(patch) if constant is None else None
        if air is not None:
            watch.tally.outside += 1
            waiting.append((place, None, air, False))
        elif constant is not None and constant == last:
            watch.tally.reused += 1
            waiting.append((place, None, None, True))
        else:
            watch.tally.run += 1
            waiting.append((place, patch, None, constant is not None))
            last = constant or last
        if sum(one[1] is not None for one in waiting) == size or number == len(windows):
            group, known = _run_group(waiting, engine, sweep, known)
            waiting = []
            yield group


def _run_group(
    waiting: Sequence[_Window], engine: Run, sweep: Sweep, last_constant: NDArray[np.float32]
) -> tuple[Group, NDArray[np.float32]]:
    """Run the patches of a group; `last_constant` holds the logits of the last constant."""
    patches = [patch for _, patch, _, _ in waiting if patch is not None]
    results: Iterator[NDArray[np.float32]] = iter(
        mean_over_mirrors(engine, np.stack(patches), sweep) if patches else ()
    )
    group: Group = []
    for place, patch, logits, constant in waiting:
        found = last_constant if logits is None else logits
        if patch is not None:
            found = next(results)
            if constant:
                last_constant = found.copy()  # one is kept, without the rest of its batch
        group.append((place, found))
    return group, last_constant


def cut_patch(
    image: NDArray[np.floating], window: Slices, before: Sequence[int], size: Three
) -> NDArray[np.float32]:
    """Cut out the window's content (C, *patch), zeros where it is beyond the image."""
    sides = [slice(side.start - b, side.stop - b) for side, b in zip(window, before, strict=True)]
    inside = [
        slice(max(0, s.start), min(n, s.stop)) for s, n in zip(sides, image.shape[1:], strict=True)
    ]
    part = image[(slice(None), *inside)]
    if part.shape[1:] == size:
        return np.ascontiguousarray(part, dtype=np.float32)
    patch = np.zeros((len(image), *size), dtype=np.float32)
    place = [slice(i.start - s.start, i.stop - s.start) for i, s in zip(inside, sides, strict=True)]
    patch[(slice(None), *place)] = part
    return patch


def mean_over_mirrors(
    engine: Run, patches: NDArray[np.float32], sweep: Sweep
) -> NDArray[np.float32]:
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
    mean = np.empty(0, dtype=np.float32)
    count = 0
    for start in range(0, len(flips), together):
        chosen = flips[start : start + together]
        copies = (
            np.concatenate([np.flip(patches, axes) for axes in chosen])
            if chosen != [()]
            else patches
        )
        logits = engine(copies)
        expected = (len(copies), sweep.outputs, *sweep.patch)
        if logits.shape != expected:
            raise ModelError(
                f"the network gives {tuple(logits.shape)} for patches {tuple(copies.shape)}",
                needed=f"{expected}: one logit for each of {sweep.outputs} outputs at each voxel",
            )
        for copy, axes in enumerate(chosen):
            unflipped = np.flip(logits[copy * len(patches) : (copy + 1) * len(patches)], axes)
            count += 1
            if count == 1:  # copied: the logits of other copies are not kept with it
                mean = unflipped if len(flips) == 1 else unflipped.copy()
                continue
            for patch, new in enumerate(unflipped):  # one patch at a time: no temporary of them all
                mean[patch] += (new - mean[patch]) / np.float32(count)
    return mean
