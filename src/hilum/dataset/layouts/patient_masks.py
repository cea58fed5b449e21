"""One folder a patient, one mask a label, as TotalSegmentator: s0/ct.nii.gz, s0/segmentations/*."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.annotation import OVERLAPS, MaskFiles
from hilum.dataset.layouts.listing import image_files
from hilum.dataset.layouts.naming import stated_labels
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import facts_of
from hilum.dataset.layouts.shared_images import CaseFiles, common_words, read_cases
from hilum.errors import DataError, some
from hilum.files import image_stem
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset.case import Dataset

META_FILE = "meta.csv"


def recognises(path: Path) -> bool:
    """Recognise folders of which half hold images beside a folder of masks."""
    if not path.is_dir():
        return False
    folders = [folder for folder in _folders(path) if image_files(folder)]
    masked = sum(sub_folder(folder, ANNOTATION_FOLDERS) is not None for folder in folders)
    return 0 < len(folders) <= 2 * masked


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
    folders = {folder.name: folder for folder in _folders(path)}
    images = {case: held for case, folder in folders.items() if (held := _by_stem(folder))}
    masks = {case: _by_stem(sub_folder(one, ANNOTATION_FOLDERS)) for case, one in folders.items()}
    meta, notes = facts_of(path / META_FILE, "image_id", list(images))
    found = CaseFiles(
        images,
        common_words(images.values()),
        annotations={},
        patients={case: case for case in images},
        columns=meta,
        notes=(f"one mask a label: {OVERLAPS}", *notes),
    )
    table = _table(path, sorted({name for case in found.complete for name in masks[case]}))
    numbers = {label.name: label.id for label in table.foreground}
    annotations: dict[str, MaskFiles] = {}
    for case, held in masks.items():
        numbered = {numbers[name]: file for name, file in held.items() if name in numbers}
        annotations |= {case: MaskFiles(numbered)} if numbered else {}
    found = replace(found, annotations=annotations, labels=table)
    needed = "PATIENT/ct.nii.gz with PATIENT/segmentations/LABEL.nii.gz"
    return read_cases(path, "patient-masks", found, values=values, needed=needed)


def _folders(path: Path) -> list[Path]:
    entries = sorted(path.iterdir())
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _by_stem(folder: Path | None) -> dict[str, Path]:
    return {image_stem(file): file for file in image_files(folder)} if folder is not None else {}


def _table(path: Path, names: list[str]) -> LabelTable:
    """Return the labels by the file that numbers them, else in the order of their names."""
    table, file = stated_labels(path)
    if table is None:
        return LabelTable.from_names(dict(enumerate(names, start=1)))
    unknown = sorted(set(names) - {label.name for label in table.foreground})
    if unknown:
        raise DataError(
            f"{file} does not name the masks {some(unknown)}",
            needed="a number for each mask's name",
            cure="add the names, or remove the file: the masks are then numbered by their names",
        )
    return table
