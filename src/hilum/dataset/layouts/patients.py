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

from hilum.dataset.columns import COLUMN_NAMES, find_column, group_notes
from hilum.errors import DataError, UsageError, some
from hilum.files.text import (
    is_known,
    name_key,
    one_spelling,
    read_table,
    unknown_words,
    with_one_spelling,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from hilum.dataset.case import Dataset

    Rows = dict[str, dict[str, str]]
    """The cells of each case or patient, by its name."""

PATIENTS_FILE = "patients.csv"
_SIDED = re.compile(r"^(.*\d)[ _-]?(?:(L|left|OS)|(R|right|OD))$", re.IGNORECASE)
_PAIRED_SHARE = 0.8
"""Share of the cases that must have their other side beside them."""


def with_patients(dataset: Dataset, pattern: str | None) -> Dataset:
    r"""Set the patient of each case, and add the further columns of patients.csv.

    They count before columns of the same name that the layout read, where they hold a value.

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
    ids = [case.id for case in dataset.every]
    file = dataset.root / PATIENTS_FILE
    rows, notes = read_patients(file) if file.is_file() else ({}, ())
    rows, otherwise = _match_rows(rows, ids, file)
    known = {case: row["patient"] for case, row in rows.items() if row["patient"]}
    if pattern is not None:
        known = _by_pattern(ids, pattern)
    paired = ""
    if not known and not any(case.patient for case in dataset.cases):
        known, paired = _patients_by_sides(ids)
    patients = {case.id: known.get(case.id, case.patient) for case in dataset.every}
    spelled, several = one_spelling(name for name in patients.values() if name is not None)
    cases = []
    for case in dataset.every:
        patient, row = patients[case.id], rows.get(case.id, {})
        further = {
            name: text
            for name, text in row.items()
            if name not in {"case", "patient"} and (is_known(text) or name not in case.columns)
        }
        name = None if patient is None else spelled[patient]
        cases.append(replace(case, patient=name, columns={**case.columns, **further}))
    return dataset.with_cases(cases).with_notes(
        *(*notes, otherwise, _strangers(rows, ids, file)),
        f"patients in several spellings: {several}" if several else "",
        paired,
    )


def _match_rows(rows: Rows, ids: Sequence[str], file: Path) -> tuple[Rows, str]:
    """Match rows to cases where only leading zeros, letter case or blanks differ; note it."""
    often = Counter(map(name_key, ids))
    by_key = {name_key(one): one for one in ids if often[name_key(one)] == 1}
    named = {case: case if case in ids else by_key.get(name_key(case), case) for case in rows}
    changed = [case for case, one in named.items() if case != one]
    if not changed or len(set(named.values())) < len(named):
        return rows, ""
    example = f"{changed[0]} is {named[changed[0]]}"
    note = f"{len(changed)} of {len(rows)} rows of {file} write their case otherwise: {example}"
    return {named[case]: row for case, row in rows.items()}, note


def _strangers(rows: Rows, names: Collection[str], file: Path) -> str:
    strange = sorted(set(rows) - set(names))
    found = f"{len(strange)} of {len(rows)} rows of {file} name no case that is here"
    return f"{found}: {some(map(repr, strange))}" if strange else ""


def with_plain_columns(dataset: Dataset) -> Dataset:
    """Write each word of further columns in one spelling; note that and unknown values."""
    rows, several = with_one_spelling([case.columns for case in dataset.every])
    words = unknown_words(rows, dict.fromkeys(name for row in rows for name in row))
    cases = (replace(case, columns=row) for case, row in zip(dataset.every, rows, strict=True))
    unknown = sum(case.patient is None for case in dataset.cases)
    of = "" if unknown == len(dataset.cases) else f" of {unknown} cases"
    patients = (
        f"the patients{of} are not known, so each case counts as one patient; if some are of one"
        f" patient, name them in {PATIENTS_FILE} (columns case, patient) in the folder"
    )
    noted = dataset.with_cases(cases)
    return noted.with_notes(patients if unknown else "", *several, *words)


def read_patients(file: Path) -> tuple[Rows, tuple[str, ...]]:
    """Read a table with a column of cases, one of patients, and any others.

    Rows without a case are passed over.

    Returns:
        Each case's row, by its id, with the cells "case" and "patient" ("" where not known) in
        place of those two columns; and what was assumed.

    Raises:
        DataError: a column is missing, or a case has several rows that differ.
    """
    table = read_table(file)
    case, patient = (find_column(table.header, name) for name in ("case", "patient"))
    if not case or not patient:
        raise DataError(
            f"{file} has the columns {', '.join(table.header)}",
            needed=f"a column of cases ({', '.join(COLUMN_NAMES['case'])}) and one of patients"
            f" ({', '.join(COLUMN_NAMES['patient'])})",
            cure="rename the columns in its first line",
        )
    rows: Rows = {}
    for row in table.rows:
        one = {"case": row[case], "patient": row[patient] if is_known(row[patient]) else ""}
        one |= {name: text for name, text in row.items() if name not in {case, patient}}
        if row[case] and rows.setdefault(row[case], one) != one:
            raise DataError(
                f"{file} has several rows for {row[case]} that differ",
                needed="one row a case",
                cure="remove the rows that are wrong",
            )
    return rows, (*table.notes, *unknown_words(table.rows, [patient]), *group_notes(patient))


def facts_of(file: Path, key: str, names: Sequence[str]) -> tuple[Rows, tuple[str, ...]]:
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
    rows: Rows = {}
    for row in table.rows:
        further = {name: text for name, text in row.items() if name != column}
        rows.setdefault(known.get(row[column].removeprefix("sub-"), row[column]), further)
    twice = len(table.rows) - len(rows)
    other = f"{file} has no column {key}: {column} is taken"
    repeated = f"{twice} of {len(table.rows)} rows of {file} name what another one names: left out"
    notes = (
        *table.notes,
        other if name_key(column) != key else "",
        repeated if twice else "",
        _strangers(rows, names, file),
    )
    return rows, notes


def _by_pattern(ids: Sequence[str], pattern: str) -> dict[str, str]:
    """Find the patient of each case by a pattern in its id; refuse ids without it."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"patients={pattern!r} is no regular expression: {error}",
            needed="a regular expression, whose first group is the patient",
            cure="patients='(Image_\\d+)'",
        ) from error
    matches = {case: match for case in ids if (match := expression.search(case))}
    missing = [case for case in ids if case not in matches]
    if missing:
        raise UsageError(
            f"the pattern patients={pattern!r} is not found in the case ids {some(missing)}",
            needed="a pattern that is found in every case id",
            cure=(
                f"widen the pattern, or leave patients out and name the patients in {PATIENTS_FILE}"
                " (columns case, patient)"
            ),
        )
    group = min(expression.groups, 1)
    return {case: match[group] for case, match in matches.items()}


def _patients_by_sides(ids: Sequence[str]) -> tuple[dict[str, str], str]:
    """Find the patient of each case by what the names of its left and right side share.

    Returns:
        The patient by case, and a note; {} and "" unless nearly all cases come in such pairs.
    """
    matches = {case: match for case in ids if (match := _SIDED.match(case))}
    left, right = ({match[1] for match in matches.values() if match[side]} for side in (2, 3))
    paired = sum(match[1] in left & right for match in matches.values())
    if not paired or paired < _PAIRED_SHARE * len(ids):
        return {}, ""
    example, match = next(iter(matches.items()))
    note = (
        "cases come in pairs of a left and a right side, and each pair counts as one patient"
        f" ({example} is of {match[1]}); if that is wrong, name them in {PATIENTS_FILE} (columns"
        " case, patient) in the folder, or by patients='REGEX'"
    )
    return {case: match[1] for case, match in matches.items()}, note
