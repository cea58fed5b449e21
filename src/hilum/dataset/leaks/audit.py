"""The leak audit: what could make figures better than they will be on new patients."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dataset.folds import fold_groups, groups_on_both_sides, leaking_patients
from hilum.dataset.joining import joined
from hilum.dataset.layouts.listing import some
from hilum.dataset.leaks.candidates import PARTS_LIMIT
from hilum.dataset.leaks.columns import predictors
from hilum.dataset.leaks.files import file_copies
from hilum.dataset.leaks.pictures import matching_pictures
from hilum.dataset.leaks.record import Audit, Pair, SharedPatient
from hilum.dataset.leaks.thumbnail import look
from hilum.dataset.leaks.volumes import matching_volumes
from hilum.dataset.open import read_case
from hilum.errors import DataError
from hilum.io.content import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hilum.dataset.case import Dataset, Fold
    from hilum.dataset.leaks.pictures import Match
    from hilum.dataset.leaks.thumbnail import Look

    Progress = Callable[[int, int, str], None]

LIMIT_GB = 8.0
"""Images of up to this size on disk, in all, are read for the comparison unless the caller says
otherwise."""


def audit(
    dataset: Dataset,
    *,
    folds: Sequence[Fold] | None = None,
    limit_gb: float = LIMIT_GB,
    progress: Progress | None = None,
) -> Audit:
    """Look for duplicates, patients on both sides, and columns that tell the class.

    Every image is read once and kept as a thumbnail. Pictures are compared by signature, then laid
    over each other, so that copies are found that were mirrored, turned by quarters or a little,
    zoomed, cut, compressed or brightened anew; volumes are compared at low resolution, as they are
    and mirrored along each axis. What was cut to less than about 90 % of a side, or out of a
    volume, is often missed. Columns are looked at in a classification only.

    Args:
        dataset: as opened.
        folds: the split in question; None takes the one that the data set brings.
        limit_gb: of images larger than this on disk, in all, only copies of files are looked for,
            byte for byte: `notes` says so, and `hilum check` compares all images anyway.
        progress: called as progress(done, total, case id) while images are read.

    Returns:
        What was found; give its `groups` to `make_folds` and to whoever makes other splits.
    """
    files = {
        file for case in dataset.cases for path in case.images.values() for file in files_of(path)
    }
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > limit_gb * 1e9:
        return _audit_of_files(dataset, folds, size, limit_gb, progress)
    looks, unread = [], []
    for done, case in enumerate(dataset.cases, start=1):
        try:
            looks.append(look(case.id, read_case(case), next(iter(case.images.values()))))
        except DataError:  # whoever needs the case says what is wrong with it
            unread.append(case.id)
        if progress is not None:
            progress(done, len(dataset.cases), case.id)
    notes = (f"{some(unread)} cannot be read and were not compared",) if unread else ()
    return audit_of(dataset, looks, folds=folds, notes=notes)


def audit_of(
    dataset: Dataset,
    looks: Sequence[Look],
    *,
    folds: Sequence[Fold] | None = None,
    notes: tuple[str, ...] = (),
) -> Audit:
    """The audit of images that were looked at already.

    Args:
        dataset: as opened.
        looks: what is kept of each image; unlabelled cases may be among them, () compares nothing.
        folds: the split in question; None takes the one that the data set brings.
        notes: what to say besides.
    """
    pairs, more = _pairs(looks)
    return _audited(
        dataset, pairs, {one.case: one.facts for one in looks}, len(looks), folds, (*notes, *more)
    )


def _audit_of_files(
    dataset: Dataset,
    folds: Sequence[Fold] | None,
    size: int,
    limit_gb: float,
    progress: Progress | None,
) -> Audit:
    """The audit of images that are too many to be read: copies of files, patients, columns."""
    copies = file_copies(dataset.cases, progress=progress)
    pairs = tuple(
        Pair(one=group[0], other=other, kind="exact", likeness=1.0)
        for group in copies.groups
        for other in group[1:]
    )
    looked = (
        "only copies of files were looked for, byte for byte"
        if copies.compared
        else "they were not compared"
    )
    told = (
        f"the images are {size / 1e9:.3g} GB, more than the {limit_gb:.3g} GB that are read for it:"
        f" {looked}; `hilum check` looks for near-duplicates too, and for what images tell by their"
        " size or spacing"
    )
    notes = [told]
    if copies.archived and copies.compared:
        notes.append(f"{some(copies.archived)} are parts of archives and were not compared")
    if copies.unread:
        notes.append(f"{some(copies.unread)} cannot be read and were not compared")
    return _audited(dataset, pairs, {}, copies.compared, folds, tuple(notes))


def _audited(
    dataset: Dataset,
    pairs: tuple[Pair, ...],
    facts: Mapping[str, dict[str, str]],
    compared: int,
    folds: Sequence[Fold] | None,
    notes: tuple[str, ...],
) -> Audit:
    split = tuple(dataset.splits if folds is None else folds)
    groups = tuple(group for group in joined((pair.one, pair.other) for pair in pairs))
    groups_of_cases = fold_groups(dataset, groups)
    found = (
        predictors(dataset.cases, dataset.classes, groups_of_cases, facts)
        if dataset.classes is not None
        else ()
    )
    return Audit(
        compared=compared,
        pairs=pairs,
        groups=groups,
        split_groups=groups_on_both_sides(split, groups),
        split_patients=tuple(
            SharedPatient(patient=patient, cases=cases)
            for patient, cases in leaking_patients(dataset, split).items()
        ),
        predictors=found,
        notes=notes,
    )


def _pairs(looks: Sequence[Look]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Exact pairs, and near ones among one of each; and what was not looked for."""
    same: dict[str, list[Look]] = defaultdict(list)
    for one in looks:
        if one.thumbnail is not None:
            same[one.digest].append(one)
    copies = [sorted(group, key=lambda one: one.case) for group in same.values()]
    pairs = [
        Pair(one=group[0].case, other=other.case, kind="exact", likeness=1.0)
        for group in copies
        for other in group[1:]
    ]
    firsts = [group[0] for group in copies]
    pictures = [one for one in firsts if one.thumbnail is not None and one.thumbnail.ndim == 2]
    volumes = [one for one in firsts if one.thumbnail is not None and one.thumbnail.ndim == 3]
    pairs += (
        _near(pictures, matching_pictures(_stack(pictures), _detail(pictures))) if pictures else []
    )
    pairs += _near(volumes, matching_volumes(_stack(volumes), _detail(volumes))) if volumes else []
    notes: tuple[str, ...] = ()
    if len(pictures) > PARTS_LIMIT:
        notes = (
            (
                f"parts cut out of pictures were not looked for: there are {len(pictures)}"
                f" pictures, more than {PARTS_LIMIT}"
            ),
        )
    return tuple(sorted(pairs, key=lambda pair: (pair.one, pair.other))), notes


def _near(looks: Sequence[Look], matches: Iterable[Match]) -> list[Pair]:
    def pair(match: Match) -> Pair:
        kind: Literal["near", "mirrored"] = "mirrored" if match.mirrored else "near"
        one, other = looks[match.one].case, looks[match.other].case
        return Pair(
            one=one, other=other, kind=kind, likeness=round(match.likeness, 4), how=match.how
        )

    return [pair(match) for match in matches]


def _stack(looks: Sequence[Look]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([one.thumbnail for one in looks if one.thumbnail is not None]).astype(
        np.float32
    )


def _detail(looks: Sequence[Look]) -> int:
    return int(np.median([one.detail for one in looks]))
