"""Words that tell a patient's files apart: t1 of P_t1.nii.gz, seg of P_seg.nii.gz."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.io import image_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SEPARATORS = "_. -"
_MASK_WORDS = {
    *("seg", "segs", "segmentation", "segmentations", "dseg", "mask", "masks", "msk", "roi"),
    *("label", "labels", "labelmap", "annotation", "annotations", "gt", "groundtruth", "truth"),
}


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
