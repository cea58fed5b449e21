"""Labels of a classification: the column, the kind of classes, and their order.

A data set with masks is a segmentation, unless a label is asked for: then its masks say where to
look. Without masks it is a classification. Nothing is guessed from values: the label is the column
that was asked for, or one that is named like a label.

| in the column | is |
|---|---|
| nothing, NA, nan, ?, unknown, ... (`hilum.io.text.is_known`) | not known: the case is unlabelled |
| "none" in a column of classes | not known, unless named by the user or beside grades (mild) |
| "-" beside "+" | the class - |
| 0, 1; 0.0, 1.0 | the classes 0 and 1 |
| ill, Ill, "ILL " | one class: letter case and blanks do not make another; a note says so |
| A, B, C | one class each, in natural order (stage 2 before stage 10) |
| A, B, A with B as "A|B" | findings, of which a case has any number |
| "No Finding", "normal", "none", ... beside findings, never together with one | none of them |

Several columns of 0 and 1 are a finding each; a case that lacks one of them is unlabelled: an
unknown finding is no absent one.
So is a case of "A|NA". Names of class folders are names: a folder "unknown" is a class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from hilum.dataset.case import Dataset, Fold
from hilum.dataset.classes import SEPARATOR, ClassKind, ClassTable
from hilum.dataset.columns import LABEL_COLUMNS, role_of
from hilum.dataset.layouts.centres import with_centres
from hilum.dataset.layouts.class_order import (
    by_number,
    class_order,
    is_grade_word,
    is_none_word,
    natural,
)
from hilum.dataset.layouts.label_options import LabelOptions, did_you_mean
from hilum.dataset.layouts.listing import some
from hilum.errors import DataError, UsageError
from hilum.io.text import is_known, name_key, one_spelling, unknown_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from hilum.dataset.case import Case

MOST_CLASSES = 50
"""A column with more distinct values is no class: a measurement, or a name."""
_FEW_CLASSES = 10
"""A column of another name may hold the label if it has no more distinct values, each of at least
two cases."""
_SHOWN_COLUMNS, _SHOWN_LETTERS = 20, 24
_YES_NO = {
    "1": True,
    "0": False,
    "1.0": True,
    "0.0": False,
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
}
_YES_NO |= {"y": True, "n": False}


def with_classes(dataset: Dataset, options: LabelOptions) -> Dataset:
    """The data set as a classification with its classes, or as the segmentation that it is.

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
    cases = (*dataset.cases, *dataset.unlabelled)
    chosen = _chosen_columns(dataset, cases, options)
    where = _where(dataset, cases, chosen)
    if (
        dataset.classes is not None
    ):  # an archive of several labels an image says itself what they are
        _refuse_other_kind(dataset.classes, options)
        _refuse_only(options)
        found = _Labels(dataset.classes, {case.id: case.label for case in cases})
    elif len(chosen) > 1:
        found = _from_columns(cases, chosen, options)
    else:
        found = _from_values(_raw(cases, chosen, options), options, where=where)
    cases = tuple(case for case in cases if case.id in found.labels)
    labelled = tuple(_labelled(case, found.labels[case.id], chosen) for case in cases)
    known = tuple(case for case in labelled if case.label is not None)
    if not known:
        raise DataError(f"no case of {dataset.root} has a label", needed=f"a class in {where}")
    ids = {case.id for case in known}
    splits, split_notes = _splits(dataset.splits, ids)
    unlabelled = _unlabelled_note(
        [case for case in cases if found.labels[case.id] is None], len(cases), chosen
    )
    notes = (*found.notes, *unlabelled, *_region_note(known), *split_notes)
    classified = replace(
        dataset,
        cases=tuple(sorted(known, key=lambda case: case.id)),
        unlabelled=tuple(
            sorted((case for case in labelled if case.id not in ids), key=lambda case: case.id)
        ),
        labels=None,
        classes=found.table,
        splits=splits,
        notes=(*dataset.notes, *notes),
    )
    return with_centres(classified)


@dataclass(frozen=True)
class _Labels:
    """The classes, each case's label by id (None: not known), and what was assumed."""

    table: ClassTable
    labels: Mapping[str, str | None]
    notes: tuple[str, ...] = ()


def _segmentation(dataset: Dataset) -> Dataset:
    """Say so where a column could be a label, for it is not what will be learnt."""
    named = _label_column(dataset.cases)
    columns = _plausible(dataset.cases) if named is None else {named: _held(dataset.cases, named)}
    columns = {column: held for column, held in columns.items() if 2 <= len(held) <= MOST_CLASSES}
    if not columns:
        return dataset
    told = " or ".join(f"{column} ({some(held)})" for column, held in columns.items())
    note = (
        f"there are masks, so this is a segmentation; to tell the classes of the column {told}"
        f" apart, type --label {next(iter(columns)) if len(columns) == 1 else 'COLUMN'}: the masks"
        " then say where to look"
    )
    return replace(dataset, notes=(*dataset.notes, note))


def _plausible(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Columns that may hold classes, whatever their name: few values, each of several cases.

    And those values.
    """
    found = {}
    for column in _columns(cases):
        if role_of(column) in {"split", "identifier", "description"}:
            continue
        counts = Counter(_value(case, column) for case in cases)
        del counts[""]
        if 2 <= len(counts) <= _FEW_CLASSES and min(counts.values()) > 1:
            found[column] = sorted(counts, key=natural)
    return found


def _held(cases: Iterable[Case], column: str) -> list[str]:
    return sorted({_value(case, column) for case in cases} - {""}, key=natural)


def _label_column(cases: Sequence[Case]) -> str | None:
    """The first column that is named like a label, one that holds something before an empty one."""
    lower = {name.lower(): name for name in _columns(cases)}
    named = [lower[name] for name in LABEL_COLUMNS if name in lower]
    return next(
        (name for name in named if any(_value(case, name) for case in cases)),
        named[0] if named else None,
    )


def _columns(cases: Iterable[Case]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for case in cases for name in case.columns))


def _value(case: Case, column: str) -> str:
    text = case.columns.get(column, "").strip()
    return text if is_known(text) else ""


def _chosen_columns(
    dataset: Dataset, cases: Sequence[Case], options: LabelOptions
) -> tuple[str, ...]:
    """The columns that hold the label; () where the layout itself gave each case its class."""
    if options.label:
        return _named_columns(dataset, _columns(cases), options.label)
    if any(case.label is not None for case in cases):
        return ()
    column = _label_column(cases)
    if column is not None:
        return (column,)
    if not _columns(cases):
        raise UsageError(
            f"{dataset.root} has no table with a label",
            needed=(
                "a column label in its table, or in a patients.csv in its folder (columns case,"
                " patient, label)"
            ),
        )
    raise UsageError(
        f"{dataset.root}: no column is named like a label ({', '.join(LABEL_COLUMNS[:4])}, ...)",
        needed="the column to learn, one of\n" + _listed(cases),
        cure="label='COLUMN'",
    )


def _named_columns(
    dataset: Dataset, known: Sequence[str], names: tuple[str, ...]
) -> tuple[str, ...]:
    if len(names) == 1 and names[0] not in known and "," in names[0]:
        names = tuple(name.strip() for name in names[0].split(","))
    spelled = {name_key(name): name for name in known}
    found = tuple(dict.fromkeys(spelled.get(name_key(name), "") for name in names))
    if "" in found:
        wrong = next(name for name in names if name_key(name) not in spelled)
        columns = (
            f"one of {', '.join(known)}"
            if known
            else "a table with further columns: this data set has none"
        )
        raise UsageError(
            f"no column {wrong!r} in {dataset.root}",
            needed=columns,
            cure=did_you_mean(wrong, known, "label"),
        )
    return found


def _listed(cases: Sequence[Case]) -> str:
    """Every column with how many distinct values it holds, and some of them.

    Fewest first, as a class has few.
    """
    values = {name: _held(cases, name) for name in _columns(cases)}
    told = [
        f"  {name}: {len(held)} values"
        f" ({some(text if len(text) <= _SHOWN_LETTERS else '...' for text in held)})"
        for name, held in sorted(values.items(), key=lambda item: len(item[1]))
        if len(held) > 1
    ]
    return "\n".join(told[:_SHOWN_COLUMNS]) + (
        f"\n  and {len(told) - _SHOWN_COLUMNS} more" if len(told) > _SHOWN_COLUMNS else ""
    )


def _raw(
    cases: Sequence[Case], chosen: tuple[str, ...], options: LabelOptions
) -> dict[str, str | None]:
    if not chosen:
        return {case.id: case.label for case in cases}
    cells = {case.id: case.columns.get(chosen[0], "").strip() for case in cases}
    meant = classes_by_context(set(cells.values()), options)
    return {
        case: text if is_known(text) or name_key(text) in meant else None
        for case, text in cells.items()
    }


def classes_by_context(values: Collection[str], options: LabelOptions) -> set[str]:
    """Find the words for "not known" that are classes here, such as "none" among grades."""
    meant = {name_key(name) for name in (*options.only, options.positive or "") if name}
    if options.kind in {"multilabel", "ordinal"} or any(
        SEPARATOR in text or is_grade_word(text) for text in values
    ):
        meant.add("none")
    return meant | (set("-–—−") if "+" in values else set())


def _where(dataset: Dataset, cases: Sequence[Case], chosen: tuple[str, ...]) -> str:
    words = unknown_words([case.columns for case in cases], chosen)
    return (
        f"the column {' and '.join(chosen)} of {dataset.root}{f' ({words[0]})' if words else ''}"
        if chosen
        else str(dataset.root)
    )


def _from_values(raw: Mapping[str, str | None], options: LabelOptions, *, where: str) -> _Labels:
    """Classes of one column, or of the folders' names."""
    present = [text for text in raw.values() if text is not None]
    if not present:
        raise DataError(f"{where} holds no label", needed="a class for at least some of the cases")
    kind = options.kind or (
        "multilabel" if any(SEPARATOR in text for text in present) else "exclusive"
    )
    if kind == "multilabel":
        _refuse_positive(options)
        _refuse_only(options)
        return _findings(raw, where)
    spelled, several = one_spelling(present)
    labels = {case: spelled[text] if text is not None else None for case, text in raw.items()}
    labels, left_out = _only(labels, options.only, where)
    names = {text for text in labels.values() if text is not None}
    _refuse_no_class(names, where)
    ordered, note = class_order(names, kind, options.positive)
    return _Labels(
        ClassTable(names=ordered, kind=kind),
        labels,
        (*_spelling_note(several), *left_out, *((note,) if note else ())),
    )


def _spelling_note(several: str) -> tuple[str, ...]:
    return (f"classes in several spellings: {several}",) if several else ()


def _only(
    labels: Mapping[str, str | None], only: tuple[str, ...], where: str
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """The labels without the cases of classes that were not asked for, and a note about these."""
    if not only:
        return dict(labels), ()
    present = {text for text in labels.values() if text is not None}
    known = {name_key(name): name for name in present}
    wanted = {known.get(name_key(name), "") for name in only}
    if "" in wanted:
        wrong = next(name for name in only if name_key(name) not in known)
        raise UsageError(
            f"class {wrong!r}, which {where} does not hold",
            needed=(
                f"classes among {some(sorted(present, key=natural))}, or one of"
                f" {', '.join(get_args(ClassKind))}"
            ),
            cure=did_you_mean(wrong, (*present, *get_args(ClassKind)), "classes"),
        )
    kept = {case: text for case, text in labels.items() if text is None or text in wanted}
    others = sorted(present - wanted, key=natural)
    if not others:
        return kept, ()
    return kept, (
        (
            f"{len(labels) - len(kept)} cases of other classes than were asked for are left out:"
            f" {some(others)}"
        ),
    )


def _findings(raw: Mapping[str, str | None], where: str) -> _Labels:
    """Findings of a column of "A|B"."""
    written = {
        case: None if text is None else [p.strip() for p in text.split(SEPARATOR) if p.strip()]
        for case, text in raw.items()
    }
    spelled, several = one_spelling(part for found in written.values() for part in found or ())
    parts = {
        case: (
            None
            if found is None or not all(is_known(part) or is_none_word(part) for part in found)
            else tuple(dict.fromkeys(spelled[part] for part in found))
        )
        for case, found in written.items()
    }
    sets = [found for found in parts.values() if found is not None]
    together = {name for found in sets if len(found) > 1 for name in found}
    nothing = {name for found in sets for name in found if is_none_word(name)} - together
    names = sorted({name for found in sets for name in found} - nothing, key=natural)
    if not names:
        raise DataError(
            f"{where} holds no finding ({some(sorted(nothing))} only)",
            needed='findings, e.g. "Effusion|Mass"',
        )
    _refuse_no_class(set(names) | nothing, where)
    order = {name: number for number, name in enumerate(names)}
    labels = {
        case: (
            None
            if found is None
            else SEPARATOR.join(sorted(set(found) - nothing, key=lambda name: order[name]))
        )
        for case, found in parts.items()
    }
    notes = [
        *_spelling_note(several),
        f"a case has any number of {len(names)} findings: {some(names, shown=6)}",
    ]
    if nothing:
        notes.append(f"{some(sorted(nothing))} means none of them")
    return _Labels(ClassTable(names=tuple(names), kind="multilabel"), labels, tuple(notes))


def _from_columns(cases: Sequence[Case], chosen: tuple[str, ...], options: LabelOptions) -> _Labels:
    """Findings of several columns of 0 and 1."""
    if options.kind not in {None, "multilabel"}:
        raise UsageError(
            f"{len(chosen)} label columns for {options.kind} classes",
            needed="one column",
            cure="classes='multilabel'",
        )
    _refuse_positive(options)
    _refuse_only(options)
    labels: dict[str, str | None] = {}
    partly = 0
    for case in cases:
        cells = {name: _value(case, name) for name in chosen}
        strange = next(
            (name for name, text in cells.items() if text and text.lower() not in _YES_NO), None
        )
        if strange is not None:
            raise DataError(
                f"the column {strange} holds {cells[strange]!r} (case {case.id})",
                needed=(
                    "0, 1, or nothing where it is not known, for several label columns are a"
                    " finding each"
                ),
                cure=f"label={strange!r} alone, if its values are the classes",
            )
        unknown = sum(not text for text in cells.values())
        partly += 0 < unknown < len(chosen)
        labels[case.id] = (
            None
            if unknown
            else SEPARATOR.join(name for name, text in cells.items() if _YES_NO[text.lower()])
        )
    notes = (
        (f"{partly} cases lack some of the {len(chosen)} findings and are counted as unlabelled",)
        if partly
        else ()
    )
    return _Labels(ClassTable(names=chosen, kind="multilabel"), labels, notes)


def _refuse_no_class(names: set[str], where: str) -> None:
    if len(names) == 1:
        raise DataError(
            f"{where} holds only {next(iter(names))!r}",
            needed="at least two classes",
            cure=(
                "label='COLUMN' for another column, or classes='none,polyp' where a word for not"
                " known is a class"
            ),
        )
    if len(names) > 2 and {name.lower() for name in names} <= set(_YES_NO):
        raise DataError(
            f"{where} says yes and no in several ways: {some(sorted(names))}",
            needed="two classes, each written in one way",
            cure="write 1 and 0 throughout",
        )
    if len(names) > MOST_CLASSES:
        measured = by_number(names) is not None
        raise DataError(
            f"{where} holds {len(names)} different {'numbers' if measured else 'values'}"
            f" ({some(sorted(names, key=natural))})",
            needed=f"a class for each case: at most {MOST_CLASSES} different ones",
            cure=(
                "write a column with the classes, e.g. benign where the number is below 3"
                if measured
                else "label='COLUMN'"
            ),
        )


def _refuse_positive(options: LabelOptions) -> None:
    if options.positive is not None:
        raise UsageError(
            f"positive class {options.positive!r} of findings",
            needed="two classes that exclude each other",
            cure=f"leave positive={options.positive!r} out",
        )


def _refuse_only(options: LabelOptions) -> None:
    if options.only:
        raise UsageError(
            f"the classes {', '.join(options.only)} alone, of findings",
            needed="classes of which each case has one",
            cure="label='COLUMN', once for each finding, where each has a column of its own",
        )


def _refuse_other_kind(table: ClassTable, options: LabelOptions) -> None:
    _refuse_positive(options)
    if options.kind not in {None, table.kind}:
        raise UsageError(
            f"{options.kind} classes",
            needed=f"{table.kind} ones: each image has several labels",
            cure="leave it out",
        )


def _splits(folds: tuple[Fold, ...], known: set[str]) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Keep the labelled cases of given folds; note folds with an empty side."""
    kept = [
        Fold(
            *(
                tuple(case for case in side if case in known)
                for side in (fold.train, fold.validation)
            )
        )
        for fold in folds
    ]
    usable = tuple(fold for fold in kept if fold.train and fold.validation)
    lost = len(kept) - len(usable)
    return usable, (
        (f"{lost} of the {len(kept)} given folds have no labelled case to train or to validate on",)
        if lost
        else ()
    )


def _labelled(case: Case, label: str | None, chosen: tuple[str, ...]) -> Case:
    columns = {name: text for name, text in case.columns.items() if name not in chosen}
    return replace(
        case, label=label, annotation=None, region=case.region or case.annotation, columns=columns
    )


def _unlabelled_note(
    unlabelled: Sequence[Case], total: int, chosen: tuple[str, ...]
) -> tuple[str, ...]:
    """Note the number of cases without a label, and the words that say so."""
    if not unlabelled:
        return ()
    cells = [case.columns.get(name, "").strip() for case in unlabelled for name in chosen]
    words = Counter(
        repr(text) if text else "blank" for text in cells if len(chosen) == 1 or not is_known(text)
    )
    where = f" in {' and '.join(chosen)}" if chosen else ""
    shown = (
        f" ({len(unlabelled)} of {total}:"
        f" {some(f'{word} {count}' for word, count in words.most_common())})"
        if words
        else ""
    )
    classes = sorted({text for text in cells if text and not is_known(text) and is_none_word(text)})
    cure = f"; if {some(classes)} is a class, name all of them by --classes" if classes else ""
    return (
        f"{len(unlabelled)} cases without a label{where} are counted as unlabelled{shown}{cure}",
    )


def _region_note(cases: Sequence[Case]) -> tuple[str, ...]:
    regions = sum(case.region is not None for case in cases)
    if not regions:
        return ()
    missing = f"; {len(cases) - regions} cases have none" if regions < len(cases) else ""
    return (f"this is a classification: the masks say where to look{missing}",)
