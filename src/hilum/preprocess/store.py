"""Preprocessed cases on disk, read by the patch: the case store."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.annotation import annotation_files
from hilum.errors import DataError, HilumError, ResourceError, UsageError, some
from hilum.files.atomic import atomic_path, atomic_write_text
from hilum.io.content import content_hash, digest
from hilum.preprocess.restore import Restore
from hilum.preprocess.steps import preprocess_case, preprocess_labels, preprocessing_hash
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.dataset.case import Case, Dataset
    from hilum.plan.segmentation import SegmentationPlan

_log = logging.getLogger("hilum")
OUTSIDE = -1
"""Value of the target outside the case; the image holds 0 there."""
FOREGROUND_SAMPLES = 10_000
"""Coordinates kept for each label of a case."""
_CHUNK_EDGE = 64


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A preprocessed case, opened lazily: only its record is in memory until a patch is read.

    Args:
        id: the case's id.
        path: the store's folder.
        restore: the way back to the case's own grid.
        channels: number of channels C.
        foreground: for each label that occurs (no background, no ignore) up to 10,000 of its
            voxels, (N, 3) int32 (z, y, x).
    """

    id: str
    path: Path
    restore: Restore
    channels: int
    foreground: dict[int, NDArray[np.int32]] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) on the network's grid."""
        return self.restore.shape

    @cached_property
    def _image(self) -> NDArray[np.float32]:
        stored: NDArray[np.float32] = _open_array(self.path / f"{self.id}.image.b2nd")
        return stored

    @cached_property
    def _target(self) -> NDArray[np.signedinteger]:
        stored: NDArray[np.signedinteger] = _open_array(self.path / f"{self.id}.target.b2nd")
        return stored

    @property
    def image(self) -> NDArray[np.float32]:
        """The whole image, (C, Z, Y, X) float32."""
        return np.asarray(self._image[:])

    @property
    def target(self) -> NDArray[np.signedinteger]:
        """All label ids, (Z, Y, X) int16, or int32 where they are large."""
        return np.asarray(self._target[:])

    def patch(
        self, start: Sequence[int], shape: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.signedinteger]]:
        """Read a block; only its chunks are read from disk.

        Args:
            start: (z, y, x) of its first voxel; may be negative or reach beyond the case.
            shape: (Z, Y, X) of the block.

        Returns:
            image (C, *shape), 0 outside the case; label ids (*shape), OUTSIDE (-1) there.
        """
        return cut_block(self._image, self._target, start, shape)

    def held(self) -> tuple[NDArray[np.float32], NDArray[np.signedinteger]]:
        """Return the whole case, image (C, Z, Y, X) and label ids (Z, Y, X), for `cut_block`."""
        return self.image, self.target


def cut_block(
    image: NDArray[np.float32],
    target: NDArray[np.signedinteger],
    start: Sequence[int],
    shape: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.signedinteger]]:
    """Cut a block out of a case, in memory or on disk, padded beyond the case's border.

    Args:
        image: (C, Z, Y, X), an array or a stored one.
        target: (Z, Y, X).
        start: (z, y, x) of the block's first voxel; may be negative or reach beyond the case.
        shape: (Z, Y, X) of the block.

    Returns:
        image (C, *shape), 0 outside the case; label ids (*shape), OUTSIDE (-1) there.
    """
    cut = np.zeros((image.shape[0], *shape), dtype=np.float32)
    labels = np.full(tuple(shape), OUTSIDE, dtype=target.dtype)
    low = [max(0, s) for s in start]
    high = [min(n, s + p) for n, s, p in zip(target.shape, start, shape, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        cut[(slice(None), *into)] = image[(slice(None), *source)]
        labels[into] = target[source]
    return cut, labels


@dataclass(frozen=True)
class RecordFolder:
    """A folder with a record `<id>.json` for each stored case, which is written last."""

    folder: Path

    def has(self, case_id: str, *, key: str | None = None) -> bool:
        """Return True if the case is stored completely, and under that key where one is given."""
        stored = self.path(case_id).is_file()
        return stored and (key is None or self.record(case_id)["key"] == key)

    def record(self, case_id: str) -> dict[str, Any]:
        """Read what is recorded of a case."""
        record: dict[str, Any] = json.loads(self.path(case_id).read_text(encoding="utf-8"))
        return record

    def path(self, case_id: str, part: str = "json") -> Path:
        """Return the file of a case's part."""
        return self.folder / f"{case_id}.{part}"


class CaseStore(RecordFolder):
    """A folder of preprocessed cases: `<id>` + .image.b2nd, .target.b2nd, .foreground.npy, .json.

    The record `<id>.json` is written last: a case without one is not in the store, whatever was
    interrupted.
    """

    def write(
        self,
        case_id: str,
        image: NDArray[np.float32],
        target: NDArray[np.integer],
        restore: Restore,
        *,
        ignore: int | None = None,
        key: str = "",
        lost: Sequence[int] = (),
    ) -> None:
        """Store a case, replacing one of that id.

        Args:
            case_id: a legal file name.
            image: (C, Z, Y, X) float32.
            target: (Z, Y, X) label ids within int32.
            restore: the way back.
            ignore: the id of voxels that were not annotated; it is no foreground.
            key: what the stored bytes depend on; `has` compares it.
            lost: labels of the annotation that `target` holds no voxel of.

        Raises:
            DataError: image, target and restore disagree about the shape.
            ResourceError: the disk is full.
        """
        if image.shape[1:] != target.shape or target.shape != restore.shape:
            raise DataError(
                f"case {case_id} has an image of shape {image.shape}, a target of"
                f" {target.shape} and a grid of {restore.shape}",
                needed="one shape for all three",
            )
        self.path(case_id).unlink(missing_ok=True)
        narrow = np.int16 if target.max(initial=0) <= np.iinfo(np.int16).max else np.int32
        _write_array(self.path(case_id, "image.b2nd"), image.astype(np.float32, copy=False))
        _write_array(self.path(case_id, "target.b2nd"), target.astype(narrow, copy=False))
        with atomic_path(self.path(case_id, "foreground.npy")) as temporary:
            np.save(temporary, _foreground(case_id, target, ignore), allow_pickle=False)
        record = {
            "key": key,
            "channels": int(image.shape[0]),
            "restore": json.loads(restore.to_json()),
            "lost": list(lost),
        }
        atomic_write_text(self.path(case_id), json.dumps(record, indent=1))

    def lost(self, case_id: str) -> tuple[int, ...]:
        """Return the labels of a stored case's annotation without a voxel on the network's grid."""
        return tuple(self.record(case_id).get("lost", ()))

    def ids(self) -> tuple[str, ...]:
        """Return the stored cases' ids, sorted."""
        names = (path.name.removesuffix(".json") for path in self.folder.glob("*.json"))
        return tuple(sorted(name for name in names if not name.startswith(".part-")))

    def open(self, case_id: str) -> StoredCase:
        """Open a case.

        Raises:
            UsageError: it is not in the store.
        """
        if not self.has(case_id):
            raise UsageError(
                f"case {case_id!r} is not in {self.folder}",
                needed="a stored case",
                cure="build the store again; it resumes",
            )
        fields = self.record(case_id)
        rows = np.load(self.path(case_id, "foreground.npy"), allow_pickle=False)
        labels = rows[:, 0]  # of (N, 4): label, z, y, x
        return StoredCase(
            id=case_id,
            path=self.folder,
            restore=Restore.from_json(json.dumps(fields["restore"])),
            channels=fields["channels"],
            foreground={int(i): rows[labels == i, 1:] for i in np.unique(labels)},
        )


def build_store(
    dataset: Dataset,
    plan: SegmentationPlan,
    folder: Path,
    cases: Sequence[str],
    *,
    threads: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
) -> CaseStore:
    """Preprocess cases into a store.

    Those that are stored already under the same plan and from the same files are kept.

    Args:
        dataset: where the cases are.
        plan: the decisions; only those that change preprocessed bytes matter for what is kept.
        folder: the store's folder, made where missing.
        cases: ids of annotated cases.
        threads: cases preprocessed at a time; memory grows with it.
        progress: called as progress(done, total, case id).

    Raises:
        UsageError: an id is unknown.
        DataError: a case cannot be used; the error names it. Finished cases stay stored.
        ResourceError: disk or memory are not enough.
    """
    store = CaseStore(Path(folder))
    work = partial(_store_case, plan=plan, store=store)
    store_all(dataset, cases, work, threads=threads, progress=progress)
    where: dict[int, list[str]] = {}  # labels without a voxel are learnt as background
    for case in cases:
        for label in store.lost(case):
            where.setdefault(label, []).append(case)
    names = {label.id: label.name for label in plan.labels.labels}
    for label, those in sorted(where.items()):
        _log.warning(
            "Label %s (%s) is lost in %d of %d cases (%s): no voxel is left at the plan's spacing;"
            " a smaller one keeps it",
            label,
            names.get(label, "not named"),
            len(those),
            len(cases),
            some(those),
        )
    return store


def store_all(
    dataset: Dataset,
    cases: Sequence[str],
    work: Callable[[Case], None],
    *,
    threads: int,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Do the work of storing for every case, a few at a time; see `build_store`."""
    known = {case.id: case for case in dataset.cases}
    unknown = [case for case in cases if case not in known]
    if unknown:
        raise UsageError(
            f"{dataset.name} has no annotated case {unknown[0]!r}", needed="ids of annotated cases"
        )
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        futures = [pool.submit(work, known[case]) for case in cases]
        try:
            for done, future in enumerate(futures, start=1):
                future.result()
                if progress is not None:
                    progress(done, len(cases), cases[done - 1])
        finally:
            for future in futures:
                future.cancel()


def _store_case(case: Case, *, plan: SegmentationPlan, store: CaseStore) -> None:
    """Preprocess and store a case, unless it is stored for this plan and these files."""
    from hilum.dataset import read_annotation, read_case

    key = f"{preprocessing_hash(plan)}-{content_stamp(case, *annotation_files(case.annotation))}"
    if store.has(case.id, key=key):
        return
    with named_case(case.id):
        annotation = read_annotation(case)
        image, restore = preprocess_case(read_case(case), plan)
        target = preprocess_labels(annotation, restore)
        ignore = plan.labels.ignore
        lost = sorted({*label_boxes(annotation.array[0])} - {*label_boxes(target), ignore})
        store.write(case.id, image, target, restore, ignore=ignore, key=key, lost=lost)


@contextmanager
def named_case(case_id: str) -> Iterator[None]:
    """Name the case in errors from here on."""
    try:
        yield
    except HilumError as error:
        if case_id in error.found:
            raise
        raise type(error)(
            f"case {case_id}: {error.found}", needed=error.needed, cure=error.cure
        ) from error
    except MemoryError as error:
        raise ResourceError(
            f"there is not enough memory to preprocess case {case_id}",
            needed="more memory",
            cure="close other programs, or crop the image of the case",
        ) from error


def content_stamp(case: Case, *others: Path) -> str:
    """Hash the content of a case's files and how they are read."""
    files = [content_hash(file) for file in (*case.images.values(), *others)]
    return digest((files, case.positions, sorted(case.label_ids.items())))[:16]


def _foreground(case_id: str, target: NDArray[np.integer], ignore: int | None) -> NDArray[np.int32]:
    """Return (N, 4) rows (label, z, y, x), by label, up to FOREGROUND_SAMPLES each.

    Drawn by a generator seeded with the case's id.
    """
    generator = np.random.default_rng(zlib.crc32(case_id.encode()))
    rows = [np.empty((0, 4), dtype=np.int32)]
    flat = np.flatnonzero(target)
    values = target.ravel()[flat]
    for label in np.unique(values):
        if label < 0 or label == ignore:
            continue
        at = flat[values == label]
        if at.size > FOREGROUND_SAMPLES:
            at = np.sort(generator.choice(at, FOREGROUND_SAMPLES, replace=False))
        where = np.stack(np.unravel_index(at, target.shape), axis=1)
        rows.append(np.insert(where, 0, label, axis=1).astype(np.int32))
    return np.concatenate(rows)


def _write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array in compressed chunks, complete or not at all."""
    import blosc2

    edges = tuple(min(n, _CHUNK_EDGE) for n in array.shape[-3:])
    blocks = tuple(min(n, _CHUNK_EDGE // 2) for n in array.shape[-3:])
    lead = (1,) * (array.ndim - 3)
    with atomic_path(path) as temporary:
        try:
            blosc2.asarray(
                np.ascontiguousarray(array),
                chunks=(*lead, *edges),
                blocks=(*lead, *blocks),
                cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=3, nthreads=1),
                urlpath=str(temporary),
                mode="w",
            )
        except RuntimeError as error:  # blosc2 does not say why it could not write
            if shutil.disk_usage(path.parent).free > array.nbytes:
                raise
            raise ResourceError(
                f"no space left while writing {path}",
                cure="free some space, or choose another folder",
            ) from error


def _open_array(path: Path) -> Any:
    import blosc2

    return blosc2.open(str(path), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
