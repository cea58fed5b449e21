"""The doctor: each case is examined, then all cases are compared side by side.

A check gets the data set and what was found in each case, and gives its findings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.doctor.examine import Examination, examine
from hilum.dataset.doctor.finding import Finding
from hilum.dataset.folds import groups_on_both_sides, leaking_patients, patient_of
from hilum.dataset.leaks import Audit, Pair, audit_of
from hilum.errors import LabelError, counted, some
from hilum.files import image_stem
from hilum.files.record import total_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hilum.dataset.case import Dataset
    from hilum.dataset.conversion import Colour

    Check = Callable[[Dataset, Sequence[Examination]], Iterable[Finding]]

ODD_SPACING = 2.0
"""A spacing this many times larger or smaller than the median of all cases is odd."""
FEWEST_PATIENTS = 5
"""A class of fewer patients is not in every fold of the usual five."""
_LISTED_NOTES = 3
_BYTES_A_VOXEL = 4
_ORDER = ("error", "warning", "note")
_SHOWN = 6
_MARKS = {"some mirrored": "mirrored", "some turned": "turned", "some zoomed": "the size"}
_KINDS = {"restates": "label-copy", "leak": "label-leak", "predicts": "confounder"}


def check(
    dataset: Dataset, *, progress: Callable[[int, int, str], None] | None = None
) -> tuple[Finding, ...]:
    """Read every file of a data set once and say what is wrong or odd. Nothing is changed.

    One case is in memory at a time, and a thumbnail of each for the leak audit.

    Args:
        dataset: an opened data set.
        progress: called as progress(done, total, case id).

    Returns:
        Findings, errors first, then by case and kind; () for a data set without fault.
    """
    examinations = []
    for done, case in enumerate(dataset.every, start=1):
        examinations.append(examine(case, dataset.labels))
        if progress is not None:
            progress(done, len(dataset.every), case.id)
    findings = [finding for examination in examinations for finding in examination.findings]
    findings += [finding for one in CHECKS for finding in one(dataset, examinations)]
    return tuple(sorted(findings, key=lambda one: (_ORDER.index(one.severity), one.case, one.kind)))


def orphans(dataset: Dataset, _: Sequence[Examination]) -> Iterator[Finding]:
    """Report images without annotation and annotations without image."""
    for orphan in dataset.orphans:
        other = "annotation" if orphan.kind == "orphan-image" else "image"
        found = f": {orphan.why}" if orphan.why else f" has no {other} of the same name"
        yield Finding.of(orphan.kind, f"{orphan.path}{found}", orphan.case, orphan.cure or None)


def files(dataset: Dataset, _: Sequence[Examination]) -> Iterator[Finding]:
    """Report images that no case uses, and files that cannot be read."""
    if dataset.files is None:
        return
    known = {orphan.path.absolute() for orphan in dataset.orphans}
    unused = [one.path for one in dataset.files.left_out if one.image and one.path not in known]
    for one in dataset.files.unreadable:
        cure = "fetch or restore it (git annex get, git lfs pull, copying again), or remove it"
        yield Finding.of(
            "unreadable", f"{one.path}: {one.reason}", image_stem(one.path), cure, fixable=False
        )
    if unused:
        shown = some(map(dataset.files.name, unused), shown=6)
        yield Finding.of("unused-image", f"no case uses {counted(len(unused), 'image')}: {shown}")


def duplicates(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Report images of the very same voxels; the first by id of the cases is the one to keep."""
    annotated = {case.id for case in dataset.cases}
    groups: dict[str, list[Examination]] = defaultdict(list)
    for one in sorted(examinations, key=lambda one: (one.case not in annotated, one.case)):
        if one.look is not None:
            groups[one.look.digest].append(one)
    for first, *others in groups.values():
        for other in others:
            found = f"the very same voxels as {first.case}"
            cure, severe = None, False
            if other.case not in annotated:
                severe = first.case in annotated
                found += ", and " + (
                    "one is annotated while the other is a test case"
                    if severe
                    else "it is unlabelled"
                )
                cure = "remove one of them: a test case must not be in the training data"
            elif first.annotation_digest != other.annotation_digest:
                severe, found = True, f"{found}, but annotated differently"
                cure = "decide which annotation holds and remove the other case"
            if groups_on_both_sides(dataset.splits, [(first.case, other.case)]):
                severe, found = True, f"{found}, on the other side of the given split"
            yield Finding.of(
                "duplicate-image",
                found,
                other.case,
                cure,
                severity="error" if severe else "warning",
                fixable=cure is None,
            )


def splits(dataset: Dataset, _: Sequence[Examination]) -> Iterator[Finding]:
    """Report cases and patients on both sides of a given split."""
    for number, fold in enumerate(dataset.splits):
        found = f"it is in training and validation of fold {number} of the given split"
        for case in sorted({*fold.train} & {*fold.validation}):
            yield Finding.of("split-overlap", found, case)
    for patient, cases in leaking_patients(dataset, dataset.splits).items():
        found = f"patient {patient} ({some(cases, shown=6)}) is on both sides of the given split"
        yield Finding.of("patient-leak", found, cases[0])


def odd_ones(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Report cases whose spacing or orientation is unlike the others'.

    Only annotated cases count, and there must be three.
    """
    annotated = {case.id for case in dataset.cases}
    grids = {
        e.case: e.geometry for e in examinations if e.geometry is not None and e.case in annotated
    }
    if len(grids) < 3:
        return
    spacings = np.array(
        [np.array(grid.spacing)[np.argsort(grid.world_axes)] for grid in grids.values()]
    )  # (N, 3), along the world axes x, y, z, so that turned grids compare
    median = np.median(spacings, axis=0)
    usual, count = Counter(grid.orientation for grid in grids.values()).most_common(1)[0]
    for (case, grid), spacing in zip(grids.items(), spacings, strict=True):
        found = f"spacing {_mm(spacing)} mm along x, y, z"
        voxels = float(np.prod(grid.shape) * np.prod(spacing) / np.prod(median))
        if _BYTES_A_VOXEL * voxels > total_memory():
            found += (
                f": at the median of the cases, {_mm(median)} mm, it has {voxels:.3g} voxels, more"
                " than this machine's memory holds"
            )
            cure = "correct the header, or leave the case out"
            yield Finding.of("odd-spacing", found, case, cure, severity="error")
            continue
        if np.exp(np.abs(np.log(spacing / median)).max()) > ODD_SPACING:
            found += f", where the median of the cases is {_mm(median)} mm"
            yield Finding.of("odd-spacing", found, case)
        if grid.orientation != usual:
            most = f"{count} of {len(grids)} cases have {usual}"
            yield Finding.of(
                "odd-orientation", f"orientation {grid.orientation}, where {most}", case
            )


def _mm(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def palettes(_: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Report numbers to which the palettes of annotations give several colours."""
    cases: dict[int, dict[Colour, list[str]]] = defaultdict(lambda: defaultdict(list))
    for examination in examinations:
        for label, colour in examination.colours.items():
            cases[label][colour].append(examination.case)
    for label, colours in sorted(cases.items()):
        if len(colours) > 1:
            shown = "; ".join(f"{colour} in {some(held)}" for colour, held in colours.items())
            where = "in the palettes of the annotations"
            yield Finding.of("palettes", f"{label} has {len(colours)} colours {where}: {shown}")


def labels(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Report labels that cannot be learnt.

    None or too many of them; held by no readable annotation, by no training case of a fold, or by
    the cases of one patient alone.
    """
    table = dataset.labels
    if table is None:
        return
    present = {one.case: one.labels for one in examinations}
    names = {label.id: f"{label.id} ({label.name})" for label in table.foreground}
    try:
        table.refuse_unlearnable(str(dataset.root))
    except LabelError as error:
        kind, cure = ("too-many-labels", error.cure) if names else ("no-labels", None)
        yield Finding.of(kind, error.found, cure=cure)
    else:
        held = frozenset[int]().union(*present.values())
        unused = [name for label, name in names.items() if label not in held]
        if unused:
            yield Finding.of("unused-label", f"no annotation holds {some(unused, shown=8)}")
    patients = patient_of(dataset)
    for label, name in names.items():
        cases = sorted(case for case in patients if label in present.get(case, ()))
        for number, fold in enumerate(dataset.splits):
            if cases and not {*cases} & {*fold.train}:
                found = f"no training case of fold {number} of the given split holds {name}"
                cure = "move cases that have it to the training side: what is not there cannot be"
                yield Finding.of(
                    "rare-label", f"{found}; {some(cases)} hold it", cure=f"{cure} learnt"
                )
        holders = {patients[case] for case in cases}
        if not dataset.splits and len(holders) == 1 < len({*patients.values()}):
            alone = "alone: in the fold that validates on it nothing can learn it"
            yield Finding.of("rare-label", f"{name} is held by {some(cases)} {alone}")


def classes(dataset: Dataset, _: Sequence[Examination]) -> Iterator[Finding]:
    """Report classes, findings and grades that too few patients have, or none."""
    if dataset.classes is None:
        return
    patients = patient_of(dataset)
    flags = {case.id: dataset.classes.indicators(case.label or "") for case in dataset.cases}
    for number, name in enumerate(dataset.classes.names):
        cases = [case for case, held in flags.items() if held[number]]
        count = len({patients[case] for case in cases})
        if count < FEWEST_PATIENTS:
            found = f"{name}: {counted(len(cases), 'case')} of {counted(count, 'patient')}"
            yield Finding.of("rare-class", found)


def assumptions(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Report the assumptions of opening and reading the data set.

    One note of many cases is one finding.
    """
    for note in dataset.notes:
        yield Finding.of("assumption", note)
    cases: dict[str, list[str]] = defaultdict(list)
    for examination in examinations:
        for note in dict.fromkeys(examination.notes):
            cases[note].append(examination.case)
    for note, held in cases.items():
        if len(held) > _LISTED_NOTES:
            yield Finding.of("header", f"{len(held)} cases ({some(held)}): {note}")
        else:
            yield from (Finding.of("header", note, case) for case in held)


def leaks(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Audit what was kept of each image, and report it."""
    looks = [one.look for one in examinations if one.look is not None]
    return leak_findings(dataset, audit_of(dataset, looks))


def leak_findings(dataset: Dataset, audit: Audit) -> Iterator[Finding]:
    """Report near-duplicates by group, columns that tell the class, and what was not looked at.

    Exact copies, and patients on both sides of the given split, are found elsewhere.
    """
    near = [pair for pair in audit.pairs if pair.kind != "exact"]
    groups = [group for group in audit.groups if any(pair.one in group for pair in near)]
    for group in groups:
        if group not in audit.harmless_groups:
            pairs = [pair for pair in near if pair.one in group]
            yield _group(dataset, group, pairs, split=group in audit.split_groups)
    harmless = sum(len(group) for group in groups if group in audit.harmless_groups)
    if harmless:
        found = f"{harmless} cases are nearly the same image as another of the same patient"
        yield Finding.of("near-duplicate", found, severity="note")
    for predictor in audit.predictors:
        yield Finding.of(_KINDS[predictor.verdict], predictor.sentence)
    for note in audit.notes:
        yield Finding.of("not-audited", note)


def _group(
    dataset: Dataset, group: tuple[str, ...], pairs: Sequence[Pair], *, split: bool
) -> Finding:
    """Make the finding of one group of near-duplicates."""
    first, *others = group
    likeness = f"likeness {min(pair.likeness for pair in pairs):.2f}"
    how = [pairs[0].how] if pairs[0].how else []
    if len(pairs) > 1:
        likeness += " or more"
        how = [word for word, mark in _MARKS.items() if any(mark in pair.how for pair in pairs)]
    found = f"nearly the same image as {some(others, shown=_SHOWN)} ({', '.join([likeness, *how])})"
    labels = {case.label or "" for case in dataset.cases if case.id in group}
    cure = "keep them in one fold"
    if len(labels) > 1:
        named = some(label or "none" for label in sorted(labels))
        found += f", but labelled differently: {named}"
        cure = f"look at them; {cure}"
    if split:
        found += ", on both sides of the given split"
    patients = [patient for case, patient in patient_of(dataset).items() if case in group]
    if len(patients) < len(group):
        found += ", and not all of them are labelled: is a test case among the training data?"
    several = len(set(patients)) > 1
    if several:
        cure += ": --fix makes them one patient" + ", and takes them out of training" * split
    return Finding.of(
        "near-duplicate",
        found,
        first,
        cure,
        severity="error" if split else "warning",
        fixable=several,
        others=tuple(others),
    )


CHECKS: tuple[Check, ...] = (
    *(orphans, files, duplicates, splits, odd_ones, palettes, labels, classes, leaks, assumptions),
)
"""Every check of the cases side by side."""
