"""A folder of class folders: benign/a.png, malignant/b.png; or train/ and val/ of such."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.layouts.listing import Orphan, guess_channels, image_entries, some
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS
from hilum.dataset.layouts.splits import tests_note
from hilum.errors import DataError, readable
from hilum.io import is_output, supported

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
_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation")
_TEST = ("test", "testing")


def recognises(path: Path) -> bool:
    """Recognise folders that look like classes: few, of several images, not named alike.

    Folders of patients hold the same few names each (ct, seg), or are numbered themselves
    (patient7, S012). In train/ and val/ classes have the same names.
    """
    if not path.is_dir():
        return False
    parts = {part: _class_folders(root) for part, root in _parts(path).items()}
    if "" not in parts:
        return len({folder.name for folders in parts.values() for folder in folders}) < sum(
            map(len, parts.values())
        )
    names = [folder.name for folder in parts[""]]
    return (
        2 <= len(names) <= MOST_CLASSES
        and not _numbered_like_cases(names)
        and _look_like_classes(parts[""])
    )


def holds_folders(path: Path) -> bool:
    """Return True if at least two folders hold images, which are classes if the user says so."""
    return path.is_dir() and any(
        len(_class_folders(folder)) >= 2 for folder in _parts(path).values()
    )


def no_classes(path: Path) -> DataError:
    """The error for folders that do not look like classes."""
    folders = [folder for root in _parts(path).values() for folder in _class_folders(root)]
    images = sum(len(_names(folder)) for folder in folders)
    shown = some(f"{folder.name}/{_names(folder)[0]}" for folder in folders)
    return DataError(
        f"{path} holds {images} images in {len(folders)} folders ({shown}): these may be classes,"
        " or patients",
        needed=(
            f"at most {MOST_CLASSES} classes of several images each; or the files of each patient"
            " under the same words, an annotation among them (PATIENT/PATIENT_t1.nii.gz,"
            " PATIENT/PATIENT_seg.nii.gz)"
        ),
        cure=(
            'if each folder is a class: task="classification"; else write a cases.csv with the'
            " columns case, patient, image, mask (or label), one row a case"
        ),
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
    """The names of the images of a folder."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return [entry.name for entry in entries if not is_output(entry) and supported(entry)]


def holds_one_class(path: Path) -> bool:
    """Return True if only one sub-folder holds images: a second class is missing."""
    if not path.is_dir():
        return False
    return (
        len({folder.name for root in _parts(path).values() for folder in _class_folders(root)}) == 1
    )


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
    parts = _parts(path)
    listed = [
        (part, readable(folder.name), image_entries(folder))
        for part, root in parts.items()
        for folder in _class_folders(root)
    ]
    found = [
        (part, name, stem, image)
        for part, name, entries in listed
        for stem, image in entries.items()
    ]
    faults = {
        entries[stem]: fault for *_, entries in listed for stem, fault in entries.faults.items()
    }
    classes = tuple(sorted({name for _, name, _, _ in found}))
    if len(classes) < 2:
        raise DataError(
            (
                f"one class found ({classes[0]}), two needed: no other folder in {path} holds"
                " images"
                if classes
                else f"no class folders with images in {path}"
            ),
            needed="at least two sub-folders with images, named after their classes",
            cure=(
                "put the images of each class into a folder of their own, or write a cases.csv with"
                " the columns case, patient, image, label (or mask), one row a case"
            ),
        )
    channels = guess_channels(image for *_, image in found)
    repeated = {
        stem
        for stem, count in Counter(stem.casefold() for _, _, stem, _ in found).items()
        if count > 1
    }
    ids = [_id(part, name, stem, repeated) for part, name, stem, _ in found]
    cases = [
        Case(case_id, None, dict.fromkeys(channels, image), None, name, fault=faults.get(image))
        for case_id, (_, name, _, image) in zip(ids, found, strict=True)
    ]
    split = {
        part: tuple(sorted(i for i, row in zip(ids, found, strict=True) if row[0] == part))
        for part in parts
    }
    splits = (Fold(split["train"], split["val"]),) if {"train", "val"} <= set(split) else ()
    tests = frozenset(split.get("test", ()))
    return Dataset(
        name=path.name,
        root=path,
        layout="class-folders",
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        channels=channels,
        labels=None,
        splits=splits,
        tests=tests,
        notes=tests_note(tests),
    )


def orphans(path: Path) -> tuple[Orphan, ...]:  # noqa: ARG001 - one signature for all layouts
    """None: a folder gives every image its class."""
    return ()


def _id(part: str, name: str, stem: str, repeated: set[str]) -> str:
    if stem.casefold() not in repeated:
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
    folders = [
        entry
        for entry in sorted(path.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    return [folder for folder in folders if folder.name.lower() not in reserved and _names(folder)]
