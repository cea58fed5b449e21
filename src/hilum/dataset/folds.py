"""Folds of cross-validation: no patient on both sides, and every fold like the whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import annotation_files
from hilum.dataset.case import Dataset, Fold
from hilum.dataset.classes import SEPARATOR, ClassKind
from hilum.dataset.reading import read_annotation
from hilum.errors import DataError, ResourceError, UsageError, counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

CHEAP_BYTES = 64 * 2**20
"""Annotations of up to this size in all are read for stratification; larger data sets are grouped
by patient only."""

_STRATA: dict[ClassKind, str] = {
    "exclusive": "class",
    "ordinal": "grade",
    "multilabel": "the rarest finding of each case",
}


def make_folds(
    dataset: Dataset,
    folds: int = 5,
    *,
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
    together: Sequence[Collection[str]] = (),
) -> tuple[Fold, ...]:
    """Split a data set: its own split where it has one, else by patient and stratified.

    Classification is stratified by class, or grade; where a case has any number of findings, by the
    one among them that is rarest in the data set, so that each rare finding is spread. Segmentation
    is stratified by which labels are present and by the third that the case's annotated volume
    falls into, where the annotations are small enough to be read quickly (`CHEAP_BYTES`). The order
    of the cases does not matter; the same cases and seed give the same folds.

    Args:
        dataset: annotated cases; a case without a known patient is a patient of its own.
        folds: how many, at least 2; ignored where the data set brings a split.
        seed: of the shuffling.
        strata: case id to stratum, instead of the ones above.
        together: groups of case ids that stay in one fold, with all cases of their patients:
            near-duplicates (`Audit.groups`).

    Returns:
        One `Fold` each; every case but `Dataset.tests` validates exactly once (unless the split is
        given).

    Raises:
        UsageError: fewer than two folds, or fewer patients than folds.

    Source:
        scikit-learn's StratifiedGroupKFold.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if dataset.splits:
        return dataset.splits
    if folds < 2:
        raise UsageError(f"folds={folds} cannot be made", needed="at least 2 folds", cure="folds=5")
    cases = sorted(dataset.not_tests, key=lambda case: case.id)
    ids = np.array([case.id for case in cases])
    held = fold_groups(dataset, together)
    groups = np.array([held[case] for case in ids])
    available = len(set(groups.tolist()))
    if available < folds:
        raise UsageError(
            f"{folds} folds cannot be made of {counted(available, 'patient')}",
            needed="at least one patient for each fold",
            cure=f"folds={available}" if available > 1 else "add cases of other patients",
        )
    chosen = strata if strata is not None else case_strata(dataset)
    labels = _merge_rare(np.array([chosen.get(case, "") for case in ids]), folds)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return tuple(
        Fold(tuple(sorted(ids[train].tolist())), tuple(sorted(ids[validation].tolist())))
        for train, validation in splitter.split(ids, labels, groups)
    )


def _merge_rare(labels: np.ndarray, folds: int) -> np.ndarray:
    """Join strata with fewer cases than folds, and with the largest if still too small."""
    counts = Counter(labels.tolist())
    common = {name: count for name, count in counts.items() if count >= folds}
    target = "rare"
    if common and counts.total() - sum(common.values()) < folds:
        target = max(sorted(common), key=lambda name: common[name])
    return np.array([name if name in common else target for name in labels.tolist()])


def patient_of(dataset: Dataset) -> dict[str, str]:
    """Return the patient of every annotated case, see `Case.group`."""
    return {case.id: case.group for case in dataset.cases}


def fold_groups(dataset: Dataset, together: Sequence[Collection[str]] = ()) -> dict[str, str]:
    """Return for each annotated case what stays in one fold: its patient and near-duplicates.

    Args:
        dataset: annotated cases.
        together: groups of case ids; ids that the data set has not are passed over.

    Returns:
        Case id to the name of its group: the first, in alphabetical order, of the patients in it
            (see `patient_of`).
    """
    patients = patient_of(dataset)
    cases: dict[str, list[str]] = defaultdict(list)
    for case, patient in patients.items():
        cases[patient].append(case)
    known = [[case for case in group if case in patients] for group in together]
    groups = merge_overlapping([*cases.values(), *known])
    return {case: min(patients[one] for one in group) for group in groups for case in group}


def merge_overlapping(groups: Iterable[Collection[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the groups that are left when those that share a member are joined, again and again.

    Args:
        groups: of names; the order does not matter.

    Returns:
        Disjoint groups, each sorted, by their first name; a group of one stays.
    """
    parents: dict[str, str] = {}

    def first_of(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for group in groups:
        roots = sorted({first_of(name) for name in group})
        for root in roots[1:]:
            parents[root] = roots[0]
    members: dict[str, list[str]] = {}
    for name in sorted(parents):
        members.setdefault(first_of(name), []).append(name)
    return tuple(sorted(tuple(group) for group in members.values()))


def case_strata(dataset: Dataset) -> dict[str, str]:
    """Return the stratum of each annotated case: its class, or its labels and third by volume.

    "1+2/0" has labels 1 and 2 and is among the third with the smallest volume; one whose
    annotation cannot be read is "unreadable". {} where too many voxels would have to be read.
    """
    if dataset.labels is None:
        return _class_strata(dataset)
    if not _is_cheap(dataset):
        return {}
    present: dict[str, str] = {}
    volumes: dict[str, float] = {}
    for case in dataset.cases:
        present[case.id], volumes[case.id] = "unreadable", 0.0
        with suppress(DataError, ResourceError):  # training says what is wrong with it
            annotation = read_annotation(case)
            values, counts = np.unique(annotation.array, return_counts=True)
            drawn = ~np.isin(values, (0, dataset.labels.ignore or 0))
            present[case.id] = "+".join(str(int(value)) for value in values[drawn]) or "empty"
            volume = annotation.geometry.voxel_volume_mm3
            volumes[case.id] = float(counts[drawn].sum()) * volume
    thirds = np.quantile([*volumes.values()], [1 / 3, 2 / 3])
    return {
        case: f"{labels}/{int(np.searchsorted(thirds, volumes[case]))}"
        for case, labels in present.items()
    }


def _class_strata(dataset: Dataset) -> dict[str, str]:
    """Return the class of every case; of several findings the rarest, "" where it has none."""
    labels = {case.id: case.label or "" for case in dataset.cases}
    if dataset.classes is None or dataset.classes.kind != "multilabel":
        return labels
    found = {
        case: [name for name in label.split(SEPARATOR) if name] for case, label in labels.items()
    }
    counts = Counter(name for names in found.values() for name in names)
    return {
        case: min(((counts[name], name) for name in names), default=(0, ""))[1]
        for case, names in found.items()
    }


def _is_cheap(dataset: Dataset) -> bool:
    files = [file for case in dataset.cases for file in annotation_files(case.annotation)]
    return sum(file.stat().st_size for file in files if file.is_file()) <= CHEAP_BYTES


def describe_folds(
    dataset: Dataset, folds: tuple[Fold, ...], *, together: Sequence[Collection[str]] = ()
) -> str:
    """Describe folds in one or two sentences: origin, sizes, grouping, stratification.

    Args:
        dataset: which was split.
        folds: as `make_folds` gave them.
        together: as `make_folds` was given it.
    """
    sizes = sorted({len(fold.validation) for fold in folds})
    cases = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    known = len({case.patient for case in dataset.cases} - {None})
    unknown = sum(case.patient is None for case in dataset.cases)
    count = counted(len(folds), "fold")
    if dataset.splits:
        text = f"{count} as given by the data set, {cases} validation cases each."
    else:
        grouping = (
            f"grouped by {counted(known, 'patient')}"
            if known
            else f"{counted(unknown, 'case')} in all"
        )
        if known and unknown:
            grouping += f" and {counted(unknown, 'case')} without one"
        stratified = "stratified by the labels present and the annotated volume"
        if dataset.labels is None:
            kind = dataset.classes.kind if dataset.classes is not None else "exclusive"
            stratified = f"stratified by {_STRATA[kind]}"
        elif not _is_cheap(dataset):
            stratified = "not stratified (the annotations are too large to be read first)"
        text = f"{count} of {cases} validation cases each, {grouping}, {stratified}."
        patients = patient_of(dataset)
        joining = [group for group in together if len({patients.get(case) for case in group}) > 1]
        if joining:
            stay = "stays" if len(joining) == 1 else "stay"
            text += f" {_groups(joining)} of near-duplicates {stay} in one fold."
    if unknown:
        which = (
            f"The patients of {counted(unknown, 'case')} are not known"
            if known
            else "No patient is known"
        )
        text += f" {which}: each such case counts as one patient."
    shared = leaking_patients(dataset, folds)
    if shared:
        text += f" Attention: {len(shared)} patients are on both sides of the given split."
    split = groups_on_both_sides(folds, together)
    if split:
        are = "is" if len(split) == 1 else "are"
        text += f" Attention: {_groups(split)} of near-duplicates {are} on both sides of it."
    return text


def _groups(groups: Sequence[Collection[str]]) -> str:
    return counted(len(groups), "group")


def groups_on_both_sides(
    folds: Sequence[Fold], together: Sequence[Collection[str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the groups that have cases in training and in validation of one fold."""
    sides = [(set(fold.train), set(fold.validation)) for fold in folds]
    return tuple(
        tuple(sorted(group))
        for group in together
        if any(set(group) & train and set(group) & held for train, held in sides)
    )


def leaking_patients(dataset: Dataset, folds: tuple[Fold, ...]) -> dict[str, tuple[str, ...]]:
    """Patients with cases on both sides of a fold, and those cases; {} where there are none."""
    patients = {case.id: case.patient for case in dataset.cases if case.patient is not None}
    shared: dict[str, set[str]] = defaultdict(set)
    for fold in folds:
        train, validation = (
            {patients[case] for case in side if case in patients}
            for side in (fold.train, fold.validation)
        )
        for case in (*fold.train, *fold.validation):
            if case in patients and patients[case] in train & validation:
                shared[patients[case]].add(case)
    return {patient: tuple(sorted(cases)) for patient, cases in sorted(shared.items())}
