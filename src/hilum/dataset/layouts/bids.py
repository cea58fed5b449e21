"""A BIDS data set: sub-01/anat/sub-01_T1w.nii.gz, and annotations in derivatives.

Source: https://bids-specification.readthedocs.io
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dataset.annotation import OVERLAPS, Annotation, MaskFiles
from hilum.dataset.layouts.listing import WRITE_TABLE
from hilum.dataset.layouts.patients import facts_of
from hilum.dataset.layouts.shared_images import CaseFiles, common_words, read_cases
from hilum.errors import DataError, some
from hilum.files import image_stem, image_suffix
from hilum.files.text import name_key, read_table
from hilum.io import supported
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hilum.dataset.case import Dataset

_IMAGES = ("anat", "ct", "pet", "mr", "xray", "micr")
"""Folders of images of structure; func, dwi, fmap and others hold series in time, directions or
helpers."""
_LABEL_MAPS, _MASKS = ("dseg", "seg"), ("mask", "roi")
_TEMPLATES = ("mni", "fs", "oasis", "template")
_OF_LABELS = "masks of labels"


@dataclass(frozen=True)
class _File:
    """An image file by its name: sub-01_ses-02_acq-ce_T1w is the T1w of ("01", "02")."""

    path: Path
    case: str
    entities: Mapping[str, str]
    suffix: str

    @property
    def word(self) -> str:
        """The part of the name that differs from the other files of the case."""
        further = (
            f"{key}-{value}" for key, value in self.entities.items() if key not in {"sub", "ses"}
        )
        return "_".join((*further, self.suffix))


def recognises(path: Path) -> bool:
    """Recognise sub-* folders with images beside dataset_description.json or derivatives."""
    if not path.is_dir() or not any(path.glob("sub-*/")):
        return False
    described = (path / "dataset_description.json").is_file() or any(
        path.glob("derivatives/*/sub-*/")
    )
    return described and bool(_raw(path))


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open a BIDS data set: a case is a subject's session, its channels those of most cases.

    The annotation is in derivatives/NAME: `_dseg`, a label map, or `_label-NAME_mask`, a mask a
    label, or one `_mask`. Those in another space (space-MNI...) are left alone. The patient is the
    subject; participants.tsv adds what it knows.

    Args:
        path: the folder that holds sub-* and derivatives.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no case has an annotation, or there are several kinds of them.
    """
    raw = _raw(path)
    annotations, labels, notes = _annotations(path)
    subjects = {case: case.partition("_")[0] for case in raw}
    known, said = facts_of(path / "participants.tsv", "participant_id", list(subjects.values()))
    words = common_words(raw.values())
    found = CaseFiles(raw, words, annotations, subjects, labels, known, (*notes, *said))
    needed = "derivatives/NAME/sub-XX/anat/sub-XX_dseg.nii.gz, or _label-NAME_mask.nii.gz"
    return read_cases(path, "bids", found, values=values, needed=needed)


def _raw(path: Path) -> dict[str, dict[str, Path]]:
    """Return the images of each case by what tells them apart."""
    cases: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in _files(path):
        if file.path.parent.name in _IMAGES and file.suffix not in (*_LABEL_MAPS, *_MASKS):
            cases[file.case][file.word] = file.path
    return dict(cases)


def _annotations(path: Path) -> tuple[dict[str, Annotation], LabelTable | None, tuple[str, ...]]:
    """The annotation of each case, the labels where files name them, and what is to be said."""
    found: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for pipeline in sorted(path.glob("derivatives/*/")):
        for file in _files(pipeline):
            elsewhere = file.entities.get("space", "").lower().startswith(_TEMPLATES)
            if file.suffix in (*_LABEL_MAPS, *_MASKS) and not elsewhere:
                labelled = file.suffix in _MASKS and "label" in file.entities
                found[pipeline.name, _OF_LABELS if labelled else file.word].append(file)
    brains = {
        key for key, files in found.items() if files[0].entities.get("desc", "").lower() == "brain"
    }
    better = {key: found[key] for key in found if key not in brains or len(brains) == len(found)}
    if len(better) > 1:
        kinds = "; ".join(
            f"derivatives/{name}: {kind} of {len(files)} files"
            for (name, kind), files in better.items()
        )
        raise DataError(
            f"{path} holds several kinds of annotations: {kinds}",
            needed="one kind of annotation",
            cure=WRITE_TABLE,
        )
    if not better:
        return {}, None, ()
    (name, kind), files = next(iter(better.items()))
    note = f"annotations are {kind} of derivatives/{name}"
    if kind != _OF_LABELS:
        labels, said = _named_labels(path / "derivatives" / name)
        return {file.case: file.path for file in files}, labels, (note, *said)
    names = sorted({file.entities["label"] for file in files})
    masks: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in files:
        masks[file.case][names.index(file.entities["label"]) + 1] = file.path
    table = LabelTable.from_names(dict(enumerate(names, start=1)))
    annotations = {case: MaskFiles(dict(sorted(held.items()))) for case, held in masks.items()}
    return {**annotations}, table, (f"{note}; {OVERLAPS}",)


def _files(root: Path) -> Iterator[_File]:
    """Yield the images of all subjects below a folder."""
    for subject in sorted(root.glob("sub-*/")):
        for path in sorted(subject.rglob("sub-*")):
            if image_suffix(path) in {"", ".dcm", ".npz"} or path.is_dir() or not supported(path):
                continue
            *tokens, suffix = image_stem(path).split("_")
            entities = dict(token.split("-", 1) for token in tokens if "-" in token)
            case = "_".join(token for token in tokens if token.startswith(("sub-", "ses-")))
            yield _File(path, case, entities, suffix)


def _named_labels(pipeline: Path) -> tuple[LabelTable | None, tuple[str, ...]]:
    """Read the labels from a table of index and name beside the label maps; with a note."""
    file = next(iter(sorted(pipeline.rglob("*dseg.tsv"))), None)
    if file is None:
        return None, ()
    table = read_table(file)
    if not {"index", "name"} <= set(table.header):
        return None, (f"{file} has no columns index and name, and is not used",)
    named = {name_key(row["index"]): row["name"] for row in table.rows}
    wrong = [index for index in named if not index.isdecimal()]
    numbers = {int(index): name for index, name in named.items() if index not in wrong}
    numbers.pop(0, None)
    note = f"{file}: no whole number is the index {some(map(repr, wrong))}: left out"
    notes = (*table.notes, *([note] if wrong else []))
    return (LabelTable.from_names(numbers) if numbers else None), notes
