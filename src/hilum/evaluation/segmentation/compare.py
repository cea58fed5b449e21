"""Two evaluations of the same cases: which is better, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dataset import match_labels
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.page import figure, holm, p_value, span
from hilum.evaluation.records import Figure, Record
from hilum.evaluation.segmentation.evaluation import Evaluation, titles
from hilum.evaluation.segmentation.score import HIGHER_IS_BETTER, METRICS
from hilum.io import OutputFolder
from hilum.metrics import paired_test

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hilum.evaluation.segmentation.score import Score

COMPARISON, COMPARISON_TEXT = "comparison.json", "comparison.md"


class Difference(Record):
    """One metric of one region, a against b, over the cases where both are defined.

    Signed volume errors are compared by their size: 5 ml too much is as bad as 5 ml too little.

    Args:
        region: its name.
        metric: see `hilum.evaluation.METRICS`.
        mean_a: mean of a over these cases.
        mean_b: mean of b.
        difference: mean of a minus b.
        low: lower end of its bootstrap interval, patients resampled.
        high: upper end.
        p_value: Wilcoxon signed-rank test over patients.
        p_holm: the same, corrected for the number of tests in this comparison (Holm, Scand J Stat
            6, 1979).
        n: cases where both are defined.
        patients: patients of these cases.
        only_a: cases where only a is defined.
        only_b: cases where only b is defined.
        better: who is better with p_holm below 1 - level; "undecided" otherwise.
    """

    region: str
    metric: str
    mean_a: Figure
    mean_b: Figure
    difference: Figure
    low: Figure
    high: Figure
    p_value: Figure
    p_holm: Figure
    n: int
    patients: int
    only_a: int
    only_b: int
    better: Literal["a", "b", "undecided"]


class Comparison(Record):
    """Two evaluations of the same cases.

    Args:
        a: the predictions of the one.
        b: the predictions of the other.
        level: coverage of the intervals.
        cases: cases that both have.
        left_out: cases that only one has.
        differences: one a region and metric.
        scaled: whether the images have a physical scale; pictures without one are measured in
            pixels.
    """

    a: str
    b: str
    level: float
    cases: int
    left_out: tuple[str, ...]
    differences: tuple[Difference, ...]
    scaled: bool = True

    def __getitem__(self, key: tuple[str, str]) -> Difference:
        """The difference of a (region, metric).

        Raises:
            KeyError: there is no such pair.
        """
        for difference in self.differences:
            if (difference.region, difference.metric) == key:
                return difference
        raise KeyError(key)

    def markdown(self) -> str:
        """The comparison as a page of Markdown."""
        said = (
            f"a: {self.a}. b: {self.b}. {self.cases} cases; differences are a minus b with"
            f" {self.level:.0%} bootstrap intervals over patients; p: Wilcoxon signed-rank over"
            " patients, Holm-corrected for all rows."
        )
        lines = [
            "# Comparison",
            "",
            said,
            "",
            "| region | metric | a | b | difference | interval | p | better |",
            "|---|---|---|---|---|---|---|---|",
        ]
        names = titles(scaled=self.scaled)
        lines += [
            f"| {d.region} | {names[d.metric]} | {figure(d.mean_a)} | {figure(d.mean_b)} |"
            f" {figure(d.difference)} | {span(d.low, d.high) if d.n else '–'} | {p_value(d.p_holm)}"
            f" | {d.better} |"
            for d in self.differences
        ]
        if self.left_out:
            lines += ["", f"Left out, as only one of the two has them: {', '.join(self.left_out)}."]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path | str) -> None:
        """Write comparison.json and comparison.md.

        Raises:
            UsageError: a file of these names that no comparison wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        with OutputFolder(folder, "compare") as out:
            out.write(
                {
                    COMPARISON_TEXT: self.markdown(),
                    COMPARISON: self.model_dump_json(indent=2) + "\n",
                }
            )


def compare(
    a: Evaluation | Path | str,
    b: Evaluation | Path | str,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations case by case.

    Args:
        a: an evaluation, or the folder of one.
        b: another.
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.

    Raises:
        UsageError: a folder holds no evaluation, or the two used different tolerances.
        DataError: they share no case, or do not score the same regions.
    """
    first, second = _loaded(a), _loaded(b)
    if first.record.tolerance_mm != second.record.tolerance_mm:
        raise UsageError(
            f"tolerances of {first.record.tolerance_mm:g} and {second.record.tolerance_mm:g} mm",
            needed="evaluations at one tolerance",
            cure="evaluate one of them again with the other's --tolerance",
        )
    names = _region_names(first, second)
    rows_a = {(score.region, score.case): score for score in first.scores}
    rows_b = {(names[score.region], score.case): score for score in second.scores}
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise DataError(
            "the two evaluations have no case and region in common",
            needed="evaluations of the same cases",
        )
    regions = list(dict.fromkeys(region for region, _ in shared))
    differences = []
    for region in regions:
        pairs = [(rows_a[key], rows_b[key]) for key in shared if key[0] == region]
        differences += [
            _difference(region, metric, pairs, level=level, resamples=resamples, seed=seed)
            for metric in METRICS
        ]
    return Comparison(
        a=first.record.predictions,
        b=second.record.predictions,
        level=level,
        cases=len({case for _, case in shared}),
        left_out=tuple(
            sorted({case for _, case in set(rows_a) ^ set(rows_b)} - {case for _, case in shared})
        ),
        differences=_decided(differences, level),
        scaled=first.record.scaled or second.record.scaled,
    )


def _loaded(evaluation: Evaluation | Path | str) -> Evaluation:
    return evaluation if isinstance(evaluation, Evaluation) else Evaluation.load(evaluation)


def _region_names(a: Evaluation, b: Evaluation) -> dict[str, str]:
    """The name in `a` of each region of `b`: of the same labels, which are matched by name, or by id where one has no names.

    Raises:
        LabelError: the two do not score the same regions.
    """
    ours, theirs = a.record.labels, b.record.labels
    ids = match_labels(ours, theirs, where=b.record.predictions, holder=a.record.predictions)
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
            f"the two evaluations score other regions; {'; '.join(sides)}",
            needed="evaluations of the same labels and regions",
            cure="evaluate both against one reference, with the names of its labels",
        )
    return names


def _difference(
    region: str,
    metric: str,
    pairs: Sequence[tuple[Score, Score]],
    *,
    level: float,
    resamples: int,
    seed: int,
) -> Difference:
    values = np.array(
        [[getattr(a, metric), getattr(b, metric)] for a, b in pairs], dtype=np.float64
    )  # (N, 2)
    if metric not in HIGHER_IS_BETTER:
        values = np.abs(values)
    defined = ~np.isnan(values)
    both = defined.all(axis=1)
    groups = [(a if a.patient is not None else b).group for a, b in pairs]
    test = paired_test(
        values[:, 0], values[:, 1], groups, level=level, resamples=resamples, seed=seed
    )
    means = values[both].mean(axis=0) if both.any() else np.full(2, np.nan)
    return Difference(
        region=region,
        metric=metric,
        mean_a=float(means[0]),
        mean_b=float(means[1]),
        difference=test.difference.estimate,
        low=test.difference.low,
        high=test.difference.high,
        p_value=test.p_value,
        p_holm=math.nan,
        n=int(both.sum()),
        patients=test.difference.patients,
        only_a=int((defined[:, 0] & ~defined[:, 1]).sum()),
        only_b=int((defined[:, 1] & ~defined[:, 0]).sum()),
        better="undecided",
    )


def _decided(differences: Sequence[Difference], level: float) -> tuple[Difference, ...]:
    """The same with p-values corrected for their number, and the verdict that follows."""
    corrected = holm([d.p_value for d in differences])
    return tuple(
        d.model_copy(update={"p_holm": p, "better": _better(d, p, level)})
        for d, p in zip(differences, corrected, strict=True)
    )


def _better(difference: Difference, p_holm: float, level: float) -> Literal["a", "b", "undecided"]:
    if not p_holm < 1 - level or difference.difference == 0:
        return "undecided"
    a_is_more = difference.difference > 0
    return "a" if a_is_more == HIGHER_IS_BETTER.get(difference.metric, False) else "b"
