"""The inputs of a classifier on disk: one small array a case."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import annotation_files
from hilum.files.atomic import atomic_path, atomic_write_text
from hilum.preprocess.classifier_input import classifier_input_hash, preprocess_classifier_input
from hilum.preprocess.store import RecordFolder, content_stamp, named_case, store_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.dataset.case import Case, Dataset
    from hilum.plan.classification import ClassificationPlan
    from hilum.plan.plan import Three


class ClassifierStore(RecordFolder):
    """A folder of inputs: `<id>.npy`, half precision, and `<id>.json`, which is written last.

    Half precision keeps three decimal digits of values of about 1, more than an 8-bit picture has.
    """

    def write(self, case_id: str, array: NDArray[np.float32], *, key: str) -> None:
        """Store one input (C, Z, Y, X), replacing one of that id."""
        self.path(case_id).unlink(missing_ok=True)
        with atomic_path(self.path(case_id, "npy")) as temporary, temporary.open("wb") as file:
            np.save(file, np.clip(array, -65_504, 65_504).astype(np.float16), allow_pickle=False)
        atomic_write_text(self.path(case_id), json.dumps({"key": key}))

    def key(self, case_id: str) -> str:
        """Return the key that the input is stored under."""
        return str(self.record(case_id)["key"])

    def read(self, case_id: str) -> NDArray[np.float16]:
        """Read one input (C, Z, Y, X)."""
        return np.asarray(np.load(self.path(case_id, "npy"), allow_pickle=False))


def build_classifier_store(
    dataset: Dataset,
    plan: ClassificationPlan,
    folder: Path,
    cases: Sequence[str],
    *,
    size: Three,
    threads: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
) -> ClassifierStore:
    """Bring cases to inputs of a size (Z, Y, X).

    Those that are stored already under the same plan and files are kept.

    Raises:
        UsageError: an id is unknown.
        DataError: a case cannot be used; the error names it. Finished cases stay stored.
        ResourceError: disk or memory are not enough.
    """
    store = ClassifierStore(Path(folder))
    store.folder.mkdir(parents=True, exist_ok=True)
    work = partial(_store_case, plan=plan, store=store, size=size)
    store_all(dataset, cases, work, threads=threads, progress=progress)
    return store


def _store_case(
    case: Case, *, plan: ClassificationPlan, store: ClassifierStore, size: Three
) -> None:
    """Preprocess and store a case, unless it is stored for this plan and these files."""
    from hilum.dataset import read_case
    from hilum.dataset.reading import read_region

    looks = plan.region.value.kind == "mask"
    stamp = content_stamp(case, *annotation_files(case.region if looks else None))
    point = f"-{case.centre_mm}" if plan.region.value.kind == "centre" else ""
    key = f"{classifier_input_hash(plan, size)}-{stamp}{point}"
    if store.has(case.id, key=key):
        return
    with named_case(case.id):
        region = read_region(case) if looks else None
        array, _ = preprocess_classifier_input(
            read_case(case), plan, region=region, centre_mm=case.centre_mm, size=size
        )
        store.write(case.id, array, key=key)
