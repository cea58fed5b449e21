"""Evaluation of a folder of predictions: files are matched by case id, grids must agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.dataset.grids import Grids, compare_grids, grid_words
from hilum.errors import DataError, GeometryError, UsageError, counted
from hilum.evaluation.page import CROSS_VALIDATED, some
from hilum.evaluation.pairing import pair_cases, warn_of_trained_cases
from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.segmentation.label_maps import find_label_maps, is_unscaled, read_by_name
from hilum.evaluation.segmentation.lesion_curve import (
    channels_of,
    lesion_curve,
    probability_files,
)
from hilum.evaluation.segmentation.other_tools import tool_means
from hilum.evaluation.segmentation.proposal import propose
from hilum.evaluation.segmentation.references import (
    LABELS,
    Reference,
    match_ids,
    open_reference,
    read_stated_labels,
    suggest_reference,
    table_of_objects,
)
from hilum.evaluation.segmentation.score import score_labels
from hilum.evaluation.segmentation.scoring import ScoringRules
from hilum.evaluation.segmentation.subgroups import label_map_subgroups
from hilum.evaluation.segmentation.summary import summarise
from hilum.files import image_stem
from hilum.io import read_volume
from hilum.io.inventory import take_inventory
from hilum.metrics import score_lesions
from hilum.volume import Volume, reorient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Dataset
    from hilum.evaluation.segmentation.lesion_curve import LesionCurve
    from hilum.evaluation.segmentation.score import Score
    from hilum.evaluation.segmentation.scoring import Scoring
    from hilum.metrics import ScoredLesions
    from hilum.volume import LabelTable

_SHOWN = 10
_AGAIN = "predict this case again with its probabilities"
UNMATCHED = "a label map of a case that is not on both sides"
NO_SCALE = (
    "no scale is known of these pictures: distances and the tolerance are in pixels; in cases.csv"
    " and summary.json a column in ml holds thousands of pixels"
)


def evaluate_folder(  # noqa: PLR0913  (what `EvaluationOptions` has, keyword-only)
    predictions: Path | str,
    reference: Path | str | Dataset,
    out: Path | str,
    *,
    table: LabelTable | None = None,
    allow_missing: bool = False,
    cross_validated: bool = False,
    patients: Mapping[str, str] | None = None,
    subgroups: Sequence[str] | None = None,
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
            the values found, which `notes` says. Of instances the name of the objects: the only
            label of the table, or of labels.json among the references or the predictions.
        allow_missing: leave reference cases without a prediction out, and name them, instead of
            refusing.
        cross_validated: the cases are those of the folds that the models were trained on.
        patients: whose each case is, of cases of which the reference itself does not know; of a
            plain folder the data set that it lies in says so too.
        subgroups: columns of the data set whose subgroups are looked at; None takes those that
            describe a case.
        threads: cases scored at once.
        progress: called with (cases done, cases in all, case id).
        how: see `Scoring`.

    Returns:
        The evaluation as it was written.

    Raises:
        UsageError: a folder is missing or holds no label maps, two files are of one case, or there
            is no such column.
        DataError: predictions are missing, or a file cannot be scored; all such cases are named.
            Where every fault is of one kind the error is of that kind (GeometryError: grids that
            differ; LabelError: labels that the table does not know).
    """
    rules, folder = ScoringRules(**how), Path(predictions)
    files = find_label_maps(folder)
    if rules.instances:
        table = table_of_objects(table, reference, folder)
    against = open_reference(reference, table, folder, patients or {})
    if not rules.instances:
        against = match_ids(against, folder)
    elif against.cases:
        raise UsageError(
            f"{against.name} is a data set, whose ids are labels",
            needed="a folder of label maps whose ids are objects, for instances",
            cure="name the folder of these maps, or leave out instances=True",
        )
    beside = {
        case: file
        for case, file in probability_files(files).items()
        if image_stem(file) not in against.files
    }
    files = {case: file for case, file in files.items() if file not in beside.values()}
    cases, missing = pair_cases(
        against.files,
        files,
        f"of {against.name} have no prediction in {predictions}",
        allow_missing=allow_missing,
        needed="a file <case>.nii.gz (.nrrd, .mha, .png, ...) for every case",
        other_reference=lambda: suggest_reference(reference, files),
    )
    _log_unused(folder, files, cases, beside)
    if not against.cases:
        _log_unused(Path(against.name), against.files, cases)
    scores = _score_all({case: files[case] for case in cases}, against, how, threads, progress)
    summary = summarise(scores)
    lesions = [] if rules.instances else [one.region for one in summary.regions if one.lesions]
    scored = {score.case: (files[score.case], score.group) for score in scores}
    curves, curve_notes = _lesion_curves(scored, beside, against, folder, lesions, rules)
    columns = {case: one.columns for case, one in against.cases.items()}
    unscaled = all(is_unscaled(against.grid_file(case)) for case in cases)
    record = EvaluationRecord(
        hilum=version("hilum"),
        predictions=str(predictions),
        reference=against.name,
        tolerance_mm=rules.tolerances[0],
        surface=rules.surface,
        lesion_overlap=rules.lesion_overlap,
        instances=rules.instances,
        scaled=not unscaled,
        labels=against.table,
        missing=missing,
        unexpected=tuple(sorted(files[case].name for case in set(files) - set(against.files))),
        cross_validated=cross_validated,
        notes=(
            *([CROSS_VALIDATED] if cross_validated else []),
            *warn_of_trained_cases(folder, cases),
            *against.notes,
            *curve_notes,
            *([NO_SCALE] if unscaled else []),
        ),
        proposals=propose(scores, summary.regions, instances=rules.instances),
        other_tools=tool_means(scores),
        summary=summary,
        lesion_curves=curves,
        subgroups=label_map_subgroups(scores, columns, subgroups),
    )
    evaluation = Evaluation(scores, record)
    evaluation.save(out)
    return evaluation


def _log_unused(
    folder: Path,
    maps: Mapping[str, Path],
    cases: Sequence[str],
    beside: Mapping[str, Path] | None = None,
) -> None:
    """Log the files of a folder that are not scored; `beside` are probabilities of cases."""
    unmatched = {file: UNMATCHED for case, file in maps.items() if case not in cases}
    used = [maps[case] for case in cases]
    used += [file for case, file in (beside or {}).items() if case in cases]
    used += [folder / LABELS] if (folder / LABELS).is_file() else []
    take_inventory([folder], used, reasons=unmatched).log()


def _score_all(
    files: Mapping[str, Path],
    against: Reference,
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
    case: str, prediction_file: Path, against: Reference, how: Scoring
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


def _read_pair(case: str, prediction_file: Path, against: Reference) -> tuple[Volume, Volume]:
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
    return _on_grid(prediction, prediction_file, reference, against.files[case]), reference


def _on_grid(volume: Volume, file: Path, reference: Volume, reference_file: Path) -> Volume:
    """Return a predicted volume with the axes of the reference.

    Raises:
        GeometryError: it lies on another grid.
    """
    if volume.geometry.orientation != reference.geometry.orientation:
        volume = reorient(volume, reference.geometry.orientation)  # voxels stay in place
    if compare_grids(reference.geometry, volume.geometry) is Grids.PICTURES:
        volume = Volume(volume.array, reference.geometry)
    if not volume.geometry.is_close(reference.geometry):
        raise GeometryError(
            f"the prediction {file} lies on another grid than {reference_file}:"
            f" {grid_words(volume.geometry)} instead of {grid_words(reference.geometry)}",
            needed="a prediction on the reference's own grid",
            cure="predict with hilum, which writes on the source's grid, or resample the prediction"
            " onto the reference",
        )
    return volume


def _lesion_curves(
    files: Mapping[str, tuple[Path, str]],
    beside: Mapping[str, Path],
    against: Reference,
    folder: Path,
    lesions: Sequence[str],
    rules: ScoringRules,
) -> tuple[tuple[LesionCurve, ...], tuple[str, ...]]:
    """Make the FROC of each region of lesions whose probabilities lie beside all predictions.

    Args:
        files: label map and group, as resampled, of each scored case.
        beside: probabilities of cases.
        against: the reference.
        folder: of the predictions.
        lesions: names of these regions.
        rules: how the cases were scored.

    Returns:
        The curves, and sentences on those that there should be.
    """
    if not lesions or not any(case in beside for case in files):
        return (), ()
    if bare := [case for case in files if case not in beside]:
        return (), (f"no FROC: no probabilities lie beside the predictions of {some(bare)}",)
    stated = read_stated_labels(folder)
    outputs = against.table if stated is None else stated[0]
    regions = {
        region: channels
        for region in against.table.scored
        if region.name in lesions and (channels := channels_of(region, outputs, against.ids))
    }
    scored: dict[str, list[ScoredLesions]] = {region.name: [] for region in regions}
    ignore = against.table.ignore
    try:
        for case, (file, _) in files.items():
            prediction, reference = _read_pair(case, file, against)
            probabilities = _read_probabilities(
                beside[case], outputs, reference, against.files[case]
            )
            known = ~np.isin(reference.array[0], [] if ignore is None else [ignore])
            for region, channels in regions.items():
                predicted, referenced = (
                    known & np.isin(one.array[0], region.labels) for one in (prediction, reference)
                )
                probability = probabilities[list(channels)].sum(axis=0, dtype=np.float64)
                scored[region.name].append(
                    score_lesions(
                        predicted, referenced, probability, min_overlap=rules.lesion_overlap
                    )
                )
    except DataError as error:
        return (), (f"no FROC: {'; '.join(str(error).splitlines())}",)
    groups = [group for _, group in files.values()]
    silent = [name for name in lesions if name not in scored]
    notes = (
        [f"no FROC of {some(silent)}: no channel of the probabilities is of it"] if silent else []
    )
    return tuple(lesion_curve(name, of, groups) for name, of in scored.items()), tuple(notes)


def _read_probabilities(
    file: Path, outputs: LabelTable, reference: Volume, reference_file: Path
) -> NDArray[np.generic]:
    """Read the probabilities (K, Z, Y, X) of a case on the reference's grid.

    Raises:
        GeometryError: they lie on another grid.
        DataError: they are not of these labels, or some are NaN or infinite.
    """
    volume = read_volume(file)
    if not np.isfinite(volume.array).all():
        raise DataError(
            f"{file} holds NaN or infinite values",
            needed="a finite probability of every voxel",
            cure=_AGAIN,
        )
    if volume.channels != outputs.outputs:
        raise DataError(
            f"{file} has {counted(volume.channels, 'channel')}",
            needed=f"{outputs.outputs}: one a label, the background first, or one a region",
            cure=_AGAIN,
        )
    return _on_grid(volume, file, reference, reference_file).array


@dataclass(frozen=True)
class ScoredFiles:
    """The files that an evaluation scored, to be looked at again.

    Args:
        predictions: label map of each case.
        against: what they were scored against.
    """

    predictions: Mapping[str, Path]
    against: Reference

    @classmethod
    def of(cls, record: EvaluationRecord) -> ScoredFiles:
        """Find the files of an evaluation where they were when it was made.

        Raises:
            UsageError: they are gone.
            DataError: they cannot be read any more.
        """
        folder = Path(record.predictions)
        against = open_reference(Path(record.reference), record.labels, folder, {})
        if not record.instances:
            against = match_ids(against, folder)
        # `training/` of a cross-validation holds the label maps in the folders of its folds
        folders = sorted(folder.glob("fold_*/validation"), reverse=True) or [folder]
        maps = {case: file for one in folders for case, file in find_label_maps(one).items()}
        return cls(maps, against)

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
                f"the image {file} lies on another grid than the reference of {case}",
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
