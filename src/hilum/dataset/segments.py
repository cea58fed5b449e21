"""Label ids by the segment names in files: files may number the same names differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.channels import plain_name
from hilum.dataset.labels import ids_by_name, names_something
from hilum.errors import DataError, LabelError
from hilum.io import image_suffix, inspect_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Dataset
    from hilum.io.record import Segment
    from hilum.volume import LabelTable

_NAMED_FORMATS = {".nrrd", ".seg.nrrd", ".nhdr", ".seg.nhdr"}


def segments_in(annotation: object) -> tuple[Segment, ...]:
    """Read the named segments of an annotation.

    () for other formats, and where the file cannot be read: the doctor says why.
    """
    if not isinstance(annotation, Path) or image_suffix(annotation) not in _NAMED_FORMATS:
        return ()
    try:
        return inspect_file(annotation).segments
    except DataError:
        return ()


def names_of_segments(annotations: Sequence[Path]) -> dict[int, str]:
    """Give each segment name an id: that of the first file with it, or the next free one."""
    ids: dict[int, str] = {}
    for annotation in annotations:
        for segment in segments_in(annotation):
            if plain_name(segment.name) not in map(plain_name, ids.values()):
                ids[segment.value if segment.value not in ids else max(ids) + 1] = segment.name
    return dict(sorted(ids.items()))


def with_segment_names(dataset: Dataset) -> Dataset:
    """Read the ids of each annotation by the names of its segments.

    Raises:
        LabelError: a segment's name is none of the data set's labels.
    """
    if dataset.labels is None:
        return dataset
    cases, changed = [], []
    for case in dataset.cases:
        ids = ids_of_segments(case.annotation, dataset.labels, holder="the data set")
        differ = any(old != new for old, new in ids.items())
        changed += [case.id] * differ
        cases.append(replace(case, label_ids=ids) if differ else case)
    note = (
        f"{len(changed)} annotations number the names of their segments otherwise, e.g."
        f" {''.join(changed[:1])}; labels are read by name"
    )
    return replace(dataset, cases=tuple(cases)).with_notes(note if changed else "")


def ids_of_segments(annotation: object, table: LabelTable, *, holder: str) -> dict[int, int]:
    """Map the ids of an annotation's segments to those of a table; {} where one side names nothing.

    Args:
        annotation: a file, or anything that has no segments.
        table: what the ids shall mean.
        holder: whose labels these are, for the error.

    Raises:
        LabelError: a segment's name is not in the table.
    """
    segments, known = segments_in(annotation), ids_by_name(table)
    names = {segment.value: plain_name(segment.name) for segment in segments}
    for segment in segments if known else ():
        plain = names[segment.value]
        if plain not in known and names_something(plain):
            held = ", ".join(one.name for one in segments)
            labels = ", ".join(label.name for label in table.foreground)
            raise LabelError(
                f"{annotation} has the segments {held}; {holder} has the labels {labels}",
                needed="the same names on both sides",
                cure=f"name {segment.name} among these labels, or rename the segment",
            )
    if not known.keys() & names.values():
        return {}
    return {0: 0} | {value: known.get(name, value) for value, name in names.items()}
