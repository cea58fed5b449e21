"""The verb that lists the DICOM series of a folder, and which of them a model takes: series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dicom.choose import SeriesChoice, choose
from hilum.dicom.rule import parse_rule
from hilum.dicom.score import rank
from hilum.dicom.study import NO_DICOM, read_studies
from hilum.errors import DataError, UsageError
from hilum.files import Readable, nearest
from hilum.files.archive import unpacked
from hilum.io.inventory import InventoryRecord, take_inventory
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilum.dicom.score import Score, Wanted
    from hilum.dicom.study import SeriesVolume, Study, StudyList
    from hilum.inference import ExportedModel, TrainedModel
    from hilum.inference.predictors import AnyPredictor


class ScoreRecord(Record):
    """Points of a volume for a channel; `excluded` says why it cannot be taken."""

    points: float
    reasons: tuple[Readable, ...]
    excluded: Readable


class SeriesRow(Record):
    """One volume of a study, or images that form none.

    Args:
        rule: names it: the value of `series` with which it is taken.
        uid: SeriesInstanceUID.
        key: of the volume among others of its series; "" for an only one.
        number: of the series.
        modality: "CT", "MR", ...
        description: of the series.
        kind: plane, kernel, contrast, echo, b-value, in words.
        slices: how many.
        spacing_mm: along (Z, Y, X); None where the images form no volume.
        files: how many.
        refused: why it cannot be read as a volume; "" where it can.
        notes: what had to be assumed or mended.
        scores: for each channel of the model, with the reasons.
    """

    rule: str
    uid: str
    key: str
    number: str
    modality: str
    description: str
    kind: str
    slices: int
    spacing_mm: tuple[float, float, float] | None
    files: int
    refused: Readable
    notes: tuple[Readable, ...]
    scores: dict[str, ScoreRecord]


class TakenSeries(Record):
    """The volume that the model takes for a channel, and why."""

    channel: str
    rule: str
    title: str
    because: Readable


class StudyRecord(Record):
    """A study: its series, and which ones the model takes.

    Args:
        uid: StudyInstanceUID.
        patient: PatientID.
        date: StudyDate.
        folder: the deepest one that holds it all.
        series: every volume.
        taken: for each channel; () without model or rule, and where none is clear.
        error: why none is clear; "" where one is.
    """

    uid: str
    patient: str
    date: str
    folder: Readable
    series: tuple[SeriesRow, ...]
    taken: tuple[TakenSeries, ...] = ()
    error: Readable = ""


class SeriesListing(Record):
    """The studies of a folder, and the account of every file.

    Args:
        studies: in the order of patients.
        files: how many belong to a series, and the reasons for all others.
    """

    studies: tuple[StudyRecord, ...]
    files: InventoryRecord


def series(
    folder: Path | str,
    *,
    model: Path | str | TrainedModel | ExportedModel | None = None,
    rule: str | None = None,
    device: str = "auto",
) -> SeriesListing:
    """List the DICOM series below a folder with a verdict each, and which one a model takes.

    Args:
        folder: a folder at any depth, a zip archive, or a DICOMDIR.
        model: a trained or exported one, or its folder.
        rule: of the user, as `series` of `hilum.predict`.
        device: of the model: "auto", "cpu", "cuda", ...

    Raises:
        UsageError: no such folder, no DICOM file in it, or the rule cannot be read.
        ModelError: the model cannot be loaded.
    """
    place = Path(folder)
    if not place.exists():
        raise UsageError(
            f"{place}: no such file or folder", cure=nearest(place) or "check the path"
        )
    choice = None if model is None and rule is None else _choice_of(model, rule, device)
    with unpacked([place]) as (root,):
        found = read_studies(root)
        if not found.studies and all(reason == NO_DICOM for reason in found.aside.values()):
            raise UsageError(
                f"{place}: no DICOM file in it",
                needed="a folder, a zip archive or a DICOMDIR of DICOM files, at any depth",
                cure="check the path",
            )
        studies = tuple(_record(study, choice) for study in found.studies)
        return SeriesListing(studies=studies, files=_account(root, found))


def _choice_of(
    model: Path | str | TrainedModel | ExportedModel | None, rule: str | None, device: str
) -> SeriesChoice:
    """Return how series are chosen: by a model, or by the rule alone."""
    from hilum.api.running import load_model
    from hilum.inference.many import choice_for
    from hilum.pipelines import RunOptions, prediction_of

    if model is None:
        return SeriesChoice((), parse_rule(rule or ""))
    loaded = load_model(model, device=device) if isinstance(model, str | Path) else model
    run = RunOptions("auto", None, tta=False, pictures=0)
    predictor: AnyPredictor = prediction_of(loaded, None, None).make_predictor(loaded, run)
    return choice_for(predictor, series=rule)


def _record(study: Study, choice: SeriesChoice | None) -> StudyRecord:
    """Describe a study, with the choice where there is one."""
    taken: tuple[TakenSeries, ...] = ()
    error = ""
    wanted: tuple[Wanted, ...] = () if choice is None else choice.wanted
    scores: dict[str, Mapping[Path, Score]] = {
        one.name: {score.volume.source: score for score in rank(study.volumes, one)}
        for one in wanted
    }
    if choice is not None and not wanted and choice.rule is not None:
        fitting = [volume for volume in study.volumes if choice.rule.fits(volume.facts)]
        taken = tuple(_taken("", one, f"it fulfils {choice.rule.text!r}") for one in fitting)
        error = "" if fitting else f"no series fulfils {choice.rule.text!r}"
    elif choice is not None:
        try:
            choices = choose(
                study.volumes,
                wanted,
                where=str(study.folder),
                rule=choice.rule,
                judge=choice.judge,
            )
            taken = tuple(_taken(one.channel, one.volume, one.because) for one in choices)
        except DataError as fault:
            error = str(fault)
    return StudyRecord(
        uid=study.uid,
        patient=study.patient,
        date=study.date,
        folder=str(study.folder),
        series=tuple(
            _row(volume, {name: held[volume.source] for name, held in scores.items()})
            for volume in study.volumes
        ),
        taken=taken,
        error=error,
    )


def _taken(channel: str, volume: SeriesVolume, because: str) -> TakenSeries:
    return TakenSeries(channel=channel, rule=volume.choice, title=volume.title, because=because)


def _row(volume: SeriesVolume, scores: Mapping[str, Score]) -> SeriesRow:
    """Make the row of the listing that describes a volume of a series."""
    kinds = (
        "" if "plane" in volume.label else volume.plane,
        volume.label,
        volume.kernel,
        f"contrast {volume.contrast}" if volume.contrast else "",
        "" if volume.echo is None or "echo" in volume.label else f"echo {volume.echo}",
        "" if volume.b_value is None or "b-value" in volume.label else f"b {volume.b_value:g}",
    )
    return SeriesRow(
        rule=volume.choice,
        uid=volume.uid,
        key=volume.key,
        number=volume.number,
        modality=volume.modality,
        description=volume.description,
        kind=", ".join(word for word in kinds if word),
        slices=volume.slices,
        spacing_mm=None if volume.geometry is None else volume.geometry.spacing,
        files=len(volume.files),
        refused=volume.refused,
        notes=volume.notes,
        scores={
            name: ScoreRecord(points=one.points, reasons=one.reasons, excluded=one.excluded)
            for name, one in scores.items()
        },
    )


def _account(root: Path, found: StudyList) -> InventoryRecord:
    """Account for every file: those of a series are taken."""
    files = [file for study in found.studies for one in study.volumes for file in one.files]
    folder = root if root.is_dir() else root.parent
    reasons = {
        file: reason
        for file, reason in found.aside.items()
        if reason != NO_DICOM or file.suffix.lower() == ".dcm"  # other names say what a file is
    }
    return take_inventory([folder], files, reasons=reasons).record()
