"""Writing a corrected copy of a data set; the source is never touched."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.annotation import MaskFiles, annotation_files, read_label_map
from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.conversion import foreground_of
from hilum.dataset.doctor.finding import Finding, Fixed, FixLog
from hilum.dataset.doctor.mend import (
    label_order,
    mended_annotation,
    mended_images,
    on_image_grid,
    renumbered,
)
from hilum.dataset.folds import fold_groups, leaking_patients
from hilum.dataset.labels import relabel
from hilum.dataset.layouts.class_order import NO_FINDING, is_none_word
from hilum.dataset.layouts.label_options import LabelOptions
from hilum.dataset.layouts.labelling import classes_by_context
from hilum.errors import DataError, LabelError, UsageError
from hilum.io import (
    OutputFolder,
    atomic_path,
    atomic_write_text,
    holds_files,
    image_suffix,
    inspect_file,
    read_volume,
    write_labels,
    write_volume,
)
from hilum.io.files import PICTURE_SUFFIXES
from hilum.io.text import is_known, name_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hilum.dataset.annotation import Annotation
    from hilum.volume import LabelTable, Volume

LOG_FILE = "fixes.json"
_LEAVE_OUT = {"unreadable", "channel-count", "duplicate-image"}
_CONVERSIONS = {"fractional-labels", "coloured-labels", "layered-labels"}
_MEND = {
    "channel-grid",
    "grid-rounding",
    "grid-header",
    "grid-mismatch",
    "not-finite",
    *_CONVERSIONS,
}
_SPLIT = {"patient-leak", "split-overlap"}
_NEAR = "near-duplicate"
_COPIED = (".nii.gz", ".nrrd", ".mha", ".png", ".tif")


@dataclass
class _Copy:
    """The corrected copy as far as it is written."""

    folder: Path
    ending: str
    tests: frozenset[str] = frozenset()
    fixed: list[Fixed] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)

    def note(self, case: str, kind: str, found: str, done: str) -> None:
        self.fixed.append(Fixed(case=case, kind=kind, found=found, done=done))


def fix(
    dataset: Dataset,
    findings: Sequence[Finding],
    folder: Path | str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> FixLog:
    """Write a copy of a data set in which everything fixable among the findings is mended.

    The source is not touched.

    The copy is an nnU-Net raw folder (dataset.json, imagesTr, labelsTr, imagesTs,
    splits_final.json, and patients.csv where patients are known), so that other tools read it too:
    labels are numbered 0, 1, 2, ... in it. A classification data set becomes a table (cases.csv,
    images, and regions where masks say where to look). Near-duplicates of several patients become
    one patient's, so that they stay in one fold. Files that need no mending are copied byte for
    byte where their format allows.

    Args:
        dataset: as opened.
        findings: what `check` found; leave out those that must not be mended.
        folder: where the copy goes; must be new or empty, and outside the data set.
        progress: called as progress(done, total, case id).

    Returns:
        What was changed and what was not; the same is in the copy as fixes.json.

    Raises:
        UsageError: the folder holds something, or lies in the data set.
        DataError: no case is left.
    """
    target = Path(folder)
    with OutputFolder(target, "check --fix"):
        refuse_target(dataset, target)
        return _write_copy(dataset, findings, target, progress)


def _write_copy(
    dataset: Dataset,
    findings: Sequence[Finding],
    target: Path,
    progress: Callable[[int, int, str], None] | None,
) -> FixLog:
    wanted = {(finding.case, finding.kind): finding for finding in findings if finding.fixable}
    out = {case for case, kind in wanted if kind in _LEAVE_OUT}
    kept = tuple(case for case in dataset.cases if case.id not in out)
    tests = tuple(case for case in dataset.unlabelled if case.id not in out)
    if not kept:
        why = next(finding.found for (_, kind), finding in wanted.items() if kind in _LEAVE_OUT)
        raise DataError(
            f"every case of {dataset.root} would be left out, the first because {why}",
            needed="a usable case",
            cure="hilum check DATA says what each case needs",
        )
    copy = _Copy(target, _ending((*kept, *tests)), frozenset() if dataset.splits else dataset.tests)
    _note_left_out(copy, wanted)
    for done, case in enumerate((*kept, *tests), start=1):
        mend = {
            kind: finding
            for (name, kind), finding in wanted.items()
            if name == case.id and kind in _MEND
        }
        _write_case(copy, case, dataset, mend)
        if progress is not None:
            progress(done, len(kept) + len(tests), case.id)
    written = set(copy.cases)
    kept = tuple(case for case in kept if case.id in written)
    tests = tuple(case for case in tests if case.id in written)
    if not kept:
        for folder in target.glob("[!.]*"):  # written now
            shutil.rmtree(folder, ignore_errors=True)
        why = next(entry.found for entry in copy.fixed if entry.kind == "left-out")
        raise DataError(
            f"no annotated case of {dataset.root} can be copied or mended, the first because {why}",
            needed="a usable case",
            cure="hilum check DATA says what each case needs",
        )
    _write_facts(
        copy,
        _with_one_patient(copy, replace(dataset, cases=kept, unlabelled=tests), wanted),
        wanted,
    )
    fixed_kinds = {(entry.case, entry.kind) for entry in copy.fixed}
    out |= {entry.case for entry in copy.fixed if entry.kind == "left-out"}
    left = tuple(
        f
        for f in findings
        if f.severity != "note" and (f.case, f.kind) not in fixed_kinds and f.case not in out
    )
    log = FixLog(
        source=str(dataset.root),
        folder=str(target),
        layout="nnunet" if dataset.labels is not None else "table",
        cases=tuple(case.id for case in kept),
        fixed=tuple(sorted(copy.fixed, key=lambda entry: (entry.case, entry.kind))),
        left=left,
    )
    atomic_write_text(target / LOG_FILE, log.model_dump_json(indent=1) + "\n")
    return log


def refuse_target(dataset: Dataset, target: Path) -> None:
    """Refuse a folder for the copy that holds something, or lies in the data set.

    Raises:
        UsageError: it does.
    """
    root = dataset.root.resolve()
    inside = root if root.is_dir() else root.parent
    if target.resolve() == inside or inside in target.resolve().parents:
        raise UsageError(
            f"{target} lies in the data set {inside}",
            needed="a folder outside of it: the source is never changed",
        )
    if holds_files(target):
        raise UsageError(
            f"{target} is not empty",
            needed="a new or empty folder",
            cure=f"name another, such as {target}_fixed",
        )


def _ending(cases: Sequence[Case]) -> str:
    """Choose the copy's file ending: the one of all sources, .png for pictures, or .nii.gz."""
    masks = [
        file
        for case in cases
        for one in (case.annotation, case.region)
        for file in annotation_files(one)
    ]
    files = [*(path for case in cases for path in case.images.values()), *masks]
    endings = {"" if path.is_dir() else image_suffix(path) for path in files}
    if len(endings) == 1 and next(iter(endings)) in _COPIED:
        return next(iter(endings))
    if endings <= set(PICTURE_SUFFIXES) and all(
        inspect_file(path).dtype.name in {"uint8", "uint16"} for path in dict.fromkeys(files)
    ):
        return ".png"
    return ".nii.gz"


def _with_one_patient(
    copy: _Copy, dataset: Dataset, wanted: Mapping[tuple[str, str], Finding]
) -> Dataset:
    """Make near-duplicates, with all cases of their patients, one patient's."""
    near = [finding for (_, kind), finding in wanted.items() if kind == _NEAR]
    groups = [(finding.case, *finding.others) for finding in near]
    units = fold_groups(dataset, groups)
    merged = {units[case] for group in groups for case in group if case in units}
    names = {unit: f"{unit.partition(':')[2]}_and_copies" for unit in merged}
    known = {case.patient for case in dataset.cases}
    for finding, group in zip(near, groups, strict=True):
        unit = next((units[case] for case in group if case in units), None)
        if unit is not None and len({case for case in group if case in units}) > 1:
            copy.note(
                finding.case,
                _NEAR,
                finding.found,
                f"one patient, {_free(names[unit], known)}, so that they stay in one fold",
            )
    cases = tuple(
        (
            replace(case, patient=_free(names[units[case.id]], known))
            if units[case.id] in names
            else case
        )
        for case in dataset.cases
    )
    return replace(dataset, cases=cases)


def _free(name: str, known: set[str | None]) -> str:
    """A name that is no other patient's."""
    while name in known:
        name += "_"
    return name


def _note_left_out(copy: _Copy, wanted: Mapping[tuple[str, str], Finding]) -> None:
    for (case, kind), finding in wanted.items():
        if kind in _LEAVE_OUT:
            copy.note(case, kind, finding.found, "the case was left out")
        elif kind.startswith("orphan"):
            copy.note(
                case,
                kind,
                finding.found,
                "unlabelled in the copy" if kind == "orphan-image" else "the file was left out",
            )


def _write_case(copy: _Copy, case: Case, dataset: Dataset, mend: Mapping[str, Finding]) -> None:
    """Write one case, or leave it out with a note where it can be neither copied nor mended."""
    paths = _image_paths(copy, case, dataset)
    done: list[tuple[str, str]] = []
    try:
        if case.region is not None:
            done += _write_region(copy, case, case.region, mend)
        if case.annotation is not None and dataset.labels is not None:
            done += _write_annotation(copy, case, case.annotation, dataset.labels, mend)
        if {"not-finite", "channel-grid"} & set(mend) or not _copies(case, paths, copy.ending):
            volume, mended = mended_images(case, frozenset(mend))
            done += mended
            _write_channels(volume, paths)
        else:
            for source, target in zip(dict.fromkeys(case.images.values()), paths, strict=True):
                _copy_file(source, target)
    except DataError as error:
        for path in (*paths, _annotation_path(copy, case), _region_path(copy, case)):
            path.unlink(missing_ok=True)
        copy.note(
            case.id,
            "left-out",
            error.found,
            "the case was left out: it can be neither copied nor mended",
        )
        return
    for kind, sentence in done:
        copy.note(case.id, kind, mend[kind].found, sentence)
    copy.cases.append(case.id)


def _annotation_path(copy: _Copy, case: Case) -> Path:
    return (
        copy.folder
        / ("labelsTs" if case.id in copy.tests else "labelsTr")
        / f"{case.id}{copy.ending}"
    )


def _region_path(copy: _Copy, case: Case) -> Path:
    return copy.folder / "regions" / f"{case.id}{copy.ending}"


def _write_region(
    copy: _Copy, case: Case, source: Annotation, mend: Mapping[str, Finding]
) -> list[tuple[str, str]]:
    """Write where to look as a mask of 0 and 1, on the image's grid where that was to be mended.

    What was done.
    """
    done: list[tuple[str, str]] = []
    try:
        labels = read_label_map(source)
        mask = labels.with_array((labels.array != 0).astype(np.uint8))
    except LabelError:
        volume = read_volume(annotation_files(source)[0])
        mask = volume.with_array(foreground_of(volume.array))
        done.append(
            (
                "fractional-labels",
                f"{source.name}: 1 where a channel reaches half the largest number",
            )
        )
    image = inspect_file(next(iter(case.images.values()))).geometry
    mask, moved = on_image_grid(mask, annotation_files(source)[0], image, frozenset(mend))
    write_labels(mask, _region_path(copy, case))
    return done + moved


def _image_paths(copy: _Copy, case: Case, dataset: Dataset) -> list[Path]:
    if dataset.labels is None:
        return [copy.folder / "images" / f"{case.id}{copy.ending}"]
    part = "imagesTr" if case.annotation is not None and case.id not in copy.tests else "imagesTs"
    whole_picture = copy.ending in PICTURE_SUFFIXES and len(set(case.images.values())) == 1
    count = 1 if whole_picture else len(dataset.channels)
    return [copy.folder / part / f"{case.id}_{number:04d}{copy.ending}" for number in range(count)]


def _copies(case: Case, targets: Sequence[Path], ending: str) -> bool:
    sources = list(dict.fromkeys(case.images.values()))
    return len(sources) == len(targets) and all(
        path.is_file() and image_suffix(path) == ending for path in sources
    )


def _copy_file(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _write_channels(volume: Volume, targets: Sequence[Path]) -> None:
    if len(targets) == 1:
        write_volume(volume, targets[0])
        return
    for number, target in enumerate(targets):
        write_volume(volume.with_array(volume.array[number : number + 1]), target)


def _write_annotation(
    copy: _Copy, case: Case, source: Annotation, table: LabelTable, mend: Mapping[str, Finding]
) -> list[tuple[str, str]]:
    """Copy or mend the annotation; what was done, as (kind, sentence)."""
    target = _annotation_path(copy, case)
    if isinstance(source, MaskFiles):
        first, grid = (
            annotation_files(source)[0],
            inspect_file(next(iter(case.images.values()))).geometry,
        )
        labels, done = on_image_grid(read_label_map(source), first, grid, frozenset(mend))
        write_labels(renumbered(labels, table), target)
        return done
    numbered = label_order(table) == list(range(len(label_order(table))))
    copied = source.is_file() and image_suffix(source) == copy.ending
    if (
        copied
        and numbered
        and not case.label_ids
        and not set(mend) & (_MEND - {"not-finite", "channel-grid"})
    ):
        _copy_file(source, target)
        return []
    image = inspect_file(next(iter(case.images.values()))).geometry
    labels, done = mended_annotation(source, image, table, frozenset(mend))
    write_labels(renumbered(relabel(labels, case.label_ids), table), target)
    return done


def _write_facts(copy: _Copy, dataset: Dataset, wanted: Mapping[tuple[str, str], Finding]) -> None:
    splits = _mended_splits(copy, dataset, wanted)
    if splits:
        folds = [{"train": list(fold.train), "val": list(fold.validation)} for fold in splits]
        atomic_write_text(copy.folder / "splits_final.json", json.dumps(folds, indent=1) + "\n")
    if dataset.labels is None:
        _write_table(copy, dataset)
        return
    _write_patients(copy, (*dataset.cases, *dataset.unlabelled))
    order = label_order(dataset.labels)
    if order != list(range(len(order))):
        numbers = ", ".join(f"{old} is {new}" for new, old in enumerate(order) if new != old)
        copy.note(
            "",
            "label-numbers",
            f"labels {order}",
            f"numbered anew as nnU-Net needs them: {numbers}",
        )
    facts = {
        "name": dataset.name,
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        **_label_facts(dataset.labels),
        "numTraining": sum(case.id not in copy.tests for case in dataset.cases),
        "file_ending": copy.ending,
    }
    atomic_write_text(copy.folder / "dataset.json", json.dumps(facts, indent=1) + "\n")


def _write_patients(copy: _Copy, cases: Sequence[Case]) -> None:
    """Write the known columns of each case beside its image, where there are any."""
    columns = _further_columns(cases, ())
    rows = [
        (case.id, case.patient, *(case.columns.get(name, "") for name in columns)) for case in cases
    ]
    if columns or any(case.patient is not None for case in cases):
        atomic_write_text(
            copy.folder / "patients.csv", _csv([("case", "patient", *columns), *rows])
        )


def _further_columns(cases: Sequence[Case], written: tuple[str, ...]) -> list[str]:
    """List the columns that are not written elsewhere, as the split is."""
    taken = {"case", "patient", "fold", "split", *written}
    return sorted({name for case in cases for name in case.columns if name.lower() not in taken})


def _label_facts(table: LabelTable) -> dict[str, Any]:
    """The labels as dataset.json says them, in the copy's numbers."""
    number = {old: new for new, old in enumerate(label_order(table))}
    facts: dict[str, Any] = {}
    if table.exclusive:
        facts["labels"] = {label.name: number[label.id] for label in table.labels}
    else:
        regions = {region.name: [number[i] for i in region.labels] for region in table.regions}
        facts["labels"] = {table.labels[0].name: 0, **regions}
        facts["regions_class_order"] = [number[i] for i in table.decode_ids]
    if table.ignore is not None:
        facts["labels"]["ignore"] = number[table.ignore]
    return facts


def _mended_splits(
    copy: _Copy, dataset: Dataset, wanted: Mapping[tuple[str, str], Finding]
) -> tuple[Fold, ...]:
    """Take cases left out, and leaks into training where asked for, out of the given split."""
    known = {case.id for case in dataset.cases}
    kinds = {kind for _, kind in wanted if kind in {*_SPLIT, _NEAR}}
    leaking = leaking_patients(dataset, dataset.splits) if kinds & {"patient-leak", _NEAR} else {}
    patients = {case.id: case.patient for case in dataset.cases}
    folds = []
    for fold in dataset.splits:
        validation = tuple(case for case in fold.validation if case in known)
        tested = {patients[case] for case in validation} & set(leaking)
        drop = set(validation) if "split-overlap" in kinds else set()
        train = tuple(
            case for case in fold.train if case in known - drop and patients[case] not in tested
        )
        folds.append(Fold(train, validation))
    for (case, kind), finding in wanted.items():
        if kind in _SPLIT:
            copy.note(case, kind, finding.found, "taken out of training in splits_final.json")
    return tuple(fold for fold in folds if fold.train and fold.validation)


def _write_table(copy: _Copy, dataset: Dataset) -> None:
    cases = (*dataset.cases, *dataset.unlabelled)
    columns = _further_columns(cases, ("image", "mask", "region", "label"))
    regions = any(case.region is not None for case in cases)
    names = {"": NO_FINDING, **_readable_classes(copy, dataset)}
    split = ["split"] * bool(copy.tests)
    rows: list[Sequence[str | None]] = [
        ("case", "patient", "image", *["region"] * regions, "label", *split, *columns)
    ]
    for case in cases:
        extra = [case.columns.get(name, "") for name in columns]
        region = f"regions/{case.id}{copy.ending}" if case.region is not None else None
        label = None if case.label is None else names.get(case.label, case.label)
        part = ["test" if case.id in copy.tests else "train"] * bool(copy.tests)
        rows.append(
            (
                case.id,
                case.patient,
                f"images/{case.id}{copy.ending}",
                *[region] * regions,
                label,
                *part,
                *extra,
            )
        )
    atomic_write_text(copy.folder / "cases.csv", _csv(rows))


def _readable_classes(copy: _Copy, dataset: Dataset) -> dict[str, str]:
    """Rename classes that a table's reader would take for "not known"."""
    if dataset.classes is None or dataset.classes.kind == "multilabel":
        return {}
    names = dataset.classes.names
    meant = classes_by_context(names, LabelOptions())
    renamed = {
        name: NO_FINDING if is_none_word(name) else f"class {name}"
        for name in names
        if not is_known(name) and name_key(name) not in meant
    }
    for name, other in renamed.items():
        copy.note(
            "",
            "class-name",
            f"the class {name!r}, which means not known in a table",
            f"called {other!r} in the copy",
        )
    return renamed


def _csv(rows: Sequence[Sequence[str | None]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
