"""A folder of class folders: benign/a.png, malignant/b.png; or train/ and val/ of such."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import WRITE_TABLE, guess_channels, image_entries
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS
from hilum.dataset.layouts.shared_images import dataset_of_classes
from hilum.dataset.layouts.splits import with_parts
from hilum.errors import DataError, counted, readable, some
from hilum.files import is_output
from hilum.io import supported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_CLASSES = 50
"""More folders are no classes."""
_FEW = 10
"""So many classes may number their images alike: 001.png, 002.png, ... in each."""
_SEQUENCES = 3
"""So many images of one patient may be numbered alike too: T1, T2."""
_KIND_WORDS = {
    *("", "class", "cls", "label", "category", "cat", "type", "group", "grade", "stage", "level"),
    *("degree", "score", "birads", "pirads", "lirads", "tirads", "kl", "isup", "gleason"),
    "fazekas",
}
"""Words before the numbers of classes: grade0, BI-RADS 4; numbers alone too. Any other, as in
patient7, is a case's."""
_PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_RESERVED = (*IMAGE_FOLDERS, *ANNOTATION_FOLDERS, "imagestr", "labelstr", "imagests", "labelsts")


def recognises(path: Path) -> bool:
    """Recognise folders that look like classes: few, of several images, not named alike.

    Folders of patients hold the same few names each (ct, seg), or are numbered themselves
    (patient7, S012). In train/ and val/ classes have the same names.
    """
    parts = _class_folders(path)
    names = [folder.name for folders in parts.values() for folder in folders]
    if "" not in parts:
        return len(set(names)) < len(names)
    return (
        2 <= len(names) <= MOST_CLASSES
        and not _numbered_like_cases(names)
        and _look_like_classes(parts[""])
    )


def holds_folders(path: Path) -> bool:
    """Return True if at least two folders hold images, which are classes if the user says so."""
    return any(len(folders) >= 2 for folders in _class_folders(path).values())


def holds_one_class(path: Path) -> bool:
    """Return True if only one sub-folder holds images: a second class is missing."""
    return len({one.name for folders in _class_folders(path).values() for one in folders}) == 1


def no_classes(path: Path) -> DataError:
    """Return the error for folders that do not look like classes."""
    held = {folder: _names(folder) for one in _class_folders(path).values() for folder in one}
    images = sum(map(len, held.values()))
    shown = some(f"{folder.name}/{names[0]}" for folder, names in held.items())
    return DataError(
        f"{path} holds {counted(images, 'image')} in {len(held)} folders ({shown}): these"
        " may be classes, or patients",
        needed=(
            f"at most {MOST_CLASSES} classes of several images each; or the files of each patient"
            " under the same words, an annotation among them (PATIENT/PATIENT_t1.nii.gz,"
            " PATIENT/PATIENT_seg.nii.gz)"
        ),
        cure=f'if each folder is a class: task="classification"; else {WRITE_TABLE}',
    )


def _look_like_classes(folders: Sequence[Path]) -> bool:
    """Return True if folders hold several images each, and most names in one only.

    Few folders may number alike.
    """
    words = [{name.removeprefix(folder.name) for name in _names(folder)} for folder in folders]
    usual = median(map(len, words))
    counts = Counter(word for held in words for word in held)
    alike = sum(count for count in counts.values() if count > 1) > counts.total() / 2
    numbered = len({re.sub(r"\d+", "", word) for word in counts}) == 1
    return usual >= 2 and (not alike or (numbered and usual > _SEQUENCES and len(folders) <= _FEW))


def _numbered_like_cases(names: Sequence[str]) -> bool:
    """Return True if folders differ by a number only: patient7, S012, 20 numbers."""
    words = {re.sub(r"\d+", "", name.casefold()) for name in names}
    if len(words) > 1:
        return False
    digits = max(len(number) for name in names for number in re.findall(r"\d+", name))
    return digits > 2 or len(names) > _FEW or re.sub(r"[\W_]+", "", words.pop()) not in _KIND_WORDS


def _names(folder: Path) -> list[str]:
    """Return the names of the images of a folder."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return [entry.name for entry in entries if not is_output(entry) and supported(entry)]


def _class_folders(path: Path) -> dict[str, list[Path]]:
    """The class folders by part of the split ("" without a split); {} where `path` is no folder."""
    if not path.is_dir():
        return {}
    folders = {entry.name.lower(): entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    parts = {
        part: next(folders[name] for name in names if name in folders)
        for part, names in _PARTS.items()
        if any(name in folders for name in names)
    }
    if "train" not in parts or len(parts) < 2:
        parts = {"": path}
    return {
        part: [
            one
            for one in sorted(root.iterdir())
            if one.is_dir()
            and not one.name.startswith(".")
            and one.name.lower() not in _RESERVED
            and _names(one)
        ]
        for part, root in parts.items()
    }


# one signature for all layouts
def read(path: Path, *, values: bool = True) -> Dataset:  # noqa: ARG001
    """Open a folder of class folders.

    A case's id is its file's stem, or CLASS__stem where two classes have the same stem. With train/
    and val/ folders the split is taken as given.

    Args:
        path: the folder whose sub-folders are the classes, or are train, val and test of such.
        values: there are no annotations to be read.

    Raises:
        DataError: fewer than two classes hold images.
    """
    listed = [
        (part, readable(folder.name), image_entries(folder))
        for part, folders in _class_folders(path).items()
        for folder in folders
    ]
    classes = sorted({name for _, name, entries in listed if entries})
    if len(classes) < 2:
        one = f"one class found ({''.join(classes)}), two needed: no other folder in {path} holds"
        raise DataError(
            f"{one} images" if classes else f"no class folders with images in {path}",
            needed="at least two sub-folders with images, named after their classes",
            cure=f"put the images of each class into a folder of their own, or {WRITE_TABLE}",
        )
    channels = guess_channels(file for *_, entries in listed for file in entries.values())
    often = Counter(stem.casefold() for *_, entries in listed for stem in entries)
    cases: list[Case] = []
    parts: dict[str, str] = {}
    for part, name, entries in listed:
        for stem, file in entries.items():
            longer = "__".join(filter(None, (part, name, stem)))
            case = stem if often[stem.casefold()] == 1 else longer
            images = dict.fromkeys(channels, file)
            cases.append(Case(case, None, images, label=name, fault=entries.faults.get(stem)))
            parts[case] = part
    dataset = dataset_of_classes(path, "class-folders", path.name, cases, channels)
    return with_parts(dataset, parts)
