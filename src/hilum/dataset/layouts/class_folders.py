"""A folder of class folders: benign/a.png, malignant/b.png; or train/ and val/ of such."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.layouts.listing import Orphan, guess_channels, image_entries
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS
from hilum.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation")
_TEST = ("test", "testing")


def recognises(path: Path) -> bool:
    """Whether there are at least two sub-folders that hold images, or train/ and val/ of such."""
    return path.is_dir() and any(len(_class_folders(folder)) >= 2 for folder in _parts(path).values())


def holds_one_class(path: Path) -> bool:
    """Whether one sub-folder holds images, or train/ and val/ the same one: classes, had there been a second."""
    if not path.is_dir():
        return False
    return len({folder.name for root in _parts(path).values() for folder in _class_folders(root)}) == 1


def read(path: Path, *, values: bool = True) -> Dataset:  # noqa: ARG001 - one signature for all layouts
    """Open a folder of class folders.

    A case's id is its file's stem, or CLASS__stem where two classes have the same stem. With train/ and val/ folders the split is
    taken as given.

    Args:
        path: the folder whose sub-folders are the classes, or are train, val and test of such.
        values: there are no annotations to be read.

    Raises:
        DataError: fewer than two classes hold images.
    """
    parts = _parts(path)
    found = [
        (part, folder.name, stem, image)
        for part, root in parts.items()
        for folder in _class_folders(root)
        for stem, image in image_entries(folder).items()
    ]
    classes = tuple(sorted({name for _, name, _, _ in found}))
    if len(classes) < 2:
        raise DataError(
            f"one class found ({classes[0]}), two needed: no other folder in {path} holds images"
            if classes
            else f"no class folders with images in {path}",
            needed="at least two sub-folders with images, named after their classes",
            cure="put the images of each class into a folder of their own, or write a cases.csv with the columns case, patient, "
            "image, label (or mask), one row a case",
        )
    channels = guess_channels(image for *_, image in found)
    repeated = {stem for stem, count in Counter(stem for _, _, stem, _ in found).items() if count > 1}
    ids = [_id(part, name, stem, repeated) for part, name, stem, _ in found]
    cases = [
        Case(case_id, None, dict.fromkeys(channels, image), None, name)
        for case_id, (_, name, _, image) in zip(ids, found, strict=True)
    ]
    split = {part: tuple(sorted(i for i, row in zip(ids, found, strict=True) if row[0] == part)) for part in parts}
    splits = (Fold(split["train"], split["val"]),) if {"train", "val"} <= set(split) else ()
    notes = (f"{len(split['test'])} test cases are in no fold",) if "test" in split else ()
    return Dataset(
        name=path.name,
        root=path,
        layout="class-folders",
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        channels=channels,
        labels=None,
        splits=splits,
        notes=notes,
    )


def orphans(path: Path) -> tuple[Orphan, ...]:  # noqa: ARG001 - one signature for all layouts
    """None: a folder gives every image its class."""
    return ()


def _id(part: str, name: str, stem: str, repeated: set[str]) -> str:
    if stem not in repeated:
        return stem
    return f"{part}__{name}__{stem}" if part else f"{name}__{stem}"


def _parts(path: Path) -> dict[str, Path]:
    """The folders that hold class folders, by part of the split; {"": path} without a split."""
    folders = {entry.name.lower(): entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    parts: dict[str, Path] = {}
    for part, names in (("train", _TRAIN), ("val", _VALIDATION), ("test", _TEST)):
        found = next((folders[name] for name in names if name in folders), None)
        if found is not None:
            parts[part] = found
    return parts if "train" in parts and len(parts) > 1 else {"": path}


def _class_folders(path: Path) -> list[Path]:
    reserved = (*IMAGE_FOLDERS, *ANNOTATION_FOLDERS, "imagestr", "labelstr", "imagests", "labelsts")
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    return [folder for folder in folders if folder.name.lower() not in reserved and image_entries(folder)]
