"""Whose study each case is: from the table, from patients.csv, or from a pattern in the case's name; never a guess."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hilum.dataset.layouts.listing import some
from hilum.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset.case import Case, Dataset

PATIENTS_FILE = "patients.csv"


def with_patients(dataset: Dataset, pattern: str | None) -> Dataset:
    r"""The data set with the patient of each case, and a note where none is known.

    Args:
        dataset: as its layout read it.
        pattern: a regular expression found in the case id; its first group (or the whole match) is the patient. "(Image_\d+)"
            makes the left and right eye Image_01L and Image_01R one patient. None reads patients.csv in the data set's folder
            (columns case, patient) if there is one.

    Raises:
        UsageError: the pattern is no regular expression, or is not found in a case id.
        DataError: patients.csv lacks its columns.
    """
    if pattern is not None:
        known = _by_pattern(dataset, pattern)
    else:
        file = dataset.root / PATIENTS_FILE
        known = read_patients(file) if file.is_file() else {}
    cases = tuple(_named(case, known) for case in dataset.cases)
    unlabelled = tuple(_named(case, known) for case in dataset.unlabelled)
    return replace(dataset, cases=cases, unlabelled=unlabelled, notes=dataset.notes + _patient_note(cases))


def read_patients(file: Path) -> dict[str, str]:
    """Case id to patient, from a CSV file with the columns case and patient.

    Raises:
        DataError: a column is missing.
    """
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        if not {"case", "patient"} <= columns:
            raise DataError(f"{file} has the columns {sorted(columns)}", needed="the columns case and patient")
        return {row["case"].strip(): row["patient"].strip() for row in reader if row["patient"]}


def _by_pattern(dataset: Dataset, pattern: str) -> dict[str, str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"patients={pattern!r} is no regular expression: {error}", needed="e.g. '(Image_\\d+)'") from error
    found = {case.id: expression.search(case.id) for case in (*dataset.cases, *dataset.unlabelled)}
    missing = [case for case, match in found.items() if match is None]
    if missing:
        raise UsageError(f"the pattern {pattern!r} is not in the case ids {some(missing)}", needed="a pattern that fits every id")
    return {case: match[1] if expression.groups else match[0] for case, match in found.items() if match is not None}


def _named(case: Case, known: dict[str, str]) -> Case:
    return replace(case, patient=known[case.id]) if case.id in known else case


def _patient_note(cases: tuple[Case, ...]) -> tuple[str, ...]:
    unknown = sum(case.patient is None for case in cases)
    if not unknown:
        return ()
    which = "the patients are not known" if unknown == len(cases) else f"the patients of {unknown} cases are not known"
    cure = f"if some are of one patient, name them in {PATIENTS_FILE} (columns case, patient) in the folder"
    return (f"{which}, so each case counts as one patient; {cure}",)
