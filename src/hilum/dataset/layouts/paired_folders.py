"""Two folders side by side, one of images and one of annotations, whose files share their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.layouts.listing import guess_channels, image_entries, orphans_of, pair
from hilum.dataset.layouts.naming import channel_names, json_facts, labels_of
from hilum.dataset.layouts.shared_images import dataset_of
from hilum.errors import DataError, some

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
    """The first sub-folder of one of these names, in their order and in any case of letters.

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
    folders = [sub_folder(path, names) for names in (IMAGE_FOLDERS, ANNOTATION_FOLDERS)]
    found = [image_entries(folder) for folder in folders if folder is not None]
    if len(found) < 2:
        raise DataError(
            f"{path} has not both an images and a masks folder",
            needed=(
                f"a folder named {' or '.join(IMAGE_FOLDERS)} and one named"
                f" {' or '.join(ANNOTATION_FOLDERS)}"
            ),
        )
    images, annotations = found
    pairs = pair(images, annotations)
    if not pairs:
        raise DataError(
            f"no file in {folders[0]} has an annotation of the same name in {folders[1]}",
            needed="images/CASE.png with masks/CASE.png",
            cure="rename the files so that an image and its annotation share their name",
        )
    facts = json_facts(path)
    channels = channel_names(facts, path / "dataset.json") or guess_channels(
        images[stem] for stem in sorted(pairs)
    )
    labels, notes = (
        labels_of(path, [pairs[stem] for stem in sorted(pairs)]) if values else (None, ())
    )
    alone = some(sorted(set(images) - set(pairs)))
    faults = {annotations[stem]: fault for stem, fault in annotations.faults.items()}
    cases = [
        Case(
            stem,
            None,
            dict.fromkeys(channels, file),
            pairs.get(stem),
            fault=images.faults.get(stem) or faults.get(pairs.get(stem, path)),
        )
        for stem, file in images.items()
    ]
    dataset = dataset_of(
        path,
        "paired-folders",
        cases,
        channels=channels,
        labels=labels,
        notes=(*notes, f"{alone} without annotation: counted as unlabelled" if alone else ""),
        orphans=orphans_of(images, annotations),
        name=facts.get("name"),
    )
    given = facts.get("splits")
    if not isinstance(given, dict) or not given.get("train") or not given.get("val"):
        return dataset
    fold = Fold(tuple(sorted(given["train"])), tuple(sorted(given["val"])))
    return replace(dataset, splits=(fold,))
