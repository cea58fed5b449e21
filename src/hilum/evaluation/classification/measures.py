"""Metrics of a classification, and the arrays that each is computed from.

A `Measure` is a function of `hilum.metrics` with the arrays it takes, so that its value, its
interval over patients, and the difference between two classifiers are all made of the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum import metrics
from hilum.tasks.class_score import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from hilum.evaluation.classification.rows import ClassRows
    from hilum.tasks.class_score import ClassScore

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]


COMPARED_OF_PARTS = ("auroc", "auprc", "sensitivity", "specificity", "f1", "brier", "ece")
"""What two classifiers are compared by in each class, step or finding: what follows from these
would only add tests."""

CALIBRATION = (
    "brier",
    "log_loss",
    "ece",
    "ece_noise",
    "calibration_slope",
    "calibration_intercept",
    "calibration_in_the_large",
)
"""What calibration is to change."""


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
    """A figure that can be computed of these cases, or of any draw of them.

    Args:
        part: the class, step or finding that it is about; "" where it is about all of them.
        metric: a key of `hilum.evaluation.CLASS_METRICS`.
        function: gives the figure of the arrays, NaN where it is undefined.
        arrays: each with one row a case.
        question: what is asked, where it is a yes-no question.
        among: (N,) the cases that a share is a share of; None where the figure is no share.
        method: how the ends of its bootstrap interval are made; None for a figure that is given
            without one.
    """

    part: str
    metric: str
    function: Callable[..., float]
    arrays: tuple[NDArray[Any], ...]
    question: Question | None = None
    among: Flags | None = None
    method: Literal["bca", "percentile"] | None = "bca"


def questions(rows: ClassRows) -> tuple[Question, ...]:
    """Make the yes-no questions of classes of this kind.

    Of two classes "is it the second?", of several each against the rest, of grades each step ("this
    grade or more?"), of findings each one.
    """
    names = rows.table.names
    if rows.table.kind == "ordinal" and not rows.table.binary:
        steps = np.clip(reached(rows.probabilities), 0.0, 1.0).T
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
    asked, kind = questions(rows), rows.table.kind
    if rows.table.binary:
        return tuple(_of_question(asked[0], "", threshold))
    overall = _of_findings(rows) if kind == "multilabel" else _of_classes(rows, asked)
    at = threshold if kind == "multilabel" else None
    return (*overall, *(m for question in asked for m in _of_question(question, question.name, at)))


def _of_classes(rows: ClassRows, steps: Sequence[Question]) -> Iterator[Measure]:
    grades = rows.table.kind == "ordinal"
    table = (
        (
            np.stack([q.probability for q in steps], axis=1),
            np.stack([q.positive for q in steps], axis=1),
        )
        if grades
        else (rows.probabilities, rows.members)
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
    table = (rows.probabilities, rows.members)
    yield Measure("", "auroc", metrics.macro_auroc, table)
    yield Measure("", "auprc", _mean_auprc, table)
    yield Measure("", "f1", _mean_f1, (rows.decided, rows.members))
    yield Measure("", "brier", lambda p, truth: metrics.brier(p.ravel(), truth.ravel()), table)
    yield Measure(
        "", "log_loss", lambda p, truth: metrics.log_loss(p.ravel(), truth.ravel()), table
    )


def _of_question(
    question: Question, part: str, threshold: float | None = None
) -> Iterator[Measure]:
    """All that a yes-no question is judged by, whether it is the only one or one of many."""
    asked = (
        question.probability,
        question.positive,
    )  # the same objects for all: what they have in common is drawn once
    ask = partial(Measure, part, arrays=asked, question=question)
    yield ask(metric="auroc", function=metrics.auroc)
    yield ask(metric="auprc", function=metrics.auprc)
    yield from _of_decisions(question, part)
    if threshold is not None:
        at_point = Question(question.name, *asked, question.probability >= threshold)
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


def _of_decisions(question: Question, part: str) -> Iterator[Measure]:
    called = (question.positive.astype(np.int64), question.called.astype(np.int64))
    everyone = np.ones(len(question.positive), dtype=np.bool_)
    for metric, statistic, among in (
        ("accuracy", metrics.accuracy, everyone),
        ("balanced_accuracy", metrics.balanced_accuracy, None),
        ("f1", metrics.f1, None),
        ("mcc", metrics.mcc, None),
    ):
        function = partial(metrics.confusion_statistic, statistic=statistic, classes=2)
        yield Measure(part, metric, function, called, question, among)
    yield from _rates(question, part)


def _rates(question: Question, part: str, *, suffix: str = "") -> Iterator[Measure]:
    called = (question.positive.astype(np.int64), question.called.astype(np.int64))
    for metric, statistic, among in (
        ("sensitivity", metrics.sensitivity, question.positive),
        ("specificity", metrics.specificity, ~question.positive),
    ):
        function = partial(metrics.confusion_statistic, statistic=statistic, classes=2)
        yield Measure(part, metric + suffix, function, called, question, among)


def _of_matrix(
    rows: ClassRows,
    metric: str,
    statistic: Callable[[ArrayLike], Numbers],
    among: Flags | None = None,
) -> Measure:
    function = partial(
        metrics.confusion_statistic, statistic=statistic, classes=len(rows.table.names)
    )
    return Measure("", metric, function, (rows.index, rows.called), among=among)


def _calibration_error(part: str, probability: Numbers, positive: Flags) -> Iterator[Measure]:
    yield Measure(part, "ece", metrics.expected_calibration_error, (probability, positive))
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
    possible, certain = (
        np.array([[name in (names or ()) for name in rows.table.names] for names in sets])
        for sets in (
            [score.prediction_set for score in scores],
            [score.certain for score in scores],
        )
    )
    overall = [Measure("", "set_size", mean, (possible.sum(axis=1),))]
    if rows.table.kind == "multilabel":
        held = np.where(rows.members, possible, ~certain)
        of_parts = [
            Measure(name, "coverage", mean, (hits,))
            for name, hits in zip(rows.table.names, held.T, strict=True)
        ]
        return (Measure("", "coverage", mean, (held.mean(axis=1),)), *overall, *of_parts)
    hit = np.asarray((possible & rows.members).any(axis=1))
    of_parts = [
        Measure(name, "coverage", lambda values, among: mean(values[among]), (hit, own), among=own)
        for name, own in zip(rows.table.names, rows.members.T, strict=True)
    ]
    return (Measure("", "coverage", mean, (hit,)), *overall, *of_parts)


def mean(values: NDArray[Any]) -> float:
    """Mean of what each case (N,) has; NaN where there is none."""
    return float(values.mean()) if values.size else np.nan


def _mean_auprc(probabilities: Numbers, truth: Flags) -> float:
    areas = [metrics.auprc(p, m) for p, m in zip(probabilities.T, truth.T, strict=True) if m.any()]
    return float(np.mean(areas)) if areas else np.nan


def _mean_f1(called: Flags, truth: Flags) -> float:
    total = called.sum(axis=0) + truth.sum(axis=0)
    return mean((2 * (called & truth).sum(axis=0))[total > 0] / total[total > 0])
