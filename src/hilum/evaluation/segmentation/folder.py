"""Evaluation of a folder of predictions: files are matched by case id, grids must agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

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
from hilum.dataset.grids import Grids, compare_grids, grid_words
from hilum.dataset.labels import table_of_segments
from hilum.dataset.layouts.naming import labels_file, read_json_object
from hilum.errors import DataError, GeometryError, LabelError, UsageError
from hilum.evaluation.page import ATTENTION, some
from hilum.evaluation.pairing import pair_cases, warn_of_trained_cases
from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.segmentation.label_maps import (
    find_label_maps,
    holds_label_maps,
    is_unscaled,
    read_by_name,
)
from hilum.evaluation.segmentation.score import score_labels
from hilum.evaluation.segmentation.scoring import ScoringRules
from hilum.evaluation.segmentation.summary import summarise
from hilum.files import image_stem, is_output
from hilum.io import is_dicom_annotation, read_geometry, read_labels, read_volume
from hilum.io.inventory import take_inventory
from hilum.targets.run_file import read_predict_run
from hilum.volume import LabelTable, Volume, reorient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from hilum.evaluation.segmentation.score import Score
    from hilum.evaluation.segmentation.scoring import Scoring

_SHOWN = 10
LABELS = "labels.json"
UNMATCHED = "a label map of a case that is not on both sides"
NO_SCALE = (
    "no scale is known of these pictures: distances and the tolerance are in pixels; in cases.csv"
    " and summary.json a column in ml holds thousands of pixels"
)


@dataclass(frozen=True)
class _Reference:
    """References: label maps by case id, cases of a data set, labels, assumptions."""

    name: str
    files: Mapping[str, Path]
    cases: Mapping[str, Case]
    table: LabelTable
    notes: tuple[str, ...]
    patients: Mapping[str, str]
    ids: Mapping[int, int] = field(default_factory=dict)
    """Reference ids of the ids in the predictions, where both name their labels."""

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


def evaluate_folder(
    predictions: Path | str,
    reference: Path | str | Dataset,
    out: Path | str,
    *,
    table: LabelTable | None = None,
    allow_missing: bool = False,
    patients: Mapping[str, str] | None = None,
    threads: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
    **how: Unpack[Scoring],
) -> Evaluation:
    """Score every prediction of a folder and write cases.csv, summary.json and summary.md.

    Args:
        predictions: folder of label maps named <case>.nii.gz (.nrrd, .mha, .png, ...).
        reference: a data set (opened, or where it lies), or a plain folder of label maps named like
            the predictions.
        out: folder for the results.
        table: what the labels mean; None takes the data set's. For a plain folder: labels.json
            among the predictions or the references, the data set that the folder lies in, or else
            the values found, which `notes` says.
        allow_missing: leave reference cases without a prediction out, and name them, instead of
            refusing.
        patients: whose each case is, of cases of which the reference itself does not know; of a
            plain folder the data set that it lies in says so too.
        threads: cases scored at once.
        progress: called with (cases done, cases in all, case id).
        how: see `Scoring`.

    Returns:
        The evaluation as it was written.

    Raises:
        UsageError: a folder is missing or holds no label maps, or two files are of one case.
        DataError: predictions are missing, or a file cannot be scored; all such cases are named.
            Where every fault is of one kind the error is of that kind (GeometryError: grids that
            differ; LabelError: labels that the table does not know).
    """
    rules, folder = ScoringRules(**how), Path(predictions)
    files = find_label_maps(folder)
    against = _match_ids(_reference(reference, table, folder, patients or {}), folder)
    cases, missing = pair_cases(
        against.files,
        files,
        f"of {against.name} have no prediction in {predictions}",
        allow_missing=allow_missing,
        needed="a file <case>.nii.gz (.nrrd, .mha, .png, ...) for every case",
        other_reference=lambda: _other_reference(reference, files),
    )
    _log_unused(folder, files, cases)
    if not against.cases:
        _log_unused(Path(against.name), against.files, cases)
    scores = _score_all({case: files[case] for case in cases}, against, how, threads, progress)
    unscaled = all(is_unscaled(against.grid_file(case)) for case in cases)
    record = EvaluationRecord(
        hilum=version("hilum"),
        predictions=str(predictions),
        reference=against.name,
        tolerance_mm=rules.tolerances[0],
        surface=rules.surface,
        lesion_overlap=rules.lesion_overlap,
        scaled=not unscaled,
        labels=against.table,
        missing=missing,
        unexpected=tuple(sorted(files[case].name for case in set(files) - set(against.files))),
        notes=(
            *warn_of_trained_cases(folder, cases),
            *against.notes,
            *([NO_SCALE] if unscaled else []),
        ),
        summary=summarise(scores),
    )
    evaluation = Evaluation(scores, record)
    evaluation.save(out)
    return evaluation


def _log_unused(folder: Path, maps: Mapping[str, Path], cases: Sequence[str]) -> None:
    """Log the files of a folder that are not scored."""
    unmatched = {file: UNMATCHED for case, file in maps.items() if case not in cases}
    used = [maps[case] for case in cases]
    used += [folder / LABELS] if (folder / LABELS).is_file() else []
    take_inventory([folder], used, reasons=unmatched).log()


def _score_all(
    files: Mapping[str, Path],
    against: _Reference,
    how: Scoring,
    threads: int,
    progress: Callable[[int, int, str], None] | None,
) -> tuple[Score, ...]:
    """Score every case, in order; faults are gathered, so that one run names them all.

    Raises:
        DataError: of the faults' common kind where they have one.
    """

    def score(case: str) -> tuple[Score, ...] | DataError:
        try:
            return _score_case(case, files[case], against, how)
        except DataError as error:
            return error

    scores: list[Score] = []
    faults: dict[str, DataError] = {}
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for done, (case, result) in enumerate(
            zip(files, pool.map(score, files), strict=True), start=1
        ):
            if isinstance(result, DataError):
                faults[case] = result
            else:
                scores.extend(result)
            if progress is not None:
                progress(done, len(files), case)
    if faults:
        first, *others = faults.values()
        lines = [f"case {case}: {error.found}" for case, error in [*faults.items()][:_SHOWN]]
        lines += [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        if any(type(error) is not type(first) for error in others):
            raise DataError(
                "\n".join(lines),
                needed="; ".join(
                    dict.fromkeys(error.needed for error in faults.values() if error.needed)
                ),
                cure="; ".join(
                    dict.fromkeys(error.cure for error in faults.values() if error.cure)
                ),
            )
        raise type(first)("\n".join(lines), needed=first.needed, cure=first.cure)
    return tuple(scores)


def _score_case(
    case: str, prediction_file: Path, against: _Reference, how: Scoring
) -> tuple[Score, ...]:
    """Read one case's prediction and reference, and score them on the reference's grid."""
    prediction, reference = _read_pair(case, prediction_file, against)
    return score_labels(
        prediction.array[0],  # (Z, Y, X)
        reference.array[0],
        spacing=reference.geometry.spacing,
        table=against.table,
        case=case,
        patient=against.patient(case),
        **how,
    )


def _read_pair(case: str, prediction_file: Path, against: _Reference) -> tuple[Volume, Volume]:
    """Read one case's prediction and reference, both on the reference's grid.

    Raises:
        GeometryError: the prediction lies on another grid.
    """
    with _name_side("reference"):
        reference = against.read(case, prediction_file)
    with _name_side("prediction"):
        prediction = read_by_name(
            prediction_file, against.table, grid=reference.geometry, ids=against.ids
        )
    if prediction.geometry.orientation != reference.geometry.orientation:
        prediction = reorient(prediction, reference.geometry.orientation)  # voxels stay in place
    if compare_grids(reference.geometry, prediction.geometry) is Grids.PICTURES:
        prediction = Volume(prediction.array, reference.geometry)
    if not prediction.geometry.is_close(reference.geometry):
        raise GeometryError(
            f"{prediction_file} lies on another grid than {against.files[case]}:"
            f" {grid_words(prediction.geometry)} instead of {grid_words(reference.geometry)}",
            needed="a prediction on the reference's own grid",
            cure="predict with hilum, which writes on the source's grid, or resample the prediction"
            " onto the reference",
        )
    return prediction, reference


@dataclass(frozen=True)
class ScoredFiles:
    """The files that an evaluation scored, to be looked at again.

    Args:
        predictions: label map of each case.
        against: what they were scored against.
    """

    predictions: Mapping[str, Path]
    against: _Reference

    @classmethod
    def of(cls, record: EvaluationRecord) -> ScoredFiles:
        """Find the files of an evaluation where they were when it was made.

        Raises:
            UsageError: they are gone.
            DataError: they cannot be read any more.
        """
        folder = Path(record.predictions)
        against = _reference(Path(record.reference), record.labels, folder, {})
        return cls(find_label_maps(folder), _match_ids(against, folder))

    def labels(self, case: str) -> tuple[Volume, Volume]:
        """Read prediction and reference (1, Z, Y, X) of a case, on the reference's grid."""
        return _read_pair(case, self.predictions[case], self.against)

    def image(self, case: str, file: Path | None = None) -> Volume | None:
        """Read the image (C, Z, Y, X) of a case: the first channel, or a colour picture.

        Args:
            case: its id.
            file: the image, where the reference is a folder of label maps, which knows none.

        Returns:
            None where no image is known.

        Raises:
            GeometryError: the image is on another grid than the reference.
        """
        if case in self.against.cases:
            file = next(iter(self.against.cases[case].images.values()))
        if file is None:
            return None
        image, grid = read_volume(file), self.against.read(case, self.predictions[case]).geometry
        if not image.geometry.is_close(grid):
            raise GeometryError(
                f"{file} lies on another grid than the reference of {case}",
                needed="the image that was annotated",
                cure="name the folder of the images of these cases",
            )
        return image if image.channels == 3 else image.with_array(image.array[:1])


@contextmanager
def _name_side(side: str) -> Iterator[None]:
    """Say in an error of reading labels whose they are: of the prediction or the reference."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{side} {error.found}", needed=error.needed, cure=error.cure) from error


def _other_reference(reference: Path | str | Dataset, files: Mapping[str, Path]) -> str:
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


def _reference(
    reference: Path | str | Dataset,
    table: LabelTable | None,
    predictions: Path,
    patients: Mapping[str, str],
) -> _Reference:
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
    return _Reference(str(dataset.root), files, cases, labels, dataset.notes, patients)


def _is_plain(folder: Path) -> bool:
    """Return True if label maps lie in the folder beside no description of a data set."""
    described = (folder / "dataset.json").exists() or any(
        not is_output(table) for table in folder.glob("*.csv")
    )
    return not described and holds_label_maps(folder)


def _of_folder(
    folder: Path, table: LabelTable | None, predictions: Path, patients: Mapping[str, str]
) -> _Reference:
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
    return _Reference(str(folder), files, {}, table, tuple(notes), known)


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


def _match_ids(against: _Reference, predictions: Path) -> _Reference:
    """Return the reference, with the ids that its labels have in the predictions.

    Raises:
        LabelError: both name their labels, and not alike.
    """
    found = _read_stated_labels(predictions)
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


def _read_stated_labels(folder: Path) -> tuple[LabelTable, Path] | None:
    """Return the labels that a labels.json or dataset.json in a folder states, and that file."""
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
        stated = _read_stated_labels(place)
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
