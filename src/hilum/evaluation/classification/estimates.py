"""Estimates of a classification's metrics, each with its interval, and their summary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum import metrics
from hilum.dataset import (
    ClassTable,  # noqa: TC001  (pydantic reads the annotation when the class is made)
)
from hilum.errors import UsageError
from hilum.evaluation.classification.measures import CALIBRATION, measures, set_measures
from hilum.evaluation.classification.rows import ClassRows, calibration_changed
from hilum.evaluation.page import decimals, span
from hilum.evaluation.records import Number, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.classification.measures import Measure
    from hilum.tasks.class_score import ClassScore, Indices

Method = Literal["delong", "pairs", "bca", "percentile", "wilson", "none"]
_DELONG: dict[str, Method] = {"logit": "delong", "plain": "delong", "pairs": "pairs"}


class Estimate(Record):
    """One metric of a classification.

    Args:
        part: the class, step between grades ("II or more") or finding that it is about; "" where it
            is about all of them.
        metric: see `hilum.evaluation.CLASS_METRICS`.
        value: NaN where it is undefined.
        low: lower end of its interval, patients resampled; NaN where no interval is defined.
        high: upper end.
        interval: how the interval was made. An AUROC has DeLong's, or the exact bound of
            independent pairs where the classes are separated perfectly. All else is bootstrapped; a
            share of 0 or 1, which no resample changes, has Wilson's of the patients. A calibration
            error is larger in a sample than it is in truth, so that its corrected interval may lie
            below it; it is widened until it reaches it.
        n: the cases that it is about: of a sensitivity those with the class.
        patients: the patients of these cases; those whom near-duplicates join count as one.
        note: why it is undefined or has no interval; "" otherwise.
    """

    part: str
    metric: str
    value: Number
    low: Number
    high: Number
    interval: Method
    n: int
    patients: int
    note: str

    def __str__(self) -> str:
        """The value and its interval, for people: 0.912 (0.880 to 0.941)."""
        if math.isnan(self.value):
            return decimals(self.value)
        return f"{decimals(self.value)} ({self.note or span(self.low, self.high)})"


@dataclass(frozen=True)
class Estimator:
    """Options of intervals.

    Args:
        level: coverage aimed at.
        resamples: bootstrap resamples of patients.
        seed: same seed, same intervals.
    """

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def estimate(self, wanted: Iterable[Measure], groups: Indices) -> tuple[Estimate, ...]:
        """Estimate measures of the same cases, which are of patients `groups` (N,).

        One set of resamples serves them all.
        """
        all_of = tuple(wanted)
        bootstrapped = [
            m for m in all_of if m.method is not None and m.function is not metrics.auroc
        ]
        intervals = metrics.bootstrap_statistics(
            [
                metrics.IntervalRequest(m.function, m.arrays, m.method or "bca")
                for m in bootstrapped
            ],
            groups.tolist(),
            resamples=self.resamples,
            level=self.level,
            seed=self.seed,
        )
        of = {id(m): interval for m, interval in zip(bootstrapped, intervals, strict=True)}
        return tuple(self._estimate(measure, of.get(id(measure)), groups) for measure in all_of)

    def _estimate(
        self, measure: Measure, interval: metrics.Interval | None, groups: Indices
    ) -> Estimate:
        among = np.ones(len(groups), dtype=np.bool_) if measure.among is None else measure.among
        patients = len(np.unique(groups[among]))
        low = high = math.nan
        method: Method = "none"
        if measure.function is metrics.auroc:
            area = metrics.delong_interval(
                *measure.arrays, level=self.level, groups=groups.tolist()
            )
            value = area.estimate
            method = _DELONG.get(area.method, "none")
            if method != "none":
                low, high = area.low, area.high
        elif interval is None:
            value = float(measure.function(*measure.arrays))
        else:
            value, method = interval.estimate, interval.method
            low, high = min(interval.low, value), max(interval.high, value)
        if method == "none" and measure.among is not None and value in (0.0, 1.0):
            ends = metrics.wilson_interval(value * patients, patients, level=self.level)
            low, high, method = float(ends[0]), float(ends[1]), "wilson"
        note = ""
        if math.isnan(value):
            note = _why_undefined(measure)
        elif method == "none" and measure.method is not None:
            reason = "one patient" if patients < 2 else "the same in every draw of patients"
            note = f"no interval: {reason}"
        return Estimate(
            part=measure.part,
            metric=measure.metric,
            value=value,
            low=low,
            high=high,
            interval=method,
            n=int(among.sum()),
            patients=patients,
            note=note,
        )


class ClassSummary(Record):
    """Every figure of a classification.

    Args:
        classes: what the classes are.
        level: coverage that the intervals aim at.
        resamples: bootstrap draws.
        cases: how many there are.
        patients: how many patients they are of; a case of no known patient counts as one, and so do
            all patients whom near-duplicates join: they are one unit, which is what intervals draw.
        joined: how many further patients there are by name.
        counts: cases that have each class.
        calibrated: whether the figures are those of calibrated probabilities, and these are others
            than the model's.
        threshold: the operating point, where one was stated.
        figures: those of all classes, then those of each part.
        uncalibrated: those that calibration is to change, before it; () where nothing was
            calibrated.
        confusion: cases by class (rows) and called class (columns); () for findings, of which a
            case may have several.
        refused: cases that the model would not have answered; None where nobody asked it. They
            count in all figures.
    """

    classes: ClassTable
    level: float
    resamples: int
    cases: int
    patients: int
    joined: int = 0
    counts: tuple[int, ...]
    calibrated: bool
    threshold: float | None
    figures: tuple[Estimate, ...]
    uncalibrated: tuple[Estimate, ...]
    confusion: tuple[tuple[int, ...], ...]
    refused: int | None

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """The figure of a metric of all classes ("auroc"), or of a (part, metric).

        Raises:
            KeyError: there is no such figure.
        """
        part, metric = ("", key) if isinstance(key, str) else key
        for figure in self.figures:
            if (figure.part, figure.metric) == (part, metric):
                return figure
        raise KeyError(key)

    @property
    def parts(self) -> tuple[str, ...]:
        """The classes, steps or findings that have figures of their own."""
        return tuple(dict.fromkeys(figure.part for figure in self.figures if figure.part))


def summarise_classes(
    scores: Sequence[ClassScore],
    table: ClassTable,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    threshold: float | None = None,
) -> ClassSummary:
    """Every figure of classes of this kind, with intervals over patients.

    Patients are resampled, not cases; a case of no known patient counts as a patient of its own,
    and patients of one unit (see `ClassScore`) as one. AUROC has DeLong's interval for patients
    with several cases. Calibrated probabilities are used where every case has them, those of the
    network otherwise.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.
        threshold: an operating point chosen on other cases: the probability from which the second
            of two classes is called, or each finding.

    Raises:
        DataError: see `ClassRows.of`.
        LabelError: a reference that the table does not know.
        UsageError: a threshold that is no probability, or of more than two classes that exclude
            each other.
    """
    if threshold is not None:
        _check_threshold(threshold, table)
    rows = ClassRows.of(scores, table)
    estimator = Estimator(level, resamples, seed)
    calibrated = calibration_changed(scores)
    before = measures(ClassRows.of(scores, table, calibrated=False)) if calibrated else ()
    confusion = (
        ()
        if table.kind == "multilabel"
        else metrics.confusion(rows.index, rows.called, len(table.names)).tolist()
    )
    refusals = [score.refuse for score in scores if score.refuse is not None]
    return ClassSummary(
        classes=table,
        level=level,
        resamples=resamples,
        cases=len(scores),
        patients=rows.patients,
        joined=rows.joined,
        counts=tuple(rows.members.sum(axis=0).tolist()),
        calibrated=calibrated,
        threshold=threshold,
        figures=estimator.estimate(
            (*measures(rows, threshold=threshold), *set_measures(scores, rows)), rows.groups
        ),
        uncalibrated=estimator.estimate(
            (m for m in before if not m.part and m.metric in CALIBRATION), rows.groups
        ),
        confusion=confusion,
        refused=sum(refusals) if refusals else None,
    )


def _check_threshold(threshold: float, table: ClassTable) -> None:
    if not 0 <= threshold <= 1:
        raise UsageError(
            f"a threshold of {threshold:g}",
            needed="a probability from 0 to 1",
            cure="such as --threshold 0.3",
        )
    if not table.binary and table.kind != "multilabel":
        raise UsageError(
            f"a threshold of {threshold:g} for {len(table.names)} classes",
            needed="two classes, or findings: of several classes the most probable is called",
            cure="leave --threshold out, or name the two that are asked about with --classes",
        )


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
