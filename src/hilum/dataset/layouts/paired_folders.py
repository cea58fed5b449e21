"""Two folders side by side, one of images and one of annotations, whose files share their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.layouts.listing import (
    Entries,
    Orphan,
    guess_channels,
    image_entries,
    orphans_of,
    pair,
    some,
)
from hilum.dataset.layouts.naming import channel_names, labels_of, read_json_object
from hilum.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
ANNOTATION_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations"),
    "segmentation",
)


def recognises(path: Path) -> bool:
    """Recognise a folder with an images folder and an annotations folder."""
    return (
        path.is_dir()
        and sub_folder(path, IMAGE_FOLDERS) is not None
        and sub_folder(path, ANNOTATION_FOLDERS) is not None
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
    images, annotations = _entries(path)
    pairs = pair(images, annotations)
    if not pairs:
        raise DataError(
            f"no file in {sub_folder(path, IMAGE_FOLDERS)} has an annotation of the same name in "
            f"{sub_folder(path, ANNOTATION_FOLDERS)}",
            needed="images/CASE.png with masks/CASE.png",
            cure="rename the files so that an image and its annotation share their name",
        )
    facts = read_json_object(path / "dataset.json") if (path / "dataset.json").is_file() else {}
    channels = channel_names(facts, path / "dataset.json") or guess_channels(
        images[stem] for stem in sorted(pairs)
    )
    labels, notes = (
        labels_of(path, [pairs[stem] for stem in sorted(pairs)]) if values else (None, ())
    )
    alone = sorted(set(images) - set(pairs))
    if alone:
        notes += (f"{some(alone)} without annotation: counted as unlabelled",)
    masks = {
        file: annotations.faults[stem]
        for stem, file in annotations.items()
        if stem in annotations.faults
    }
    cases = tuple(
        Case(
            stem,
            None,
            dict.fromkeys(channels, images[stem]),
            pairs.get(stem),
            fault=images.faults.get(stem) or masks.get(pairs.get(stem, path)),
        )
        for stem in sorted(images)
    )
    return Dataset(
        name=str(facts.get("name") or path.name),
        root=path,
        layout="paired-folders",
        cases=tuple(case for case in cases if case.annotation is not None),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in cases if case.annotation is None),
        splits=_splits(facts),
        notes=notes,
    )


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Images without annotation and annotations without image."""
    return orphans_of(*_entries(path))


def _entries(path: Path) -> tuple[Entries, Entries]:
    image_folder, annotation_folder = (
        sub_folder(path, IMAGE_FOLDERS),
        sub_folder(path, ANNOTATION_FOLDERS),
    )
    if image_folder is None or annotation_folder is None:
        raise DataError(
            f"{path} has not both an images and a masks folder",
            needed=(
                f"a folder named {' or '.join(IMAGE_FOLDERS)} and one named"
                f" {' or '.join(ANNOTATION_FOLDERS)}"
            ),
        )
    return image_entries(image_folder), image_entries(annotation_folder)


def _splits(facts: Mapping[str, Any]) -> tuple[Fold, ...]:
    given = facts.get("splits")
    if not isinstance(given, dict) or not given.get("train") or not given.get("val"):
        return ()
    return (Fold(tuple(sorted(given["train"])), tuple(sorted(given["val"]))),)
