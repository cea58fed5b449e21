"""Two folders side by side, one of images and one of annotations, whose files share their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.case import Dataset, Fold
from hilum.dataset.layouts.listing import image_entries, orphans_of, pair
from hilum.dataset.layouts.naming import json_facts
from hilum.dataset.layouts.shared_images import NumberedFiles, read_numbered
from hilum.errors import DataError
from hilum.files import image_stem

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
ANNOTATION_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations"),
    "segmentation",
)


def recognises(path: Path) -> bool:
    """Recognise a folder with an images folder and an annotations folder."""
    return path.is_dir() and all(
        sub_folder(path, names) is not None for names in (IMAGE_FOLDERS, ANNOTATION_FOLDERS)
    )


def sub_folder(path: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first sub-folder of one of these names, in their order and in any case of letters.

    None if there is none.
    """
    folders = {entry.name.lower(): entry for entry in sorted(path.iterdir()) if entry.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open images/ and masks/ (or labels/, annotations/) of the same stems.

    Labels and channels come from a dataset.json or labels.json in the folder where there is one,
    else from the files.

    Args:
        path: the folder that holds both folders.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no image has an annotation of the same name.
    """
    places = [sub_folder(path, names) for names in (IMAGE_FOLDERS, ANNOTATION_FOLDERS)]
    folders = [folder for folder in places if folder is not None]
    if len(folders) < 2:
        raise DataError(
            f"{path} has not both an images and a masks folder",
            needed=(
                f"a folder named {' or '.join(IMAGE_FOLDERS)} and one named"
                f" {' or '.join(ANNOTATION_FOLDERS)}"
            ),
            cure="rename the folders so",
        )
    images, annotations = map(image_entries, folders)
    pairs, mask_faults = pair(images, annotations), annotations.faults
    faults = {
        c: mask_faults[image_stem(mask)]
        for c, mask in pairs.items()
        if image_stem(mask) in mask_faults
    }
    dataset = read_numbered(
        path,
        "paired-folders",
        NumberedFiles(
            {stem: {0: file} for stem, file in images.items()},
            pairs,
            (folders[0], folders[1]),
            "images/CASE.png with masks/CASE.png",
            faults | images.faults,
            orphans=orphans_of(images, annotations),
        ),
        values=values,
    )
    given = json_facts(path).get("splits")
    if not isinstance(given, dict) or not given.get("train") or not given.get("val"):
        return dataset
    fold = Fold(tuple(sorted(given["train"])), tuple(sorted(given["val"])))
    return replace(dataset, splits=(fold,))
