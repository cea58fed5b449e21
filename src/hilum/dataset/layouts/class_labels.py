"""Classes, and the label of each case, made of the texts in a column or in several.

| in the column | is |
|---|---|
| nothing, NA, nan, ?, unknown, ... (`is_known` of files.text) | not known: the case is unlabelled |
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

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from hilum.dataset.classes import SEPARATOR, ClassKind, ClassTable
from hilum.dataset.layouts.class_order import (
    by_number,
    class_order,
    is_grade_word,
    is_none_word,
    natural,
)
from hilum.errors import DataError, UsageError, did_you_mean, some
from hilum.files.text import is_known, name_key, one_spelling

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from hilum.dataset.case import Case
    from hilum.dataset.layouts.label_options import LabelOptions

MOST_CLASSES = 50
"""A column with more distinct values is no class: a measurement, or a name."""
_YES = {"1", "1.0", "true", "yes", "y"}
_NO = {"0", "0.0", "false", "no", "n"}


@dataclass(frozen=True)
class ClassLabels:
    """The classes, each case's label by id (None: not known), and what was assumed."""

    table: ClassTable
    labels: Mapping[str, str | None]
    notes: tuple[str, ...] = ()


def known_text(case: Case, column: str) -> str:
    """Return the text of a case in a column; "" where it is not known."""
    text = case.columns.get(column, "").strip()
    return text if is_known(text) else ""


def refuse_for_findings(options: LabelOptions) -> None:
    """Refuse options that need classes of which each case has one.

    Raises:
        UsageError: a positive class, or some of the classes, are asked for.
    """
    if options.positive is not None:
        raise UsageError(
            f"findings have no positive class, and {options.positive!r} was named as one",
            needed="two classes that exclude each other",
            cure=f"leave positive={options.positive!r} out",
        )
    if options.only:
        raise UsageError(
            f"some findings alone cannot be chosen by classes ({', '.join(options.only)})",
            needed="classes of which each case has one",
            cure="label='COLUMN', once for each finding, where each has a column of its own",
        )


def classes_by_context(values: Collection[str], options: LabelOptions) -> set[str]:
    """Find the words for "not known" that are classes here, such as "none" among grades."""
    meant = {name_key(name) for name in (*options.only, options.positive or "") if name}
    if options.kind in {"multilabel", "ordinal"} or any(
        SEPARATOR in text or is_grade_word(text) for text in values
    ):
        meant.add("none")
    return meant | (set("-–—−") if "+" in values else set())


def labels_of_values(
    raw: Mapping[str, str | None], options: LabelOptions, *, where: str
) -> ClassLabels:
    """Make classes of one column, or of the folders' names.

    Args:
        raw: case id to its text; None where it is not known.
        options: what the user asks for.
        where: the texts stand, for messages.

    Raises:
        UsageError: the classes cannot be what they were asked to be.
        DataError: there is no text, one value only, or too many for classes.
    """
    present = [text for text in raw.values() if text is not None]
    if not present:
        raise DataError(
            f"{where} holds no label",
            needed="a class for at least some of the cases",
            cure="fill it in, or label='COLUMN' for another column",
        )
    joined = any(SEPARATOR in text for text in present)
    kind = options.kind or ("multilabel" if joined else "exclusive")
    if kind == "multilabel":
        refuse_for_findings(options)
        return _findings(raw, where)
    spelled, several = one_spelling(present)
    labels = {case: None if text is None else spelled[text] for case, text in raw.items()}
    labels, left_out = _only(labels, options.only, where)
    names = {text for text in labels.values() if text is not None}
    _refuse_unusable_classes(names, kind, where)
    ordered, note = class_order(names, kind, options.positive)
    notes = (_spelling_note(several), left_out, note)
    return ClassLabels(ClassTable(names=ordered, kind=kind), labels, notes)


def _spelling_note(several: str) -> str:
    return f"classes in several spellings: {several}" if several else ""


def _only(
    labels: dict[str, str | None], only: tuple[str, ...], where: str
) -> tuple[dict[str, str | None], str]:
    """Drop the cases of classes that were not asked for; return the rest and a note about them."""
    if not only:
        return labels, ""
    present = {text for text in labels.values() if text is not None}
    known = {name_key(name): name for name in present}
    for name in only:
        if name_key(name) not in known:
            kinds = get_args(ClassKind)
            shown = some(sorted(present, key=natural))
            raise UsageError(
                f"{where} does not hold the class {name!r}",
                needed=f"classes among {shown}, or one of {', '.join(kinds)}",
                cure=did_you_mean(name, (*present, *kinds), "classes"),
            )
    wanted = {known[name_key(name)] for name in only}
    kept = {case: text for case, text in labels.items() if text is None or text in wanted}
    others = some(sorted(present - wanted, key=natural))
    count = len(labels) - len(kept)
    note = f"{count} cases of other classes than were asked for are left out: {others}"
    return kept, note if others else ""


def _findings(raw: Mapping[str, str | None], where: str) -> ClassLabels:
    """Return findings of a column of "A|B"."""
    written = {
        case: [part for name in text.split(SEPARATOR) if (part := name.strip())]
        for case, text in raw.items()
        if text is not None
    }
    spelled, several = one_spelling(part for found in written.values() for part in found)
    parts = {
        case: [spelled[part] for part in found]
        for case, found in written.items()
        if all(is_known(part) or is_none_word(part) for part in found)
    }
    together = {name for found in parts.values() if len({*found}) > 1 for name in found}
    every = {name for found in parts.values() for name in found}
    nothing = sorted(name for name in every - together if is_none_word(name))
    names = sorted(every.difference(nothing), key=natural)
    if not names:
        raise DataError(
            f"{where} holds no finding ({some(nothing)} only)",
            needed='findings, e.g. "Effusion|Mass"',
            cure="label='COLUMN' for another column",
        )
    _refuse_unusable_classes(every, "multilabel", where)
    labels = {
        case: SEPARATOR.join(name for name in names if name in parts[case])
        if case in parts
        else None
        for case in raw
    }
    notes = (
        _spelling_note(several),
        f"a case has any number of {len(names)} findings: {some(names, shown=6)}",
        f"{some(nothing)} means none of them" if nothing else "",
    )
    return ClassLabels(ClassTable(names=tuple(names), kind="multilabel"), labels, notes)


def labels_of_columns(
    cases: Sequence[Case], chosen: tuple[str, ...], options: LabelOptions
) -> ClassLabels:
    """Make findings of several columns of 0 and 1.

    Raises:
        UsageError: other classes than findings are asked for.
        DataError: a cell is neither yes nor no.
    """
    if options.kind not in {None, "multilabel"}:
        raise UsageError(
            f"{len(chosen)} label columns were named for {options.kind} classes",
            needed="one column",
            cure="classes='multilabel'",
        )
    refuse_for_findings(options)
    labels: dict[str, str | None] = {}
    partly = 0
    for case in cases:
        cells = {name: known_text(case, name).lower() for name in chosen}
        for name, text in cells.items():
            if text and text not in _YES | _NO:
                raise DataError(
                    f"the column {name} holds {known_text(case, name)!r} (case {case.id})",
                    needed=(
                        "0, 1, or nothing where it is not known, for several label columns are a"
                        " finding each"
                    ),
                    cure=f"label={name!r} alone, if its values are the classes",
                )
        held = SEPARATOR.join(name for name, text in cells.items() if text in _YES)
        labels[case.id] = held if all(cells.values()) else None
        partly += any(cells.values()) and not all(cells.values())
    note = f"{partly} cases lack some of the {len(chosen)} findings and are counted as unlabelled"
    table = ClassTable(names=chosen, kind="multilabel")
    return ClassLabels(table, labels, (note if partly else "",))


def _refuse_unusable_classes(names: set[str], kind: ClassKind, where: str) -> None:
    """Refuse a single class, yes and no in several spellings, and too many different values."""
    if len(names) == 1:
        (only,) = names
        unclear = f", or classes='WORD,{only}' where a WORD for not known is a class"
        raise DataError(
            f"{where} holds only {only!r}",
            needed="at least two classes",
            cure="label='COLUMN' for another column" + ("" if kind == "multilabel" else unclear),
        )
    if len(names) > 2 and {name.lower() for name in names} <= _YES | _NO:
        raise DataError(
            f"{where} says yes and no in several ways: {some(sorted(names))}",
            needed="two classes, each written in one way",
            cure="write 1 and 0 throughout",
        )
    if len(names) > MOST_CLASSES:
        measured = by_number(names) is not None
        shown = some(sorted(names, key=natural))
        cure = "write a column that names a class for each range of the number"
        raise DataError(
            f"{where} holds {len(names)} different {'numbers' if measured else 'values'} ({shown})",
            needed=f"a class for each case: at most {MOST_CLASSES} different ones",
            cure=cure if measured else "label='COLUMN' for another column",
        )
