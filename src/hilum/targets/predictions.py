r"""predictions.csv: one row a case, exact, and readable in any spreadsheet.

::

    case, patient, unit, label, fold, predicted, p_benign, p_malignant, calibrated_benign,
    calibrated_malignant, set, certain, refuse, distance, age, ...

Probabilities are written so that the very same numbers are read. A cell is empty where something is
not known; a "no finding" or an empty set, which are known, are written "|". Several names in a cell
stand as "Effusion|Mass"; a "|" or "\" that belongs to a name is written "\|" or "\\". A further
column whose name would be mistaken for one of ours gets the prefix "column_". "unit" is there where
near-duplicates were looked for: cases of one unit are resampled together, as those of one patient
are. "predicted" is for people: it follows from the rest and is not read. What the classes are
(`ClassTable`) lies beside it in classes.json, as labels.json lies beside label maps.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset import ClassTable
from hilum.dataset.channels import plain_name
from hilum.dataset.layouts.class_order import is_none_word
from hilum.errors import DataError, UsageError
from hilum.files import OutputFolder
from hilum.files.text import (
    Table,
    is_known,
    name_key,
    read_json,
    read_table,
    read_text,
    rows_of_one_name,
)
from hilum.targets.class_score import ClassScore, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PREDICTIONS, CLASSES = "predictions.csv", "classes.json"
SEPARATOR = "|"
_FIRST = ("case", "patient", "unit", "label", "fold", "predicted")
_LAST = ("set", "certain", "refuse", "distance")
_OWN = {"case", "patient", "label", "fold", "predicted", "set", "refuse", "distance"}
_PROBABILITY, _CALIBRATED, _FURTHER = "p_", "calibrated_", "column_"
_TRUTH: dict[str, bool | None] = {"": None, "yes": True, "no": False}


def write_predictions(scores: Iterable[ClassScore], table: ClassTable, path: Path | str) -> None:
    """Write predictions.csv, and classes.json beside it.

    A further column that only some cases have is written empty for the others, and read as "".

    Args:
        scores: one a case.
        table: what the probabilities are of.
        path: the file, or the folder that is to hold predictions.csv.

    Raises:
        DataError: a case has not one probability a class.
        UsageError: a file that hilum did not write is in the way.
        ResourceError: the file cannot be written, or another process writes to the folder.
    """
    file = predictions_file(path)
    with OutputFolder(file.parent, "predict") as out:
        out.write(
            {
                CLASSES: table.model_dump_json(indent=2) + "\n",
                file.name: predictions_text(tuple(scores), table),
            }
        )


def in_file_names(table: ClassTable) -> dict[str, str]:
    """Turn each class's name into a part of a file's: letters and digits stay, the rest is "-".

    Where that is the same of several classes ("ER+" and "ER-"), also for file systems that take
    small and capital letters for one, their numbers in the table follow: "ER--0" and "ER--1".
    """
    plain = {
        name: "".join(letter if letter.isalnum() else "-" for letter in name)
        for name in table.names
    }
    numbered = {name: f"{part}-{number}" for number, (name, part) in enumerate(plain.items())}
    often = Counter(part.casefold() for part in plain.values())
    some_numbered = {
        name: numbered[name] if often[part.casefold()] > 1 else part for name, part in plain.items()
    }
    unique = len({part.casefold() for part in some_numbered.values()}) == len(plain)
    return some_numbered if unique else numbered  # a class may be called "ER--0" itself


def predictions_file(path: Path | str) -> Path:
    """Return the table itself, where a folder may have been named."""
    place = Path(path)
    is_table = place.suffix.lower() in {".csv", ".tsv"} and not place.is_dir()
    return place if is_table else place / PREDICTIONS


def predictions_text(scores: Sequence[ClassScore], table: ClassTable) -> str:
    """Return the table as text.

    Raises:
        DataError: a case has not one probability a class.
    """
    for score in scores:
        if len(score.probabilities) != len(table.names):
            raise DataError(
                f"case {score.case} has {len(score.probabilities)} probabilities",
                needed=f"one for each of {', '.join(table.names)}",
                cure="predict again with a model of these classes",
            )
    further = tuple(dict.fromkeys(name for score in scores for name in score.columns))
    rows = [
        {**_row(score, table), **{_safe(name): score.columns.get(name, "") for name in further}}
        for score in scores
    ]
    header = [
        *_FIRST,
        *(prefix + name for prefix in (_PROBABILITY, _CALIBRATED) for name in table.names),
        *_LAST,
        *map(_safe, further),
    ]
    if all(score.calibrated is None for score in scores):
        header = [name for name in header if name not in {_CALIBRATED + one for one in table.names}]
    for optional in ("unit", "certain"):
        if all(getattr(score, optional) is None for score in scores):
            header.remove(optional)
    cells = [header, *([row[name] for name in header] for row in rows)]
    text = io.StringIO()
    # the csv module would leave a carriage return bare
    awkward = any("\r" in cell for row in cells for cell in row)
    writer = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if awkward else csv.QUOTE_MINIMAL
    )
    writer.writerows(cells)
    return text.getvalue()


def _row(score: ClassScore, table: ClassTable) -> dict[str, str]:
    """Return the cells of one case in hilum's own columns; the data set's stand beside them."""
    row = {
        "case": score.case,
        "patient": score.patient or "",
        "unit": score.unit or "",
        "label": _write_known(score.reference),
        "fold": "" if score.fold is None else str(score.fold),
        "predicted": _join(called_classes(score, table)) or "",
        "set": _write_known(_join(score.prediction_set)),
        "certain": _write_known(_join(score.certain)),
        "refuse": next(word for word, value in _TRUTH.items() if value is score.refuse),
        "distance": "" if score.distance is None else repr(score.distance),
    }
    for prefix, values in ((_PROBABILITY, score.probabilities), (_CALIBRATED, score.calibrated)):
        for number, name in enumerate(table.names):
            row[prefix + name] = "" if values is None else repr(values[number])
    return row


def called_classes(score: ClassScore, table: ClassTable) -> tuple[str, ...]:
    """Name the classes that are called for one case, see `decide`."""
    chosen = decide(np.array([score.best]), table)[0]
    return tuple(name for name, yes in zip(table.names, chosen, strict=True) if yes)


def read_predictions(path: Path | str, table: ClassTable | None = None) -> tuple[ClassScore, ...]:
    """Read a table of predictions: one that `write_predictions` wrote, or any with p_<class>.

    Args:
        path: the file, or the folder that holds predictions.csv.
        table: the classes in whose order probabilities are wanted; None keeps the order of the
            columns.

    Raises:
        UsageError: there is no such file.
        DataError: a column is missing or of no class, a case occurs twice, or a row is damaged;
            line and file are named.
    """
    file = predictions_file(path)
    if not file.is_file():
        raise UsageError(
            f"{file.parent} has no {file.name}",
            needed="a table with the columns case and p_<class>",
            cure="`hilum predict MODEL INPUT -o FOLDER` with a classifier writes one",
        )
    rows = _own_rows(file) or _rows_of_others(file)
    names = _class_names(rows.header, file, table)
    scores = []
    for row, line in zip(rows.rows, rows.lines, strict=True):
        try:
            score = _score(row, names)
            if table is not None and score.reference not in names:
                label = spelled_label(score.reference, table)
                score = score.model_copy(update={"reference": label})
            scores.append(score)
        except DataError as error:
            raise DataError(
                f"{file}, line {line}: {error.found}", needed=error.needed, cure=error.cure
            ) from error
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{file}, line {line}: {error}",
                needed="a row as `hilum predict` writes it",
                cure="predict again, or restore the row",
            ) from error
    cases = [score.case for score in scores]
    if len(set(cases)) < len(cases):
        raise DataError(
            f"{file} has several rows for {rows_of_one_name(rows, rows.column('case'))}",
            needed="one row a case",
            cure="remove the others",
        )
    return tuple(scores)


def spelled_label(label: str | None, table: ClassTable) -> str | None:
    """Spell a label as the classes are, whatever its letter case and blanks.

    None where it is not known.
    """
    if label is None or not label.strip(SEPARATOR):
        return label and ""
    often = Counter(map(plain_name, table.names))
    names = {plain_name(name): name for name in table.names if often[plain_name(name)] == 1}
    several = table.kind == "multilabel"
    parts = [part.strip() for part in label.split(SEPARATOR)] if several else [label]
    found = [part if part in table.names else names.get(plain_name(part), part) for part in parts]
    if several:
        found = [part for part in found if part in table.names or not is_none_word(part)]
    known = all(part in table.names or is_known(part) for part in found)
    return SEPARATOR.join(found) if known else None


def _own_rows(file: Path) -> Table | None:
    """Read the table exactly as `write_predictions` wrote it, where blanks count.

    None where the columns are another program's.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    header = next(reader, [])
    if not set(header) >= _OWN or len(set(header)) < len(header):
        return None
    rows, lines = [], []
    for cells in reader:
        if len(cells) != len(header):
            raise DataError(
                f"{file}, line {reader.line_num}: {len(cells)} of {len(header)} cells",
                needed="a row as `hilum predict` writes it",
                cure="predict again, or restore the row",
            )
        rows.append(dict(zip(header, cells, strict=True)))
        lines.append(reader.line_num)
    return Table(tuple(header), tuple(rows), tuple(lines), ())


def _rows_of_others(file: Path) -> Table:
    """Read a table of any program; our own columns are known in any letter case."""
    table = read_table(file)
    ours = {
        name: name.casefold() if name.casefold() in {*_FIRST, *_LAST} else name
        for name in table.header
    }
    rows = tuple({ours[name]: text for name, text in row.items()} for row in table.rows)
    return Table(tuple(ours.values()), rows, table.lines, table.notes)


def reading_notes(path: Path | str) -> tuple[str, ...]:
    """List what reading a table of predictions assumed: encoding, decimal commas, columns."""
    file = predictions_file(path)
    return (_own_rows(file) or _rows_of_others(file)).notes


def read_classes(path: Path | str) -> ClassTable | None:
    """Read the class table in the folder of a predictions.csv; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    file = predictions_file(path).with_name(CLASSES)
    if not file.is_file():
        return None
    try:
        return ClassTable.model_validate(read_json(file))
    except (ValueError, DataError) as error:
        raise DataError(
            f"{file} is no class table: {error}",
            needed="the classes.json that `hilum predict` writes beside predictions.csv",
            cure="predict again, or remove the file: the reference then names the classes",
        ) from error


def named_classes(path: Path | str) -> tuple[str, ...]:
    """List the classes whose probabilities a predictions.csv holds, in column order.

    Raises:
        DataError: it holds none, or no column of cases.
    """
    file = predictions_file(path)
    return tuple(_class_names((_own_rows(file) or _rows_of_others(file)).header, file, None))


def _class_names(header: Sequence[str], file: Path, table: ClassTable | None) -> dict[str, str]:
    """Map each class, in order, to how the columns spell it."""
    found = [
        name.removeprefix(_PROBABILITY) for name in header if re.match(f"{_PROBABILITY}.", name)
    ]
    if "case" not in header or not found:
        raise DataError(
            f"{file} has the columns {', '.join(header)}",
            needed="the columns case and p_<class>",
            cure="give the predictions.csv that `hilum predict` wrote",
        )
    if table is None:
        return {name: name for name in found}
    if set(found) == set(table.names):
        return {name: name for name in table.names}
    spelled = {name_key(name): name for name in found}
    if len(found) != len(table.names) or set(spelled) != {name_key(name) for name in table.names}:
        raise DataError(
            f"{file} has probabilities of {', '.join(found)}",
            needed=f"those of {', '.join(table.names)}",
            cure="predict again with the model whose classes are wanted",
        )
    return {name: spelled[name_key(name)] for name in table.names}


def _score(row: dict[str, str], names: Mapping[str, str]) -> ClassScore:
    """Read one case; `names` are the classes, each with how the columns spell it."""
    calibrated = [row.get(_CALIBRATED + name, "") for name in names.values()]
    label, refuse = row.get("label", ""), row.get("refuse", "")
    fold, distance = row.get("fold", ""), row.get("distance", "")
    if is_known(refuse) and refuse not in _TRUTH:
        raise ValueError(f"refuse is {refuse!r}, neither yes nor no")
    return ClassScore(
        case=row["case"],
        patient=patient if is_known(patient := row.get("patient", "")) else None,
        unit=row.get("unit") or None,
        reference=_plain(label) if label in names.values() or is_known(label) else None,
        fold=int(name_key(fold)) if is_known(fold) else None,
        probabilities=tuple(float(row[_PROBABILITY + name]) for name in names.values()),
        calibrated=tuple(map(float, calibrated)) if any(calibrated) else None,
        prediction_set=_names(row.get("set", "")),
        certain=_names(row.get("certain", "")),
        refuse=_TRUTH[refuse] if is_known(refuse) else None,
        distance=float(distance) if is_known(distance) else None,
        columns={
            name.removeprefix(_FURTHER): text for name, text in row.items() if not _is_ours(name)
        },
    )


def _write_known(text: str | None) -> str:
    """Write a text that may be empty where an empty cell means not known: "|" stands for ""."""
    if text is None:
        return ""
    return text if text.strip(SEPARATOR) else text + SEPARATOR


def _plain(cell: str) -> str:
    return cell if cell.strip(SEPARATOR) else cell[1:]


def _join(names: Sequence[str] | None) -> str | None:
    """Join several names to one text."""
    if names is None:
        return None
    return SEPARATOR.join(
        name.replace("\\", "\\\\").replace(SEPARATOR, "\\" + SEPARATOR) for name in names
    )


def _names(cell: str) -> tuple[str, ...] | None:
    """Return the names in a cell, None of an empty one; what follows a backslash is the name's."""
    if not cell:
        return None
    parts = re.findall(r"(?:\\.|[^|\\])+", _plain(cell), flags=re.DOTALL)
    return tuple(re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)


def _is_ours(name: str) -> bool:
    return name in _FIRST or name in _LAST or name.startswith((_PROBABILITY, _CALIBRATED))


def _safe(name: str) -> str:
    return _FURTHER + name if _is_ours(name) or name.startswith(_FURTHER) else name
