"""The split that a data set brings: nnU-Net's splits_final.json, or a column of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hilum.dataset.case import Dataset, Fold
from hilum.errors import DataError, FormatError, some
from hilum.files.text import is_known, name_key, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SPLITS_FILE = "splits_final.json"
FOLD_COLUMNS = ("fold", "split")
_TRAIN = {"train", "training", "tr", "trn"}
_VALIDATION = {"val", "valid", "validation", "va", "vl", "dev", "development"}
_TEST = {"test", "testing", "te", "tst", "ts", "holdout", "hold-out", "heldout", "held-out"}


class _Sides(BaseModel):
    train: list[object]
    val: list[object]


_FOLDS = TypeAdapter(Annotated[list[_Sides], Field(min_length=1)])


@dataclass(frozen=True)
class ColumnSplit:
    """The split that a column gives.

    Args:
        folds: () where it says nothing of them.
        tests: cases of the test part: in no fold.
        notes: what is to be said of it.
    """

    folds: tuple[Fold, ...] = ()
    tests: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def splits_file(root: Path) -> Path | None:
    """Find a data set's splits_final.json: in it, beside it, or in nnUNet_preprocessed.

    Args:
        root: the folder of the data set.
    """
    candidates = (
        root / SPLITS_FILE,
        root.parent / f"{root.name}_{SPLITS_FILE}",
        root.parent / SPLITS_FILE,
        root.parent.parent / "nnUNet_preprocessed" / root.name / SPLITS_FILE,
    )
    return next((file for file in candidates if root.is_dir() and file.is_file()), None)


def read_splits(file: Path) -> tuple[Fold, ...]:
    """Parse a splits_final.json: a list of {"train": [case, ...], "val": [case, ...]}.

    Raises:
        FormatError: it is something else.
    """
    try:
        folds = _FOLDS.validate_python(read_json(file))
    except ValidationError as error:
        raise FormatError(
            f"{file} is no list of folds",
            needed='[{"train": ["case_1", ...], "val": ["case_2", ...]}, ...]',
            cure=f"correct {file}, or remove it: hilum then makes folds by patient",
        ) from error
    return tuple(Fold(tuple(map(str, one.train)), tuple(map(str, one.val))) for one in folds)


def with_split_column(dataset: Dataset) -> Dataset:
    """Take folds and test cases from a column fold or split, unless there is a split.

    Raises:
        DataError: see `folds_from_column`.
    """
    if dataset.splits or dataset.tests:
        return dataset
    known = {name_key(name): name for case in dataset.cases for name in case.columns}
    column = next((known[name] for name in FOLD_COLUMNS if name in known), None)
    if column is None:
        return dataset
    return with_parts(dataset, {case.id: case.columns.get(column, "") for case in dataset.cases})


def with_parts(dataset: Dataset, parts: Mapping[str, str]) -> Dataset:
    """Take folds and test cases from what is said of each case, as `folds_from_column` does."""
    split = folds_from_column(parts)
    return replace(dataset, splits=split.folds, tests=split.tests).with_notes(*split.notes)


def with_given_splits(dataset: Dataset) -> Dataset:
    """Take the folds of splits_final.json, if there is one and no other split.

    Cases that the split names and the data set has not are dropped from the folds, and a note says
    so. A file beside the folder that names none of its cases belongs to another data set and is
    passed over.

    Raises:
        DataError: the file in the data set's own folder names none of its cases, or leaves a fold
            without cases.
    """
    if dataset.splits:
        return _keep_known_cases(dataset, dataset.splits, "the data set itself")
    file = splits_file(dataset.root)
    if file is None:
        return dataset
    folds = read_splits(file)
    known = {case.id for case in dataset.cases}
    if file.parent != dataset.root and not known & _named_cases(folds):
        return dataset
    return _keep_known_cases(dataset, folds, str(file))


def _named_cases(folds: tuple[Fold, ...]) -> set[str]:
    return {case for fold in folds for case in (*fold.train, *fold.validation)}


def _keep_known_cases(dataset: Dataset, folds: tuple[Fold, ...], source: str) -> Dataset:
    """Set a given split, without the cases that the data set does not have."""
    known, named = {case.id for case in dataset.cases}, _named_cases(folds)
    kept = tuple(
        Fold(tuple(sorted(known & {*fold.train})), tuple(sorted(known & {*fold.validation})))
        for fold in folds
    )
    if any(not fold.train or not fold.validation for fold in kept):
        raise DataError(
            f"a fold of {source} has no training or no validation case in {dataset.root}",
            needed="folds that name cases of this data set",
            cure=f"correct or remove {source}",
        )
    gone, free = sorted(named - known), sorted(known - named)
    plural = "s" if len(kept) > 1 else ""
    return replace(dataset, splits=kept).with_notes(
        f"the split is the one given by {source}: {len(kept)} fold{plural}",
        f"the split names cases that are not here, they are left out: {some(gone)}" * bool(gone),
        f"{len(free)} cases are in no fold of the split: {some(free)}" * bool(free),
    )


def folds_from_column(values: Mapping[str, str]) -> ColumnSplit:
    """Folds from a table's fold or split column.

    Numbers are folds: fold k validates on the cases marked k and trains on all others. Words are
    the parts of one split: train, val, test. Test cases are in no fold, whatever the others are
    marked with; without a part to validate on the others are split.

    Args:
        values: case id to the column's value; cases whose value is not known are in no fold.

    Raises:
        DataError: some values are parts, and some are not.
    """
    given = {case: name_key(value) for case, value in values.items() if is_known(value)}
    tests = frozenset(case for case, value in given.items() if value in _TEST)
    notes = (f"{len(tests)} test cases are in no fold",) if tests else ()
    given = {case: value for case, value in sorted(given.items()) if case not in tests}
    words = set(given.values())
    if words & (_TRAIN | _VALIDATION):
        if not words <= _TRAIN | _VALIDATION:
            raise DataError(
                f"the column of the split holds {', '.join(sorted(words))}",
                needed="train, val and test, or a number for each fold",
                cure="write train, val or test for each case; one left blank is in no fold",
            )
        train = tuple(case for case, value in given.items() if value in _TRAIN)
        validation = tuple(case for case, value in given.items() if value in _VALIDATION)
        return ColumnSplit((Fold(train, validation),) if train and validation else (), tests, notes)
    if len(words) < 2:
        return ColumnSplit((), tests, notes)
    order = sorted(words, key=lambda word: (not word.isdigit(), word.isdigit() * len(word), word))
    sides = [{case for case, value in given.items() if value == word} for word in order]
    folds = (
        Fold(tuple(case for case in given if case not in held), tuple(sorted(held)))
        for held in sides
    )
    return ColumnSplit(tuple(folds), tests, notes)
