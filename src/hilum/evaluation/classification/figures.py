"""A figure with its interval, or the reason why it has none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum import metrics
from hilum.evaluation.page import decimals, span
from hilum.evaluation.records import Number, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilum.evaluation.classification.measures import Measure
    from hilum.tasks.class_score import Indices


class ClassFigure(Record):
    """One figure of a classification.

    Args:
        part: the class, step between grades ("II or more") or finding that it is about; "" where it
            is about all of them.
        metric: see `hilum.evaluation.CLASS_METRICS`.
        value: NaN where it is undefined.
        low: lower end of its interval, patients resampled; NaN where no interval is defined.
        high: upper end.
        interval: how the interval was made. An AUROC has DeLong's, or the exact bound of
            independent pairs where the classes are separated perfectly. All else is bootstrapped; a
            share of 0 or 1, which no draw changes, has Wilson's of the patients. A calibration
            error is larger in a sample than it is in truth, so that its corrected interval may lie
            below it; it is widened until it reaches it.
        n: the cases that it is about: of a sensitivity those with the class.
        patients: the patients of these cases; those whom near-duplicates join count as one.
        note: why it is undefined or has no interval; "" where all is well.
    """

    part: str
    metric: str
    value: Number
    low: Number
    high: Number
    interval: Literal["delong", "pairs", "bca", "percentile", "wilson", "none"]
    n: int
    patients: int
    note: str

    def __str__(self) -> str:
        """The value and its interval, for people: 0.912 (0.880 to 0.941)."""
        if math.isnan(self.value):
            return decimals(self.value)
        return f"{decimals(self.value)} ({self.note or span(self.low, self.high)})"


_DELONG: dict[str, Literal["delong", "pairs", "none"]] = {
    "logit": "delong",
    "plain": "delong",
    "pairs": "pairs",
    "constant": "none",
    "none": "none",
}


@dataclass(frozen=True)
class Intervals:
    """Options of intervals.

    Args:
        level: coverage aimed at.
        resamples: bootstrap draws of patients.
        seed: same seed, same intervals.
    """

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def figures(self, asked: Iterable[Measure], groups: Indices) -> tuple[ClassFigure, ...]:
        """The figures of measures of the same cases, which are of patients `groups` (N,).

        One set of draws serves them all.
        """
        asked = tuple(asked)
        drawn = [m for m in asked if m.method is not None and m.function is not metrics.auroc]
        intervals = metrics.bootstrap_statistics(
            [metrics.Asked(m.function, m.arrays, m.method or "bca") for m in drawn],
            groups.tolist(),
            resamples=self.resamples,
            level=self.level,
            seed=self.seed,
        )
        of = {id(measure): interval for measure, interval in zip(drawn, intervals, strict=True)}
        return tuple(self._figure(measure, of.get(id(measure)), groups) for measure in asked)

    def _figure(
        self, measure: Measure, interval: metrics.Interval | None, groups: Indices
    ) -> ClassFigure:
        value, low, high, how = self._ends(measure, interval, groups)
        among = np.ones(len(groups), dtype=np.bool_) if measure.among is None else measure.among
        patients = len(np.unique(groups[among]))
        if how == "none" and measure.among is not None and value in (0.0, 1.0):
            ends = metrics.wilson_interval(value * patients, patients, level=self.level)
            low, high, how = float(ends[0]), float(ends[1]), "wilson"
        return ClassFigure(
            part=measure.part,
            metric=measure.metric,
            value=value,
            low=low,
            high=high,
            interval=how,
            n=int(among.sum()),
            patients=patients,
            note=(
                _why_undefined(measure)
                if math.isnan(value)
                else _why_no_interval(measure, how, patients)
            ),
        )

    def _ends(
        self, measure: Measure, interval: metrics.Interval | None, groups: Indices
    ) -> tuple[
        float, float, float, Literal["delong", "pairs", "bca", "percentile", "wilson", "none"]
    ]:
        if measure.function is metrics.auroc:
            area = metrics.delong_interval(
                *measure.arrays, level=self.level, groups=groups.tolist()
            )
            how = _DELONG[area.method]
            return (
                (area.estimate, math.nan, math.nan, how)
                if how == "none"
                else (area.estimate, area.low, area.high, how)
            )
        if interval is None:
            return float(measure.function(*measure.arrays)), math.nan, math.nan, "none"
        value = interval.estimate
        return value, min(interval.low, value), max(interval.high, value), interval.method


def _why_undefined(measure: Measure) -> str:
    if measure.question is not None:
        positives, cases = int(measure.question.positive.sum()), len(measure.question.positive)
        if positives == 0:
            return f"no case is {measure.question.name}"
        if positives == cases:
            return f"every case is {measure.question.name}"
        if measure.metric.startswith("calibration"):
            if len(np.unique(measure.arrays[0])) == 1:
                return "the probability is the same in every case"
            return "the probabilities separate the classes: no slope is the best"
    if measure.among is not None and not measure.among.any():
        return f"no case is {measure.part}"
    return "the cases are of one class only"


def _why_no_interval(measure: Measure, how: str, patients: int) -> str:
    if how != "none" or measure.method is None:
        return ""
    return (
        "no interval: one patient"
        if patients < 2
        else "no interval: the same in every draw of patients"
    )
