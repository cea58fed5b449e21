"""Data sets made of cases; those whose cases have their images under the same words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.annotation import annotation_files
from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import WRITE_TABLE, guess_channels, orphans_of
from hilum.dataset.layouts.naming import labels_of
from hilum.errors import DataError, some

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
