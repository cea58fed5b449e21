"""Stores that training reads its batches from, by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilum.preprocess import build_store, build_views
from hilum.training.augmentation import enlarged_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hilum.dataset import Dataset
    from hilum.preprocess import CaseStore, ViewStore

    Progress = Callable[[int, int, str], None]


def _views(dataset: Dataset, plan: Any, folder: Path, cases: Sequence[str], *, progress: Progress) -> ViewStore:
    """Inputs with the margin that turning and shifting them needs, alike on both sides: their middle is what predictions see."""
    patch = plan.patch.value
    size = enlarged_patch(plan.augmentation.value, patch, dimensions=plan.dimensions.value)
    even = tuple(n + (n - p) % 2 for n, p in zip(size, patch, strict=True))
    return build_views(dataset, plan, folder, cases, size=even, progress=progress)


STORES: dict[str, Callable[..., CaseStore | ViewStore]] = {"segmentation": build_store, "classification": _views}
"""By the name of the task: called as store(dataset, plan, folder, cases, progress=)."""
