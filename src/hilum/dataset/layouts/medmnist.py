"""A MedMNIST archive: one .npz with train_images, train_labels, val_images, ...

Source: https://medmnist.com
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.case import Case, Dataset
from hilum.dataset.classes import SEPARATOR, ClassTable
from hilum.dataset.layouts.listing import guess_channels
from hilum.dataset.layouts.shared_images import dataset_of_classes
from hilum.dataset.layouts.splits import with_parts
from hilum.errors import DataError
from hilum.io.medmnist import ArchivePart, archive_parts

if TYPE_CHECKING:
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
    labels = {part.name: _labels(path, part) for part in archive_parts(path)}
    several = sorted({array.shape[1] for array in labels.values()})
    if len(several) > 1:
        raise DataError(
            f"{path} has {several} labels an image in its parts",
            needed="as many in each part",
            cure="download the archive again",
        )
    one_each = several == [1] or all((array.sum(axis=1) == 1).all() for array in labels.values())
    channels = guess_channels([Path(f"{path}#{next(iter(labels))}/0")])
    cases: list[Case] = []
    parts: dict[str, str] = {}
    for part, array in labels.items():
        for index, row in enumerate(array):
            held = [str(int(row[0]))] if several == [1] else map(str, np.flatnonzero(row).tolist())
            images = dict.fromkeys(channels, Path(f"{path}#{part}/{index}"))
            case = Case(f"{part}_{index:05d}", None, images, label=SEPARATOR.join(held))
            cases.append(case)
            parts[case.id] = part
    table = ClassTable(names=tuple(map(str, range(several[0]))), kind="multilabel")
    dataset = dataset_of_classes(path, "medmnist", path.stem, cases, channels)
    noted = dataset.with_notes("the classes have numbers only: the archive does not name them")
    return with_parts(noted if one_each else replace(noted, classes=table), parts)


def _labels(path: Path, part: ArchivePart) -> NDArray[np.generic]:
    """Return the labels of a part, (N, K): the class (K = 1), or 0 and 1 for each of K findings."""
    if part.labels is None:
        raise DataError(
            f"{path} has no {part.name}_labels",
            needed="a label for each image",
            cure=(
                "download the archive again, or write a cases.csv with the columns"
                " case, image, label"
            ),
        )
    labels = part.labels.reshape(len(part.labels), -1)
    if len(labels) != part.count or (labels.shape[1] > 1 and not np.isin(labels, (0, 1)).all()):
        raise DataError(
            f"{path}: {part.name}_labels of shape {part.labels.shape} for {part.count} images",
            needed="one class an image, or 0 and 1 for each of several findings",
            cure="write a cases.csv with one of the labels as the column label",
        )
    return labels
