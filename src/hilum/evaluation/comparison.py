"""Two evaluations of the same cases, metric by metric, of label maps or of classes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np
from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer

from hilum import metrics
from hilum.dataset import match_labels
from hilum.dataset.labels import match_classes, rename_label
from hilum.errors import DataError, LabelError, UsageError, find_named
from hilum.evaluation.classification.arrays import ClassRows, resampling_groups
from hilum.evaluation.classification.measures import COMPARED_OF_PARTS, Measure, measures
from hilum.evaluation.comparison_page import comparison_page
from hilum.evaluation.metric_table import (
    CLASS_METRICS,
    HIGHER_IS_BETTER,
    LESION_METRICS,
    METRICS,
    NOT_COMPARED,
    higher_is_better,
)
from hilum.evaluation.records import Number, Record
from hilum.files import OutputFolder
from hilum.metrics.resampling import LEVEL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from hilum.dataset import ClassTable
    from hilum.evaluation.classification.evaluation import ClassEvaluation
    from hilum.evaluation.segmentation.evaluation import Evaluation
    from hilum.evaluation.segmentation.score import Score
    from hilum.metrics import Resampling
    from hilum.targets.class_score import ClassScore, Indices

COMPARISON, COMPARISON_TEXT = "comparison.json", "comparison.md"
_LABEL_MAP_FIELDS = {"part": "region", "a": "mean_a", "b": "mean_b"}
"""Names of a difference's fields in comparison.json of label maps."""


class Difference(Record):
    """One metric of one part, a against b.

    Of label maps it is over the cases where both are defined, and signed volume errors are compared
    by their size: 5 ml too much is as bad as 5 ml too little. In JSON a field that is None is left
    out, and those of label maps have the names region, mean_a and mean_b.

    Args:
        part: the region; of classes the class, step or finding that it is about, "" where it is
            about all of them.
        metric: see `hilum.evaluation.METRICS` and `CLASS_METRICS`; of the latter those of which
            neither more nor less is better are not compared, nor, in a part, those that add little
            to the others: each further test makes every difference harder to detect.
        a: the metric of a; of label maps its mean.
        b: the metric of b.
        difference: a minus b.
        low: lower end of its bootstrap interval, patients resampled, both by the same resamples.
        high: upper end.
        test: how the p-value of classes was made. "delong": paired DeLong test of the AUROC, for
            patients with several cases. "bootstrap": the paired bootstrap interval, its end that
            faces 0 taken for that of a normal distribution, so that p is below 1 - level where the
            interval leaves 0 out. "none": there is no test. None: of label maps, which have the
            Wilcoxon signed-rank test over patients.
        p_value: two-sided.
        p_holm: the same, corrected for the number of tests in this comparison (Holm, Scand J Stat
            6, 1979).
        n: of label maps, cases where both are defined.
        patients: of label maps, patients of these cases.
        p_permutation: of label maps, the sign-flip permutation test of the mean difference over
            patients, two-sided.
        margin: the largest difference that does not matter, where one was given.
        p_equivalence: that the difference is smaller than the margin (two one-sided tests); None
            where there is no interval.
        equivalent: p_equivalence is below 1 - level.
        deviation: of label maps, standard deviation of the patients' differences.
        only_a: of label maps, cases where only a is defined.
        only_b: of label maps, cases where only b is defined.
        better: who is better with p_holm below 1 - level; "undecided" otherwise.
    """

    part: str = Field(validation_alias=AliasChoices("part", "region"))
    metric: str
    a: Number = Field(validation_alias=AliasChoices("a", "mean_a"))
    b: Number = Field(validation_alias=AliasChoices("b", "mean_b"))
    difference: Number
    low: Number
    high: Number
    test: Literal["delong", "bootstrap", "none"] | None = None
    p_value: Number
    p_holm: Number = math.nan
    p_permutation: float | None = None
    margin: float | None = None
    p_equivalence: float | None = None
    equivalent: bool | None = None
    deviation: float | None = None
    n: int | None = None
    patients: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    better: Literal["a", "b", "undecided"] = "undecided"

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        names = _LABEL_MAP_FIELDS if self.test is None else {}
        return {names.get(k, k): value for k, value in handler(self).items() if value is not None}


class Comparison(Record):
    """Two evaluations of the same cases.

    In JSON a field that is None is left out.

    Args:
        a: the predictions of the one.
        b: the predictions of the other.
        level: coverage of the intervals.
        cases: cases that both have.
        patients: of classes, their patients; those whom near-duplicates join, by the units of
            either, count as one.
        joined: of classes, how many further patients there are by name.
        left_out: cases that only one has.
        differences: one a part and metric.
        scaled: of label maps, whether the images have a physical scale; pictures without one are
            measured in pixels.
    """

    a: str
    b: str
    level: float
    cases: int
    patients: int | None = None
    joined: int | None = None
    left_out: tuple[str, ...]
    differences: tuple[Difference, ...]
    scaled: bool | None = None

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def __getitem__(self, key: str | tuple[str, str]) -> Difference:
        """Return the difference of a (part, metric), or of a metric of all classes ("auroc").

        Raises:
            KeyError: there is no such pair.
        """
        pair = ("", key) if isinstance(key, str) else key
        return {(one.part, one.metric): one for one in self.differences}[pair]

    def markdown(self) -> str:
        """Return the comparison as a page of Markdown."""
        return comparison_page(self)

    def save(self, folder: Path | str) -> None:
        """Write comparison.json and comparison.md.

        Raises:
            UsageError: a file of these names that no comparison wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        record = self.model_dump_json(indent=2) + "\n"
        with OutputFolder(folder, "compare") as out:
            out.write({COMPARISON_TEXT: self.markdown(), COMPARISON: record})


def compare_label_maps(
    first: Evaluation,
    second: Evaluation,
    *,
    margins: Mapping[str, float] | None = None,
    **how: Unpack[Resampling],
) -> Comparison:
    """Compare two evaluations of label maps case by case.

    Lesion metrics are compared of regions that are lesions only (see `RegionSummary.lesions`);
    metrics of `NOT_COMPARED` are not.

    Args:
        first: the one, "a".
        second: the other, "b".
        margins: by metric the largest difference that does not matter: of these metrics equivalence
            is tested.
        how: see `hilum.metrics.Resampling`.

    Raises:
        UsageError: the two were scored by different rules, or a margin of an unknown metric.
        DataError: they share no case, or do not score the same regions.
    """
    margins = _known_margins(margins, [one for one in METRICS if one not in NOT_COMPARED])
    for rule in ("tolerance_mm", "surface", "lesion_overlap", "instances"):
        ours, theirs = (getattr(one.record, rule) for one in (first, second))
        if ours != theirs:
            raise UsageError(
                f"the two have a {rule} of {ours} and of {theirs}",
                needed="evaluations made alike: one tolerance, surface, overlap of lesions",
                cure=f"evaluate the second again with {rule}={ours}",
            )
    further = [name for name in first.scores[0].further if name in second.scores[0].further]
    names = _region_names(first, second)
    rows_a = {(score.region, score.case): score for score in first.scores}
    rows_b = {(names[score.region], score.case): score for score in second.scores}
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise DataError(
            "the two evaluations have no case and region in common",
            needed="evaluations of the same cases",
            cure="evaluate both models on the same cases, with the same label table",
        )
    differences = []
    lesions = {region.region for region in first.summary.regions if region.lesions}
    for region in dict.fromkeys(region for region, _ in shared):
        pairs = [(rows_a[key], rows_b[key]) for key in shared if key[0] == region]
        meaningless = () if region in lesions else LESION_METRICS
        differences += [
            _label_map_difference(region, metric, pairs, how)
            for metric in (*METRICS, *further)
            if metric not in {*meaningless, *NOT_COMPARED}
        ]
    cases = {case for _, case in shared}
    level = how.get("level", LEVEL)
    return Comparison(
        a=first.record.predictions,
        b=second.record.predictions,
        level=level,
        cases=len(cases),
        left_out=tuple(sorted({case for _, case in set(rows_a) ^ set(rows_b)} - cases)),
        differences=_decide(differences, level, margins),
        scaled=first.record.scaled or second.record.scaled,
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
    margins = _known_margins(margins, CLASS_METRICS)
    by_case = {score.case: score for score in b}
    pairs = [
        _with_one_patient(score, by_case[score.case], table) for score in a if score.case in by_case
    ]
    if not pairs:
        raise DataError(
            "the two have no case in common",
            needed="scores of the same cases",
            cure="predict the same cases with both models",
        )
    sides = tuple(zip(*pairs, strict=True))
    groups = resampling_groups(*sides)
    first, second = (replace(ClassRows.of(scores, table), groups=groups) for scores in sides)
    compared = [
        _class_difference(of_a, of_b, groups, how)
        for of_a, of_b in zip(measures(first), measures(second), strict=True)
        if CLASS_METRICS[of_a.metric].higher_is_better is not None
        and (not of_a.part or of_a.metric in COMPARED_OF_PARTS)
    ]
    level = how.get("level", LEVEL)
    return Comparison(
        a=names[0],
        b=names[1],
        level=level,
        cases=len(pairs),
        patients=first.patients,
        joined=first.joined,
        left_out=tuple(sorted({score.case for score in a} ^ set(by_case))),
        differences=_decide(compared, level, margins),
    )


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
            f"the two are of classes {', '.join(wanted.names)} ({wanted.kind}) and"
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


def _region_names(a: Evaluation, b: Evaluation) -> dict[str, str]:
    """Find the name in `a` of each region of `b`.

    Labels are matched by name, or by id where one side has no names.

    Raises:
        LabelError: the two do not score the same regions.
    """
    ours, theirs = a.record.labels, b.record.labels
    ids = match_labels(
        ours,
        theirs,
        where=b.record.predictions,
        holder=a.record.predictions,
        afterwards=", then evaluate again",
    )
    known = {frozenset(region.labels): region.name for region in ours.scored}
    names = {
        region.name: known.pop(frozenset(ids[i] for i in region.labels), "")
        for region in theirs.scored
    }
    if known or "" in names.values():
        sides = [
            f"{side.record.predictions}: {', '.join(r.name for r in side.record.labels.scored)}"
            for side in (a, b)
        ]
        raise LabelError(
            f"the two evaluations score different regions; {'; '.join(sides)}",
            needed="evaluations of the same labels and regions",
            cure=(
                "evaluate both again against references whose labels and regions have the same"
                " names (labels.json beside the label maps)"
            ),
        )
    return names


def _label_map_difference(
    region: str, metric: str, pairs: Sequence[tuple[Score, Score]], how: Resampling
) -> Difference:
    """Test one metric of one region between two evaluations, on the cases of both."""
    values = np.array([[one[metric] for one in pair] for pair in pairs])  # (N, 2)
    if metric not in HIGHER_IS_BETTER:
        values = np.abs(values)
    in_a, in_b = ~np.isnan(values).T
    both = in_a & in_b
    groups = [(a if a.patient is not None else b).group for a, b in pairs]
    test = metrics.paired_test(values[:, 0], values[:, 1], groups, **how)
    means = values[both].mean(axis=0) if both.any() else np.full(2, np.nan)
    return Difference(
        part=region,
        metric=metric,
        a=float(means[0]),
        b=float(means[1]),
        difference=test.difference.estimate,
        low=test.difference.low,
        high=test.difference.high,
        p_value=test.p_value,
        n=int(both.sum()),
        patients=test.difference.patients,
        p_permutation=_defined(test.p_permutation),
        deviation=_defined(test.deviation),
        only_a=int((in_a & ~in_b).sum()),
        only_b=int((in_b & ~in_a).sum()),
    )


def _with_one_patient(
    a: ClassScore, b: ClassScore, table: ClassTable
) -> tuple[ClassScore, ClassScore]:
    """Return the two with one patient; a label may be written in another order."""
    labels = [score.reference for score in (a, b) if score.reference is not None]
    if len(labels) > 1 and table.indicators(labels[0]) != table.indicators(labels[1]):
        raise DataError(
            f"case {a.case} is {a.reference!r} in a and {b.reference!r} in b",
            needed="one label a case",
            cure="evaluate both against the same reference",
        )
    if None not in (a.patient, b.patient) and a.patient != b.patient:
        raise DataError(
            f"case {a.case} is of patient {a.patient} in a and of {b.patient} in b",
            needed="one patient a case",
            cure="evaluate both against the same reference",
        )
    known = {"patient": a.patient if a.patient is not None else b.patient}
    return a.model_copy(update=known), b.model_copy(update=known)


def _class_difference(a: Measure, b: Measure, groups: Indices, how: Resampling) -> Difference:
    """Test one measure between two models: DeLong's test for areas, else the bootstrap."""
    level, whose = how.get("level", LEVEL), groups.tolist()
    test: Literal["delong", "bootstrap", "none"]
    if a.function is metrics.auroc:
        truth = a.arrays[1]
        tested = metrics.delong_test(a.arrays[0], b.arrays[0], truth, level=level, groups=whose)
        change, of_a, of_b = tested.difference, tested.a, tested.b
        low, high, p, test = tested.low, tested.high, tested.p_value, "delong"
    else:
        resampled = metrics.bootstrap_difference(
            a.function, a.arrays, b.arrays, whose, method=a.method or "bca", **how
        )
        change, of_a, of_b = resampled.estimate, a.function(*a.arrays), b.function(*b.arrays)
        low, high, test = resampled.low, resampled.high, "bootstrap"
        p = p_of_interval(change, low, high, level)
    return Difference(
        part=a.part,
        metric=a.metric,
        a=float(of_a),
        b=float(of_b),
        difference=change,
        low=low,
        high=high,
        test="none" if math.isnan(p) else test,
        p_value=p,
    )


def p_of_interval(difference: float, low: float, high: float, level: float) -> float:
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


def _defined(value: float) -> float | None:
    """Return a number; None where it is undefined (NaN), which JSON leaves out."""
    return None if math.isnan(value) else value


def _known_margins(
    margins: Mapping[str, float] | None, known: Collection[str]
) -> Mapping[str, float]:
    """Return the margins; refuse those of metrics that are not compared."""
    for metric in margins or {}:
        find_named("margin", "metrics", metric, dict.fromkeys(known))
    return margins or {}


def _decide(
    differences: Sequence[Difference], level: float, margins: Mapping[str, float]
) -> tuple[Difference, ...]:
    """Correct p-values for their number (Holm), decide who is better, and test equivalence."""
    decided = []
    for one, p in zip(differences, metrics.holm([d.p_value for d in differences]), strict=True):
        better = "undecided"
        if p < 1 - level and one.difference != 0:
            better = "a" if (one.difference > 0) == higher_is_better(one.metric) else "b"
        changed: dict[str, object] = {"p_holm": p, "better": better}
        if one.metric in margins:
            margin = margins[one.metric]
            alike = metrics.equivalence_p(one.difference, one.low, one.high, margin, level)
            changed |= {
                "margin": margin,
                "p_equivalence": _defined(alike),
                "equivalent": alike < 1 - level,
            }
        decided.append(one.model_copy(update=changed))
    return tuple(decided)
