"""One folder a patient, one mask a label, as TotalSegmentator: s0/ct.nii.gz, s0/segmentations/*."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hilum.dataset.annotation import OVERLAPS, MaskFiles
from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import Orphan, channels_of_word, image_files, some
from hilum.dataset.layouts.naming import label_table, labels_file, read_json_object
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import facts_of
from hilum.errors import DataError
from hilum.io import image_stem, is_output
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from pathlib import Path

META_FILE = "meta.csv"


def recognises(path: Path) -> bool:
    """Recognise folders of which half hold images beside a folder of masks."""
    if not path.is_dir():
        return False
    folders = _folders(path)
    return (
        0
        < len(folders)
        <= 2 * sum(sub_folder(folder, ANNOTATION_FOLDERS) is not None for folder in folders)
    )


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open patients' folders, each with images of the same names and a folder of masks.

    A case, and its patient, are named after the folder. Labels are the names of the masks, numbered
    in their order, unless a dataset.json or labels.json gives the numbers; a structure may be
    missing in some patients. The label maps are made as they are read, and nothing is written.
    meta.csv (image_id, split, age, ...) adds what it knows of each case.

    Args:
        path: the folder that holds the patients' folders.
        values: whether the labels are wanted; no annotation is read for them.

    Raises:
        DataError: no folder has both an image and masks, or a mask has a name that the label file
            does not know.
    """
    images = {folder: _by_stem(folder) for folder in _folders(path)}
    masks = {folder: _masks(folder) for folder in images}
    counts = Counter(word for words in images.values() for word in words)
    names = tuple(sorted(word for word, count in counts.items() if 2 * count > len(images)))
    whole = [folder for folder, words in images.items() if names and set(names) <= set(words)]
    if not any(masks[folder] for folder in whole):
        raise DataError(
            f"no folder of {path} holds both an image of one name and a folder of masks",
            needed="PATIENT/ct.nii.gz with PATIENT/segmentations/LABEL.nii.gz",
            cure="give the images of all patients one name",
        )
    table = _table(path, sorted({name for folder in whole for name in masks[folder]}))
    numbers = {label.name: label.id for label in table.foreground}
    channels = (
        names
        if len(names) > 1
        else channels_of_word(names[0], [images[folder][names[0]] for folder in whole])
    )
    notes: tuple[str, ...] = (f"one mask a label: {OVERLAPS}",)
    lacking = sorted(folder.name for folder in images if folder not in whole)
    if lacking:
        notes += (f"{some(lacking)} lack one of {', '.join(names)}: left out",)
    meta, said = facts_of(path / META_FILE, "image_id", [folder.name for folder in images])
    notes += said
    cases = tuple(
        Case(
            folder.name,
            folder.name,
            {name: images[folder][name if len(names) > 1 else names[0]] for name in channels},
            (
                MaskFiles({numbers[name]: file for name, file in masks[folder].items()})
                if masks[folder]
                else None
            ),
            columns=meta.get(folder.name, {}),
        )
        for folder in whole
    )
    annotated = tuple(case for case in cases if case.annotation is not None)
    return Dataset(
        name=path.absolute().name,
        root=path,
        layout="patient-masks",
        cases=annotated,
        channels=channels,
        labels=table if values else None,
        unlabelled=tuple(case for case in cases if case.annotation is None),
        notes=notes,
    )


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Images without masks, and masks without an image."""
    lonely = []
    for folder in _folders(path, masks_only=True):
        images, masks = _by_stem(folder), _masks(folder)
        if images and not masks:
            lonely.append(Orphan(folder.name, next(iter(images.values())), "orphan-image"))
        elif masks and not images:
            lonely.append(Orphan(folder.name, next(iter(masks.values())), "orphan-annotation"))
    return tuple(lonely)


def _folders(path: Path, *, masks_only: bool = False) -> list[Path]:
    """The folders that hold images themselves, or also those that hold only masks."""
    folders = [
        entry
        for entry in sorted(path.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    return [folder for folder in folders if image_files(folder) or (masks_only and _masks(folder))]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {image_stem(file): file for file in image_files(folder)}


def _masks(folder: Path) -> dict[str, Path]:
    """The mask of each label of a patient."""
    below = sub_folder(folder, ANNOTATION_FOLDERS)
    return _by_stem(below) if below is not None else {}


def _table(path: Path, names: list[str]) -> LabelTable:
    """The labels by the file that numbers them, else in the order of their names."""
    facts_file, names_file = path / "dataset.json", path / "labels.json"
    if facts_file.is_file():
        table = label_table(read_json_object(facts_file), facts_file)
    elif names_file.is_file() and not is_output(names_file):
        table = labels_file(names_file)
    else:
        return LabelTable.from_names(dict(enumerate(names, start=1)))
    unknown = sorted(set(names) - {label.name for label in table.foreground})
    if unknown:
        raise DataError(
            f"masks of {some(unknown)}, which {facts_file if facts_file.is_file() else names_file}"
            " does not name",
            needed="a number for each mask's name",
            cure="add the names, or remove the file: the masks are then numbered by their names",
        )
    return table
