"""A MedMNIST archive: one .npz with train_images, train_labels, val_images, ... (https://medmnist.com)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.layouts.listing import Orphan, guess_channels
from hilum.errors import DataError
from hilum.io.medmnist import ArchivePart, archive_parts

if TYPE_CHECKING:
    from collections.abc import Iterable


def recognises(path: Path) -> bool:
    """Whether this is a .npz file."""
    return path.is_file() and path.suffix.lower() == ".npz"


def read(path: Path) -> Dataset:
    """Open a MedMNIST archive; its images stay in it.

    Cases are called train_00012; the archive's own split is kept: train and val are one fold, test cases are in none.

    Args:
        path: the .npz file.

    Raises:
        DataError: the archive has no labels, or several labels an image (ChestMNIST), which are no classes.
    """
    parts = archive_parts(path)
    cases = tuple(case for part in parts for case in _cases(path, part))
    channels = guess_channels(_reference(path, parts[0].name, 0))
    named = tuple(Case(case.id, None, dict.fromkeys(channels, case.images[""]), None, case.label) for case in cases)
    by_part = {part.name: tuple(case.id for case in named if case.id.startswith(f"{part.name}_")) for part in parts}
    splits = (Fold(by_part["train"], by_part["val"]),) if {"train", "val"} <= set(by_part) else ()
    classes = sorted({case.label for case in named if case.label is not None}, key=int)
    notes: tuple[str, ...] = ("the classes have numbers only: the archive does not name them",)
    if by_part.get("test"):
        notes += (f"{len(by_part['test'])} test cases are in no fold",)
    return Dataset(
        name=path.stem,
        root=path,
        layout="medmnist",
        cases=tuple(sorted(named, key=lambda case: case.id)),
        channels=channels,
        labels=None,
        classes=tuple(classes),
        splits=splits,
        notes=notes,
    )


def orphans(path: Path) -> tuple[Orphan, ...]:  # noqa: ARG001 - one signature for all layouts
    """None: every image has its label."""
    return ()


def _reference(path: Path, part: str, index: int) -> Path:
    return Path(f"{path}#{part}/{index}")


def _cases(path: Path, part: ArchivePart) -> Iterable[Case]:
    if part.labels is None:
        raise DataError(f"{path} has no {part.name}_labels", needed="a label for each image", cure="check the file")
    labels = part.labels.reshape(len(part.labels), -1)
    if labels.shape[1] != 1 or len(labels) != part.count:
        raise DataError(
            f"{path}: {part.name}_labels of shape {part.labels.shape} for {part.count} images",
            needed="one class an image",
            cure="write a cases.csv with one of the labels as the column label",
        )
    for index, label in enumerate(labels[:, 0].tolist()):
        yield Case(f"{part.name}_{index:05d}", None, {"": _reference(path, part.name, index)}, None, str(int(label)))
