"""References of an evaluation: a data set, or a folder of label maps and what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset import (
    LAYOUTS,
    Case,
    Dataset,
    known_patients,
    match_labels,
    open_dataset,
    read_annotation,
)
from hilum.dataset.annotation import annotation_files
from hilum.dataset.labels import table_of_segments
from hilum.dataset.layouts.naming import labels_file, read_json_object
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.page import ATTENTION, some
from hilum.evaluation.segmentation.label_maps import (
    find_label_maps,
    holds_label_maps,
    read_by_name,
)
from hilum.evaluation.segmentation.score import OBJECTS
from hilum.files import image_stem, is_output
from hilum.io import is_dicom_annotation, read_geometry, read_labels
from hilum.targets.run_file import read_predict_run
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.volume import Volume

LABELS = "labels.json"


@dataclass(frozen=True)
class Reference:
    """Reference of an evaluation: label maps of a folder, or the cases of a data set.

    Args:
        name: of the folder or data set.
        files: label maps by case id, or annotation files of a data set's cases.
        cases: by case id, of a data set; {} of a folder.
        table: what the integers of the reference mean.
        notes: what was assumed.
        patients: patient by case id, where the caller or a folder's table names them.
        ids: id in the reference by id in the predictions, where both name their labels.
    """

    name: str
    files: Mapping[str, Path]
    cases: Mapping[str, Case]
    table: LabelTable
    notes: tuple[str, ...]
    patients: Mapping[str, str]
    ids: Mapping[int, int] = field(default_factory=dict)

    def read(self, case: str, prediction: Path) -> Volume:
        """Return the labels of a case.

        In a data set on its image's own grid, as training and prediction have it; of a DICOM
        annotation whose images are not near on the grid of the prediction.
        """
        if case in self.cases:
            return read_annotation(self.cases[case])
        file = self.files[case]
        dicom = is_dicom_annotation(file) and not is_dicom_annotation(prediction)
        grid = read_geometry(prediction) if dicom else None
        return read_by_name(file, self.table, grid=grid)

    def grid_file(self, case: str) -> Path:
        """Return the file whose grid the case is scored on."""
        return (
            next(iter(self.cases[case].images.values())) if case in self.cases else self.files[case]
        )

    def patient(self, case: str) -> str | None:
        """Return the patient of a case; None where it is not known."""
        known = self.cases[case].patient if case in self.cases else None
        return known if known is not None else self.patients.get(case)


def suggest_reference(reference: Path | str | Dataset, files: Mapping[str, Path]) -> str:
    """Suggest where the references of these predictions are, as none of the cases is among them."""
    root = reference.root if isinstance(reference, Dataset) else Path(reference)
    home = root if root.is_dir() else root.parent
    for folder in sorted(
        entry for place in (home, home.parent) for entry in place.iterdir() if entry.is_dir()
    ):
        names = {image_stem(entry) for entry in folder.iterdir() if entry.is_file()}
        if "label" in folder.name.lower() and names & set(files):
            return f"{folder} holds label maps of these cases: give it as the reference"
    return (
        f"the predictions are of {some(sorted(files))}: name the reference of these, or name the"
        " files after the cases"
    )


def open_reference(
    reference: Path | str | Dataset,
    table: LabelTable | None,
    predictions: Path,
    patients: Mapping[str, str],
) -> Reference:
    """Open what predictions are held to.

    Raises:
        UsageError: it does not exist, or is no reference.
    """
    path = reference.root if isinstance(reference, Dataset) else Path(reference)
    if not isinstance(reference, Dataset) and path.is_dir():
        if _is_plain(path):
            return _of_folder(path, table, predictions, patients)
        if not any(layout.recognises(path) for layout in LAYOUTS.values()):
            within = [str(one) for one in sorted(path.iterdir()) if one.is_dir() and _is_plain(one)]
            raise UsageError(
                f"{path} holds no label maps and is no data set",
                needed="the folder of the reference label maps, named like the predictions, or a"
                " data set",
                cure=f"name one of its folders: {some(within)}" if within else "check the path",
            )
    dataset = reference if isinstance(reference, Dataset) else open_dataset(path)
    labels = table or dataset.labels
    files = {
        case.id: annotation_files(case.annotation)[0]
        for case in dataset.cases
        if case.annotation is not None
    }
    if labels is None or not files:
        raise UsageError(
            f"{dataset.root} has no label maps",
            needed="a segmentation data set as the reference",
            cure="give the folder of the reference label maps, or a data set with annotations",
        )
    cases = {case.id: case for case in dataset.cases}
    return Reference(str(dataset.root), files, cases, labels, dataset.notes, patients)


def table_of_objects(
    table: LabelTable | None, reference: Path | str | Dataset, predictions: Path
) -> LabelTable:
    """Return the table of instances: one label, named as the table or the folders name it.

    Raises:
        UsageError: several labels are named.
    """
    found: tuple[LabelTable, Path | str] | None = None if table is None else (table, "the table")
    folders = [] if isinstance(reference, Dataset) else [Path(reference)]
    for folder in (*(one for one in folders if one.is_dir() and _is_plain(one)), predictions):
        found = found or read_stated_labels(folder)
    if found is None:
        return LabelTable.from_names({1: OBJECTS})
    known, where = found
    names = [label.name for label in known.foreground]
    if len(names) != 1:
        raise UsageError(
            f"{where} names the labels {some(names)}",
            needed="one name of all objects, as the ids of instances are no labels",
            cure="leave out instances=True, or name only the kind of the objects",
        )
    return LabelTable.from_names({1: names[0]}, ignore=known.ignore)


def _is_plain(folder: Path) -> bool:
    """Return True if label maps lie in the folder beside no description of a data set."""
    described = (folder / "dataset.json").exists() or any(
        not is_output(table) for table in folder.glob("*.csv")
    )
    return not described and holds_label_maps(folder)


def _of_folder(
    folder: Path, table: LabelTable | None, predictions: Path, patients: Mapping[str, str]
) -> Reference:
    """Take a folder of label maps as the reference, with its label table and patients."""
    files = find_label_maps(folder)
    known, notes = _known_patients(folder, files, patients)
    if read_predict_run(folder) is not None and read_predict_run(predictions) is None:
        notes.insert(
            0,
            f"{ATTENTION}the reference {folder} was written by `hilum predict`, and {predictions}"
            " was not: if they are swapped, recall and precision are too; the order is PREDICTIONS"
            " REFERENCE",
        )
    if table is None:
        table, said = _find_table(folder, predictions, files.values())
        notes.append(said)
    return Reference(str(folder), files, {}, table, tuple(notes), known)


def _known_patients(
    folder: Path, files: Mapping[str, Path], given: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Find the patients of a plain folder: as given, or as the data set around it has them."""
    known = {case: given[case] for case in files if case in given}
    notes: list[str] = []
    if not given and any(layout.recognises(folder.parent) for layout in LAYOUTS.values()):
        cases = known_patients(folder.parent)
        known = {case: cases[case] for case in files if case in cases}
        notes += [f"patients as the data set {folder.parent} has them"] if known else []
    unknown = [case for case in files if case not in known]
    if len(unknown) == len(files):
        notes.append("no patient is known: each case counts as one patient")
    elif unknown:
        notes.append(f"of {some(unknown)} no patient is known: each counts as one")
    return known, notes


def match_ids(against: Reference, predictions: Path) -> Reference:
    """Return the reference, with the ids that its labels have in the predictions.

    Raises:
        LabelError: both name their labels, and not alike.
    """
    found = read_stated_labels(predictions)
    if found is None:
        return against
    table, file = found
    ids = match_labels(against.table, table, where=str(file), holder=against.name)
    changed = [f"{old} is read as {new}" for old, new in ids.items() if old != new]
    if not changed:
        return against
    note = (
        "labels of the predictions are matched with those of the reference by name:"
        f" {', '.join(changed)}"
    )
    return replace(against, ids=ids, notes=(*against.notes, note))


def read_stated_labels(folder: Path) -> tuple[LabelTable, Path] | None:
    """Return the labels that a labels.json or dataset.json in a folder states, and that file.

    Raises:
        DataError: the file is damaged.
    """
    for name in (LABELS, "dataset.json"):
        file = folder / name
        if file.is_file() and (name == LABELS or read_json_object(file).get("labels")):
            try:
                return labels_file(file), file
            except (ValueError, LabelError) as error:
                raise DataError(
                    f"{file} is no label table: {error}",
                    needed="the labels.json of a trained model",
                    cure="correct or remove the file",
                ) from error
    return None


def _find_table(folder: Path, predictions: Path, files: Iterable[Path]) -> tuple[LabelTable, str]:
    """Return the label table of a plain folder, and a sentence on its source."""
    for place in (folder, folder.parent, predictions):
        stated = read_stated_labels(place)
        if stated is not None:
            return stated[0], f"labels as {stated[1]} has them"
    files = list(files)
    table = table_of_segments(files)
    if table is not None:
        return table, "labels are named by the segments of the references"
    maps = (read_labels(file).array for file in files)
    found = sorted({int(value) for array in maps for value in np.unique(array)} - {0})
    if not found or found[0] < 0:
        raise DataError(
            f"the label maps of {folder} hold the values {found or [0]}",
            needed="labels above 0",
            cure="name the folder that holds the label maps, or number its labels from 1",
        )
    table = LabelTable.from_names({i: f"label {i}" for i in found})
    return table, f"labels as found in the references: {found}"
