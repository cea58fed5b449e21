"""Images of a data set that are folders of a DICOM study: one of its series is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hilum.dataset.channels import named_kind
from hilum.dicom.choose import SeriesChoice, choose
from hilum.dicom.score import Wanted
from hilum.dicom.sources import files_below, files_of, parts_of, series_folder
from hilum.dicom.study import read_volumes
from hilum.errors import DataError, counted
from hilum.files.names import SERIES_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case, Dataset
    from hilum.dicom.choose import Choice


@dataclass(frozen=True)
class ChosenCase:
    """A case whose folders of several series are replaced by the chosen ones.

    Args:
        case: with a fault where none is clear.
        choices: that were made.
        taken: files of the chosen series.
        aside: reasons for the other files.
    """

    case: Case
    choices: tuple[Choice, ...] = ()
    taken: tuple[Path, ...] = ()
    aside: Mapping[Path, str] = field(default_factory=dict)


def choice_by_names(channels: Sequence[str]) -> SeriesChoice:
    """Choose series by the names of channels alone."""
    return SeriesChoice(tuple(Wanted(name, named_kind(name) or "unknown") for name in channels))


def with_chosen_series(dataset: Dataset) -> tuple[Dataset, tuple[Path, ...]]:
    """Choose a series in each folder of several, by the names of the channels.

    Returns:
        The data set, with a note where a choice was made, and the files of the chosen series.
    """
    choice = choice_by_names(dataset.channels)
    chosen = [choose_series(case, choice) for case in dataset.every]
    made = [(one.case.id, each) for one in chosen for each in one.choices]
    if not made and all(one.case is case for one, case in zip(chosen, dataset.every, strict=True)):
        return dataset, ()
    reasons = {path: reason for one in chosen for path, reason in one.aside.items()}
    note = ""
    if made:
        case, first = made[0]
        note = (
            f"of {counted(len({name for name, _ in made}), 'DICOM study')} one of several series"
            f" was chosen; of {case} {first.volume.title}: {first.because}"
        )
    whole = dataset.with_cases(one.case for one in chosen).with_notes(note)
    taken = tuple(file for one in chosen for file in one.taken)
    return replace(whole, reasons={**dataset.reasons, **reasons}), taken


def choose_series(case: Case, choice: SeriesChoice) -> ChosenCase:
    """Choose a volume in each folder that holds several series, or a series of several volumes.

    Args:
        case: of a data set.
        choice: with what is wanted of each of its channels, in their order or by name.
    """
    channels: dict[Path, list[str]] = {}
    for name, path in case.images.items():
        place, _, key = parts_of(path)
        if place.is_dir() and not key:
            channels.setdefault(path, []).append(name)
    found = ChosenCase(case)
    for path, names in channels.items():
        wanted = [_wanted(name, list(case.images), choice) for name in names]
        found = _choose_in(path, names, wanted, choice, found)
    return found


def _choose_in(
    path: Path,
    names: Sequence[str],
    wanted: Sequence[Wanted],
    choice: SeriesChoice,
    found: ChosenCase,
) -> ChosenCase:
    """Choose the series of a folder for the channels that name it."""
    place, uid, _ = parts_of(path)
    here = SERIES_MARK in str(path) or series_folder(path) is not None
    every, aside = read_volumes(files_of(path) if here else files_below(path))
    volumes = [volume for volume in every if uid in {"", volume.uid}]
    if not every or (len(volumes) < 2 and (uid or series_folder(place) is not None)):
        return found  # it is read as it is
    studies = {(one.patient, one.study) for one in volumes}
    if len(studies) > 1:
        error = DataError(
            f"{path}: {len(studies)} studies in the folder of one case",
            needed="one study",
            cure="name the folder of one; `hilum series FOLDER` lists them",
        )
        return replace(found, case=replace(found.case, fault=found.case.fault or error))
    try:
        choices = choose(volumes, wanted, where=str(path), rule=choice.rule, judge=choice.judge)
    except DataError as error:
        return replace(found, case=replace(found.case, fault=found.case.fault or error))
    images = dict(found.case.images) | {
        name: one.volume.source for name, one in zip(names, choices, strict=True)
    }
    taken = dict.fromkeys(file for one in choices for file in one.volume.files)
    others = {file: one.left_out for one in volumes for file in one.files if file not in taken}
    return ChosenCase(
        replace(found.case, images=images),
        (*found.choices, *choices),
        (*found.taken, *taken),
        {**found.aside, **others, **aside},
    )


def _wanted(name: str, names: Sequence[str], choice: SeriesChoice) -> Wanted:
    """Return what is wanted of a channel of a case: by its name, else by its place."""
    by_name = {one.name: one for one in choice.wanted}
    if name in by_name:
        return by_name[name]
    if len(names) == len(choice.wanted):
        return choice.wanted[list(names).index(name)]
    return choice_by_names([name]).wanted[0]
