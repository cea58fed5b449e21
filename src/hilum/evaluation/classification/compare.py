"""Two classifiers on the same cases: which is better, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from hilum import metrics
from hilum.dataset.labels import match_classes, renamed
from hilum.errors import DataError, UsageError
from hilum.evaluation.classification.measures import COMPARED_OF_PARTS, measures
from hilum.evaluation.classification.rows import ClassRows, resampling_groups
from hilum.evaluation.comparison import Comparison, Difference, correct_p_values
from hilum.evaluation.metric_table import CLASS_METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.dataset import ClassTable
    from hilum.evaluation.classification.evaluation import ClassEvaluation
    from hilum.evaluation.classification.measures import Measure
    from hilum.tasks.class_score import ClassScore, Indices


def compare_classes(
    a: Sequence[ClassScore],
    b: Sequence[ClassScore],
    table: ClassTable,
    *,
    names: tuple[str, str] = ("a", "b"),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two classifiers case by case, each by its calibrated probabilities where it has them.

    Args:
        a: the answers of the one, each with its reference.
        b: the answers of the other.
        table: what the classes are.
        names: what the two are called.
        level: coverage of the intervals.
        resamples: bootstrap draws of patients.
        seed: same seed, same intervals.

    Raises:
        DataError: they share no case, or do not agree on a case's label or patient.
        LabelError: a reference that the table does not know.
    """
    by_case = {score.case: score for score in b}
    pairs = [(score, by_case[score.case]) for score in a if score.case in by_case]
    if not pairs:
        raise DataError("the two have no case in common", needed="answers for the same cases")
    pairs = [_agreed(first, second, table) for first, second in pairs]
    sides = tuple(zip(*pairs, strict=True))
    groups = resampling_groups(*sides)
    first, second = (replace(ClassRows.of(scores, table), groups=groups) for scores in sides)
    compared = [
        _difference(of_a, of_b, groups, level=level, resamples=resamples, seed=seed)
        for of_a, of_b in zip(measures(first), measures(second), strict=True)
        if CLASS_METRICS[of_a.metric].higher_is_better is not None
        and (not of_a.part or of_a.metric in COMPARED_OF_PARTS)
    ]
    return Comparison(
        a=names[0],
        b=names[1],
        level=level,
        cases=len(pairs),
        patients=first.patients,
        joined=first.joined,
        left_out=tuple(sorted({score.case for score in a} ^ set(by_case))),
        differences=correct_p_values(compared, level),
    )


def compare_class_evaluations(
    a: ClassEvaluation,
    b: ClassEvaluation,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations, see `compare_classes`.

    Raises:
        UsageError: they are of other classes.
        DataError: they share no case, or do not agree on a case's label or patient.
    """
    names = (a.record.predictions, b.record.predictions)
    return compare_classes(
        a.scores,
        _in_order(a.classes, b),
        a.classes,
        names=names,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def _in_order(wanted: ClassTable, evaluation: ClassEvaluation) -> tuple[ClassScore, ...]:
    """The answers of an evaluation with classes in another order and spelling.

    Raises:
        UsageError: the classes, their kind, their grades or the positive one of two differ.
    """
    found = evaluation.classes
    if found == wanted:
        return evaluation.scores
    names = match_classes(
        wanted, found, where=evaluation.record.predictions, holder="the other evaluation"
    )
    order = [*names.values()]
    moved = order != [*wanted.names]
    if (
        len(names) < len(wanted.names)
        or found.kind != wanted.kind
        or (moved and (wanted.binary or wanted.kind == "ordinal"))
    ):
        raise UsageError(
            f"classes {', '.join(wanted.names)} ({wanted.kind}) and {', '.join(found.names)}"
            f" ({found.kind})",
            needed=(
                "evaluations of the same classes, with grades in one order and one positive class"
                " (of two the second)"
            ),
            cure=(
                "evaluate one of them again, with --positive"
                if wanted.binary and found.binary
                else ""
            ),
        )
    places = [order.index(name) for name in wanted.names]
    return tuple(_with_order(score, names, places) for score in evaluation.scores)


def _with_order(score: ClassScore, names: Mapping[str, str], places: Sequence[int]) -> ClassScore:
    def moved(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(values[place] for place in places)

    def called(found: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if found is None else tuple(names[name] for name in found)

    return score.model_copy(
        update={
            "reference": renamed(score.reference, names),
            "probabilities": moved(score.probabilities),
            "calibrated": moved(score.calibrated),
            "prediction_set": called(score.prediction_set),
            "certain": called(score.certain),
        }
    )


def _agreed(a: ClassScore, b: ClassScore, table: ClassTable) -> tuple[ClassScore, ClassScore]:
    """The two with one patient; a label may be written in another order."""
    if (
        a.reference is not None
        and b.reference is not None
        and table.indicators(a.reference) != table.indicators(b.reference)
    ):
        raise DataError(
            f"case {a.case} is {a.reference!r} in a and {b.reference!r} in b",
            needed="one label a case",
        )
    if a.patient is not None and b.patient is not None and a.patient != b.patient:
        raise DataError(
            f"case {a.case} is of patient {a.patient} in a and of {b.patient} in b",
            needed="one patient a case",
        )
    patient = a.patient if a.patient is not None else b.patient
    return a.model_copy(update={"patient": patient}), b.model_copy(update={"patient": patient})


def _difference(
    a: Measure, b: Measure, groups: Indices, *, level: float, resamples: int, seed: int
) -> Difference:
    whose = groups.tolist()
    if a.function is metrics.auroc:
        tested = metrics.delong_test(
            a.arrays[0], b.arrays[0], a.arrays[1], level=level, groups=whose
        )
        ends = (tested.a, tested.b, tested.difference, tested.low, tested.high)
        test: Literal["delong", "bootstrap", "none"] = (
            "none" if math.isnan(tested.p_value) else "delong"
        )
        p = tested.p_value
    else:
        change = metrics.bootstrap_difference(
            a.function,
            a.arrays,
            b.arrays,
            whose,
            method=a.method or "bca",
            resamples=resamples,
            level=level,
            seed=seed,
        )
        ends = (
            a.function(*a.arrays),
            b.function(*b.arrays),
            change.estimate,
            change.low,
            change.high,
        )
        p = _p_of_interval(change.estimate, change.low, change.high, level)
        test = "none" if math.isnan(p) else "bootstrap"
    of_a, of_b, difference, low, high = map(float, ends)
    return Difference(
        part=a.part,
        metric=a.metric,
        a=of_a,
        b=of_b,
        difference=difference,
        low=low,
        high=high,
        test=test,
        p_value=p,
        p_holm=math.nan,
        better="undecided",
    )


def _p_of_interval(difference: float, low: float, high: float, level: float) -> float:
    """The p-value whose interval at `1 - p` would just reach 0, the way there taken as normal.

    1 where nothing differs.
    """
    from scipy.special import ndtr, ndtri

    if difference == 0:
        return 1.0
    reach = difference - low if difference > 0 else high - difference
    if not reach > 0:  # undefined, or an interval that leaves its estimate out: too little is known
        return math.nan
    return float(2 * ndtr(-abs(difference) / reach * ndtri((1 + level) / 2)))
