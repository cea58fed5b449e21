"""Evaluating a table of predictions: cases matched by id, every fault named at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset import LAYOUTS, ClassTable, Dataset, match_classes, open_dataset
from hilum.dataset.channels import plain_name
from hilum.dataset.columns import find_column, group_notes
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.classification.evaluation import ClassEvaluation, ClassEvaluationRecord
from hilum.evaluation.classification.subgroups import subgroups_of
from hilum.evaluation.classification.summary import summarise_classes
from hilum.evaluation.page import CROSS_VALIDATED, some
from hilum.evaluation.pairing import pair_cases, warn_of_trained_cases
from hilum.files.text import (
    is_known,
    name_key,
    one_spelling,
    read_header,
    read_table,
    refuse_spreadsheet,
    rows_of_one_name,
    unknown_words,
    with_one_spelling,
)
from hilum.targets.predictions import (
    named_classes,
    predictions_file,
    read_classes,
    read_predictions,
    reading_notes,
    spelled_label,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.targets.class_score import ClassScore


@dataclass(frozen=True)
class Labelled:
    """The human's label of one case.

    Args:
        label: the raw label; None where it is not known.
        patient: whose case it is, where that is known.
        columns: what else is known of it.
        unit: what the patient hangs together with, where near-duplicates were looked for.
    """

    label: str | None
    patient: str | None
    columns: Mapping[str, str]
    unit: str | None = None


@dataclass(frozen=True)
class _Reference:
    """References of predictions: cases by id, the classes where known, the assumptions."""

    name: str
    cases: Mapping[str, Labelled]
    table: ClassTable | None
    notes: tuple[str, ...]


def evaluate_classes(  # noqa: PLR0913  (what `EvaluationOptions` has, keyword-only)
    predictions: Path | str,
    reference: Path | str | Dataset,
    out: Path | str,
    *,
    table: ClassTable | None = None,
    positive: str | None = None,
    allow_missing: bool = False,
    threshold: float | None = None,
    subgroups: Sequence[str] | None = None,
    cross_validated: bool = False,
) -> ClassEvaluation:
    """Score every prediction of a table against its label, and write the evaluation.

    Args:
        predictions: a predictions.csv, or the folder that holds one.
        reference: a data set (opened, or where it lies), or a plain table with the columns case and
            label, and perhaps patient and others. A predictions.csv that holds its labels, as
            out-of-fold predictions do, is such a table.
        out: folder for the results.
        table: what the classes are; None takes classes.json beside the predictions, the data set's,
            or else the classes of the table's columns as ones that exclude each other, which
            `notes` says.
        positive: which of two classes is the positive one; None: the second of the table.
        allow_missing: leave reference cases without a prediction out, and name them, instead of
            refusing.
        threshold: an operating point of two classes or of findings, chosen on other cases.
        subgroups: columns whose subgroups are looked at; None takes those that describe a case, see
            `choose_columns`.
        cross_validated: the cases are those of the folds that the models were trained on; so they
            also are where the predictions name the fold of each case.

    Returns:
        The evaluation as it was written.

    Raises:
        UsageError: a file is missing, there is no such column, or a threshold that these classes
            cannot have.
        DataError: predictions are missing, twice there or damaged, or a label is none of the
            classes; such cases are named.
    """
    against = _reference(reference)
    classes, notes = _classes(predictions, against, table)
    classes = _with_positive(classes, positive)
    if against.table is not None:
        match_classes(classes, against.table, where=against.name, holder=str(predictions))
    evaluation = _evaluate(
        read_predictions(predictions, classes),
        classes,
        against,
        predictions,
        allow_missing=allow_missing,
        threshold=threshold,
        subgroups=subgroups,
        cross_validated=cross_validated,
        notes=(*notes, *reading_notes(predictions)),
    )
    evaluation.save(out)
    return evaluation


def evaluate_scores(
    scores: Sequence[ClassScore],
    classes: ClassTable,
    reference: Dataset,
    predictions: Path,
    out: Path,
) -> ClassEvaluation:
    """Evaluate scores in memory as `evaluate_classes` does, with cases without one left out.

    Args:
        scores: one a case.
        classes: what the classes are.
        reference: the data set of the cases.
        predictions: the folder that holds the same scores as predictions.csv, to be named.
        out: folder for the results.

    Raises:
        DataError: a label is none of the classes, or no case has a score.
    """
    against = _of_dataset(reference)
    evaluation = _evaluate(scores, classes, against, predictions, allow_missing=True)
    evaluation.save(out)
    return evaluation


def _evaluate(  # noqa: PLR0913  (options of an evaluation, keyword-only)
    scores: Sequence[ClassScore],
    classes: ClassTable,
    against: _Reference,
    predictions: Path | str,
    *,
    allow_missing: bool,
    threshold: float | None = None,
    subgroups: Sequence[str] | None = None,
    cross_validated: bool = False,
    notes: Sequence[str] = (),
) -> ClassEvaluation:
    """Pair scores with their references by case, and summarise them."""
    known = set(against.cases)
    against = _spell_labels(against, classes)
    scored = {score.case: score for score in scores}
    cases, missing = pair_cases(
        against.cases,
        scored,
        f"of {against.name} have no prediction in {predictions}",
        allow_missing=allow_missing,
        needed="a row for every case",
        other_reference=lambda: (
            f"the predictions are of {some(sorted(scored))}: name the reference of these, or name"
            " the rows after the cases"
        ),
    )
    _refuse_unknown_labels({case: against.cases[case].label or "" for case in cases}, classes)

    paired = [_with_reference(scored[case], against.cases[case]) for case in cases]
    columns, several = with_one_spelling([score.columns for score in paired])
    final = tuple(
        score.model_copy(update={"columns": row})
        for score, row in zip(paired, columns, strict=True)
    )
    cross_validated = cross_validated or all(score.fold is not None for score in final)
    record = ClassEvaluationRecord(
        hilum=version("hilum"),
        predictions=str(predictions),
        reference=against.name,
        missing=missing,
        unexpected=tuple(sorted(set(scored) - known)),
        cross_validated=cross_validated,
        notes=(
            *([CROSS_VALIDATED] if cross_validated else []),
            *warn_of_trained_cases(predictions_file(predictions).parent, cases),
            *against.notes,
            *notes,
            *several,
            *_disagreements([scored[case] for case in cases], against),
        ),
        summary=summarise_classes(final, classes, threshold=threshold),
        subgroups=subgroups_of(final, classes, subgroups),
    )
    return ClassEvaluation(final, record)


def _with_reference(score: ClassScore, labelled: Labelled) -> ClassScore:
    """Return the score with what the reference knows of the case.

    Where the two differ the reference is right.
    """
    known = {
        "reference": labelled.label,
        "patient": labelled.patient if labelled.patient is not None else score.patient,
        "unit": labelled.unit if labelled.unit is not None else score.unit,
        "columns": {**score.columns, **labelled.columns},
    }
    return score.model_copy(update=known)


def _disagreements(scored: Sequence[ClassScore], against: _Reference) -> list[str]:
    """Return a sentence on the cases whose label or patient the predictions give otherwise."""
    differ: dict[str, list[str]] = {"label": [], "patient": []}
    for score in scored:
        known = against.cases[score.case]
        if score.reference is not None and score.reference != known.label:
            differ["label"].append(score.case)
        if None not in (score.patient, known.patient) and score.patient != known.patient:
            differ["patient"].append(score.case)
    return [
        f"the predictions name another {what} for {some(cases)}; that of the reference counts"
        for what, cases in differ.items()
        if cases
    ]


def _refuse_unknown_labels(labels: Mapping[str, str], classes: ClassTable) -> None:
    """Name every case whose label is none of the classes, not only the first."""
    faults: dict[str, LabelError] = {}
    for case, label in labels.items():
        try:
            classes.indicators(label)
        except LabelError as error:
            faults[case] = error
    for first in faults.values():
        raise LabelError(
            some([f"case {case}: {error.found}" for case, error in faults.items()]),
            needed=first.needed,
            cure="evaluate with the class table that belongs to these labels",
        )


def _classes(
    predictions: Path | str, against: _Reference, table: ClassTable | None
) -> tuple[ClassTable, tuple[str, ...]]:
    """Return the classes, and a sentence where they had to be assumed."""
    known = table or read_classes(predictions)
    if known is not None:
        return known, ()
    if not predictions_file(predictions).is_file():
        read_predictions(predictions)  # says what is missing
    names = named_classes(predictions)
    if against.table is None:
        assumption = "classes as found in the predictions, taken to exclude each other"
        return ClassTable(names=names), (f"{assumption}: {', '.join(names)}",)
    columns = against.table.model_copy(update={"names": names})
    matched = match_classes(columns, against.table, where=against.name, holder=str(predictions))
    ordered = dict.fromkeys([*matched.values(), *names])  # those of the reference first
    return columns.model_copy(update={"names": tuple(ordered)}), ()


def _with_positive(classes: ClassTable, positive: str | None) -> ClassTable:
    """Return the classes with the positive one last.

    Raises:
        UsageError: there is no such class, or there are not two.
    """
    if positive is None:
        return classes
    last = [name for name in classes.names if plain_name(name) == plain_name(positive)]
    if not last or not classes.binary:
        raise UsageError(
            f"{positive!r} cannot be the positive class of {', '.join(classes.names)}"
            f" ({classes.kind})",
            needed="one of two classes",
            cure=f"leave out positive={positive!r}",
        )
    others = [name for name in classes.names if name not in last]
    return classes.model_copy(update={"names": (*others, *last)})


def _reference(reference: Path | str | Dataset) -> _Reference:
    """Open what predictions are held to.

    Raises:
        UsageError: it does not exist, or has no labels.
    """
    if isinstance(reference, Dataset):
        return _of_dataset(reference)
    path = Path(reference)
    refuse_spreadsheet(path)
    plain = _plain_table(path)
    if plain is not None:
        return _of_table(plain)
    if path.exists() and not any(layout.recognises(path) for layout in LAYOUTS.values()):
        raise UsageError(
            f"{path} holds no labels and is no data set",
            needed="a table with the columns case and label, or the data set that the cases are of",
            cure="name the data set itself, not a folder of images in it",
        )
    return _of_dataset(open_dataset(path))


def _of_dataset(dataset: Dataset) -> _Reference:
    """Take the labelled cases of a data set as the reference."""
    cases = {
        case.id: Labelled(case.label, case.patient, case.columns)
        for case in dataset.cases
        if case.label is not None
    }
    if not cases:
        raise UsageError(
            f"the cases of {dataset.root} have no classes",
            needed="a classification data set as the reference",
            cure="where a column of its table holds the classes, name that column as the label:"
            " label='COLUMN'",
        )
    return _Reference(str(dataset.root), cases, dataset.classes, dataset.notes)


def _plain_table(path: Path) -> Path | None:
    """Return the file of a plain table, one with cases and labels and no images.

    None for anything else.
    """
    file = path if path.is_file() else predictions_file(path)
    if file.suffix.lower() not in {".csv", ".tsv"} or not file.is_file():
        return None
    header = read_header(file)
    images = any(name.lower().startswith("image_") for name in header)
    if images or find_column(header, "image") or not find_column(header, "case"):
        return None
    return file if "label" in map(name_key, header) else None


def _of_table(file: Path) -> _Reference:
    """Read a table of labels, or of predictions with labels, as the reference."""
    if any(name.startswith("p_") for name in read_header(file)):
        known = [score for score in read_predictions(file) if score.reference is not None]
        cases = {
            score.case: Labelled(score.reference, score.patient, score.columns, score.unit)
            for score in known
        }
        if not cases:
            raise UsageError(
                f"no row of {file} has a label",
                needed="a table of labels as the reference",
                cure=(
                    "fill its column of labels, or give another reference: a table with the"
                    " columns case and label, or the data set"
                ),
            )
        return _Reference(str(file), cases, read_classes(file), ())
    table = read_table(file)
    case, patient = (find_column(table.header, name) for name in ("case", "patient"))
    label = table.column("label")
    further = [name for name in table.header if name not in {case, label, patient}]
    whose = [row[patient] if patient and is_known(row[patient]) else None for row in table.rows]
    spelled, several = one_spelling(filter(None, whose))
    cases = {
        row[case]: Labelled(
            row[label] or None, spelled.get(one or ""), {name: row[name] for name in further}
        )
        for row, one in zip(table.rows, whose, strict=True)
    }
    if len(cases) < len(table.rows):
        raise DataError(
            f"{file} has several rows for {rows_of_one_name(table, case)}",
            needed="one row a case",
            cure="remove the others",
        )
    notes = [*table.notes, *unknown_words(table.rows, [patient, *further] if patient else further)]
    notes += group_notes(patient)
    notes += [f"patients in several spellings: {several}"] if several else []
    notes += [] if any(whose) else ["no patient is known: each case counts as one patient"]
    return _Reference(str(file), cases, None, tuple(notes))


def _spell_labels(against: _Reference, classes: ClassTable) -> _Reference:
    """Spell labels as the classes are spelled, and drop cases whose label is not known."""
    given = {case: one.label for case, one in against.cases.items()}
    spelled = {case: spelled_label(label, classes) for case, label in given.items()}
    changed = Counter(
        (given[case], label) for case, label in spelled.items() if label and label != given[case]
    )
    notes = [*against.notes]
    if changed:
        words = [f"{old!r} {count} as {new!r}" for (old, new), count in changed.items()]
        notes.append(f"labels in another spelling count as the classes: {some(words)}")
    gone = [case for case, label in spelled.items() if label is None]
    if gone:
        words = [*Counter(given[case] or "blank" for case in gone)]
        notes.append(
            f"label: {len(gone)} of {len(spelled)} not known ({', '.join(words)}), and left out:"
            f" {some(gone)}"
        )
    cases = {
        case: replace(against.cases[case], label=label)
        for case, label in spelled.items()
        if label is not None
    }
    return replace(against, cases=cases, notes=tuple(notes))
