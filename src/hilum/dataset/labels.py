"""Matching of labels and classes by name: of data sets, predictions, references, plans, models.

And of the segments in files, which may number the same names otherwise.

Case, blanks, underscores and hyphens of names do not count, nor do the ids. "foreground", "label 1"
or a bare number name nothing: such labels go by their ids, unless both sides have the very same
names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.channels import arrange_dataset, plain_name
from hilum.dataset.classes import SEPARATOR
from hilum.errors import DataError, LabelError, UsageError, some
from hilum.io import segments_of
from hilum.volume import Label, LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hilum.dataset.case import Dataset
    from hilum.dataset.classes import ClassTable
    from hilum.files.record import Segment
    from hilum.volume import Volume

_NO_NAME = re.compile(r"(?:label|class|region|segment|foreground|mask|roi)?\d*")


def match_labels(
    wanted: LabelTable, found: LabelTable, *, where: str, holder: str, afterwards: str = ""
) -> dict[int, int]:
    """Find the id in `wanted` of each label of `found`, background and ignore included.

    Args:
        wanted: what the ids shall mean.
        found: what they mean in `where`.
        where: whose labels `found` are, for the error.
        holder: whose labels `wanted` are, for the error.
        afterwards: what is to be done then, the end of the error's cure.

    Raises:
        LabelError: both name their labels or regions, and not alike; both sides are listed.
    """
    ids = {label.id: label.id for label in found.labels}
    ours, theirs = _ids_by_plain_name(wanted), _ids_by_plain_name(found)
    if set(ours) != set(theirs):  # else even names such as "region 1" are those of both sides
        ours, theirs = ids_by_name(wanted), ids_by_name(found)
    if len(ours) == len(wanted.foreground) and len(theirs) == len(found.foreground):
        agreed = set(ours) == set(theirs)
        ids |= {theirs[name]: ours[name] for name in theirs if agreed}
    else:  # what has no name goes by its id
        shared = set(ours) & set(theirs)
        ours_alone, theirs_alone = (
            {i for name, i in named.items() if name not in shared} for named in (ours, theirs)
        )
        agreed = not ours_alone & theirs_alone and all(ours[n] == theirs[n] for n in shared)
    if wanted.regions and found.regions:
        agreed = agreed and _regions(wanted, {}) == _regions(found, ids)
    if not agreed:
        raise LabelError(
            f"{where} has the labels {describe_labels(found)}; {holder} has"
            f" {describe_labels(wanted)}",
            needed="the same labels on both sides, each under its own name; their ids may differ",
            cure='where they mean the same, give them the same names ("labels" in dataset.json,'
            f" labels.json beside label maps){afterwards}",
        )
    if found.ignore is not None:
        ids[found.ignore] = found.ignore if wanted.ignore is None else wanted.ignore
    return ids


def relabel(labels: Volume, ids: Mapping[int, int]) -> Volume:
    """Return the label map with other ids.

    Raises:
        LabelError: it holds an id that is not to be found in `ids`.
    """
    if all(old == new for old, new in ids.items()):
        return labels
    values, places = np.unique(labels.array, return_inverse=True)
    strange = [int(value) for value in values if int(value) not in ids]
    if strange:
        raise LabelError(
            f"the label map holds {some(map(str, strange))}, which has no name to be matched by",
            needed=f"labels among {sorted(ids)}",
            cure=(
                'name it beside the others (labels.json, or "labels" in dataset.json), or remove it'
                " from the label map"
            ),
        )
    new = np.array([ids[int(value)] for value in values])
    return labels.with_array(
        new.astype(np.min_scalar_type(new.max()))[places].reshape(labels.array.shape)
    )


def match_dataset(
    dataset: Dataset, channels: Sequence[str], targets: LabelTable | ClassTable, *, holder: str
) -> Dataset:
    """Return the data set with the channels, label ids or classes of a plan or model.

    Its last notes say what was matched by name.

    Raises:
        DataError: the channels, labels or classes differ.
        UsageError: it has labels where classes are wanted, or classes where labels are wanted.
    """
    segmentation = isinstance(targets, LabelTable)
    if (dataset.labels if segmentation else dataset.classes) is None:
        kinds = ("a classification", "a segmentation")
        opened, wanted = kinds if segmentation else kinds[::-1]
        raise UsageError(
            f"{dataset.root} is opened as {opened}; {holder} is of {wanted}",
            needed="one task on both sides",
            cure="give a data set with label maps, without label, classes or task"
            if segmentation
            else "name the column of the classes: label='COLUMN'",
        )
    note = (
        f"channels {', '.join(dataset.channels)} are read as {', '.join(channels)}, those of"
        f" {holder}"
    )
    if [plain_name(name) for name in channels] == [plain_name(name) for name in dataset.channels]:
        note = ""
    dataset = arrange_dataset(dataset, channels, holder=holder)
    if not isinstance(targets, LabelTable):
        return _with_classes(dataset, targets, holder).with_notes(note)
    dataset = _with_labels(dataset, targets, holder)
    ids = dataset.cases[0].label_ids if dataset.cases else {}
    changed = ", ".join(f"{old} is read as {new}" for old, new in ids.items() if old != new)
    return dataset.with_notes(note, f"labels are matched by name: {changed}" if changed else "")


def _with_labels(dataset: Dataset, wanted: LabelTable, holder: str) -> Dataset:
    """Give a data set the ids of the wanted labels, matched by name; refuse other labels."""
    found = dataset.labels
    if found is None:
        return dataset
    ids = match_labels(wanted, found, where=str(dataset.root), holder=holder)
    if {new for old, new in ids.items() if old != found.ignore} != set(wanted.ids):
        raise LabelError(
            f"{dataset.root} has the labels {describe_labels(found)}; {holder} has"
            f" {describe_labels(wanted)}",
            needed="the same labels on both sides",
            cure="give the labels the ids of the other side, or names",
        )
    if all(old == new for old, new in ids.items()):
        return replace(dataset, labels=wanted)
    cases = []
    for case in dataset.cases:
        own = case.label_ids or {old: old for old in ids}  # by names of the file's segments
        cases.append(replace(case, label_ids={old: ids[new] for old, new in own.items()}))
    return replace(dataset, cases=tuple(cases), labels=wanted)


def match_classes(
    wanted: ClassTable, found: ClassTable, *, where: str, holder: str
) -> dict[str, str]:
    """Find the name in `wanted` of each class of `found`.

    Raises:
        LabelError: `wanted` has no such class; both sides are listed.
    """
    known = {plain_name(name): name for name in wanted.names}
    if len(known) < len(wanted.names):
        known = {name: name for name in wanted.names}
    names = {
        name: name if name in wanted.names else known.get(plain_name(name), "")
        for name in found.names
    }
    if "" in names.values() or len(set(names.values())) < len(names):
        raise LabelError(
            f"{where} has the classes {', '.join(found.names)}; {holder} has"
            f" {', '.join(wanted.names)}",
            needed="the same classes on both sides; their order may differ",
            cure="where they mean the same, give them the same names in the column of labels",
        )
    return names


def _with_classes(dataset: Dataset, wanted: ClassTable, holder: str) -> Dataset:
    """Give a data set the names of the wanted classes; refuse other classes."""
    found = dataset.classes
    if found is None:
        return dataset
    names = match_classes(wanted, found, where=str(dataset.root), holder=holder)
    one_kind = (wanted.kind == "multilabel") == (found.kind == "multilabel")
    if len(names) < len(wanted.names) or not one_kind:
        raise LabelError(
            f"{dataset.root} has the classes {', '.join(found.names)} ({found.kind}); {holder} has "
            f"{', '.join(wanted.names)} ({wanted.kind})",
            needed="the same classes on both sides; their order may differ",
            cure=(
                "open the data set as the other side was, with label, classes or task, or train"
                " without its plan"
            ),
        )
    cases = tuple(replace(case, label=rename_label(case.label, names)) for case in dataset.cases)
    return replace(dataset, cases=cases, classes=wanted)


def rename_label(label: str | None, names: Mapping[str, str]) -> str | None:
    """Return a case's label under other names of the classes."""
    if label is None or label in names:
        return label if label is None else names[label]
    return SEPARATOR.join(names.get(part, part) for part in label.split(SEPARATOR))


def ids_by_name(table: LabelTable) -> dict[str, int]:
    """Return the id of each plain name of a label.

    Not of those that name nothing, or that two labels share.
    """
    return {name: i for name, i in _ids_by_plain_name(table).items() if names_something(name)}


def _ids_by_plain_name(table: LabelTable) -> dict[str, int]:
    names = [plain_name(label.name) for label in table.foreground]
    return {name: i for name, i in zip(names, table.ids[1:], strict=True) if names.count(name) == 1}


def names_something(plain: str) -> bool:
    """Return True if a plain label name has a meaning.

    "foreground", "label 1" and numbers have none.
    """
    return not _NO_NAME.fullmatch(plain)


def _regions(table: LabelTable, ids: Mapping[int, int]) -> dict[str, set[int]]:
    return {
        plain_name(region.name): {ids.get(i, i) for i in region.labels} for region in table.regions
    }


def describe_labels(table: LabelTable) -> str:
    """The labels and regions of a table in one line: "1 liver, 2 tumour; regions whole [1, 2]"."""
    labels = ", ".join(f"{label.id} {label.name}" for label in table.foreground)
    regions = ", ".join(f"{region.name} {list(region.labels)}" for region in table.regions)
    return f"{labels}; regions {regions}" if regions else labels


def segments_in(annotation: object) -> tuple[Segment, ...]:
    """Read the named segments of an annotation.

    () for other formats, and where the file cannot be read: the doctor says why.
    """
    if not isinstance(annotation, Path):
        return ()
    try:
        return segments_of(annotation)
    except DataError:
        return ()


def table_of_segments(annotations: Iterable[object]) -> LabelTable | None:
    """Make the label table of the segments that annotations name; None where none names any."""
    return table_of(map(segments_in, annotations))


def table_of(files: Iterable[Sequence[Segment]]) -> LabelTable | None:
    """Give each segment name an id: that of the first file with it, or the next free one.

    Its code and colour are those of the first file that states them.

    Args:
        files: the segments of each file.

    Returns:
        None where there are no segments.
    """
    labels: dict[str, Label] = {}
    for one in (segment for segments in files for segment in segments):
        held = [label.id for label in labels.values()]
        free = one.value if one.value not in held else max(held) + 1
        plain = plain_name(one.name)
        known = labels.setdefault(plain, Label(id=free, name=one.name))
        stated = {"code": known.code or one.code, "colour": known.colour or one.colour}
        labels[plain] = known.model_copy(update=stated)
    if not labels:
        return None
    ordered = sorted(labels.values(), key=lambda label: label.id)
    return LabelTable(labels=(Label(id=0, name="background"), *ordered))


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
