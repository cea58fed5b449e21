"""Images of a folder, and the annotation of each image."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.case import Orphan
from hilum.errors import DataError, ResourceError
from hilum.files import header_of, image_stem, image_suffix, is_output
from hilum.files.names import PICTURE_SUFFIXES
from hilum.files.output import LEDGER
from hilum.io import inspect_file, supported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ANNOTATION_ENDINGS = (
    *("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_annotation", "-mask"),
    *("-seg", "-label"),
)
_SEPARATORS = "_. -"
_MASK_WORDS = {
    *("seg", "segs", "segmentation", "segmentations", "dseg", "mask", "masks", "msk", "roi"),
    *("label", "labels", "labelmap", "annotation", "annotations", "gt", "groundtruth", "truth"),
}
WRITE_TABLE = (
    "write a cases.csv with the columns case, patient, image, mask (or label), one row a case;"
    " image_NAME for each of several channels"
)
"""The cure for every folder that no layout fits."""


class Entries(dict[str, Path]):
    """The images of a folder by stem.

    `faults` holds an error for each stem that several of them have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, DataError] = {}


def image_entries(folder: Path, *, ending: str | None = None) -> Entries:
    """List a folder's images by stem: readable files, and sub-folders of one DICOM series.

    Hidden files (the "._" companions in archives packed on a Mac, .DS_Store) are passed over.

    Args:
        folder: the folder; one that does not exist has no images.
        ending: the file ending to keep to where a folder mixes several, e.g. ".nii.gz"; None takes
            every ending.
    """
    entries = Entries()
    if not folder.is_dir():
        return entries
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not supported(path):
            continue
        if ending and not path.name.lower().endswith(ending.lower()) and not path.is_dir():
            continue
        stem = image_stem(path)
        if stem not in entries:
            entries[stem] = path
            continue
        entries.faults[stem] = DataError(
            f"{entries[stem].name} and {path.name} in {folder} are two images of one case",
            needed="one file a case",
            cure=f"move one of them elsewhere: mv '{path}' SOMEWHERE",
        )
    return entries


def image_files(folder: Path) -> list[Path]:
    """List a folder's image files by name, without DICOM, archives and data files of pairs."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir())
    written = LEDGER in names
    files = [
        folder / name
        for name in names
        if not name.startswith(".") and image_suffix(name) not in {"", ".dcm", ".npz"}
    ]
    return [file for file in files if header_of(file) == file and not (written and is_output(file))]


def pair(images: Mapping[str, Path], annotations: Mapping[str, Path]) -> dict[str, Path]:
    """Find each image's annotation: the same stem, or with an ending such as "_mask".

    An accent may be a part of its letter in one name and stand beside it in the other, as it does
    on a Mac.

    Args:
        images: image files by stem.
        annotations: annotation files by stem.

    Returns:
        Image stem to annotation file.
    """
    composed = {unicodedata.normalize("NFC", stem): path for stem, path in annotations.items()}
    pairs: dict[str, Path] = {}
    for stem in images:
        plain = unicodedata.normalize("NFC", stem)
        names = [plain + ending for ending in ("", *_ANNOTATION_ENDINGS)]
        found = next((composed[name] for name in names if name in composed), None)
        if found is not None:
            pairs[stem] = found
    return pairs


def orphans_of(images: Mapping[str, Path], annotations: Mapping[str, Path]) -> tuple[Orphan, ...]:
    """Return every image without annotation and every annotation without image, by id."""
    pairs = pair(images, annotations)
    lonely = [("orphan-image", stem) for stem in images if stem not in pairs]
    used = set(pairs.values())
    lonely += [
        ("orphan-annotation", stem) for stem, path in annotations.items() if path not in used
    ]
    files = {"orphan-image": images, "orphan-annotation": annotations}
    found = [Orphan(stem, files[kind][stem], kind) for kind, stem in lonely]
    return tuple(sorted(found, key=lambda orphan: (orphan.case, orphan.kind)))


def guess_channels(images: Iterable[Path]) -> tuple[str, ...]:
    """Name channels where the data set does not: "image", or "red", "green", "blue".

    Args:
        images: the images of the data set. The first decides, but for pictures: the first that is
            not grey, as a grey picture may be stored with colours, and a grey one may stand among
            coloured ones. Those that cannot be read are passed over.
    """
    for image in images:
        try:
            count = inspect_file(image).channels
        except (DataError, ResourceError):  # said where the image itself is read
            continue
        picture = image_suffix(image) in {*PICTURE_SUFFIXES, ".npz"}
        if count == 3 and picture:
            return ("red", "green", "blue")
        if count > 1:
            return tuple(f"channel_{index}" for index in range(count))
        if image_suffix(image) not in PICTURE_SUFFIXES:
            break
    return ("image",)


@dataclass(frozen=True)
class Words:
    """The files of a folder by the word that each name adds to what they share."""

    shared: str
    files: Mapping[str, Path]


def by_words(files: Sequence[Path]) -> Words:
    """Split the names of a folder's image files into what they share and a word each.

    Args:
        files: of one folder; at least one.
    """
    stems = [file.name[: len(file.name) - len(image_suffix(file.name))] for file in files]
    folder = files[0].absolute().parent.name
    prefix = os.path.commonprefix(stems)  # noqa: RUF071  (letters are wanted, not folders)
    if all(re.match(rf"{re.escape(folder)}([{_SEPARATORS}]|$)", stem) for stem in stems):
        shared = folder
    else:
        shared = prefix[: max(prefix.rfind(separator) for separator in _SEPARATORS) + 1]
    words = (stem[len(shared) :].strip(_SEPARATORS) or stem for stem in stems)
    return Words(shared.rstrip(_SEPARATORS), dict(zip(words, files, strict=True)))


def is_mask_word(word: str) -> bool:
    """Return True if a word names an annotation: seg, mask, tumour_segmentation."""
    return re.split(r"[\s_.-]+", word.lower())[-1] in _MASK_WORDS
