"""The patient of each case: from the table, patients.csv, or a pattern in the case's name.

Nothing is guessed but this: where names come in pairs of a left and a right side (Image_01L,
Image_01R), a pair is one patient. Taking two patients for one costs nothing; taking one for two
would let training see the validation patients.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.layouts.listing import some
from hilum.errors import DataError, UsageError
from hilum.io.text import (
    is_known,
    name_key,
    one_spelling,
    read_table,
    unknown_words,
    with_one_spelling,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case, Dataset

PATIENTS_FILE = "patients.csv"
_SIDED = re.compile(r"^(.*\d)[ _-]?(?:(L|left|OS)|(R|right|OD))$", re.IGNORECASE)
_PAIRED_SHARE = 0.8
"""Share of the cases that must have their other side beside them."""


def with_patients(dataset: Dataset, pattern: str | None) -> Dataset:
    r"""Set the patient of each case, and add the further columns of patients.csv.

    Args:
        dataset: as its layout read it.
        pattern: a regular expression found in the case id; its first group (or the whole match) is
            the patient. "(Image_\d+)" makes the left and right eye Image_01L and Image_01R one
            patient. None takes patients.csv in the data set's folder (columns case, patient) if
            there is one.

    Raises:
        UsageError: the pattern is no regular expression, or is not found in a case id.
        DataError: patients.csv lacks its columns.
    """
    file = dataset.root / PATIENTS_FILE
    rows, notes = read_patients(file) if file.is_file() else ({}, ())
    rows, otherwise = _matched(
        rows, [case.id for case in (*dataset.cases, *dataset.unlabelled)], file
    )
    notes += otherwise
    known = {case: row["patient"] for case, row in rows.items() if row["patient"]}
    if pattern is not None:
        known = _by_pattern(dataset, pattern)
    sides = {} if known or any(case.patient for case in dataset.cases) else _by_sides(dataset)
    known = known or sides
    cases = [_named(case, known, rows) for case in (*dataset.cases, *dataset.unlabelled)]
    strange = [case for case in rows if case not in {case.id for case in cases}]
    if strange:
        notes = (
            *notes,
            (
                f"{len(strange)} of {len(rows)} rows of {file} name no case that is here:"
                f" {some(strange)}"
            ),
        )
    spelled, several = one_spelling(case.patient for case in cases if case.patient is not None)
    cases = [replace(case, patient=spelled.get(case.patient or "", case.patient)) for case in cases]
    count = len(dataset.cases)
    return replace(
        dataset,
        cases=tuple(cases[:count]),
        unlabelled=tuple(cases[count:]),
        notes=(
            *dataset.notes,
            *notes,
            *([f"patients in several spellings: {several}"] if several else []),
            *_sides_note(sides),
        ),
    )


def _matched(
    rows: dict[str, dict[str, str]], ids: Sequence[str], file: Path
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Match rows to cases where only leading zeros, letter case or blanks differ; note it."""
    often = Counter(map(name_key, ids))
    by_key = {name_key(one): one for one in ids if often[name_key(one)] == 1}
    named = {case: case if case in ids else by_key.get(name_key(case), case) for case in rows}
    changed = [case for case, one in named.items() if case != one]
    if not changed or len(set(named.values())) < len(named):
        return rows, ()
    note = (
        f"{len(changed)} of {len(rows)} rows of {file} write their case otherwise: {changed[0]} is"
        f" {named[changed[0]]}"
    )
    return {named[case]: row for case, row in rows.items()}, (note,)


def with_plain_columns(dataset: Dataset) -> Dataset:
    """Write each word of further columns in one spelling; note that and unknown values."""
    cases = (*dataset.cases, *dataset.unlabelled)
    rows, several = with_one_spelling([case.columns for case in cases])
    words = unknown_words(rows, dict.fromkeys(name for row in rows for name in row))
    cases = tuple(replace(case, columns=row) for case, row in zip(cases, rows, strict=True))
    count = len(dataset.cases)
    notes = dataset.notes + _patient_note(dataset.cases) + several + words
    return replace(dataset, cases=cases[:count], unlabelled=cases[count:], notes=notes)


def read_patients(file: Path) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Case id to the row of a table with the columns case and patient, and any others.

    And what was assumed.

    A patient that is not known is "". Rows without a case are passed over.

    Raises:
        DataError: a column is missing, or a case has several rows that differ.
    """
    table = read_table(file)
    case, patient = table.column("case"), table.column("patient")
    if not case or not patient:
        raise DataError(
            f"{file} has the columns {', '.join(table.header)}",
            needed="the columns case and patient",
        )
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        further = {name: text for name, text in row.items() if name not in {case, patient}}
        one = {
            "case": row[case],
            "patient": row[patient] if is_known(row[patient]) else "",
            **further,
        }
        if row[case] and rows.setdefault(row[case], one) != one:
            raise DataError(
                f"{file} has several rows for {row[case]} that differ", needed="one row a case"
            )
    return rows, (*table.notes, *unknown_words(table.rows, [patient]))


def facts_of(
    file: Path, key: str, names: Sequence[str]
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Further facts of each case or patient, by name; and what was assumed.

    Args:
        file: a table such as participants.tsv; one that is not there says nothing.
        key: the column of names; where the table has none of that name, its first.
        names: those that the data set knows; "sub-01" may be written "01".
    """
    if not file.is_file():
        return {}, ()
    table = read_table(file)
    column = table.column(key) or table.header[0]
    known = {name.removeprefix("sub-"): name for name in names}
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        rows.setdefault(known.get(row[column].removeprefix("sub-"), row[column]), row)
    notes = [
        *table.notes,
        *([f"{file} has no column {key}: {column} is taken"] if name_key(column) != key else []),
    ]
    if len(rows) < len(table.rows):
        notes.append(
            f"{len(table.rows) - len(rows)} of {len(table.rows)} rows of {file} name what another"
            " one names: left out"
        )
    strange = sorted(set(rows) - set(names))
    if strange:
        notes.append(
            f"{len(strange)} of {len(rows)} rows of {file} name no case that is here:"
            f" {some(map(repr, strange))}"
        )
    return {
        one: {name: text for name, text in row.items() if name != column}
        for one, row in rows.items()
    }, tuple(notes)


def _by_pattern(dataset: Dataset, pattern: str) -> dict[str, str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"patients={pattern!r} is no regular expression: {error}", needed="e.g. '(Image_\\d+)'"
        ) from error
    found = {case.id: expression.search(case.id) for case in (*dataset.cases, *dataset.unlabelled)}
    missing = [case for case, match in found.items() if match is None]
    if missing:
        raise UsageError(
            f"the pattern {pattern!r} is not in the case ids {some(missing)}",
            needed="a pattern that fits every id",
        )
    return {
        case: match[1] if expression.groups else match[0]
        for case, match in found.items()
        if match is not None
    }


def _by_sides(dataset: Dataset) -> dict[str, str]:
    """Case id to what the names of both its sides share.

    {} unless nearly all cases come in such pairs.
    """
    matches = {case.id: _SIDED.match(case.id) for case in (*dataset.cases, *dataset.unlabelled)}
    stems = {case: match[1] for case, match in matches.items() if match is not None}
    left = {match[1] for match in matches.values() if match is not None and match[2]}
    right = {match[1] for match in matches.values() if match is not None and match[3]}
    paired = sum(stem in left & right for stem in stems.values())
    return stems if paired and paired >= _PAIRED_SHARE * len(matches) else {}


def _sides_note(sides: dict[str, str]) -> tuple[str, ...]:
    if not sides:
        return ()
    one, *_ = sides
    found = (
        "cases come in pairs of a left and a right side, and each pair counts as one patient"
        f" ({one} is of {sides[one]})"
    )
    return (
        (
            f"{found}; if that is wrong, name them in {PATIENTS_FILE} (columns case, patient) in"
            " the folder, or by --patients"
        ),
    )


def _named(case: Case, known: Mapping[str, str], rows: Mapping[str, Mapping[str, str]]) -> Case:
    further = {
        name: text
        for name, text in rows.get(case.id, {}).items()
        if name not in {"case", "patient"}
    }
    return replace(
        case, patient=known.get(case.id, case.patient), columns={**further, **case.columns}
    )


def _patient_note(cases: tuple[Case, ...]) -> tuple[str, ...]:
    unknown = sum(case.patient is None for case in cases)
    if not unknown:
        return ()
    which = (
        "the patients are not known"
        if unknown == len(cases)
        else f"the patients of {unknown} cases are not known"
    )
    cure = (
        f"if some are of one patient, name them in {PATIENTS_FILE} (columns case, patient) in the"
        " folder"
    )
    return (f"{which}, so each case counts as one patient; {cure}",)
