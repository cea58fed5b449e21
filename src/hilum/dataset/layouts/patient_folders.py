"""One folder a patient, as BraTS has them: BraTS_000/BraTS_000_{t1,flair,seg}.nii.gz."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from hilum.dataset.layouts.listing import WRITE_TABLE, by_words, image_files, is_mask_word
from hilum.dataset.layouts.patients import PATIENTS_FILE
from hilum.dataset.layouts.shared_images import CaseFiles, common_words, read_cases
from hilum.errors import DataError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Dataset

_DEPTH = 3
"""Folders below the data set's own in which patients are looked for: HGG/BraTS_000."""
_MOST_WORDS = 24
_TIMEPOINT = re.compile(
    r"^(BraTS-[A-Za-z]+-\d+|UPENN-GBM-\d+)[-_]\d+$"
    r"|^(.+?)[-_ ](?:(?:ses|session|tp|timepoint|time|visit|exam|scan|study|week|month|year)[-_"
    r" ]?\d+|baseline|follow[-_ ]?up)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Layout:
    """The patients' folders, and the words that most of them have.

    Args:
        folders: folder to its image files by word.
        channels: words of images.
        masks: words of annotations.
    """

    folders: Mapping[Path, Mapping[str, Path]]
    channels: tuple[str, ...]
    masks: tuple[str, ...]


def recognises(path: Path) -> bool:
    """Recognise folders of the same few file words, one of them an annotation's.

    The files of one folder alone need its name.
    """
    found = _find(path) if path.is_dir() else None
    if found is None or not (found.channels and found.masks):
        return False
    folder, words = next(iter(found.folders.items()))
    return len(found.folders) > 1 or all(
        file.name.startswith(folder.name) for file in words.values()
    )


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open a folder of patients' folders.

    A case is named after its folder, and so is its patient; of BraTS-GLI-00000-000 the last number
    is an examination, as are the ends of P1_ses-02 and P1_baseline. Where folders lie deeper, the
    patient is the first level of as many folders as each of them holds cases: PETCT_0 of
    PETCT_0/2001, but B_000 of HGG/B_000. A word that most folders have, and that is no
    annotation's, is a channel. A folder without annotation is unlabelled.

    Args:
        path: the folder that holds the patients' folders, at most three levels below.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: several words are annotations', or no folder has an annotation and all channels.
    """
    found = _find(path)
    if len(found.masks) != 1:
        raise DataError(
            f"most folders of {path} hold {counted(len(found.masks), 'annotation')}:"
            f" {', '.join(found.masks) or 'none'}",
            needed="one annotation in each patient's folder",
            cure=WRITE_TABLE,
        )
    names = Counter(folder.name for folder in found.folders)
    ids = {
        folder: folder.name
        if names[folder.name] == 1
        else "__".join(folder.relative_to(path).parts)
        for folder in found.folders
    }
    files, masks = (
        {
            ids[folder]: {word: words[word] for word in wanted if word in words}
            for folder, words in found.folders.items()
            if {*wanted} & {*words}
        }
        for wanted in (found.channels, found.masks)
    )
    patients, note = _patients(path, list(found.folders))
    cases = CaseFiles(
        files,
        found.channels,
        {case: file for case, held in masks.items() for file in held.values()},
        {ids[folder]: patient for folder, patient in patients.items()},
        notes=(note,),
    )
    needed = f"the images and {found.masks[0]} of a patient in one folder"
    return read_cases(path, "patient-folders", cases, values=values, needed=needed)


def _find(path: Path) -> _Layout:
    """Return the folders that hold image files, and the words that more than half of them have."""
    folders = {
        folder: by_words(files).files for folder, files in _image_folders(path, _DEPTH).items()
    }
    common = common_words(folders.values())
    if len(common) > _MOST_WORDS:
        common = ()
    folders = {folder: words for folder, words in folders.items() if set(words) & set(common)}
    masks = tuple(word for word in common if is_mask_word(word))
    return _Layout(folders, tuple(word for word in common if word not in masks), masks)


def _image_folders(path: Path, depth: int) -> dict[Path, list[Path]]:
    """Return the folders below a folder that hold image files themselves, and these files."""
    found: dict[Path, list[Path]] = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        files = image_files(entry)
        if files:
            found[entry] = files
        elif depth > 1:
            found |= _image_folders(entry, depth - 1)
    return found


def _patients(root: Path, folders: Sequence[Path]) -> tuple[dict[Path, str], str]:
    """Return the patient of each folder, and a note where it is a folder above.

    Taking two patients for one costs nothing; taking one for two would let training see the
    validation patients.
    """
    parts = {folder: folder.relative_to(root).parts for folder in folders}
    for level in range(1, _DEPTH + 1):
        held = Counter(own[:level] for own in parts.values())
        if median(held.values()) <= len(held):
            break
    patients = {folder: own[:level][-1] for folder, own in parts.items()}
    for folder, name in patients.items():
        match = _TIMEPOINT.match(name)
        patients[folder] = next(filter(None, match.groups())) if match else name
    if not any(len(own) > level for own in parts.values()):
        return patients, ""
    counts = Counter(patients.values())
    most, count = counts.most_common(1)[0]
    return patients, (
        f"{len(counts)} folders count as the patients of {len(folders)} cases ({most} holds"
        f" {count}); if that is wrong, name them in {PATIENTS_FILE} (columns case, patient) in the"
        " folder"
    )
