"""Labels of a classification: the task, and the column that is learnt.

A data set with masks is a segmentation, unless a label is asked for: then its masks say where to
look. Without masks it is a classification. Nothing is guessed from values: the label is the column
that was asked for, or one that is named like a label. What its texts mean is said in
:mod:`hilum.dataset.layouts.class_labels`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.case import Dataset, Fold
from hilum.dataset.columns import LABEL_COLUMNS, role_of
from hilum.dataset.layouts.centres import with_centres
from hilum.dataset.layouts.class_labels import (
    MOST_CLASSES,
    ClassLabels,
    classes_by_context,
    known_text,
    labels_of_columns,
    labels_of_values,
    refuse_for_findings,
)
from hilum.dataset.layouts.class_order import is_none_word, natural
from hilum.errors import DataError, UsageError, did_you_mean, some
from hilum.files.text import is_known, name_key, unknown_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.dataset.case import Case
    from hilum.dataset.layouts.label_options import LabelOptions

_FEW_CLASSES = 10
"""A column of another name may hold the label if it has no more distinct values, each of at least
two cases."""
_SHOWN_COLUMNS, _SHOWN_LETTERS = 20, 24


def with_classes(dataset: Dataset, options: LabelOptions) -> Dataset:
    """Return the data set as a classification with its classes, or as the segmentation that it is.

    Of a classification, `cases` are those whose label is known, annotations become regions, the
    label's columns leave `Case.columns`, and columns centre_x, centre_y, centre_z become
    `Case.centre_mm` (see :mod:`hilum.dataset.layouts.centres`).

    Args:
        dataset: as its layout read it; label columns still lie in `Case.columns`.
        options: what the user asks for.

    Raises:
        UsageError: there is no such column, or none that is named like a label; the classes cannot
            be what they were asked to be.
        DataError: no case has a label, or the column holds one value only, or too many for classes.
    """
    if dataset.labels is not None and not options.classification:
        return _segmentation(dataset)
    if options.task == "segmentation":
        raise UsageError(
            f"{dataset.root} has no masks",
            needed="an annotation a case",
            cure="leave task='segmentation' out: it is a classification",
        )
    chosen = _choose_columns(dataset, options)
    words = unknown_words([case.columns for case in dataset.every], chosen)
    where = str(dataset.root)
    if chosen:
        where = f"the column {' and '.join(chosen)} of {where}{f' ({words[0]})' if words else ''}"
    found = _class_labels(dataset, chosen, options, where)
    labelled = []
    for case in sorted(dataset.every, key=lambda case: case.id):
        if case.id in found.labels:
            columns = {name: text for name, text in case.columns.items() if name not in chosen}
            one = replace(case, label=found.labels[case.id], annotation=None, columns=columns)
            labelled.append(replace(one, region=case.region or case.annotation))
    known = tuple(case for case in labelled if case.label is not None)
    if not known:
        raise DataError(
            f"no case of {dataset.root} has a label",
            needed=f"a class in {where}",
            cure="fill it in, or label='COLUMN' for another column",
        )
    ids = {case.id for case in known}
    folds = [
        Fold(*(tuple(filter(ids.__contains__, side)) for side in (fold.train, fold.validation)))
        for fold in dataset.splits
    ]
    usable = tuple(fold for fold in folds if fold.train and fold.validation)
    lost = f"{len(folds) - len(usable)} of the {len(folds)} given folds have no labelled case"
    regions = sum(case.region is not None for case in known)
    lacking = f"; {len(known) - regions} cases have none" if regions < len(known) else ""
    classified = replace(
        dataset,
        cases=known,
        unlabelled=tuple(case for case in labelled if case.label is None),
        labels=None,
        classes=found.table,
        splits=usable,
    ).with_notes(
        *found.notes,
        _unlabelled_note(dataset, found, chosen),
        f"this is a classification: the masks say where to look{lacking}" if regions else "",
        f"{lost} to train or to validate on" if len(usable) < len(folds) else "",
    )
    return with_centres(classified)


def _class_labels(
    dataset: Dataset, chosen: tuple[str, ...], options: LabelOptions, where: str
) -> ClassLabels:
    """Make the classes: of the archive itself, of the chosen columns, or of the cases' labels."""
    table = dataset.classes
    if table is not None:  # an archive of several labels an image says itself what they are
        refuse_for_findings(options)
        if options.kind not in {None, table.kind}:
            raise UsageError(
                f"classes={options.kind!r} does not fit labels of the kind {table.kind}",
                needed=f"{table.kind} classes: each image has several labels",
                cure=f"leave classes={options.kind!r} out",
            )
        return ClassLabels(table, {case.id: case.label for case in dataset.every})
    if len(chosen) > 1:
        return labels_of_columns(dataset.every, chosen, options)
    if not chosen:
        return labels_of_values(
            {case.id: case.label for case in dataset.every}, options, where=where
        )
    cells = {case.id: case.columns.get(chosen[0], "").strip() for case in dataset.every}
    meant = classes_by_context(set(cells.values()), options)
    raw = {
        case: text if is_known(text) or name_key(text) in meant else None
        for case, text in cells.items()
    }
    return labels_of_values(raw, options, where=where)


def _segmentation(dataset: Dataset) -> Dataset:
    """Say so where a column could be a label, for it is not what will be learnt."""
    named = _label_column(dataset.cases)
    columns: dict[str, list[str]] = {}
    for column in _columns(dataset.cases) if named is None else (named,):
        counts = Counter(known_text(case, column) for case in dataset.cases)
        del counts[""]
        plausible = (
            len(counts) <= _FEW_CLASSES
            and min(counts.values(), default=0) > 1
            and role_of(column) not in {"split", "identifier", "description"}
        )
        if 2 <= len(counts) <= MOST_CLASSES and (column == named or plausible):
            columns[column] = sorted(counts, key=natural)
    if not columns:
        return dataset
    told = " or ".join(f"{column} ({some(held)})" for column, held in columns.items())
    typed = next(iter(columns)) if len(columns) == 1 else "COLUMN"
    return dataset.with_notes(
        "there are masks, so this is a segmentation; to tell the classes of the column"
        f" {told} apart, give label='{typed}': the masks then say where to look"
    )


def _label_column(cases: Sequence[Case]) -> str | None:
    """The first column that is named like a label, one that holds something before an empty one."""
    lower = {name.lower(): name for name in _columns(cases)}
    named = [lower[name] for name in LABEL_COLUMNS if name in lower]
    filled = (name for name in named if any(known_text(case, name) for case in cases))
    return next(filled, named[0] if named else None)


def _columns(cases: Iterable[Case]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for case in cases for name in case.columns))


def _choose_columns(dataset: Dataset, options: LabelOptions) -> tuple[str, ...]:
    """The columns that hold the label; () where the layout itself gave each case its class."""
    columns = _columns(dataset.every)
    if options.label:
        return _find_columns(dataset, columns, options.label)
    if any(case.label is not None for case in dataset.every):
        return ()
    column = _label_column(dataset.every)
    if column is not None:
        return (column,)
    table = f"write a {dataset.root / 'patients.csv'} with the columns case, patient, label"
    if not columns:
        raise UsageError(
            f"{dataset.root} has no table with a label",
            needed="a label for each case",
            cure=table,
        )
    usual = ", ".join(LABEL_COLUMNS[:4])
    raise UsageError(
        f"{dataset.root}: no column is named like a label ({usual}, ...)",
        needed="the column to learn, one of\n" + _list_columns(dataset.every),
        cure="label='COLUMN'" + ("" if dataset.layout == "table" else f"; or {table}"),
    )


def _find_columns(
    dataset: Dataset, columns: Sequence[str], names: tuple[str, ...]
) -> tuple[str, ...]:
    """Find columns by name, whatever their letter case; refuse names that no column has."""
    if len(names) == 1 and names[0] not in columns and "," in names[0]:
        names = tuple(name.strip() for name in names[0].split(","))
    spelled = {name_key(name): name for name in columns}
    for name in names:
        if name_key(name) not in spelled:
            none = "a table with further columns: this data set has none"
            raise UsageError(
                f"{dataset.root} has no column {name!r}",
                needed=f"one of {', '.join(columns)}" if columns else none,
                cure=did_you_mean(name, columns, "label"),
            )
    return tuple(dict.fromkeys(spelled[name_key(name)] for name in names))


def _list_columns(cases: Sequence[Case]) -> str:
    """Return every column with how many distinct values it holds, and some of them.

    Fewest first, as a class has few.
    """
    values = {
        name: sorted({known_text(case, name) for case in cases} - {""}, key=natural)
        for name in _columns(cases)
    }
    told = [
        f"  {name}: {len(held)} values"
        f" ({some(text if len(text) <= _SHOWN_LETTERS else '...' for text in held)})"
        for name, held in sorted(values.items(), key=lambda item: len(item[1]))
        if len(held) > 1
    ]
    more = f"  and {len(told) - _SHOWN_COLUMNS} more"
    return "\n".join(told[:_SHOWN_COLUMNS] + [more] * (len(told) > _SHOWN_COLUMNS))


def _unlabelled_note(dataset: Dataset, found: ClassLabels, chosen: tuple[str, ...]) -> str:
    """Note the number of cases without a label, and the words that say so."""
    unlabelled = [case for case in dataset.every if found.labels.get(case.id, "") is None]
    if not unlabelled:
        return ""
    cells = [case.columns.get(name, "").strip() for case in unlabelled for name in chosen]
    words = Counter(
        repr(text) if text else "blank" for text in cells if len(chosen) == 1 or not is_known(text)
    )
    note = f"{len(unlabelled)} cases without a label"
    note += f" in {' and '.join(chosen)}" * bool(chosen) + " are counted as unlabelled"
    if words:
        shown = some(f"{word} {count}" for word, count in words.most_common())
        note += f" ({len(unlabelled)} of {len(found.labels)}: {shown})"
    classes = sorted({text for text in cells if text and not is_known(text) and is_none_word(text)})
    if classes:
        note += f"; if {some(classes)} is a class, name every class: classes='CLASS,...'"
    return note
