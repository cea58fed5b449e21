"""The data card: a training's data set in numbers, kept in the model folder as data_card.json.

Names of cases and patients are not in it. Values of columns that describe cases (age, sex, site)
are counted or given as a range.
"""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from hilum.dataset.columns import is_numeric, number, role_of, words_of
from hilum.errors import DataError
from hilum.files import Readable  # noqa: TC001  (pydantic reads annotations at run time)
from hilum.files.text import is_known
from hilum.io.inventory import (
    InventoryRecord,  # noqa: TC001  (pydantic reads the annotation when the class is made)
)
from hilum.plan.fingerprint import ChannelSummary, Fingerprint, ranges_along_axes
from hilum.plan.plan import Range, Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hilum.dataset.case import Case, Dataset

DATA_CARD = "data_card.json"
_MOST_VALUES = 20
"""Values of a column that are counted one by one; of more only their number is kept."""


class NumberSummary(Record):
    """Least, middle and largest of several numbers."""

    low: float
    median: float
    high: float


class ColumnSummary(Record):
    """A column that describes cases (age, sex, site, scanner).

    Args:
        name: as the table has it.
        known: cases that have a value.
        values: number of different values.
        numbers: of a column of numbers.
        counts: cases of each value, most frequent first, of a column of words; () where the
            values are too many.
    """

    name: Readable
    known: int = Field(ge=0)
    values: int = Field(ge=0)
    numbers: NumberSummary | None = None
    counts: tuple[tuple[Readable, int], ...] = ()


class LabelSummary(Record):
    """Frequency of a label or class, and of a label its volume where it occurs."""

    name: Readable
    cases: int = Field(ge=0)
    volume_ml: NumberSummary | None = None


class Measurements(Record):
    """Measurements of the images that the plan was made from.

    Args:
        cases: how many were measured.
        channels: kind of image and intensities of each.
        shape: voxels along (Z, Y, X), least and largest.
        spacing_mm: along (Z, Y, X), least and largest; of pictures without a scale pixels of 1.
        orientations: cases stored in each orientation.
    """

    cases: int = Field(ge=1)
    channels: tuple[ChannelSummary, ...]
    shape: tuple[Range, Range, Range]
    spacing_mm: tuple[Range, Range, Range]
    orientations: tuple[tuple[str, int], ...]


class DataCard(Record):
    """data_card.json.

    Args:
        version: of this format.
        name: of the data set.
        layout: how it lay on the disk.
        classes: whether cases have labels, as in a classification, and no annotations.
        cases: with an annotation or label, test cases not counted.
        patients: of these cases; None where the data set names no patients.
        tests: annotated cases that the data set keeps for testing.
        unlabelled: cases without an annotation or label, not used.
        labels: frequency of each label among the measured cases, of each class among all.
        columns: what tables say of the cases.
        orphans: files without a partner, by kind.
        files: account of every file below the data set.
        notes: what had to be assumed when the data set was read.
        measured: None where a given plan made looking at the images needless.
    """

    version: Literal[1] = 1
    name: Readable
    layout: str
    classes: bool = False
    cases: int = Field(ge=0)
    patients: int | None = None
    tests: int = Field(default=0, ge=0)
    unlabelled: int = Field(default=0, ge=0)
    labels: tuple[LabelSummary, ...] = ()
    columns: tuple[ColumnSummary, ...] = ()
    orphans: tuple[tuple[str, int], ...] = ()
    files: InventoryRecord | None = None
    notes: tuple[Readable, ...] = ()
    measured: Measurements | None = None

    @property
    def labelled(self) -> tuple[str, str]:
        """Words for a case that can be learnt from, and for what makes it so."""
        return ("labelled", "label") if self.classes else ("annotated", "annotation")

    def columns_about(self, *words: str) -> tuple[ColumnSummary, ...]:
        """Return the columns whose names hold one of the words, as "age" in "PatientAge"."""
        return tuple(one for one in self.columns if words_of(one.name) & {*words})

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the file that a training wrote; None where there is none.

        Raises:
            DataError: it is damaged, or of a newer version.
        """
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(
                f"{path} is damaged or of another version: {error}",
                needed="a data card as this version of hilum writes it",
                cure="copy the folder again, or train again",
            ) from error

    def as_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(indent=2) + "\n"


def make_data_card(dataset: Dataset, fingerprint: Fingerprint | None) -> DataCard:
    """Summarise a data set.

    Args:
        dataset: as it was opened for the training.
        fingerprint: measurements of its training cases; None where there are none.
    """
    cases = dataset.not_tests
    patients = {case.patient for case in cases}
    return DataCard(
        name=dataset.name,
        layout=dataset.layout,
        classes=dataset.classes is not None,
        cases=len(cases),
        patients=None if None in patients else len(patients),
        tests=len(dataset.cases) - len(cases),
        unlabelled=len(dataset.unlabelled),
        labels=_classes(dataset) if dataset.classes is not None else _labels(fingerprint),
        columns=_columns(cases),
        orphans=tuple(Counter(one.kind for one in dataset.orphans).items()),
        files=None if dataset.files is None else dataset.files.record(),
        notes=dataset.notes,
        measured=None if fingerprint is None else _measurements(fingerprint),
    )


def summarise_numbers(values: Sequence[float]) -> NumberSummary | None:
    """Summarise numbers; None where there are none."""
    if not values:
        return None
    return NumberSummary(low=min(values), median=median(values), high=max(values))


def _classes(dataset: Dataset) -> tuple[LabelSummary, ...]:
    """Count the cases of each class."""
    table = dataset.classes
    if table is None:
        return ()
    rows = [table.indicators(case.label or "") for case in dataset.not_tests]
    return tuple(
        LabelSummary(name=name, cases=sum(row[n] for row in rows))
        for n, name in enumerate(table.names)
    )


def _labels(fingerprint: Fingerprint | None) -> tuple[LabelSummary, ...]:
    """Count the measured cases that hold each label, and summarise its volume in them."""
    if fingerprint is None:
        return ()
    volumes = {
        label.id: [
            found.volume_ml
            for case in fingerprint.cases
            for found in case.labels
            if found.id == label.id
        ]
        for label in fingerprint.labels.foreground
    }
    return tuple(
        LabelSummary(
            name=label.name,
            cases=len(volumes[label.id]),
            volume_ml=summarise_numbers(volumes[label.id]),
        )
        for label in fingerprint.labels.foreground
    )


def _columns(cases: Sequence[Case]) -> tuple[ColumnSummary, ...]:
    """Summarise the columns that describe cases, by their names."""
    names = dict.fromkeys(name for case in cases for name in case.columns)
    return tuple(
        _column(name, [case.columns.get(name, "") for case in cases])
        for name in names
        if role_of(name) == "description"
    )


def _column(name: str, cells: Sequence[str]) -> ColumnSummary:
    """Summarise a column: a range of numbers, else how often each value occurs."""
    known = [cell.strip() for cell in cells if is_known(cell)]
    counts = Counter(known)
    numeric = is_numeric(known)
    return ColumnSummary(
        name=name,
        known=len(known),
        values=len(counts),
        numbers=summarise_numbers([number(cell) for cell in known]) if numeric else None,
        counts=() if numeric or len(counts) > _MOST_VALUES else tuple(counts.most_common()),
    )


def _measurements(fingerprint: Fingerprint) -> Measurements:
    """Summarise a fingerprint's shapes, spacings and orientations."""
    cases = fingerprint.cases
    return Measurements(
        cases=len(cases),
        channels=fingerprint.channels,
        shape=ranges_along_axes([case.shape for case in cases]),
        spacing_mm=ranges_along_axes([case.spacing for case in cases]),
        orientations=tuple(Counter(case.orientation for case in cases).most_common()),
    )
