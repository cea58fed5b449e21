"""Classifiers on the same cases: the rows by which they are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum import metrics
from hilum.dataset.labels import match_classes, rename_label
from hilum.errors import DataError, UsageError
from hilum.evaluation.classification.arrays import ClassRows, resampling_groups
from hilum.evaluation.classification.measures import COMPARED_OF_PARTS, measures
from hilum.evaluation.comparison import (
    deviation_of_interval,
    known_margins,
    make_difference,
    over_runs,
    p_of_interval,
)
from hilum.evaluation.metric_table import CLASS_METRICS
from hilum.evaluation.study import Study, compare_two
from hilum.metrics import IntervalRequest
from hilum.metrics.resampling import LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.dataset import ClassTable
    from hilum.evaluation.classification.evaluation import ClassEvaluation
    from hilum.evaluation.classification.measures import Measure
    from hilum.evaluation.comparison import Comparison, Difference, Test
    from hilum.metrics import Resampling
    from hilum.targets.class_score import ClassScore, Indices


@dataclass(frozen=True, eq=False)
class ClassRow:
    """One metric of one class, step or finding of several classifiers.

    Args:
        measures: of each model that of its runs.
        patients: (N,) the number of the patient of each case.
        how: see `hilum.metrics.Resampling`.
    """

    measures: tuple[tuple[Measure, ...], ...]
    patients: Indices
    how: Resampling

    @property
    def part(self) -> str:
        """The class, step or finding; "" of all."""
        return self.measures[0][0].part

    @property
    def metric(self) -> str:
        """A key of `CLASS_METRICS`."""
        return self.measures[0][0].metric

    @property
    def groups(self) -> list[int]:
        """(N,) patients of the cases."""
        return [int(one) for one in self.patients]

    @property
    def runs(self) -> tuple[tuple[IntervalRequest, ...], ...]:
        """The metric, for each model and each of its runs."""
        return tuple(
            tuple(IntervalRequest(m.function, m.arrays, m.method or "bca") for m in model)
            for model in self.measures
        )

    @property
    def of_patients(self) -> None:
        """A patient alone has none of these metrics."""
        return

    def difference(self, a: int, b: int) -> Difference:
        """Test the difference: DeLong's test for areas of single runs, else the bootstrap."""
        first, second = self.measures[a], self.measures[b]
        if len(first) == len(second) == 1:
            return self._of_two(first[0], second[0])
        of_a, of_b = (
            float(np.mean([one.function(*one.arrays) for one in side])) for side in (first, second)
        )
        interval = of_a - of_b, math.nan, math.nan
        found = make_difference(
            self, (of_a, of_b), interval, p_value=math.nan, test="none", deviation=None
        )
        level, runs = self.how.get("level", LEVEL), self.runs
        return over_runs(found, runs[a], runs[b], self.groups, level)

    def _of_two(self, a: Measure, b: Measure) -> Difference:
        """Test the measure of two runs: DeLong's test for areas, else the bootstrap."""
        whose, level = self.groups, self.how.get("level", LEVEL)
        patients = len(set(whose))
        test: Test
        if a.function is metrics.auroc:
            tested = metrics.delong_test(
                a.arrays[0], b.arrays[0], a.arrays[1], level=level, groups=whose
            )
            values, test = (tested.a, tested.b), "delong"
            interval = tested.difference, tested.low, tested.high
            p = max(tested.p_value, metrics.smallest_p(patients))  # NaN stays NaN
        else:
            # the noise that resampling adds to a calibration error cancels in the difference, and
            # BCa would shift the interval for it: it left out the 0 of two alike models in 1 of 7
            resampled = metrics.bootstrap_difference(
                a.function, a.arrays, b.arrays, whose, method=a.method or "percentile", **self.how
            )
            values = float(a.function(*a.arrays)), float(b.function(*b.arrays))
            interval, test = (resampled.estimate, resampled.low, resampled.high), "bootstrap"
            p = p_of_interval(*interval, level, patients)
        deviation = deviation_of_interval(interval[1], interval[2], patients, level)
        return make_difference(self, values, interval, p_value=p, test=test, deviation=deviation)


def class_study(
    models: Sequence[Sequence[Sequence[ClassScore]]],
    table: ClassTable,
    names: Sequence[Sequence[str]],
    how: Resampling,
) -> Study:
    """Lay the scores of classifiers side by side, case by case.

    Each is taken by its calibrated probabilities where it has them.

    Args:
        models: of each model the scores of its runs, each with its reference.
        table: what the classes are.
        names: what the runs are called.
        how: see `hilum.metrics.Resampling`.

    Raises:
        DataError: they share no case, or do not agree on a case's label or patient.
        LabelError: a reference that the table does not know.
    """
    tables = [{score.case: score for score in run} for model in models for run in model]
    cases = [case for case in tables[0] if all(case in table for table in tables)]
    if not cases:
        raise DataError(
            "the evaluations have no case in common",
            needed="scores of the same cases",
            cure="predict the same cases with all models",
        )
    agreed = [_with_one_patient([scores[case] for scores in tables], table) for case in cases]
    sides = tuple(zip(*agreed, strict=True))
    groups = resampling_groups(*sides)
    rows = [replace(ClassRows.of(scores, table), groups=groups) for scores in sides]
    ends = [sum(len(model) for model in models[:i]) for i in range(1, len(models))]
    compared = []
    for each in zip(*map(measures, rows), strict=True):
        one = each[0]
        directed = CLASS_METRICS[one.metric].higher_is_better is not None
        if directed and (not one.part or one.metric in COMPARED_OF_PARTS):
            split = tuple(
                each[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)
            )
            compared.append(ClassRow(split, groups, how))
    return Study(
        models=tuple(map(tuple, names)),
        rows=tuple(compared),
        cases=len(cases),
        patients=rows[0].patients,
        left_out=tuple(sorted({case for scores in tables for case in scores} - set(cases))),
        joined=rows[0].joined,
    )


def compare_classes(
    a: Sequence[ClassScore],
    b: Sequence[ClassScore],
    table: ClassTable,
    *,
    names: tuple[str, str] = ("a", "b"),
    margins: Mapping[str, float] | None = None,
    **how: Unpack[Resampling],
) -> Comparison:
    """Compare two classifiers case by case, each by its calibrated probabilities where it has them.

    Args:
        a: the scores of the one, each with its reference.
        b: the scores of the other.
        table: what the classes are.
        names: what the two are called.
        margins: by metric the largest difference that does not matter: of these metrics equivalence
            is tested.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: a margin of an unknown metric.
        DataError: they share no case, or do not agree on a case's label or patient.
        LabelError: a reference that the table does not know.
    """
    margins = known_margins(margins, CLASS_METRICS)
    study = class_study([[a], [b]], table, [names[:1], names[1:]], how)
    return compare_two(study, margins, how)


def scores_in_order(wanted: ClassTable, evaluation: ClassEvaluation) -> tuple[ClassScore, ...]:
    """Return the scores of an evaluation as `wanted` has the classes, in its order and spelling.

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
            f"the two evaluations are of classes {', '.join(wanted.names)} ({wanted.kind}) and"
            f" {', '.join(found.names)} ({found.kind})",
            needed="evaluations of the same classes, with grades in one order and one positive"
            " class (of two the second)",
            cure="evaluate one of them again, with positive='CLASS'" if wanted.binary else "",
        )
    places = [order.index(name) for name in wanted.names]

    def with_order(score: ClassScore) -> ClassScore:
        changed: dict[str, object] = {"reference": rename_label(score.reference, names)}
        for field in ("probabilities", "calibrated"):
            values = getattr(score, field)
            changed[field] = values and tuple(values[place] for place in places)
        for field in ("prediction_set", "certain"):
            classes = getattr(score, field)
            changed[field] = classes and tuple(names[name] for name in classes)
        return score.model_copy(update=changed)

    return tuple(map(with_order, evaluation.scores))


def _with_one_patient(scores: Sequence[ClassScore], table: ClassTable) -> tuple[ClassScore, ...]:
    """Return the scores of a case with one patient; a label may be written in another order."""
    labels = [score.reference for score in scores if score.reference is not None]
    other = next((x for x in labels if table.indicators(x) != table.indicators(labels[0])), None)
    if other is not None:
        raise DataError(
            f"case {scores[0].case} is {labels[0]!r} in one and {other!r} in another",
            needed="one label a case",
            cure="evaluate all against the same reference",
        )
    known = {score.patient for score in scores if score.patient is not None}
    if len(known) > 1:
        raise DataError(
            f"case {scores[0].case} is of patient {' and of '.join(sorted(known))}",
            needed="one patient a case",
            cure="evaluate all against the same reference",
        )
    patient = next(iter(known), None)
    return tuple(score.model_copy(update={"patient": patient}) for score in scores)
