"""Metrics of a classification, and the arrays that each is computed from.

A `Measure` is a function of `hilum.metrics` with the arrays it takes, so that its value, its
interval over patients, and the difference between two classifiers are all made of the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum import metrics
from hilum.evaluation.estimates import CaseValue
from hilum.metrics.scoring_rules import nats
from hilum.targets.class_score import cumulative_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.evaluation.classification.arrays import ClassRows
    from hilum.metrics.validation import ArrayFunction
    from hilum.targets.class_score import ClassScore, Flags, Indices, Numbers

    OfMatrix = Callable[[ArrayLike], Numbers]


COMPARED_OF_PARTS = ("auroc", "auprc", "sensitivity", "specificity", "f1", "brier", "ece")
"""Metrics that two classifiers are compared by in each class, step or finding: what follows from
these would only add tests."""


@dataclass(frozen=True, eq=False)
class Question:
    """A yes-no question about every case.

    Args:
        name: what is asked for: a class, "grade 3 or more", a finding.
        probability: (N,) of yes.
        positive: (N,) whether the reference says yes.
        called: (N,) whether the classifier does.
    """

    name: str
    probability: Numbers
    positive: Flags
    called: Flags


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric that can be computed of these cases, or of any resample of them.

    Args:
        part: the class, step or finding that it is about; "" where it is about all of them.
        metric: a key of `hilum.evaluation.CLASS_METRICS`.
        function: gives the metric of the arrays, NaN where it is undefined.
        arrays: each with one row a case.
        question: what is asked, where it is a yes-no question.
        among: (N,) the cases that a share is a share of; None where it is no share of cases.
        right: (N,) the cases that count for it; of a share only.
        method: how the ends of its bootstrap interval are made; None for a metric that is given
            without one.
    """

    part: str
    metric: str
    function: ArrayFunction[float]
    arrays: tuple[NDArray[np.generic], ...]
    question: Question | None = None
    among: Flags | None = None
    right: Flags | None = None
    method: Literal["bca", "percentile"] | None = "bca"


def questions(rows: ClassRows) -> tuple[Question, ...]:
    """Make the yes-no questions of classes of this kind.

    Of two classes "is it the second?", of several each against the rest, of grades each step ("this
    grade or more?"), of findings each one.
    """
    names = rows.table.names
    if rows.table.kind == "ordinal" and not rows.table.binary:
        steps = np.clip(cumulative_probabilities(rows.probabilities), 0.0, 1.0).T
        return tuple(
            Question(f"{names[k]} or more", probability, rows.index >= k, rows.called >= k)
            for k, probability in enumerate(steps, start=1)
        )
    columns = zip(names, rows.probabilities.T, rows.members.T, rows.decided.T, strict=True)
    each = tuple(Question(*column) for column in columns)
    return each[1:] if rows.table.binary else each


def measures(rows: ClassRows, *, threshold: float | None = None) -> tuple[Measure, ...]:
    """Make every measure of classes of this kind, those of all classes first.

    Args:
        rows: the cases.
        threshold: an operating point of two classes, or of all findings: the probability from which
            one is called.
    """
    parts, findings = questions(rows), rows.table.kind == "multilabel"
    if rows.table.binary:
        return tuple(_of_question(parts[0], "", threshold))
    overall = _of_findings(rows) if findings else _of_classes(rows, parts)
    at = threshold if findings else None
    return (*overall, *(m for question in parts for m in _of_question(question, question.name, at)))


def _of_classes(rows: ClassRows, steps: Sequence[Question]) -> Iterator[Measure]:
    """List the measures over all classes; grades have two more."""
    grades = rows.table.kind == "ordinal"
    table: tuple[Numbers, Flags] = (rows.probabilities, rows.members)
    if grades:
        table = (
            np.stack([q.probability for q in steps], axis=1),
            np.stack([q.positive for q in steps], axis=1),
        )
    yield Measure("", "auroc", metrics.macro_auroc, table)
    everyone = np.ones(len(rows.index), dtype=np.bool_)
    yield _of_matrix(rows, "accuracy", metrics.accuracy, everyone)
    yield _of_matrix(rows, "balanced_accuracy", metrics.balanced_accuracy)
    yield _of_matrix(rows, "f1", metrics.macro_f1)
    yield _of_matrix(rows, "mcc", metrics.mcc)
    if grades:
        yield _of_matrix(rows, "quadratic_kappa", metrics.quadratic_kappa)
        yield Measure("", "mean_absolute_error", mean, (np.abs(rows.called - rows.index),))
    exclusive = (rows.probabilities, rows.index)
    yield Measure("", "brier", metrics.multiclass_brier, exclusive)
    yield Measure("", "log_loss", metrics.multiclass_log_loss, exclusive)
    yield from _calibration_error("", *metrics.top_class(*exclusive))


def _of_findings(rows: ClassRows) -> Iterator[Measure]:
    """Yield the measures over all findings together."""
    table = (rows.probabilities, rows.members)
    yield Measure("", "auroc", metrics.macro_auroc, table)
    yield Measure("", "auprc", _mean_auprc, table)
    yield Measure("", "f1", _mean_f1, (rows.decided, rows.members))
    for metric, function in (("brier", metrics.brier), ("log_loss", metrics.log_loss)):
        yield Measure("", metric, partial(_of_all_findings, function=function), table)


def _of_question(
    question: Question, part: str, threshold: float | None = None
) -> Iterator[Measure]:
    """Yield all that a yes-no question is judged by, whether it is the only one or one of many."""
    # the same objects for all: what they have in common is resampled once
    arrays = question.probability, question.positive
    ask = partial(Measure, part, arrays=arrays, question=question)
    yield ask(metric="auroc", function=metrics.auroc)
    yield ask(metric="auprc", function=metrics.auprc)
    everyone = np.ones(len(question.positive), dtype=np.bool_)
    yield _of_decision(question, part, "accuracy", metrics.accuracy, everyone)
    yield _of_decision(question, part, "balanced_accuracy", metrics.balanced_accuracy)
    yield _of_decision(question, part, "f1", metrics.f1)
    yield _of_decision(question, part, "mcc", metrics.mcc)
    yield from _rates(question, part)
    if threshold is not None:
        at_point = replace(question, called=question.probability >= threshold)
        yield from _rates(at_point, part, suffix="_at_point")
    for function, fixed in (
        (metrics.sensitivity_at_specificity, "specificity"),
        (metrics.specificity_at_sensitivity, "sensitivity"),
    ):
        for percent in (90, 95):
            yield ask(
                metric=f"{function.__name__}_{percent}",
                function=partial(function, **{fixed: percent / 100}),
                method="percentile",
            )
    yield ask(metric="brier", function=metrics.brier)
    yield ask(metric="log_loss", function=metrics.log_loss)
    yield from _calibration_error(part, question.probability, question.positive)
    yield ask(metric="calibration_slope", function=metrics.calibration_slope)
    yield ask(metric="calibration_intercept", function=metrics.calibration_intercept)
    yield ask(metric="calibration_in_the_large", function=metrics.calibration_in_the_large)


def _rates(question: Question, part: str, *, suffix: str = "") -> Iterator[Measure]:
    yes = question.positive
    yield _of_decision(question, part, f"sensitivity{suffix}", metrics.sensitivity, yes)
    yield _of_decision(question, part, f"specificity{suffix}", metrics.specificity, ~yes)


def _of_decision(
    question: Question, part: str, metric: str, statistic: OfMatrix, among: Flags | None = None
) -> Measure:
    """Make the measure of a statistic of the two-by-two table of called and true."""
    function = partial(metrics.confusion_statistic, statistic=statistic, classes=2)
    decisions = (question.positive.astype(np.int64), question.called.astype(np.int64))
    right = question.positive == question.called
    return Measure(part, metric, function, decisions, question, among, right)


def _of_matrix(
    rows: ClassRows,
    metric: str,
    statistic: OfMatrix,
    among: Flags | None = None,
) -> Measure:
    """Make the measure of a metric that is computed of the confusion matrix."""
    function = partial(
        metrics.confusion_statistic, statistic=statistic, classes=len(rows.table.names)
    )
    right = rows.index == rows.called
    return Measure("", metric, function, (rows.index, rows.called), among=among, right=right)


def _calibration_error(part: str, probability: Numbers, positive: Flags) -> Iterator[Measure]:
    """Give the calibration error, and what it is by chance alone, both without an interval.

    A resample repeats cases, which adds noise to every bin: nearly all resampled errors lie above
    the estimate, and an interval never holds the 0 of a calibrated model.
    """
    arrays = (probability, positive)
    yield Measure(part, "ece", metrics.expected_calibration_error, arrays, method=None)
    yield Measure(part, "ece_noise", metrics.calibration_noise, (probability,), method=None)


def set_measures(scores: Sequence[ClassScore], rows: ClassRows) -> tuple[Measure, ...]:
    """Return the coverage and size of prediction sets; () where a case has none.

    A set of findings holds the truth about one that is present where it names it, about one that is
    absent where it does not name it as certain; coverage is then a mean over the findings.

    Args:
        scores: of the cases, in the order of the rows.
        rows: the same as arrays.
    """
    if any(score.prediction_set is None for score in scores):
        return ()
    names = rows.table.names
    possible = np.array([[name in (s.prediction_set or ()) for name in names] for s in scores])
    certain = np.array([[name in (s.certain or ()) for name in names] for s in scores])
    size = Measure("", "set_size", mean, (possible.sum(axis=1),))
    if rows.table.kind == "multilabel":
        held = np.where(rows.members, possible, ~certain)
        everyone = np.ones(len(held), dtype=np.bool_)
        parts = [
            Measure(name, "coverage", mean, (own,), among=everyone, right=own)
            for name, own in zip(names, held.T, strict=True)
        ]
        return (Measure("", "coverage", mean, (held.mean(axis=1),)), size, *parts)
    hit = np.asarray((possible & rows.members).any(axis=1))
    parts = [
        Measure(
            name,
            "coverage",
            lambda values, among: mean(values[among]),
            (hit, own),
            among=own,
            right=hit,
        )
        for name, own in zip(names, rows.members.T, strict=True)
    ]
    everyone = np.ones(len(hit), dtype=np.bool_)
    return (Measure("", "coverage", mean, (hit,), among=everyone, right=hit), size, *parts)


def case_values(scores: Sequence[ClassScore], rows: ClassRows) -> tuple[CaseValue, ...]:
    """Return the contribution of each case to accuracy, Brier score and log loss of every question.

    Args:
        scores: of the cases, in the order of the rows.
        rows: the same as arrays.
    """
    return tuple(
        CaseValue(score.case, score.patient, "" if rows.table.binary else question.name, name, one)
        for question in questions(rows)
        for name, values in {
            "accuracy": (question.called == question.positive).astype(np.float64),
            "brier": (question.probability - question.positive) ** 2,
            "log_loss": nats(
                np.where(question.positive, question.probability, 1 - question.probability)
            ),
        }.items()
        for score, one in zip(scores, values.tolist(), strict=True)
    )


def mean(values: Numbers | Indices | Flags) -> float:
    """Mean of what each case (N,) has; NaN where there is none."""
    return float(values.mean()) if values.size else np.nan


def _of_all_findings(
    probabilities: Numbers, truth: Flags, *, function: ArrayFunction[float]
) -> float:
    return function(probabilities.ravel(), truth.ravel())


def _mean_auprc(probabilities: Numbers, truth: Flags) -> float:
    areas = [metrics.auprc(p, m) for p, m in zip(probabilities.T, truth.T, strict=True) if m.any()]
    return float(np.mean(areas)) if areas else np.nan


def _mean_f1(called: Flags, truth: Flags) -> float:
    total = called.sum(axis=0) + truth.sum(axis=0)
    return mean((2 * (called & truth).sum(axis=0))[total > 0] / total[total > 0])
