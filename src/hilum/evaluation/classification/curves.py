"""The curves of a classification in numbers: what curves.png shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum import metrics
from hilum.evaluation.classification.arrays import ClassRows, calibration_changed
from hilum.evaluation.classification.measures import questions
from hilum.evaluation.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import ClassTable
    from hilum.evaluation.classification.measures import Question
    from hilum.targets.class_score import ClassScore, Flags, Indices, Numbers

MOST_POINTS = 300
"""Points of a ROC or precision-recall curve that are kept, evenly along its way."""

RISKS = np.linspace(0.01, 0.99, 99)
"""Thresholds at which net benefit is given."""


class RocPoints(Record):
    """Points of a ROC curve, from where nothing is called to where all is.

    Empty where all cases answer alike.

    Args:
        threshold: a case is called from this probability on; None: none is.
        false_positive_rate: 1 - specificity.
        sensitivity: share of the positive cases that are called.
    """

    threshold: tuple[float | None, ...] = ()
    false_positive_rate: tuple[float, ...] = ()
    sensitivity: tuple[float, ...] = ()


class PrecisionPoints(Record):
    """Points of a precision-recall curve, the highest threshold first.

    Empty where all cases answer alike.

    Args:
        threshold: a case is called from this probability on.
        recall: the sensitivity.
        precision: share of those called that are positive (PPV).
    """

    threshold: tuple[float, ...] = ()
    recall: tuple[float, ...] = ()
    precision: tuple[float, ...] = ()


class CalibrationBins(Record):
    """Cases in ten bins of as many, by their probability.

    Args:
        cases: how many each bin has.
        predicted: their mean probability.
        observed: the share that is positive.
        low: lower end of its 95 % Wilson interval, cases taken as independent.
        high: upper end.
    """

    cases: tuple[int, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class DecisionPoints(Record):
    """Net benefit, in true positives a case, over risks from which one would act.

    Args:
        threshold: the risks.
        model: acting on those whose probability is at least the risk.
        treat_all: acting on everybody.
        treat_none: zeros.
    """

    threshold: tuple[float, ...]
    model: tuple[float, ...]
    treat_all: tuple[float, ...]
    treat_none: tuple[float, ...]


class QuestionCurves(Record):
    """The curves of one yes-no question.

    Args:
        of: the second of two classes, a class against the rest, a step between grades, or a
            finding.
        cases: how many there are.
        positive: how many of them are positive; over the cases it is the precision of a model that
            knows nothing.
        roc: sensitivity against false alarms.
        precision_recall: precision against recall.
        calibration: observed share against probability.
        decision: net benefit.
    """

    of: str
    cases: int
    positive: int
    roc: RocPoints
    precision_recall: PrecisionPoints
    calibration: CalibrationBins
    decision: DecisionPoints


class ClassCurves(Record):
    """Contents of curves.json.

    Args:
        format: what kind of file this is.
        version: version of this format.
        calibrated: whether the probabilities are calibrated ones, and these are others than the
            model's.
        curves: one a question.
    """

    format: Literal["hilum-class-curves"] = "hilum-class-curves"
    version: Literal[1] = 1
    calibrated: bool
    curves: tuple[QuestionCurves, ...]


def curves_of(scores: Sequence[ClassScore], table: ClassTable) -> ClassCurves:
    """The curves of every yes-no question, of calibrated probabilities where every case has them.

    Args:
        scores: one a case, each with its reference.
        table: what the classes are.

    Raises:
        DataError: see `ClassRows.of`.
        LabelError: a reference that the table does not know.
    """
    rows = ClassRows.of(scores, table)
    return ClassCurves(
        calibrated=calibration_changed(scores), curves=tuple(map(_of_question, questions(rows)))
    )


def _of_question(question: Question) -> QuestionCurves:
    """Compute the curves of one question: ROC, precision and recall, calibration, decision."""
    arrays = question.probability, question.positive
    bins, benefit = metrics.calibration_curve(*arrays), metrics.net_benefit(*arrays, RISKS)
    roc, precision = _roc_and_precision(*arrays)
    return QuestionCurves(
        of=question.name,
        cases=len(question.positive),
        positive=int(question.positive.sum()),
        roc=roc,
        precision_recall=precision,
        calibration=CalibrationBins(
            cases=tuple(map(int, bins.cases)),
            predicted=_six_digits(bins.predicted),
            observed=_six_digits(bins.observed),
            low=_six_digits(bins.low),
            high=_six_digits(bins.high),
        ),
        decision=DecisionPoints(
            threshold=_six_digits(benefit.thresholds),
            model=_six_digits(benefit.model),
            treat_all=_six_digits(benefit.treat_all),
            treat_none=_six_digits(benefit.treat_none),
        ),
    )


def _roc_and_precision(probability: Numbers, positive: Flags) -> tuple[RocPoints, PrecisionPoints]:
    """Compute both curves in few points; empty where the cases are of one class."""
    if positive.all() or not positive.any():
        return RocPoints(), PrecisionPoints()
    roc = metrics.roc_curve(probability, positive)
    kept = _evenly(roc.specificity, roc.sensitivity)
    points = RocPoints(
        threshold=(None, *roc.thresholds[kept][1:].tolist()),
        false_positive_rate=_six_digits(1 - roc.specificity[kept]),
        sensitivity=_six_digits(roc.sensitivity[kept]),
    )
    curve = metrics.precision_recall_curve(probability, positive)
    kept = _evenly(curve.recall, curve.precision)
    return points, PrecisionPoints(
        threshold=tuple(curve.thresholds[kept].tolist()),
        recall=_six_digits(curve.recall[kept]),
        precision=_six_digits(curve.precision[kept]),
    )


def _evenly(x: Numbers, y: Numbers) -> Indices:
    """Choose the points (T,) to keep: both ends, and steps as even as possible between them."""
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    way = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    near = np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS - 1))
    return np.unique(np.append(near, len(x) - 1))


def _six_digits(values: Numbers) -> tuple[float, ...]:
    """Six digits: more than the figures are sure of, and half the file."""
    return tuple(float(f"{value:.6g}") for value in values)
