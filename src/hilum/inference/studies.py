"""DICOM series to cases: one a study, with the series that the model takes for each channel."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.case import Case
from hilum.dataset.channels import named_kind
from hilum.dicom.choose import SeriesChoice, choose
from hilum.dicom.rule import parse_rule
from hilum.dicom.score import Wanted
from hilum.dicom.study import NO_DICOM, common_folder, read_volumes
from hilum.errors import DataError, readable, some
from hilum.files.names import SERIES_MARK
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hilum.dicom.choose import Choice, Judge
    from hilum.dicom.series import Series
    from hilum.dicom.study import SeriesVolume
    from hilum.plan.plan import Plan

_log = logging.getLogger("hilum")
_UNSAFE = re.compile(r"[^\w.+-]+")


def choice_of_plan(plan: Plan, *, rule: str | None, judge: Judge | None) -> SeriesChoice:
    """Choose by what a model's plan says of its training images.

    Args:
        plan: of the model.
        rule: see `hilum.dicom.rule`.
        judge: the model's own check of an image.

    Raises:
        UsageError: the rule cannot be read.
    """
    return SeriesChoice(wanted_of(plan), parse_rule(rule) if rule is not None else None, judge)


def wanted_of(plan: Plan) -> tuple[Wanted, ...]:
    """Return what a model wants of each of its channels."""
    ranges = plan.seen
    kinds = {} if ranges is None else {one.name: one.kind for one in ranges.channels}
    table = plan.table
    names = " ".join(
        [label.name for label in table.foreground] if isinstance(table, LabelTable) else table.names
    )
    spacing = None if ranges is None else ranges.spacing
    return tuple(
        Wanted(
            name,
            kind if (kind := kinds.get(name, "unknown")) != "unknown" else named_kind(name) or kind,
            single=None if ranges is None else ranges.pictures,
            spacing=spacing,
            extent_mm=None if ranges is None else ranges.extent_mm,
            orientation="SPL" if ranges is None else ranges.orientation,
            target=plan.spacing.value if plan.orientation.value == "SPL" else None,
            purpose=f"{plan.name} {names}",
        )
        for name in plan.channels
    )


def describe_choices(choices: Sequence[Choice]) -> tuple[str, ...]:
    """Say for each channel which series was taken and why."""
    return tuple(
        f"{one.channel}: {one.volume.title} is taken"
        + (
            f" among {len(one.scores)}: {one.because}"
            if len(one.scores) > 1
            else f": {one.because}"
        )
        for one in choices
        if len(one.scores) > 1 or one.by_rule
    )


@dataclass(frozen=True)
class FoundSeries:
    """A DICOM series, the folder that holds it, and what the user named.

    Args:
        series: of the folder.
        folder: that holds it.
        source: what the user named.
        case: the id of the case that it is in a data set of class folders; "" elsewhere.
        annotated: the id of the case that it is in a data set of annotated studies; "" elsewhere.
    """

    series: Series
    folder: Path
    source: Path
    case: str = ""
    annotated: str = ""


@dataclass(frozen=True)
class StudyCase:
    """A case made of a study.

    Args:
        case: its id is that of the folder or series.
        parts: folders below the source, and that of the series.
        source: what the user named.
        choices: for each channel, where the study holds several volumes.
        taken: the files of the volumes that are read.
        aside: reasons for the other files.
    """

    case: Case
    parts: tuple[str, ...]
    source: Path
    choices: tuple[Choice, ...] = ()
    taken: tuple[Path, ...] = ()
    aside: Mapping[Path, str] = field(default_factory=dict)


def study_cases(
    found: Sequence[FoundSeries], channels: Sequence[str], choice: SeriesChoice
) -> tuple[StudyCase, ...]:
    """Make a case of each study; series that do not name their study are a case each.

    A series that lies in two folders is one where its images differ; copies of the same images are
    a case each.

    Args:
        found: every series below what the user named.
        channels: the model's channel names.
        choice: how its series are chosen.
    """
    studies: dict[tuple[str, str], list[FoundSeries]] = defaultdict(list)
    for number, one in enumerate(found):
        studies[str(one.source), one.series.study or f"#{number}"].append(one)
    apart = [held for together in studies.values() for held in _without_copies(together)]
    folders = [common_folder(file for one in held for file in one.series.files) for held in apart]
    names = _names_of_studies([held[0] for held in apart], folders)
    return tuple(
        _study_case(held, folder, channels, choice, name=name)
        for held, folder, name in zip(apart, folders, names, strict=True)
    )


def _names_of_studies(firsts: Sequence[FoundSeries], folders: Sequence[Path]) -> list[str]:
    """Name the studies that share a folder after their patients; "" for each that has its own.

    Args:
        firsts: a series of each study.
        folders: of each study.
    """
    names = [""] * len(firsts)
    for folder in dict.fromkeys(folders):
        together = [number for number, own in enumerate(folders) if own == folder]
        stated = [number for number in together if firsts[number].series.study]
        if len(together) > 1 and stated:
            own = _names_by_patient([firsts[number].series for number in stated])
            for number, name in zip(stated, own, strict=True):
                names[number] = name
            _log.warning(
                "%d DICOM studies lie in one folder (%s): each is a case, named after its patient:"
                " %s",
                len(together),
                readable(folder),
                some(names[number] for number in stated),
            )
    return names


def _names_by_patient(series: Sequence[Series]) -> list[str]:
    """Name studies after patient, patient and date, or patient and UID: the first that is unique.

    Args:
        series: one of each study.
    """
    names: list[tuple[str, ...]] = []
    for one in series:
        patient, _, uid = one.study.rpartition(" ")
        who, date = (_UNSAFE.sub("_", text).strip("_.") for text in (patient, one.date))
        by_date = f"{who}_{date}" if who and date else ""
        names.append((who, by_date, f"{who}_study_{uid.rpartition('.')[2]}".lstrip("_")))
    often = Counter(name.casefold() for own in names for name in own)
    return [
        next((name for name in own if name and often[name.casefold()] == 1), own[-1])
        for own in names
    ]


def _without_copies(held: Sequence[FoundSeries]) -> list[list[FoundSeries]]:
    """Keep a study together, or, where some of its images lie in two folders, each folder apart."""
    met: dict[str, set[str]] = defaultdict(set)
    for one in held:
        instances = one.series.instances - {""}
        if met[one.series.uid] & instances:
            by_folder: dict[Path, list[FoundSeries]] = defaultdict(list)
            for each in held:
                by_folder[each.folder].append(each)
            _log.warning(
                "images of one DICOM series lie in %d folders (%s), the same ones: each folder is a"
                " case",
                len(by_folder),
                some(map(readable, by_folder)),
            )
            return list(by_folder.values())
        met[one.series.uid] |= instances
    return [list(held)]


def _study_case(
    held: Sequence[FoundSeries],
    folder: Path,
    channels: Sequence[str],
    choice: SeriesChoice,
    *,
    name: str,
) -> StudyCase:
    """Make the case of a study's series.

    Args:
        held: them.
        folder: the deepest one that holds all.
        channels: of the model.
        choice: how its series are chosen.
        name: of a study whose folder others have too; "" else.
    """
    first = held[0]
    files = [file for one in held for file in one.series.files]
    unread = dict.fromkeys(file for one in held for file in one.series.unread)
    volumes, reasons = read_volumes([*files, *unread])
    aside = {file: reason for file, reason in reasons.items() if reason != NO_DICOM}
    if len(held) == 1 and not name:
        name, folder = first.series.name, first.folder
    parts = (*folder.relative_to(first.source).parts, *([name] if name else []))
    own = name or folder.absolute().name
    if len(held) == 1 and (given := first.case or first.annotated):
        own, parts = given, (*parts[:-1], given)
    if len(volumes) < 2 and choice.rule is None:
        source = first.series.source if len(held) == 1 else volumes[0].source
        case = Case(own, None, dict.fromkeys(channels, source))
        return StudyCase(case, parts, first.source, taken=_kept(files, aside), aside=aside)
    try:
        choices = choose(
            volumes, choice.wanted, where=str(folder), rule=choice.rule, judge=choice.judge
        )
    except DataError as error:
        case = Case(own, None, dict.fromkeys(channels, folder), fault=error)
        return StudyCase(case, parts, first.source, taken=_kept(files, aside), aside=aside)
    images = {one.channel: _source_of(one.volume, held) for one in choices}
    taken = tuple(dict.fromkeys(file for one in choices for file in one.volume.files))
    aside |= {file: one.left_out for one in volumes for file in one.files if file not in taken}
    known = {one.series.source: one.annotated for one in held if one.annotated}
    named = next((known[source] for source in images.values() if source in known), "")
    if named:
        own, parts = named, (*parts[:-1], named)
    case = Case(own, None, images)
    return StudyCase(case, parts, first.source, choices, taken, aside)


def _kept(files: Iterable[Path], aside: Mapping[Path, str]) -> tuple[Path, ...]:
    return tuple(file for file in files if file not in aside)


def _source_of(volume: SeriesVolume, held: Sequence[FoundSeries]) -> Path:
    """Return the source of a volume: its folder, where nothing else is in it."""
    same = [one for one in held if one.series.uid == volume.uid]
    if len(same) > 1:
        return volume.source
    key = f"/{volume.key}" if volume.key else ""
    if SERIES_MARK in str(same[0].series.source) or not key:
        return Path(f"{same[0].series.source}{key}")
    return Path(f"{same[0].series.source}{SERIES_MARK}{volume.uid}{key}")
