"""One folder a patient, one mask a label, as TotalSegmentator: s0/ct.nii.gz, s0/segmentations/*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.annotation import OVERLAPS, MaskFiles
from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import Orphan, image_files, orphans_of, some
from hilum.dataset.layouts.naming import label_table, labels_file, read_json_object
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import facts_of
from hilum.dataset.layouts.shared_images import (
    channel_images,
    common_words,
    dataset_of,
    incomplete_note,
)
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
    files = {folder.name: _by_stem(folder) for folder in _folders(path)}
    names = common_words(files.values())
    channels, images = channel_images(names, files)
    masks = {case: _masks(path / case) for case in images}
    if not any(masks.values()):
        raise DataError(
            f"no folder of {path} holds both an image of one name and a folder of masks",
            needed="PATIENT/ct.nii.gz with PATIENT/segmentations/LABEL.nii.gz",
            cure="give the images of all patients one name",
        )
    table = _table(path, sorted({name for held in masks.values() for name in held}))
    numbers = {label.name: label.id for label in table.foreground}
    meta, meta_notes = facts_of(path / META_FILE, "image_id", list(files))
    notes = (
        f"one mask a label: {OVERLAPS}",
        *incomplete_note(sorted(set(files) - set(images)), names),
        *meta_notes,
    )
    cases = []
    for case, held in images.items():
        numbered = {numbers[name]: file for name, file in masks[case].items()}
        annotation = MaskFiles(numbered) if numbered else None
        cases.append(Case(case, case, held, annotation, columns=meta.get(case, {})))
    labels = table if values else None
    return dataset_of(path, "patient-masks", cases, channels=channels, labels=labels, notes=notes)


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Images without masks, and masks without an image."""
    folders = _folders(path, masks_only=True)
    images = {folder.name: next(iter(_by_stem(folder).values()), None) for folder in folders}
    masks = {folder.name: next(iter(_masks(folder).values()), None) for folder in folders}
    return orphans_of(
        {case: file for case, file in images.items() if file is not None},
        {case: file for case, file in masks.items() if file is not None},
    )


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
