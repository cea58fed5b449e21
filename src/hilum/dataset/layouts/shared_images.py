"""Data sets made of the files that a layout found: images by the same words, or by number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.annotation import annotation_files
from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import WRITE_TABLE, guess_channels, orphans_of
from hilum.dataset.layouts.naming import channel_names, json_facts, labels_of
from hilum.errors import DataError, FormatError, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from hilum.dataset.annotation import Annotation
    from hilum.dataset.case import Orphan
    from hilum.volume import LabelTable


@dataclass(frozen=True)
class CaseFiles:
    """Files of cases that have their images under the same words: t1, flair; ct; T1w.

    Args:
        images: case to image by word.
        words: those of a complete case, sorted; of a single image of several channels their own
            names are taken.
        annotations: by case.
        patients: by case.
        labels: where names in the files say them; None leaves it to label files and values.
        columns: what a table says of each patient.
        notes: what had to be assumed; "" is none.
    """

    images: Mapping[str, Mapping[str, Path]]
    words: tuple[str, ...]
    annotations: Mapping[str, Annotation]
    patients: Mapping[str, str]
    labels: LabelTable | None = None
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> dict[str, Mapping[str, Path]]:
        """The images of the cases that have one of each word."""
        wanted = {*self.words}
        return {case: held for case, held in self.images.items() if wanted and wanted <= {*held}}


def common_words(files: Collection[Mapping[str, Path]]) -> tuple[str, ...]:
    """List the words that more than half of the cases have an image of, sorted."""
    counts = Counter(word for words in files for word in words)
    return tuple(sorted(word for word, count in counts.items() if 2 * count > len(files)))


def read_cases(path: Path, layout: str, found: CaseFiles, *, values: bool, needed: str) -> Dataset:
    """Make a data set of the complete cases; notes name the others.

    Args:
        path: its folder.
        layout: a key of `LAYOUTS`.
        found: what lies in it.
        values: whether annotations may be read to find out what the labels are.
        needed: files that would be a data set, for the error.

    Raises:
        DataError: no complete case has an annotation.
    """
    whole, words = found.complete, found.words
    annotated = [found.annotations[case] for case in whole if case in found.annotations]
    if values and not annotated:
        named = f"the images {', '.join(words)}" if words else "images of one name"
        raise DataError(
            f"no case of {path} has both an annotation and {named}",
            needed=needed,
            cure=f"add or rename the files, or {WRITE_TABLE}",
        )
    channels = words
    if len(words) == 1:
        guessed = guess_channels(held[words[0]] for held in whole.values())
        channels = guessed if len(guessed) > 1 else words
    labels = found.labels
    assumed: tuple[str, ...] = ()
    if values and labels is None:
        labels, assumed = labels_of(path, [one for one in annotated if isinstance(one, Path)])
    lacking = some(sorted(set(found.images) - set(whole)))
    bare = some(sorted(set(whole) - set(found.annotations)))
    cases = []
    for case, held in whole.items():
        images = {word: held[word] for word in words}
        if channels != words:
            images = dict.fromkeys(channels, held[words[0]])
        patient = found.patients[case]
        columns = found.columns.get(patient, {})
        cases.append(Case(case, patient, images, found.annotations.get(case), columns=columns))
    return dataset_of(
        path,
        layout,
        cases,
        channels=channels,
        labels=labels if values else None,
        notes=(
            *(*assumed, *found.notes),
            f"{lacking} lack one of {', '.join(words)}: left out" if lacking else "",
            f"{bare} without annotation: counted as unlabelled" if bare else "",
        ),
        orphans=orphans_of(
            {case: min(held.values()) for case, held in found.images.items()},
            {case: min(annotation_files(one)) for case, one in found.annotations.items()},
        ),
    )


@dataclass(frozen=True)
class NumberedFiles:
    """Files of cases whose images have numbers; a case stored whole has number 0 only.

    Args:
        images: case to channel number to file.
        annotations: by case.
        folders: of the images and of the annotations.
        needed: files that would be a data set, for the error.
        faults: what is wrong with a case's files.
        tests: images kept apart for testing.
        orphans: files without a partner.
    """

    images: Mapping[str, Mapping[int, Path]]
    annotations: Mapping[str, Path]
    folders: tuple[Path, Path]
    needed: str
    faults: Mapping[str, DataError] = field(default_factory=dict)
    tests: Mapping[str, Mapping[int, Path]] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()


def read_numbered(path: Path, layout: str, found: NumberedFiles, *, values: bool) -> Dataset:
    """Make a data set of numbered images, named by dataset.json or else by the files.

    Args:
        path: its folder.
        layout: a key of `LAYOUTS`.
        found: what lies in it.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no image has an annotation.
    """
    images, facts = found.images, json_facts(path)
    annotated = [case for case in sorted(images) if case in found.annotations]
    folder, masks = found.folders
    if not annotated:
        raise DataError(
            f"no image in {folder} has an annotation of the same name in {masks}",
            needed=found.needed,
            cure="rename the files so that an image and its annotation share their name",
        )
    channels = channel_names(facts, path / "dataset.json")
    if not channels:
        counts = Counter(tuple(sorted(images[case])) for case in annotated)
        numbers = max(counts, key=lambda numbers: (counts[numbers], len(numbers)))
        channels = tuple(f"channel_{number}" for number in numbers)
        if len(numbers) == 1:
            held = [images[case] for case in annotated if numbers[0] in images[case]]
            channels = guess_channels(files[numbers[0]] for files in held)
    masks_read = [found.annotations[case] for case in annotated]
    labels, notes = labels_of(path, masks_read) if values else (None, ())
    extra = some(sorted(set(images) - set(annotated)))
    lonely = some(one.case for one in found.orphans if one.kind == "orphan-annotation")
    several = any(len(images[case]) > 1 for case in annotated)
    cases = [
        _numbered_case(case, files, channels, found, several=several)
        for case, files in {**found.tests, **images}.items()
    ]
    return dataset_of(
        path,
        layout,
        cases,
        channels=channels,
        labels=labels,
        notes=(
            *notes,
            f"{extra} in {folder.name} without annotation: counted as unlabelled" if extra else "",
            f"{lonely} in {masks.name} without image: left out" if lonely else "",
        ),
        orphans=found.orphans,
        name=facts.get("name"),
    )


def _numbered_case(
    case: str,
    files: Mapping[int, Path],
    channels: tuple[str, ...],
    found: NumberedFiles,
    *,
    several: bool,
) -> Case:
    """Make a case of numbered images.

    The only file holds all its channels (4D NIfTI, colour picture), unless others have `several`.
    """
    annotation, fault = found.annotations.get(case), found.faults.get(case)
    if set(files) == {0} and not (several and len(channels) > 1):
        return Case(case, None, dict.fromkeys(channels, files[0]), annotation, fault=fault)
    wanted = range(len(channels))
    if set(files) != set(wanted) and fault is None:
        lacking = min(set(wanted) - set(files), default=0)
        fault = FormatError(
            f"case {case} has the channel numbers {sorted(files)} in {files[min(files)].parent}",
            needed=f"the numbers 0 to {len(channels) - 1} for the channels {', '.join(channels)}",
            cure=(
                f"add the missing file, e.g. {case}_{lacking:04d}.nii.gz, or correct channel_names"
                " in dataset.json"
            ),
        )
    images = {
        channels[number] if number in wanted else f"channel_{number}": files[number]
        for number in sorted(files)
    }
    return Case(case, None, images, annotation, fault=fault)


def dataset_of(
    path: Path,
    layout: str,
    cases: Iterable[Case],
    *,
    channels: tuple[str, ...],
    labels: LabelTable | None,
    notes: Iterable[str] = (),
    orphans: tuple[Orphan, ...] = (),
    name: object = None,
) -> Dataset:
    """Make a data set of cases by id, those without an annotation as unlabelled.

    Args:
        path: its folder.
        layout: a key of `LAYOUTS`.
        cases: in any order.
        channels: in order.
        labels: what the integers mean; None where classes are wanted.
        notes: what had to be assumed; "" is none.
        orphans: files without a partner.
        name: for people; None takes the folder's.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    return Dataset(
        name=str(name or path.absolute().name),
        root=path,
        layout=layout,
        cases=tuple(case for case in ordered if case.annotation is not None),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in ordered if case.annotation is None),
        notes=tuple(filter(None, notes)),
        orphans=orphans,
    )


def dataset_of_classes(
    path: Path, layout: str, name: str, cases: Iterable[Case], channels: tuple[str, ...]
) -> Dataset:
    """Make a data set of cases whose layout names their classes."""
    ordered = tuple(sorted(cases, key=lambda case: case.id))
    return Dataset(name, path, layout, ordered, channels, labels=None)
