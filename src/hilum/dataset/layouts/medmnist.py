"""A MedMNIST archive: one .npz with train_images, train_labels, val_images, ...

Source: https://medmnist.com
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.classes import SEPARATOR, ClassTable
from hilum.dataset.layouts.listing import Orphan, guess_channels
from hilum.dataset.layouts.splits import tests_note
from hilum.errors import DataError
from hilum.io.medmnist import ArchivePart, archive_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def recognises(path: Path) -> bool:
    """Recognise a .npz file."""
    return path.is_file() and path.suffix.lower() == ".npz"


# one signature for all layouts
def read(path: Path, *, values: bool = True) -> Dataset:  # noqa: ARG001
    """Open a MedMNIST archive; its images stay in it.

    Cases are called train_00012; the archive's own split is kept: train and val are one fold, test
    cases are in none. Labels of several columns (ChestMNIST) are findings, of which an image has
    any number, unless every image has exactly one.

    Args:
        path: the .npz file.
        values: there are no annotations to be read.

    Raises:
        DataError: the archive has no labels, or another number of labels than images, or labels
            that are no classes.
    """
    parts = archive_parts(path)
    labels = {part.name: _labels(path, part) for part in parts}
    several = sorted({array.shape[1] for array in labels.values()})
    if len(several) > 1:
        raise DataError(
            f"{path}: {several} labels an image in its parts",
            needed="as many in each",
            cure="check the file",
        )
    one_each = several == [1] or all((array.sum(axis=1) == 1).all() for array in labels.values())
    channels = guess_channels([_reference(path, parts[0].name, 0)])
    named = tuple(
        Case(
            f"{part.name}_{index:05d}",
            None,
            dict.fromkeys(channels, _reference(path, part.name, index)),
            None,
            text,
        )
        for part in parts
        for index, text in enumerate(_texts(labels[part.name], one_each=one_each))
    )
    by_part = {
        part.name: tuple(case.id for case in named if case.id.startswith(f"{part.name}_"))
        for part in parts
    }
    splits = (Fold(by_part["train"], by_part["val"]),) if {"train", "val"} <= set(by_part) else ()
    tests = frozenset(by_part.get("test", ()))
    return Dataset(
        name=path.stem,
        root=path,
        layout="medmnist",
        cases=tuple(sorted(named, key=lambda case: case.id)),
        channels=channels,
        labels=None,
        classes=(
            None
            if one_each
            else ClassTable(names=tuple(map(str, range(several[0]))), kind="multilabel")
        ),
        splits=splits,
        tests=tests,
        notes=("the classes have numbers only: the archive does not name them", *tests_note(tests)),
    )


def orphans(path: Path) -> tuple[Orphan, ...]:  # noqa: ARG001 - one signature for all layouts
    """None: every image has its label."""
    return ()


def _reference(path: Path, part: str, index: int) -> Path:
    return Path(f"{path}#{part}/{index}")


def _labels(path: Path, part: ArchivePart) -> NDArray[Any]:
    """The labels of a part, (N, K): the class (K = 1), or 0 and 1 for each of K findings."""
    if part.labels is None:
        raise DataError(
            f"{path} has no {part.name}_labels",
            needed="a label for each image",
            cure="check the file",
        )
    labels = part.labels.reshape(len(part.labels), -1)
    if len(labels) != part.count or (labels.shape[1] > 1 and not np.isin(labels, (0, 1)).all()):
        raise DataError(
            f"{path}: {part.name}_labels of shape {part.labels.shape} for {part.count} images",
            needed="one class an image, or 0 and 1 for each of several findings",
            cure="write a cases.csv with one of the labels as the column label",
        )
    return labels


def _texts(labels: NDArray[Any], *, one_each: bool) -> Iterable[str]:
    """The label of each image as text."""
    for row in labels:
        if len(row) == 1:
            yield str(int(row[0]))
        else:
            members = map(str, np.flatnonzero(row).tolist())
            yield next(members) if one_each else SEPARATOR.join(members)
