"""Label ids by the names that segmentation files carry: a file may number the same names otherwise than the data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.channels import plain_name
from hilum.errors import DataError, LabelError
from hilum.io import image_suffix, inspect_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Case, Dataset
    from hilum.io.record import Segment

_NAMED_FORMATS = {".nrrd", ".seg.nrrd", ".nhdr", ".seg.nhdr"}


def segments_in(annotation: object) -> tuple[Segment, ...]:
    """Read the named segments of an annotation; () for other formats, and where the file cannot be read: the doctor says why."""
    if not isinstance(annotation, Path) or image_suffix(annotation) not in _NAMED_FORMATS:
        return ()
    try:
        return inspect_file(annotation).segments
    except DataError:
        return ()


def names_of_segments(annotations: Sequence[Path]) -> dict[int, str]:
    """Give every name of the files' segments an id: that of the first file which has it, or the next free one."""
    ids: dict[int, str] = {}
    for annotation in annotations:
        for segment in segments_in(annotation):
            if plain_name(segment.name) not in map(plain_name, ids.values()):
                ids[segment.value if segment.value not in ids else max(ids) + 1] = segment.name
    return dict(sorted(ids.items()))


def with_segment_names(dataset: Dataset) -> Dataset:
    """Read the ids of each annotation by the names of its segments.

    Raises:
        LabelError: some names of a file are labels of the data set, and others are not.
    """
    if dataset.labels is None:
        return dataset
    known = {plain_name(label.name): label.id for label in dataset.labels.foreground}
    cases, changed = [], []
    for case in dataset.cases:
        ids = _ids(case, known)
        changed += [case.id] if any(old != new for old, new in ids.items()) else []
        cases.append(replace(case, label_ids=ids) if case.id in changed[-1:] else case)
    if not changed:
        return dataset
    note = f"{len(changed)} annotations number the names of their segments otherwise, e.g. {changed[0]}; labels are read by name"
    return replace(dataset, cases=tuple(cases), notes=(*dataset.notes, note))


def _ids(case: Case, known: dict[str, int]) -> dict[int, int]:
    """What each id in the annotation of a case is read as; {} where its segments have no names of the data set."""
    segments = segments_in(case.annotation)
    strange = [segment.name for segment in segments if plain_name(segment.name) not in known]
    if len(strange) == len(segments):
        return {}
    if strange:
        raise LabelError(
            f"{case.annotation} has the segments {', '.join(segment.name for segment in segments)}; the data set has the labels "
            f"{', '.join(known)}",
            needed="the same names on both sides",
            cure=f"name {strange[0]} in the data set's labels, or rename the segment",
        )
    return {0: 0} | {segment.value: known[plain_name(segment.name)] for segment in segments}
