"""Estimates of a classification's metrics, each with its interval, and their summary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum import metrics
from hilum.dataset import ClassTable
from hilum.errors import UsageError
from hilum.evaluation.classification.arrays import ClassRows, calibration_changed
from hilum.evaluation.classification.measures import measures, set_measures
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.metric_table import CALIBRATION
from hilum.evaluation.records import Record
from hilum.metrics.resampling import LEVEL, RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.classification.measures import Measure
    from hilum.evaluation.estimates import Method
    from hilum.metrics import Resampling
    from hilum.targets.class_score import ClassScore, Indices

_DELONG: dict[str, Method] = {"logit": "delong", "plain": "delong", "pairs": "pairs"}


class ClassSummary(Record):
    """Every estimate of a classification.

    Args:
        classes: what the classes are.
        level: coverage that the intervals aim at.
        resamples: bootstrap resamples.
        cases: how many there are.
        patients: how many patients they are of; a case of no known patient counts as one, and so do
            all patients whom near-duplicates join: intervals resample them as one.
        joined: how many further patients there are by name.
        counts: cases that have each class.
        calibrated: whether the estimates are those of calibrated probabilities, and these are
            others than the model's.
        threshold: the operating point, where one was stated.
        figures: estimates of all classes, then of each part.
        uncalibrated: those that calibration is to change, before it; () where nothing was
            calibrated.
        confusion: cases by class (rows) and called class (columns); () for findings, of which a
            case may have several.
        refused: cases that the model would not have answered; None where nobody asked it. They
            count in all estimates.
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
        """Return the estimate of a metric of all classes ("auroc"), or of a (part, metric).

        Raises:
            KeyError: there is no such estimate.
        """
        pair = ("", key) if isinstance(key, str) else key
        return {(one.part, one.metric): one for one in self.figures}[pair]

    @property
    def parts(self) -> tuple[str, ...]:
        """The classes, steps or findings that have estimates of their own."""
        return tuple(dict.fromkeys(one.part for one in self.figures if one.part))


def summarise_classes(
    scores: Sequence[ClassScore],
    table: ClassTable,
    *,
    threshold: float | None = None,
    **how: Unpack[Resampling],
) -> ClassSummary:
    """Return every estimate of classes of this kind, with intervals over patients.

    Patients are resampled, not cases; a case of no known patient counts as a patient of its own,
    and patients of one unit (see `ClassScore`) as one. AUROC has DeLong's interval for patients
    with several cases. Calibrated probabilities are used where every case has them, those of the
    network otherwise.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.
        threshold: an operating point chosen on other cases: the probability from which the second
            of two classes is called, or each finding.
        how: see `hilum.metrics.Resampling`.

    Raises:
        DataError: see `ClassRows.of`.
        LabelError: a reference that the table does not know.
        UsageError: a threshold that is no probability, or of more than two classes that exclude
            each other.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(
            f"the threshold is {threshold:g}",
            needed="a probability from 0 to 1",
            cure="such as threshold=0.3",
        )
    if threshold is not None and not table.binary and table.kind != "multilabel":
        raise UsageError(
            f"threshold={threshold:g} does not apply to {len(table.names)} classes",
            needed="two classes, or findings: of several classes the most probable is called",
            cure=f"leave out threshold={threshold:g}, or evaluate the two classes that matter",
        )
    rows = ClassRows.of(scores, table)
    calibrated = calibration_changed(scores)
    before = measures(ClassRows.of(scores, table, calibrated=False)) if calibrated else ()
    of_sets = set_measures(scores, rows)
    confusion = (
        ()
        if table.kind == "multilabel"
        else metrics.confusion(rows.index, rows.called, len(table.names)).tolist()
    )
    refusals = [score.refuse for score in scores if score.refuse is not None]
    return ClassSummary(
        classes=table,
        level=how.get("level", LEVEL),
        resamples=how.get("resamples", RESAMPLES),
        cases=len(scores),
        patients=rows.patients,
        joined=rows.joined,
        counts=tuple(rows.members.sum(axis=0).tolist()),
        calibrated=calibrated,
        threshold=threshold,
        figures=estimate([*measures(rows, threshold=threshold), *of_sets], rows.groups, **how),
        uncalibrated=estimate(
            [m for m in before if not m.part and m.metric in CALIBRATION], rows.groups, **how
        ),
        confusion=confusion,
        refused=sum(refusals) if refusals else None,
    )


def estimate(
    wanted: Iterable[Measure], groups: Indices, **how: Unpack[Resampling]
) -> tuple[Estimate, ...]:
    """Estimate measures of the same cases, which are of patients `groups` (N,).

    One set of resamples serves them all.
    """
    everything = tuple(wanted)
    bootstrapped = [
        m
        for m in everything
        if m.method and m.function is not metrics.auroc and (m.among is None or m.right is None)
    ]
    intervals = metrics.bootstrap_statistics(
        [metrics.IntervalRequest(m.function, m.arrays, m.method or "bca") for m in bootstrapped],
        groups.tolist(),
        **how,
    )
    of = dict(zip(map(id, bootstrapped), intervals, strict=True))
    level = how.get("level", LEVEL)
    return tuple(_estimate(m, of.get(id(m)), groups, level) for m in everything)


def _estimate(
    measure: Measure, interval: metrics.Interval | None, groups: Indices, level: float
) -> Estimate:
    """Make the estimate of a measure, with the interval that suits it, or why it has none."""
    among = np.ones(len(groups), dtype=np.bool_) if measure.among is None else measure.among
    patients = len(np.unique(groups[among]))
    low = high = math.nan
    method: Method = "none"
    if measure.function is metrics.auroc:
        area = metrics.delong_interval(*measure.arrays, level=level, groups=groups.tolist())
        value, method = area.estimate, _DELONG.get(area.method, "none")
        if method != "none":
            low, high = area.low, area.high
    else:
        if measure.among is not None and measure.right is not None:
            whose = groups[measure.among].tolist()
            interval = metrics.proportion_interval(measure.right[measure.among], whose, level=level)
        if interval is None:
            value = measure.function(*measure.arrays)
        else:
            value, method = interval.estimate, interval.method
            low, high = min(interval.low, value), max(interval.high, value)
    note = ""
    if math.isnan(value):
        note = _why_undefined(measure)
    elif method == "none":
        reason = "one patient" if patients < 2 else "the same in every resample of patients"
        note = f"no interval: {reason}" if measure.method else "no interval is made of this metric"
    return Estimate(
        part=measure.part,
        metric=measure.metric,
        value=value,
        low=low,
        high=high,
        method=method,
        n=int(among.sum()),
        patients=patients,
        note=note,
    )


def _why_undefined(measure: Measure) -> str:
    """Say why a measure has no value."""
    question = measure.question
    if question is not None and not question.positive.any():
        return f"no case is {question.name}"
    if question is not None and question.positive.all():
        return f"every case is {question.name}"
    if question is not None and measure.metric.startswith("calibration"):
        if len(np.unique(measure.arrays[0])) == 1:
            return "the probability is the same in every case"
        return "the probabilities separate the classes: no slope is the best"
    if measure.among is not None and not measure.among.any():
        return f"no case is {measure.part}"
    return "the cases are of one class only"
