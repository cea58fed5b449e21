"""The page of a case as a PDF: who, what was found, pictures, warnings."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet
from hilum.dicom_results.producer import NOT_A_DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from hilum.dicom_results.display import Pixels
    from hilum.dicom_results.repair import SourceImages

    Row = tuple[str, ...]

_A4 = (8.27, 11.69)
"""Inches."""
_LEFT, _RIGHT, _TOP = 0.08, 0.92, 0.94
_LINE = 0.018
"""Height of a line of text as a part of the page."""
_PICTURES = 0.27
"""Height of the row of pictures as a part of the page."""
_ROWS, _MORE_ROWS = 22, 44
"""Rows of the table on the first page, and on each further one."""
_FIELDS = (
    *(("Patient", "PatientName"), ("Patient ID", "PatientID"), ("Born", "PatientBirthDate")),
    *(("Sex", "PatientSex"), ("Study date", "StudyDate"), ("Accession", "AccessionNumber")),
    *(("Study", "StudyDescription"), ("Series", "SeriesDescription")),
)
"""Fields of the source that stand on the page, each as the source has it."""


@dataclass(frozen=True, eq=False)
class Page:
    """The contents of the page of a case.

    Args:
        title: of the page.
        facts: (name, value) of who and what it is about.
        head: names of the table's columns.
        rows: of the table.
        pictures: (Y, X, 3) each.
        warnings: one sentence each.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    head: Row
    rows: tuple[Row, ...]
    pictures: tuple[Pixels, ...]
    warnings: tuple[str, ...] = ()


def source_facts(source: SourceImages) -> tuple[tuple[str, str], ...]:
    """Return the fields of patient and study that the source fills."""
    header = source.planes[0].header
    found = ((name, str(header.get(keyword) or "").strip()) for name, keyword in _FIELDS)
    return tuple((name, value) for name, value in found if value)


def print_page(page: Page) -> bytes:
    """Print a page as a PDF, the same bytes each time; a long table goes on on further pages."""
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    metadata = {"CreationDate": None, "ModDate": None, "Title": page.title, "Creator": "hilum"}
    with keep_quiet(), PdfPages(stream, metadata=metadata) as document:
        document.savefig(_first(page))
        rest = page.rows[_ROWS:]
        for start in range(0, len(rest), _MORE_ROWS):
            sheet, line = _sheet(page)
            _table(sheet, page.head, rest[start : start + _MORE_ROWS], line)
            document.savefig(sheet)
    return stream.getvalue()


def _first(page: Page) -> Figure:
    """Lay out the first page of a report: facts, warnings, pictures and table."""
    sheet, line = _sheet(page)
    for number, (name, value) in enumerate(page.facts):
        column, below = number % 2, number // 2
        x = _LEFT + column * 0.43
        _write(sheet, x, line - below * _LINE, f"{name}:", weight="bold")
        _write(sheet, x + 0.11, line - below * _LINE, _short(value, 42))
    line -= ((len(page.facts) + 1) // 2 + 1) * _LINE
    for warning in page.warnings:
        for part in textwrap.wrap(warning, 100):
            _write(sheet, _LEFT, line, part, color="#b00020")
            line -= _LINE
    for number, picture in enumerate(page.pictures):
        width = (_RIGHT - _LEFT) / len(page.pictures)
        place = (_LEFT + number * width, line - _PICTURES, width * 0.97, _PICTURES)
        axes = sheet.add_axes(place, anchor="N")
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
    line -= (_PICTURES if page.pictures else 0) + 2 * _LINE
    _table(sheet, page.head, page.rows[:_ROWS], line)
    return sheet


def _sheet(page: Page) -> tuple[Figure, float]:
    """Make an empty sheet with title and foot; gives where its first line is."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=_A4, facecolor="white")
    _write(sheet, _LEFT, _TOP, page.title, size=15, weight="bold")
    _write(sheet, _LEFT, 0.04, NOT_A_DEVICE, weight="bold", color="#b00020")
    return sheet, _TOP - 2.4 * _LINE


def _table(sheet: Figure, head: Row, rows: Sequence[Row], line: float) -> None:
    """Write a table: the first column is the widest, numbers are right of it."""
    rest = max(len(head) - 1, 1)
    places = [_LEFT, *(0.42 + n * (_RIGHT - 0.42) / rest for n in range(rest))]
    for number, row in enumerate((head, *rows)):
        for place, (text, x) in enumerate(zip(row, places, strict=False)):
            shown = _short(text, 24 if place else 38)
            _write(sheet, x, line - number * _LINE, shown, weight="normal" if number else "bold")


def _write(
    sheet: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 9,
    weight: str = "normal",
    color: str = "#202020",
) -> None:
    """Write a text as it is: a dollar sign begins no formula."""
    sheet.text(x, y, text, fontsize=size, fontweight=weight, color=color, parse_math=False)


def _short(text: str, most: int) -> str:
    """Cut a text that is longer than its place."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
