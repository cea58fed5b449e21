"""Looking at the cases side by side: duplicates, leaks, what is odd among them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.doctor.finding import Finding
from hilum.dataset.folds import leaking_patients, patient_of
from hilum.dataset.layouts import LAYOUTS
from hilum.dataset.layouts.listing import some
from hilum.errors import LabelError
from hilum.io import image_stem
from hilum.io.files import total_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Dataset
    from hilum.dataset.conversion import Colour
    from hilum.dataset.doctor.examine import Examination
    from hilum.volume import Geometry

ODD_SPACING = 2.0
"""A spacing this many times larger or smaller than the median of all cases is odd."""
_LISTED_NOTES = 3
_BYTES_A_VOXEL = 4


def palettes(examinations: Sequence[Examination]) -> list[Finding]:
    """Report numbers to which the palettes of annotations give several colours."""
    cases: dict[int, dict[Colour, list[str]]] = defaultdict(lambda: defaultdict(list))
    for examination in examinations:
        for label, colour in examination.colours.items():
            cases[label][colour].append(examination.case)
    findings = []
    for label, colours in sorted(cases.items()):
        if len(colours) > 1:
            shown = "; ".join(f"{colour} in {some(held)}" for colour, held in colours.items())
            findings.append(
                Finding.warning(
                    "",
                    "palettes",
                    (
                        f"{label} has {len(colours)} colours in the palettes of the annotations:"
                        f" {shown}"
                    ),
                    (
                        "where a colour says what a label is, store RGB: --fix then gives each"
                        " colour its label"
                    ),
                )
            )
    return findings


def duplicates(dataset: Dataset, examinations: Sequence[Examination]) -> list[Finding]:
    """Cases whose images hold the very same voxels; the first of them by id is the one to keep."""
    groups: dict[str, list[Examination]] = defaultdict(list)
    for examination in examinations:
        if examination.image_digest is not None:
            groups[examination.image_digest].append(examination)
    annotated = {case.id for case in dataset.cases}
    findings: list[Finding] = []
    for group in groups.values():
        first, *others = sorted(
            group, key=lambda examination: (examination.case not in annotated, examination.case)
        )
        findings.extend(_duplicate(dataset, first, other, annotated) for other in others)
    return findings


def _duplicate(
    dataset: Dataset, first: Examination, other: Examination, annotated: set[str]
) -> Finding:
    found = f"the very same voxels as {first.case}"
    cure, fixable, severe = "remove one of them (--fix keeps the first)", True, False
    if other.case not in annotated:
        found += (
            ", and it is unlabelled"
            if first.case not in annotated
            else ", and one is annotated while the other is a test case"
        )
        cure, fixable, severe = (
            "remove one of them: a test case must not be in the training data",
            False,
            first.case in annotated,
        )
    elif first.annotation_digest != other.annotation_digest:
        found += ", but annotated differently"
        cure, fixable, severe = (
            "decide which annotation holds and remove the other case",
            False,
            True,
        )
    if _on_both_sides(dataset, first.case, other.case):
        found += ", on the other side of the given split"
        severe = True
    return Finding(
        case=other.case,
        kind="duplicate-image",
        severity="error" if severe else "warning",
        found=found,
        cure=cure,
        fixable=fixable,
    )


def _on_both_sides(dataset: Dataset, one: str, other: str) -> bool:
    return any(
        (one in fold.train and other in fold.validation)
        or (other in fold.train and one in fold.validation)
        for fold in dataset.splits
    )


def split_findings(dataset: Dataset) -> list[Finding]:
    """Cases and patients on both sides of a given split."""
    findings: list[Finding] = []
    for number, fold in enumerate(dataset.splits):
        findings.extend(
            Finding.error(
                case,
                "split-overlap",
                f"it is in training and validation of fold {number} of the given split",
                "remove it from one side (--fix removes it from training)",
                fixable=True,
            )
            for case in sorted(set(fold.train) & set(fold.validation))
        )
    for patient, cases in leaking_patients(dataset, dataset.splits).items():
        findings.append(
            Finding.error(
                cases[0],
                "patient-leak",
                (f"patient {patient} ({some(cases, shown=6)}) is on both sides of the given split"),
                (
                    "remove the split (hilum splits by patient), or --fix: it takes the patient's"
                    " cases out of training"
                ),
                fixable=True,
            )
        )
    return findings


def odd_ones(dataset: Dataset, examinations: Sequence[Examination]) -> list[Finding]:
    """Cases whose spacing or orientation is unlike the others'.

    Only annotated cases count, and there must be three.
    """
    annotated = {case.id for case in dataset.cases}
    grids = {
        e.case: e.geometry for e in examinations if e.geometry is not None and e.case in annotated
    }
    if len(grids) < 3:
        return []
    spacings = np.array([_world_spacing(grid) for grid in grids.values()])  # (N, 3)
    median = np.median(spacings, axis=0)
    usual, count = Counter(grid.orientation for grid in grids.values()).most_common(1)[0]
    findings = []
    for (case, grid), spacing in zip(grids.items(), spacings, strict=True):
        voxels = float(np.prod(grid.shape) * np.prod(spacing) / np.prod(median))
        if _BYTES_A_VOXEL * voxels > total_memory():
            findings.append(
                Finding.error(
                    case,
                    "odd-spacing",
                    (
                        f"spacing {_mm(spacing)} mm along x, y, z: at the median of the cases,"
                        f" {_mm(median)} mm, it has {voxels:.3g} voxels, more than this machine's"
                        " memory holds"
                    ),
                    "correct the header, or leave the case out",
                )
            )
            continue
        ratio = float(np.exp(np.abs(np.log(spacing / median)).max()))
        if ratio > ODD_SPACING:
            findings.append(
                Finding.warning(
                    case,
                    "odd-spacing",
                    (
                        f"spacing {_mm(spacing)} mm along x, y, z, where the median of the cases is"
                        f" {_mm(median)} mm"
                    ),
                    "look whether the header is right; hilum resamples it to the plan's spacing",
                )
            )
        if grid.orientation != usual:
            findings.append(
                Finding.note(
                    case,
                    "odd-orientation",
                    (
                        f"orientation {grid.orientation}, where {count} of {len(grids)} cases have"
                        f" {usual}"
                    ),
                    (
                        "nothing if the header is right: hilum turns every case the same way; look"
                        " at one of them"
                    ),
                )
            )
    return findings


def _world_spacing(grid: Geometry) -> tuple[float, float, float]:
    """Millimetres along the world axes x, y, z, so that turned grids compare."""
    along = dict(zip(grid.world_axes, grid.spacing, strict=True))
    return along[0], along[1], along[2]


def _mm(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def unused_labels(dataset: Dataset, examinations: Sequence[Examination]) -> list[Finding]:
    """Report labels that cannot be learnt: none, too many, or held by no readable annotation."""
    if dataset.labels is None:
        return []
    try:
        dataset.labels.refuse_unlearnable(str(dataset.root))
    except LabelError as error:
        kind = "too-many-labels" if dataset.labels.foreground else "no-labels"
        cure = (
            error.cure
            if dataset.labels.foreground
            else "see what each annotation holds instead; annotate, or mend the files"
        )
        return [Finding.error("", kind, error.found, cure)]
    present = frozenset[int]().union(*(examination.labels for examination in examinations))
    unused = [
        f"{label.id} ({label.name})"
        for label in dataset.labels.foreground
        if label.id not in present
    ]
    if not unused:
        return []
    return [
        Finding.warning(
            "",
            "unused-label",
            f"no annotation holds {some(unused, shown=8)}",
            (
                "remove the label from the table, or add cases that have it: what is never seen"
                " cannot be learnt"
            ),
        )
    ]


def rare_labels(dataset: Dataset, examinations: Sequence[Examination]) -> list[Finding]:
    """Report labels that no training case of a fold holds, or the cases of one patient alone."""
    if dataset.labels is None:
        return []
    held = {one.case: one.labels for one in examinations}
    patients = patient_of(dataset)
    findings = []
    for label in dataset.labels.foreground:
        cases = sorted(case for case in patients if label.id in held.get(case, ()))
        name = f"{label.id} ({label.name})"
        for number, fold in enumerate(dataset.splits):
            if cases and not set(cases) & set(fold.train):
                findings.append(
                    Finding.warning(
                        "",
                        "rare-label",
                        (
                            f"no training case of fold {number} of the given split holds {name};"
                            f" {some(cases)} hold it"
                        ),
                        (
                            "move cases that have it to the training side: what is not there cannot"
                            " be learnt"
                        ),
                    )
                )
        if not dataset.splits and len({patients[case] for case in cases}) == 1 < len(
            set(patients.values())
        ):
            findings.append(
                Finding.warning(
                    "",
                    "rare-label",
                    (
                        f"{name} is held by {some(cases)} alone: in the fold that validates on it"
                        " nothing can learn it"
                    ),
                    "add cases that have it, join it with another label, or leave it out",
                )
            )
    return findings


def orphan_findings(dataset: Dataset) -> list[Finding]:
    """Images without annotation and annotations without image."""
    findings = []
    for orphan in LAYOUTS[dataset.layout].orphans(dataset.root):
        image = orphan.kind == "orphan-image"
        findings.append(
            Finding.warning(
                orphan.case,
                orphan.kind,
                f"{orphan.path} has no {'annotation' if image else 'image'} of the same name",
                "correct the name, or remove the file "
                + ("(--fix counts it as unlabelled)" if image else "(--fix leaves it out)"),
                fixable=True,
            )
        )
    return findings


def file_findings(dataset: Dataset) -> list[Finding]:
    """Images that no case uses, and files that cannot be read."""
    if dataset.files is None:
        return []
    known = {orphan.path.absolute() for orphan in LAYOUTS[dataset.layout].orphans(dataset.root)}
    unused = [one.path for one in dataset.files.left_out if one.image and one.path not in known]
    findings = [
        Finding.error(
            image_stem(one.path),
            "unreadable",
            f"{one.path}: {one.reason}",
            "fetch or restore it (git annex get, git lfs pull, copying again), or remove it",
        )
        for one in dataset.files.unreadable
    ]
    if unused:
        shown = some(map(dataset.files.name, unused), shown=6)
        findings.append(
            Finding.warning(
                "",
                "unused-image",
                f"no case uses {len(unused)} images: {shown}",
                (
                    "correct their names or places, or name them in the table; nothing if they do"
                    " not belong to the data set"
                ),
            )
        )
    return findings


def assumptions(dataset: Dataset, examinations: Sequence[Examination]) -> list[Finding]:
    """Report the assumptions of opening and reading the data set.

    One note of many cases is one finding.
    """
    findings = [
        Finding.note("", "assumption", note, "nothing if that is right") for note in dataset.notes
    ]
    by_note: dict[str, list[str]] = defaultdict(list)
    for examination in examinations:
        for note in dict.fromkeys(examination.notes):
            by_note[note].append(examination.case)
    for note, cases in by_note.items():
        if len(cases) > _LISTED_NOTES:
            text = f"{len(cases)} cases ({some(cases)}): {note}"
            findings.append(Finding.note("", "header", text, "nothing if that is right"))
        else:
            findings.extend(
                Finding.note(case, "header", note, "nothing if that is right") for case in cases
            )
    return findings
