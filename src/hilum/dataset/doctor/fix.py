"""Writing a corrected copy of a data set; the source is never touched."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.doctor.finding import Finding, Fixed, FixLog
from hilum.dataset.doctor.mend import (
    label_order,
    mend_annotation,
    mend_images,
    mend_region,
    renumber_labels,
)
from hilum.dataset.folds import fold_groups, leaking_patients
from hilum.dataset.labels import relabel
from hilum.dataset.layouts.class_labels import classes_by_context
from hilum.dataset.layouts.class_order import NO_FINDING, is_none_word
from hilum.dataset.layouts.label_options import LabelOptions
from hilum.errors import DataError, UsageError
from hilum.files import OutputFolder, atomic_path, atomic_write_text, holds_files, image_suffix
from hilum.files.names import PICTURE_SUFFIXES
from hilum.files.text import is_known, name_key
from hilum.io import inspect_file, write_labels, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from hilum.volume import LabelTable

LOG_FILE = "fixes.json"
_LEAVE_OUT = {"unreadable", "channel-count", "duplicate-image"}
_MEND_IMAGES = {"channel-grid", "not-finite"}
_MEND_LABELS = {
    *("grid-rounding", "grid-header", "grid-mismatch"),
    *("fractional-labels", "coloured-labels", "layered-labels"),
}
_SPLIT = {"patient-leak", "split-overlap"}
_NEAR = "near-duplicate"
_COPIED = (".nii.gz", ".nrrd", ".mha", ".png", ".tif")


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
    """Write a mended copy of a data set; cases that cannot be mended are left out."""
    wanted = {(finding.case, finding.kind): finding for finding in findings if finding.fixable}
    out = {case for case, kind in wanted if kind in _LEAVE_OUT}
    kept = _without(dataset, out)
    tests = frozenset[str]() if dataset.splits else dataset.tests
    copy = _Copy(dataset, target, wanted, _ending(kept.every), tests)
    copy.note_left_out()
    for done, case in enumerate(kept.every, start=1):
        if not copy.write(case):
            out.add(case.id)
        if progress is not None:
            progress(done, len(kept.every), case.id)
    kept = _without(kept, out)
    if not kept.cases:
        for below in target.glob("[!.]*"):  # written now
            shutil.rmtree(below, ignore_errors=True)
        why = next(one.found for one in copy.fixed if one.done.startswith("the case was left out"))
        raise DataError(
            f"no annotated case of {dataset.root} can be copied or mended, the first because {why}",
            needed="a usable case",
            cure="hilum check DATA says what each case needs",
        )
    copy.write_facts(copy.with_one_patient(kept))
    mended = {(one.case, one.kind) for one in copy.fixed}
    log = FixLog(
        source=str(dataset.root),
        folder=str(target),
        layout="nnunet" if dataset.labels is not None else "table",
        cases=tuple(case.id for case in kept.cases),
        fixed=tuple(sorted(copy.fixed, key=lambda one: (one.case, one.kind))),
        left=tuple(
            one
            for one in findings
            if one.severity != "note" and (one.case, one.kind) not in mended and one.case not in out
        ),
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
            cure=f"name another folder, such as {inside.parent / inside.name}_fixed",
        )
    if holds_files(target):
        raise UsageError(
            f"{target} is not empty",
            needed="a new or empty folder",
            cure=f"name another, such as {target}_fixed",
        )


def _without(dataset: Dataset, out: Collection[str]) -> Dataset:
    """Leave cases out of a data set."""
    cases, unlabelled = (
        tuple(case for case in group if case.id not in out)
        for group in (dataset.cases, dataset.unlabelled)
    )
    return replace(dataset, cases=cases, unlabelled=unlabelled)


def _ending(cases: Sequence[Case]) -> str:
    """Choose the copy's file ending: the one of all sources, .png for pictures, or .nii.gz."""
    files = {file for case in cases for file in (*case.images.values(), *case.masks)}
    endings = {"" if path.is_dir() else image_suffix(path) for path in files}
    if len(endings) == 1 and endings <= set(_COPIED):
        return endings.pop()
    if endings <= set(PICTURE_SUFFIXES) and all(
        inspect_file(path).dtype.name in {"uint8", "uint16"} for path in files
    ):
        return ".png"
    return ".nii.gz"


@dataclass
class _Copy:
    """The corrected copy as far as it is written."""

    dataset: Dataset
    folder: Path
    wanted: Mapping[tuple[str, str], Finding]
    ending: str
    tests: frozenset[str]
    fixed: list[Fixed] = field(default_factory=list)

    def note(self, case: str, kind: str, found: str, done: str) -> None:
        self.fixed.append(Fixed(case=case, kind=kind, found=found, done=done))

    def note_left_out(self) -> None:
        """Note the cases and files that the copy does not hold."""
        done = dict.fromkeys(_LEAVE_OUT, "the case was left out")
        done |= {"orphan-image": "unlabelled in the copy"}
        done |= {"orphan-annotation": "the file was left out"}
        for (case, kind), finding in self.wanted.items():
            if kind in done:
                self.note(case, kind, finding.found, done[kind])

    def write(self, case: Case) -> bool:
        """Write one case, or leave it out with a note where it can be neither copied nor mended."""
        kinds = frozenset(
            kind
            for name, kind in self.wanted
            if name == case.id and kind in _MEND_IMAGES | _MEND_LABELS
        )
        part = "labelsTs" if case.id in self.tests else "labelsTr"
        folder = "regions" if self.dataset.labels is None else part
        mask, images = self.folder / folder / f"{case.id}{self.ending}", self._image_paths(case)
        try:
            done = [*self._write_mask(case, mask, kinds), *self._write_images(case, images, kinds)]
        except DataError as error:
            for path in (mask, *images):
                path.unlink(missing_ok=True)
            sentence = "the case was left out: it can be neither copied nor mended"
            self.note(case.id, "left-out", error.found, sentence)
            return False
        for kind, sentence in done:
            self.note(case.id, kind, self.wanted[case.id, kind].found, sentence)
        return True

    def _image_paths(self, case: Case) -> list[Path]:
        """Name the image files of a case in the copy, one a channel."""
        if self.dataset.labels is None:
            return [self.folder / "images" / f"{case.id}{self.ending}"]
        trained = case.annotation is not None and case.id not in self.tests
        folder = self.folder / ("imagesTr" if trained else "imagesTs")
        whole = self.ending in PICTURE_SUFFIXES and len(set(case.images.values())) == 1
        numbers = range(1 if whole else len(self.dataset.channels))
        return [folder / f"{case.id}_{number:04d}{self.ending}" for number in numbers]

    def _write_mask(self, case: Case, target: Path, kinds: frozenset[str]) -> list[tuple[str, str]]:
        """Copy or mend the annotation or region; what was done, as (kind, sentence)."""
        table = self.dataset.labels
        source = case.region if table is None else case.annotation
        if source is None:
            return []
        numbered = table is not None and label_order(table) == [*range(len(label_order(table)))]
        whole = numbered and not case.label_ids and not kinds & _MEND_LABELS
        if whole and isinstance(source, Path) and self._copy_unless_compressed(source):
            _copy_file(source, target)
            return []
        grid = inspect_file(next(iter(case.images.values()))).geometry
        if table is None:
            labels, done = mend_region(source, grid, kinds)
        else:
            labels, done = mend_annotation(source, grid, table, kinds)
            labels = renumber_labels(relabel(labels, case.label_ids), table)
        write_labels(labels, target)
        return done

    def _write_images(
        self, case: Case, targets: Sequence[Path], kinds: frozenset[str]
    ) -> list[tuple[str, str]]:
        """Copy or mend the images; what was done, as (kind, sentence)."""
        sources = list(dict.fromkeys(case.images.values()))
        alike = len(sources) == len(targets) and all(map(self._copy_unless_compressed, sources))
        if alike and not kinds & _MEND_IMAGES:
            for source, target in zip(sources, targets, strict=True):
                _copy_file(source, target)
            return []
        volume, done = mend_images(case, kinds)
        for number, target in enumerate(targets):
            part = slice(number, number + 1) if len(targets) > 1 else slice(None)
            write_volume(volume.with_array(volume.array[part]), target)
        return done

    def _copy_unless_compressed(self, source: Path) -> bool:
        return source.is_file() and image_suffix(source) == self.ending

    def with_one_patient(self, dataset: Dataset) -> Dataset:
        """Make near-duplicates, with all cases of their patients, one patient's."""
        near = [finding for (_, kind), finding in self.wanted.items() if kind == _NEAR]
        groups = [(finding.case, *finding.others) for finding in near]
        holders = fold_groups(dataset, groups)
        known = {case.patient for case in dataset.cases}
        names: dict[str, str] = {}
        for finding, group in zip(near, groups, strict=True):
            held = [holders[case] for case in group if case in holders]
            if len(held) > 1:
                name = f"{held[0].partition(':')[2]}_and_copies"
                while name in known:
                    name += "_"
                names[held[0]] = name
                done = f"one patient, {name}, so that they stay in one fold"
                self.note(finding.case, _NEAR, finding.found, done)
        cases = (
            replace(case, patient=names.get(holders[case.id], case.patient))
            for case in dataset.cases
        )
        return replace(dataset, cases=tuple(cases))

    def write_facts(self, dataset: Dataset) -> None:
        """Write what lies beside the images: splits, and the table or dataset.json."""
        splits = self._mended_splits(dataset)
        if splits:
            folds = [{"train": list(fold.train), "val": list(fold.validation)} for fold in splits]
            self._write("splits_final.json", json.dumps(folds, indent=1) + "\n")
        if dataset.labels is None:
            self._write_table(dataset)
            return
        columns = _further_columns(dataset.every)
        if columns or any(case.patient is not None for case in dataset.every):
            self._write("patients.csv", _csv(_row(case, columns) for case in dataset.every))
        order = label_order(dataset.labels)
        renamed = [f"{old} is {new}" for new, old in enumerate(order) if new != old]
        if renamed:
            done = f"numbered anew as nnU-Net needs them: {', '.join(renamed)}"
            self.note("", "label-numbers", f"labels {order}", done)
        facts = {
            "name": dataset.name,
            "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
            **_label_facts(dataset.labels),
            "numTraining": sum(case.id not in self.tests for case in dataset.cases),
            "file_ending": self.ending,
        }
        self._write("dataset.json", json.dumps(facts, indent=1) + "\n")

    def _write(self, name: str, text: str) -> None:
        atomic_write_text(self.folder / name, text)

    def _mended_splits(self, dataset: Dataset) -> tuple[Fold, ...]:
        """Take cases left out, and leaks into training where asked for, out of the given split."""
        kinds = {kind for _, kind in self.wanted}
        leaking = (
            leaking_patients(dataset, dataset.splits) if kinds & {"patient-leak", _NEAR} else ()
        )
        patients = {case.id: case.patient for case in dataset.cases}
        folds = []
        for fold in dataset.splits:
            validation = tuple(case for case in fold.validation if case in patients)
            tested = {patients[case] for case in validation} & {*leaking}
            drop = {*validation} if "split-overlap" in kinds else set()
            train = tuple(
                case
                for case in fold.train
                if case in patients and case not in drop and patients[case] not in tested
            )
            folds.append(Fold(train, validation))
        for (case, kind), finding in self.wanted.items():
            if kind in _SPLIT:
                done = "taken out of training in splits_final.json"
                self.note(case, kind, finding.found, done)
        return tuple(fold for fold in folds if fold.train and fold.validation)

    def _write_table(self, dataset: Dataset) -> None:
        """Write cases.csv, which names the images, masks and labels of the copy."""
        columns = _further_columns(dataset.every, "image", "mask", "region", "label")
        regions = any(case.region is not None for case in dataset.every)
        names = {"": NO_FINDING, **self._readable_classes(dataset)}
        rows = []
        for case in dataset.every:
            fields = {"image": f"images/{case.id}{self.ending}"}
            if regions:
                fields["region"] = (
                    f"regions/{case.id}{self.ending}" if case.region is not None else ""
                )
            fields["label"] = "" if case.label is None else names.get(case.label, case.label)
            if self.tests:
                fields["split"] = "test" if case.id in self.tests else "train"
            rows.append(_row(case, columns, fields))
        self._write("cases.csv", _csv(rows))

    def _readable_classes(self, dataset: Dataset) -> dict[str, str]:
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
            found = f"the class {name!r}, which means not known in a table"
            self.note("", "class-name", found, f"called {other!r} in the copy")
        return renamed


def _copy_file(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _further_columns(cases: Sequence[Case], *written: str) -> list[str]:
    """List the columns that are not written elsewhere, as the split is."""
    taken = {"case", "patient", "fold", "split", *written}
    return sorted({name for case in cases for name in case.columns if name.lower() not in taken})


def _row(
    case: Case, columns: Sequence[str], fields: Mapping[str, str] | None = None
) -> dict[str, str]:
    further = {name: case.columns.get(name, "") for name in columns}
    return {"case": case.id, "patient": case.patient or "", **(fields or {}), **further}


def _csv(rows: Iterable[Mapping[str, str]]) -> str:
    """Write rows as the text of a CSV table; the first row has every column."""
    first, *others = rows
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerows([first, *others])
    return stream.getvalue()


def _label_facts(table: LabelTable) -> dict[str, object]:
    """Return the labels as dataset.json says them, in the copy's numbers."""
    number = {old: new for new, old in enumerate(label_order(table))}
    labels: dict[str, int | list[int]] = {label.name: number[label.id] for label in table.labels}
    facts: dict[str, object] = {}
    if not table.exclusive:
        regions = {region.name: [number[i] for i in region.labels] for region in table.regions}
        labels = {table.labels[0].name: 0, **regions}
        facts["regions_class_order"] = [number[i] for i in table.decode_ids]
    if table.ignore is not None:
        labels["ignore"] = number[table.ignore]
    return {"labels": labels, **facts}
