"""Stores that training reads its batches from, by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilum.dataset.layouts.listing import some
from hilum.preprocess import build_classifier_store, build_store
from hilum.training.augmentation import enlarged_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hilum.dataset import Dataset, Fold
    from hilum.preprocess import CaseStore, ClassifierStore
    from hilum.training.options import Listener

    Progress = Callable[[int, int, str], None]


def _views(
    dataset: Dataset, plan: Any, folder: Path, cases: Sequence[str], *, progress: Progress
) -> ClassifierStore:
    """Inputs with the margin that turning and shifting them needs, alike on both sides: their middle is what predictions see."""
    patch = plan.patch.value
    size = enlarged_patch(plan.augmentation.value, patch, dimensions=plan.dimensions.value)
    even = tuple(n + (n - p) % 2 for n, p in zip(size, patch, strict=True))
    return build_classifier_store(dataset, plan, folder, cases, size=even, progress=progress)


def _labels_held(dataset: Dataset, plan: Any, store: Any, cases: Sequence[str]) -> dict[str, bool]:  # noqa: ARG001  (every task's)
    """Return for each label whether some of the cases hold it."""
    held = {label for case in cases for label in store.open(case).foreground}
    return {label.name: label.id in held for label in plan.labels.foreground}


def _classes_held(dataset: Dataset, plan: Any, store: Any, cases: Sequence[str]) -> dict[str, bool]:  # noqa: ARG001  (see above)
    """Return for each class whether some of the cases are of it."""
    members = [plan.classes.indicators(dataset[case].label or "") for case in cases]
    return {
        name: any(one[number] for one in members) for number, name in enumerate(plan.classes.names)
    }


HELD: dict[str, Callable[..., dict[str, bool]]] = {
    "segmentation": _labels_held,
    "classification": _classes_held,
}
"""By the name of the task: called as held(dataset, plan, store, cases)."""


def absent_from_training(
    dataset: Dataset,
    plan: Any,
    store: CaseStore | ClassifierStore,
    folds: Sequence[tuple[int, Fold]],
    listener: Listener,
) -> tuple[str, ...]:
    """Say which labels or classes no training case of a fold holds; one sentence a fold."""
    sentences = []
    for number, fold in folds:
        absent = [
            name
            for name, held in HELD[plan.task.value](dataset, plan, store, fold.train).items()
            if not held
        ]
        if absent:
            which = some(absent, shown=8)
            sentences.append(
                f"Attention: no training case of fold {number} holds {which}: what is not there"
                " cannot be learnt."
            )
            listener.say(sentences[-1])
    return tuple(sentences)


STORES: dict[str, Callable[..., CaseStore | ClassifierStore]] = {
    "segmentation": build_store,
    "classification": _views,
}
"""By the name of the task: called as store(dataset, plan, folder, cases, progress=)."""
