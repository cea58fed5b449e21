"""Two evaluations of label maps, compared case by case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset import match_labels
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.comparison import Comparison, Difference, correct_p_values
from hilum.evaluation.metric_table import HIGHER_IS_BETTER, METRICS
from hilum.metrics import paired_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.evaluation.segmentation.evaluation import Evaluation
    from hilum.evaluation.segmentation.score import Score


def compare_label_maps(
    first: Evaluation,
    second: Evaluation,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations of label maps case by case.

    Args:
        first: the one, "a".
        second: the other, "b".
        level: coverage of the intervals.
        resamples: bootstrap draws.
        seed: same seed, same intervals.

    Raises:
        UsageError: the two used different tolerances.
        DataError: they share no case, or do not score the same regions.
    """
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
        differences=correct_p_values(differences, level),
        scaled=first.record.scaled or second.record.scaled,
    )


def _region_names(a: Evaluation, b: Evaluation) -> dict[str, str]:
    """Find the name in `a` of each region of `b`.

    Labels are matched by name, or by id where one side has no names.

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
        part=region,
        metric=metric,
        a=float(means[0]),
        b=float(means[1]),
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
