"""The table of estimates and the table of case values that every evaluation has."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer

from hilum.evaluation.page import decimals, span
from hilum.evaluation.records import Number, Record
from hilum.metrics.resampling import IntervalMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Method = IntervalMethod | Literal["delong", "pairs"]


class Estimate(Record):
    """One metric over cases, with its interval: a row of estimates.csv.

    In summary.json of classes `method` has the name interval.

    Args:
        part: the region, class, step between grades ("II or more") or finding that it is about; ""
            where it is about all of them.
        metric: see `hilum.evaluation.METRICS` and `CLASS_METRICS`; of label maps the mean.
        value: NaN where it is undefined.
        low: lower end of its interval, patients resampled; NaN where no interval is defined.
        high: upper end.
        method: how the interval was made. An AUROC has DeLong's, or the exact bound of independent
            pairs where the classes are separated perfectly; a share of cases (accuracy,
            sensitivity, specificity, coverage) Wilson's, see
            `hilum.metrics.proportion_interval`. The mean of few patients has a t interval,
            see `hilum.metrics.bootstrap_interval`; an expected calibration error has none. All else
            is bootstrapped. Of classes an interval that leaves its value out is widened to it.
        n: the cases that it is about: of a sensitivity those with the class, of label maps those
            where it is defined.
        patients: the patients of these cases; those whom near-duplicates join count as one.
        note: why it is undefined or has no interval, or how many cases are left out; "" otherwise.
    """

    part: str
    metric: str
    value: Number
    low: Number
    high: Number
    method: Method = Field(validation_alias=AliasChoices("method", "interval"))
    n: int
    patients: int
    note: str

    def __str__(self) -> str:
        """Return the value and its interval, for people: 0.912 (0.880 to 0.941)."""
        if math.isnan(self.value):
            return decimals(self.value)
        interval = self.note if self.method == "none" else span(self.low, self.high)
        return f"{decimals(self.value)} ({interval})"

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {"interval" if k == "method" else k: value for k, value in handler(self).items()}


class CaseValue(NamedTuple):
    """One metric of one part of one case.

    Args:
        case: case id.
        patient: whose case it is; None where nobody knows.
        part: as in `Estimate`.
        metric: of label maps see `METRICS`; of classes what a case has by itself: "brier",
            "log_loss", and "accuracy", which is 1 where the case is called right.
        value: NaN where it is undefined.
    """

    case: str
    patient: str | None
    part: str
    metric: str
    value: float


COLUMNS = ("part", "metric", "value", "low", "high", "n", "patients", "method", "note")
"""Columns of estimates.csv, of label maps and of classes alike."""


def estimates_text(estimates: Iterable[Estimate]) -> str:
    """Return the text of estimates.csv."""
    return csv_text(COLUMNS, ([getattr(one, name) for name in COLUMNS] for one in estimates))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text: numbers exact, a cell empty where it is undefined (NaN) or None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:  # csv writes a float as repr does, which is exact, and None as an empty cell
        writer.writerow(
            [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row]
        )
    return text.getvalue()
