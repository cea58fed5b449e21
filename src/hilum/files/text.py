"""Tables and JSON of other programs in any usual encoding, and words for "not known".

What hilum itself wrote and reads back (run.json, a manifest) is UTF-8; everything else is read
here.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import whitespace
from typing import TYPE_CHECKING

from hilum.errors import DataError, FormatError
from hilum.files.placeholder import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NOT_KNOWN = frozenset(
    (  # of people, R, Python, JSON, SQL; of registries (TCGA's [Not Available]); of forms and
        # JavaScript; \N of SQL; C's 1.#IND, Excel's #VALUE!
        *("", "na", "nan", "none", "null", "nil", "nat", "unknown", "missing", "notknown"),
        *("notavailable", "notapplicable", "notreported", "notspecified"),
        *("notrecorded", "notassessed", "notstated", "notdetermined", "notdone", "nodata"),
        *("undefined", "\\n"),
        *("1ind", "1qnan", "value!", "ref!", "div0!", "num!", "null!"),
    )
)
_MARKS = re.compile(r"[\s<>()\[\]{}#/._?'\-–—−…]")
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_BLANKS = f"{whitespace}\u00a0\u2007\u202f{_INVISIBLE}"
"""Characters cut from the ends of cells: blanks, and characters without a width that web pages and
spreadsheets leave."""
_JOINT = re.compile(r"(?<=\w)(?:[\s_]+|-)(?=\w)")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*\r?\n?', re.IGNORECASE)
_FORMULA_TEXT = re.compile(r'^="(.*)"$', re.DOTALL)
_WHOLE = re.compile(r"[+-]?\d{1,999}(\.0*)?")  # int() refuses more than 4300 digits
_DECIMAL = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
_END = "\0"
"""A last line that no text has; where it is not read back as a row, a quotation mark was never
closed."""


def is_known(text: str) -> bool:
    """Return True if a cell holds a value: it is not blank, and no usual word for "not known".

    Letter case, blanks and the signs < > ( ) [ ] { } # / . _ ? ' - do not count: NA, N/A, n.a.,
    <NA>, #N/A, nan, NaT, None, null, -, --, ?, ., unknown, missing, not known, not available, not
    applicable, not reported, and the errors of Excel's formulas (the full list is `_NOT_KNOWN`).
    Numbers that stand for "not known" in some studies (-1, 9, 999) are numbers.
    """
    return _MARKS.sub("", text.casefold()) not in _NOT_KNOWN


def not_known(cells: Iterable[str]) -> str:
    """Count the cells without a value, by word: "20 of 60 not known ('NA' 12, blank 8)".

    "" where all have one.
    """
    texts = [cell.strip() for cell in cells]
    words = Counter(text for text in texts if not is_known(text))
    if not words:
        return ""
    shown = ", ".join(
        f"{word!r} {count}" if word else f"blank {count}" for word, count in words.most_common()
    )
    return f"{words.total()} of {len(texts)} not known ({shown})"


def unknown_words(rows: Sequence[Mapping[str, str]], columns: Iterable[str]) -> tuple[str, ...]:
    """List in one sentence the columns in which a word stands for "not known"; () if none does.

    Blank cells need no mention.
    """
    said = []
    for column in columns:
        cells = [row.get(column, "") for row in rows]
        if any(cell.strip() and not is_known(cell) for cell in cells):
            said.append(f"{column}: {not_known(cells)}")
    return ("; ".join(said),) if said else ()


def one_spelling(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Choose one spelling for each name; with a sentence on names that had several, or "".

    The most frequent spelling stays, of 1.0 without the fraction. Spellings are one name where
    `name_key` is the same, blanks, underscores and hyphens within it being alike: non-ill, non_ill,
    Non ill.
    """
    spellings: dict[str, Counter[str]] = {}
    for name, count in Counter(names).items():
        spellings.setdefault(_JOINT.sub(" ", name_key(name)), Counter())[name] = count
    chosen: dict[str, str] = {}
    several = []
    for found in spellings.values():
        name = found.most_common(1)[0][0]
        name = name.partition(".")[0] if _WHOLE.fullmatch(name) else name
        chosen |= dict.fromkeys(found, name)
        if len(found) > 1:
            counts = ", ".join(f"{one!r} {count}" for one, count in found.most_common())
            several.append(f"{counts} count as {name!r}")
    return chosen, "; ".join(several)


def with_one_spelling(
    rows: Sequence[Mapping[str, str]],
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Write each column's words in one spelling; with a sentence on columns that had several.

    Columns in which most values differ hold names, such as those of files, and stay as they are.
    """
    chosen: dict[str, dict[str, str]] = {}
    notes = []
    for column in dict.fromkeys(name for row in rows for name in row):
        words = [row[column] for row in rows if is_known(row.get(column, ""))]
        spelled, several = one_spelling(words)
        if several and 2 * len(set(spelled.values())) <= len(words):
            chosen[column] = spelled
            notes.append(f"{column} in several spellings: {several}")
    spelt = [
        {name: chosen.get(name, {}).get(text, text) for name, text in row.items()} for row in rows
    ]
    return spelt, tuple(notes)


def name_key(text: str) -> str:
    """Return the key that spellings of one name share: no letter case, blanks or coding of accents.

    1.0 and 01 are 1.
    """
    if _WHOLE.fullmatch(text.strip()):
        return str(int(text.partition(".")[0]))
    return " ".join(unicodedata.normalize("NFC", text).strip(_BLANKS).casefold().split())


def read_text(path: Path | str) -> str:
    """Decode a text file: by its byte order mark, else UTF-8, UTF-16, or Windows-1252.

    Line ends stay as they are.

    Raises:
        FormatError: it cannot be read, or is no text.
    """
    return _decode(Path(path))[0]


def read_json(path: Path | str) -> object:
    """Parse a JSON file.

    Raises:
        FormatError: the file is not JSON, or one object in it has two values of one name.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path} is not JSON: {error}",
            needed="a JSON document",
            cure=f"python -m json.tool '{path}' shows the place",
        ) from error


@dataclass(frozen=True)
class Table:
    """A table with one header.

    Args:
        header: the columns' names, without blanks around them; no two are the same but for letter
            case and blanks.
        rows: each row's text by column, without blanks around it; "" where a row ends early.
        lines: the line of the file in which each row ends.
        notes: what was assumed or left out.
    """

    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    notes: tuple[str, ...]

    def column(self, *names: str) -> str:
        """Find the first of these columns that the table has, whatever its letter case.

        "" where it has none.
        """
        known = {name_key(name): name for name in self.header}
        return next((known[name] for name in names if name in known), "")


_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")


def refuse_spreadsheet(path: Path | str) -> None:
    """Refuse a file of Excel or LibreOffice where a table is needed.

    Raises:
        FormatError: it is one.
    """
    if Path(path).suffix.lower() in _SPREADSHEETS:
        raise FormatError(
            f"{path} is a spreadsheet, which hilum does not read",
            needed="a table as text: CSV or TSV",
            cure=(
                f"save the sheet as {Path(path).with_suffix('.csv').name} (in Excel: Save As, CSV"
                " UTF-8) and give that"
            ),
        )


def rows_of_one_name(table: Table, column: str) -> str:
    """List values of a column that stand in several rows, with their lines; "" where none does."""
    lines: dict[str, list[int]] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        lines.setdefault(row[column], []).append(line)
    twice = [
        f"{name} (lines {', '.join(map(str, held[:5]))})"
        for name, held in lines.items()
        if len(held) > 1
    ]
    return ", ".join(twice[:3]) + (f" and {len(twice) - 3} more" if len(twice) > 3 else "")


def read_header(path: Path | str) -> tuple[str, ...]:
    """Read the names of a table's columns, without its rows; () of an empty file.

    Raises:
        FormatError: the file cannot be read, or is no text.
    """
    text, delimiter, _ = _split_head(Path(path), read_text(path))
    rows = _rows(text, delimiter, 1)
    return tuple(name for name in rows[0][1] if name) if rows else ()


def read_table(path: Path | str) -> Table:
    """Read a table as spreadsheets, pandas, R and people write it.

    Cells are parted by commas, semicolons, tabs or bars, whichever the header has most of, or as
    Excel's first line `sep=;` says. Rows without any text are left out, and so are columns without
    a name, such as the index of pandas and R. Where commas do not part the cells, a column of
    numbers with decimal commas is written with points. Excel's ="007" is the text 007.

    Raises:
        FormatError: the file cannot be read, or is no text.
        DataError: it is empty, two columns have one name, a row is longer than the header, or a
            quotation mark is not closed.
    """
    file = Path(path)
    text, notes = _decode(file)
    text, delimiter, first = _split_head(file, text)
    try:
        rows = _rows(f"{text}\n{_END}", delimiter)
    except csv.Error as error:
        raise DataError(
            f"{file} cannot be read as a table: {error}",
            needed="a CSV file",
            cure="save it again as CSV",
        ) from error
    if rows.pop()[1] != [_END]:
        raise DataError(
            f"{file} has a quotation mark that is opened and never closed",
            needed="quotation marks in pairs",
            cure='remove it, or write "" for one that belongs to the text',
        )
    if not rows:
        raise DataError(
            f"{file} is empty",
            needed="a line with the columns' names, and one row a case",
            cure="save the table again",
        )
    (_, header), *body = rows
    numbered = enumerate((cells for _, cells in body), start=1)
    if all(len(cells) == len(header) + 1 and cells[0] == str(row) for row, cells in numbered):
        header = ["", *header]  # R's write.table gives the column of row numbers no name
    lines = tuple(line + first for line, _ in body)
    _refuse_faults(file, header, dict(zip(lines, (cells for _, cells in body), strict=True)))
    full = [cells + [""] * (len(header) - len(cells)) for _, cells in body]
    short = [line for line, (_, cells) in zip(lines, body, strict=True) if len(cells) < len(header)]
    if short:
        notes.append(
            f"{file.name}: {len(short)} rows end early (the first in line {short[0]}): the cells"
            " they lack are not known"
        )
    columns: dict[str, Sequence[str]] = {}
    for number, name in enumerate(header):
        cells = [row[number] for row in full]
        if name:
            known = (cell for cell in cells if is_known(cell))
            commas = delimiter != "," and all(_DECIMAL.fullmatch(cell) for cell in known)
            columns[name] = [cell.replace(",", ".") for cell in cells] if commas else cells
            if columns[name] != cells:
                notes.append(f"{file.name}: the commas in the numbers of {name} are decimal commas")
        elif any(cells):
            notes.append(f"{file.name}: a column without a name (column {number + 1}) is left out")
    records = [{name: cells[row] for name, cells in columns.items()} for row in range(len(full))]
    return Table(tuple(columns), tuple(records), lines, tuple(notes))


def _decode(file: Path) -> tuple[str, list[str]]:
    """Decode a file's text, with a note where its encoding had to be assumed."""
    try:
        refuse_placeholder(file)
        data = file.read_bytes()
    except OSError as error:
        raise FormatError(
            f"{file} cannot be read: {error.strerror}",
            needed="a file that can be read",
            cure="check that it exists, and its permissions",
        ) from error
    encoding, text = _encoding(data), "\0"
    with suppress(UnicodeDecodeError):
        text = data.decode(encoding)
    if "\0" in text:
        raise FormatError(
            f"{file} is no text in an encoding that hilum knows",
            needed="text in UTF-8, UTF-16 or Windows-1252",
            cure="save it again as UTF-8 (in Excel: CSV UTF-8)",
        )
    note = f"{file.name} is not UTF-8: it is read as Windows-1252"
    return text.lstrip("\ufeff"), [note] if encoding == "cp1252" else []


def _encoding(data: bytes) -> str:
    """Find the encoding of a text by its byte order mark or its bytes."""
    for mark, name in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    if data.count(0) > len(data) / 10:  # the high bytes of UTF-16's digits, commas and line ends
        return "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    with suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return "utf-8"
    return "cp1252"


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build a JSON object of distinct names.

    Python's own reader would keep the last of two values of one name without a word.
    """
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{name!r} stands there twice in one object")
    return dict(pairs)


def _split_head(file: Path, text: str) -> tuple[str, str, int]:
    """Return a table's text without Excel's `sep=;`, its delimiter, and the lines removed."""
    separator = _SEPARATOR_LINE.match(text)
    if separator is not None:
        return text[separator.end() :], separator[1], 1
    return text, _delimiter(text, "\t,;|" if file.suffix.lower() == ".tsv" else ",;\t|"), 0


def _rows(text: str, delimiter: str, most: int | None = None) -> list[tuple[int, list[str]]]:
    """Read the rows that hold any text, each with the line it ends in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    stripped = (
        (reader.line_num, [_FORMULA_TEXT.sub(r"\1", cell.strip(_BLANKS)) for cell in row])
        for row in reader
    )
    return list(islice(((line, cells) for line, cells in stripped if any(cells)), most))


def _delimiter(text: str, candidates: str) -> str:
    """Find the delimiter that separates the most cells, in header and first row alike."""

    def cells(delimiter: str) -> tuple[int, int]:
        try:
            counts = [len(row) for _, row in _rows(text, delimiter, 2)]
        except csv.Error:
            return 0, 0
        return (min(counts), counts[0]) if counts else (0, 0)

    return max(candidates, key=cells)


def _refuse_faults(file: Path, header: Sequence[str], rows: dict[int, list[str]]) -> None:
    """Raise where columns share a name or a row is too long."""
    keys = Counter(name_key(name) for name in header if name)
    twice = [name for name in header if keys[name_key(name)] > 1]
    if twice:
        raise DataError(
            f"{file} has columns of one name: {', '.join(map(repr, twice))}",
            needed="names that differ in more than letter case and blanks",
            cure="rename or remove one of them",
        )
    long = {line: cells for line, cells in rows.items() if any(cells[len(header) :])}
    if long:
        line, cells = next(iter(long.items()))
        raise DataError(
            f"{file}, line {line}: {len(cells)} cells below {len(header)} columns ({len(long)} rows"
            " are too long)",
            needed="a row of at most as many cells as the header",
            cure=(
                "put a text that holds the delimiter into quotation marks; the first line must be"
                " the columns' names"
            ),
        )
