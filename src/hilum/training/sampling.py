"""Sampling of patches, a function of the seed and the step alone, so that runs resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from hilum.engines import host_memory
from hilum.errors import DataError, HilumError
from hilum.preprocess import OUTSIDE, cut_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.plan.plan import Three
    from hilum.preprocess import CaseStore, ClassifierStore, StoredCase
    from hilum.targets import SegmentationTask

_SHARE_OF_MEMORY = 0.3
"""All cases are held decompressed when they fit into this share of the free memory."""
_AHEAD = 2


class Sampler(ABC):
    """Batches by the number of the step; the next ones are read while the device works.

    Args:
        batch: samples a step.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hilum-sampler")
        self._ready: dict[int, Future[tuple[Tensor, Tensor]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    @abstractmethod
    def sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
        """Read the image (C, *size) and target of a sample, numbered over the whole training.

        Raises:
            DataError: its case cannot be read; the error names it.
        """

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step: images (B, C, *size) float32, targets (B, ...).

        Raises:
            DataError: a case of the batch cannot be read; the error names it.
        """
        for ahead in range(step, step + 1 + _AHEAD):
            if ahead not in self._ready:
                self._ready[ahead] = self._pool.submit(self._read, ahead)
        return self._ready.pop(step).result()

    def _read(self, step: int) -> tuple[Tensor, Tensor]:
        numbers = range(step * self._batch, (step + 1) * self._batch)
        images, targets = zip(*map(self.sample, numbers), strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets))


class PatchSampler(Sampler):
    """Patches from a case store, images (C, *size) and targets (1 or R, *size) uint8.

    Every case is sampled once before any is sampled again. A patch lies anywhere in its case, or,
    with the chance `foreground_fraction`, around a voxel of a foreground label, each label of the
    case with equal chance.

    Args:
        store: preprocessed cases.
        cases: ids to draw from.
        task: encodes label ids.
        size: what to read, (Z, Y, X); larger than the patch by what augmentation needs.
        patch: the patch itself; its position is random.
        batch: patches a step.
        foreground_fraction: 0..1.
        seed: same seed, same batches.
    """

    def __init__(
        self,
        store: CaseStore,
        cases: Sequence[str],
        task: SegmentationTask,
        *,
        size: Three,
        patch: Three,
        batch: int,
        foreground_fraction: float,
        seed: int,
    ) -> None:
        super().__init__(batch)
        self._cases = [_Opened(store.open(case)) for case in cases]
        self._task, self._size, self._patch = task, size, patch
        self._foreground_fraction, self._seed = foreground_fraction, seed
        voxels = sum(
            int(np.prod(case.stored.shape)) * (4 * case.stored.channels + 2) for case in self._cases
        )
        if voxels <= _SHARE_OF_MEMORY * host_memory().free:
            for case in self._cases:
                with _name_case(case.stored.id, case.stored.path):
                    case.keep()

    def sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
        """Read a patch of the next case: each case once an epoch, in a new order each time."""
        epoch, position = divmod(number, len(self._cases))
        order = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._cases))
        case = self._cases[int(order[position])]
        generator = np.random.default_rng([self._seed, 1, number])
        start = self._start(case.stored, generator)
        with _name_case(case.stored.id, case.stored.path):
            image, labels = case.patch(start, self._size)
        labels[labels == OUTSIDE] = (
            0  # nothing of interest lies outside a case (nnU-Net's rule), where the image is 0
        )
        return image, self._task.encode(labels)

    def _start(self, case: StoredCase, generator: np.random.Generator) -> Three:
        """First voxel of the block to read; the patch is in the block's middle."""
        margin = [(s - p) // 2 for s, p in zip(self._size, self._patch, strict=True)]
        room = [n - p for n, p in zip(case.shape, self._patch, strict=True)]
        # an axis on which the case is smaller than the patch is centred, as inference does
        start = [int(generator.integers(0, r + 1)) if r > 0 else r // 2 for r in room]
        if case.foreground and generator.random() < self._foreground_fraction:
            labels = sorted(case.foreground)
            rows = case.foreground[labels[int(generator.integers(len(labels)))]]
            voxel = rows[int(generator.integers(len(rows)))]
            centred = [int(v) - p // 2 for v, p in zip(voxel, self._patch, strict=True)]
            start = [
                min(max(c, 0), r) if r > 0 else r // 2 for c, r in zip(centred, room, strict=True)
            ]
        z, y, x = (s - m for s, m in zip(start, margin, strict=True))
        return z, y, x


class ViewSampler(Sampler):
    """Whole inputs of a classifier from a view store, images (C, *size) and targets (K',) float32.

    Every case is sampled once before any is sampled again; or, where chances are given, as many as
    there are cases, each with its chance, before the next.

    Args:
        store: preprocessed inputs.
        cases: ids to draw from.
        targets: (K',) of each case.
        batch: cases a step.
        seed: same seed, same batches.
        chances: (N,) of the cases, summing to 1.
    """

    def __init__(
        self,
        store: ClassifierStore,
        cases: Sequence[str],
        targets: Mapping[str, NDArray[np.float32]],
        *,
        batch: int,
        seed: int,
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(batch)
        self._store, self._cases, self._targets, self._seed, self._chances = (
            store,
            tuple(cases),
            targets,
            seed,
            chances,
        )
        self._held: dict[str, NDArray[np.float16]] = {}
        self._room = _SHARE_OF_MEMORY * host_memory().free

    def sample(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
        """Read the input of the next case: each once an epoch, or drawn by its chance."""
        epoch, position = divmod(number, len(self._cases))
        generator = np.random.default_rng([self._seed, 0, epoch])
        if self._chances is None:
            order = generator.permutation(len(self._cases))
        else:
            order = generator.choice(len(self._cases), size=len(self._cases), p=self._chances)
        case = self._cases[int(order[position])]
        return self._view(case).astype(np.float32), self.target(case)

    def view(self, case: str) -> Tensor:
        """Return the input (C, *size) of a case."""
        return torch.from_numpy(self._view(case).astype(np.float32))

    def target(self, case: str) -> NDArray[np.float32]:
        """Return the target (K',) of a case."""
        return self._targets[case]

    def _view(self, case: str) -> NDArray[np.float16]:
        """Read an input from memory, else from its file; keep it while there is room."""
        held = self._held.get(case)
        if held is not None:
            return held
        with _name_case(case, self._store.folder):
            array = self._store.read(case)
        if array.nbytes <= self._room:
            self._held[case] = array
            self._room -= array.nbytes
        return array


@contextmanager
def _name_case(case: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong while a stored case is read into an error that names it."""
    try:
        yield
    except HilumError:
        raise
    except Exception as error:
        raise DataError(
            f"case {case}: its preprocessed copy in {folder} cannot be read ({error})",
            cure="remove that folder and train again with resume=True: it is made anew",
        ) from error


class _Opened:
    """A stored case, held in memory where there is room."""

    def __init__(self, stored: StoredCase) -> None:
        self.stored = stored
        self._whole: tuple[NDArray[np.float32], NDArray[np.signedinteger]] | None = None

    def keep(self) -> None:
        """Hold the whole case, decompressed."""
        self._whole = self.stored.held()

    def patch(
        self, start: Three, size: Three
    ) -> tuple[NDArray[np.float32], NDArray[np.signedinteger]]:
        """Cut a patch out of the decompressed case where it is held, else read it from the file."""
        if self._whole is None:
            return self.stored.patch(start, size)
        return cut_block(*self._whole, start, size)
