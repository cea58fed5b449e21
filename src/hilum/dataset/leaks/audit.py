"""The leak audit: what could make figures better than they will be on new patients."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.folds import (
    fold_groups,
    groups_on_both_sides,
    leaking_patients,
    merge_overlapping,
    patient_of,
)
from hilum.dataset.leaks.candidates import PARTS_LIMIT
from hilum.dataset.leaks.columns import predictors
from hilum.dataset.leaks.files import file_copies
from hilum.dataset.leaks.pictures import matching_pictures
from hilum.dataset.leaks.record import Audit, Pair, SharedPatient
from hilum.dataset.leaks.thumbnail import look
from hilum.dataset.leaks.volumes import matching_volumes
from hilum.dataset.reading import read_case
from hilum.errors import DataError, some
from hilum.io.content import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hilum.dataset.case import Dataset, Fold
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
        return _audit_of_files(dataset, folds, f"{size / 1e9:.3g} GB", limit_gb, progress)
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
    """Return the audit of images that were looked at already.

    Args:
        dataset: as opened.
        looks: what is kept of each image; unlabelled cases may be among them, () compares nothing.
        folds: the split in question; None takes the one that the data set brings.
        notes: what to say besides.
    """
    same: dict[str, list[Look]] = defaultdict(list)
    for one in looks:
        if one.thumbnail is not None:
            same[one.digest].append(one)
    copies = [sorted(group, key=lambda one: one.case) for group in same.values()]
    pairs = _copies([one.case for one in group] for group in copies)
    for axes, matching in ((2, matching_pictures), (3, matching_volumes)):
        known = [
            (first, first.thumbnail.astype(np.float32))
            for first, *_ in copies
            if first.thumbnail is not None and first.thumbnail.ndim == axes
        ]
        if axes == 2 and len(known) > PARTS_LIMIT:
            count = f"there are {len(known)} pictures, more than {PARTS_LIMIT}"
            notes += (f"parts cut out of pictures were not looked for: {count}",)
        detail = int(np.median([one.detail for one, _ in known])) if known else 0
        for match in matching(np.stack([small for _, small in known]), detail) if known else ():
            pairs.append(
                Pair(
                    one=known[match.one][0].case,
                    other=known[match.other][0].case,
                    kind="mirrored" if match.mirrored else "near",
                    likeness=round(match.likeness, 4),
                    how=match.how,
                )
            )
    facts = {one.case: one.facts for one in looks}
    return _make_audit(dataset, pairs, facts, len(looks), folds, notes)


def _copies(groups: Iterable[Sequence[str]]) -> list[Pair]:
    """Return the first of each group of copies paired with each of the others."""
    return [
        Pair(one=group[0], other=other, kind="exact", likeness=1.0)
        for group in groups
        for other in group[1:]
    ]


def _audit_of_files(
    dataset: Dataset,
    folds: Sequence[Fold] | None,
    size: str,
    limit_gb: float,
    progress: Progress | None,
) -> Audit:
    """The audit of images that are too many to be read: copies of files, patients, columns."""
    copies = file_copies(dataset.cases, progress=progress)
    looked = "only copies of files were looked for, byte for byte"
    if not copies.compared:
        looked = "they were not compared"
    limit = f"more than the {limit_gb:.3g} GB that are read for it"
    more = "looks for near-duplicates too, and for what images tell by their size or spacing"
    notes = [f"the images are {size}, {limit}: {looked}; `hilum check` {more}"]
    if copies.archived and copies.compared:
        notes.append(f"{some(copies.archived)} are parts of archives and were not compared")
    if copies.unread:
        notes.append(f"{some(copies.unread)} cannot be read and were not compared")
    return _make_audit(dataset, _copies(copies.groups), {}, copies.compared, folds, tuple(notes))


def _make_audit(
    dataset: Dataset,
    pairs: Sequence[Pair],
    facts: Mapping[str, dict[str, str]],
    compared: int,
    folds: Sequence[Fold] | None,
    notes: tuple[str, ...],
) -> Audit:
    """Make an audit of pairs of near-duplicates, and look for columns that tell the class."""
    split = tuple(dataset.splits if folds is None else folds)
    groups = merge_overlapping((pair.one, pair.other) for pair in pairs)
    split_groups = groups_on_both_sides(split, groups)
    patients = patient_of(dataset)
    labels = {case.id: case.label for case in dataset.cases}
    harmless = tuple(
        group
        for group in groups
        if group not in split_groups
        and all(case in patients for case in group)
        and len({(patients[case], labels[case]) for case in group}) == 1
    )
    together = fold_groups(dataset, groups)
    found = dataset.classes and predictors(dataset.cases, dataset.classes, together, facts)
    shared = leaking_patients(dataset, split)
    return Audit(
        compared=compared,
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.one, pair.other))),
        groups=groups,
        split_groups=split_groups,
        harmless_groups=harmless,
        split_patients=tuple(SharedPatient(patient=p, cases=cases) for p, cases in shared.items()),
        predictors=found or (),
        notes=notes,
    )
