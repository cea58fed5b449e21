"""Models on the same cases, row by row: their differences, ranks, and spread over runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hilum import metrics
from hilum.evaluation.comparison import (
    Comparison,
    ModelPair,
    Rank,
    RankedModel,
    Ranking,
    RunSpread,
    decide,
)
from hilum.evaluation.metric_table import higher_is_better
from hilum.metrics.resampling import LEVEL

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from hilum.evaluation.comparison import Difference
    from hilum.metrics import IntervalRequest, Resampling
    from hilum.metrics.validation import Numbers


class ComparedRow(Protocol):
    """One metric of one part of several models on the same cases."""

    @property
    def part(self) -> str:
        """The region, class, step or finding; "" of all."""

    @property
    def metric(self) -> str:
        """Name of the metric, as in `Difference.metric`."""

    @property
    def groups(self) -> Sequence[Hashable]:
        """(N,) whose the cases are that every run has a value of."""

    @property
    def runs(self) -> tuple[tuple[IntervalRequest, ...], ...]:
        """The metric of these cases, for each model and each of its runs."""

    @property
    def of_patients(self) -> Numbers | None:
        """(M, G) mean of each model in each patient; None of a metric of all cases."""

    def difference(self, a: int, b: int) -> Difference:
        """Test the difference of two models, by their places, on the cases of both."""


@dataclass(frozen=True)
class Study:
    """Models on the same cases.

    Args:
        models: of each model the predictions of its runs.
        rows: what they are compared by; the first one is the headline.
        cases: cases that all have.
        patients: their patients.
        left_out: cases that only some have.
        joined: of classes, further patients by name; None of label maps.
        scaled: of label maps, see `Comparison`; None of classes.
    """

    models: tuple[tuple[str, ...], ...]
    rows: tuple[ComparedRow, ...]
    cases: int
    patients: int
    left_out: tuple[str, ...]
    joined: int | None = None
    scaled: bool | None = None


def compare_two(study: Study, margins: Mapping[str, float], how: Resampling) -> Comparison:
    """Compare the two models of a study, each of one run."""
    level = how.get("level", LEVEL)
    classes = study.joined is not None
    return Comparison(
        a=study.models[0][0],
        b=study.models[1][0],
        level=level,
        cases=study.cases,
        patients=study.patients if classes else None,
        joined=study.joined,
        left_out=study.left_out,
        differences=decide([row.difference(0, 1) for row in study.rows], level, margins),
        scaled=study.scaled,
    )


def model_names(runs: Sequence[Sequence[str]]) -> list[str]:
    """Name models by the folders of their runs: by as many last parts as tell each from the others.

    What all folders end with ("evaluation") is left out. Runs of a model have commas between, as on
    the command line; of more than three only the first and the last are named. Models of the same
    folders are numbered.

    Args:
        runs: of each model the folders of its runs.
    """
    paths = [[Path(run).absolute() for run in model] for model in runs]
    distinct = {run for model in paths for run in model}
    while len(distinct) > 1 and len({run.name for run in distinct}) == 1:
        paths = [[run.parent for run in model] for model in paths]
        distinct = {run.parent for run in distinct}
    parts = [[run.parts for run in model] for model in paths]

    def named(depth: int) -> list[str]:
        folders = [[str(Path(*run[-depth:])) for run in model] for model in parts]
        return [",".join(one if len(one) <= 3 else [one[0], "...", one[-1]]) for one in folders]

    tables = [named(depth + 1) for depth in range(max(len(run) for one in parts for run in one))]
    return [
        next((one[i] for one in tables if one.count(one[i]) == 1), f"{tables[0][i]} ({i + 1})")
        for i in range(len(runs))
    ]


def rank_models(
    study: Study, names: Sequence[str], margins: Mapping[str, float], how: Resampling
) -> Ranking:
    """Rank the models of a study, test every two, and set runs beside patients.

    Args:
        study: the models.
        names: what they are called in the ranking, see `model_names`.
        margins: see `hilum.evaluation.compare`.
        how: see `hilum.metrics.Resampling`.
    """
    level = how.get("level", LEVEL)
    pairs = [*combinations(range(len(names)), 2)]
    decided = decide(
        [row.difference(*pair) for pair in pairs for row in study.rows], level, margins
    )
    rows = len(study.rows)
    return Ranking(
        level=level,
        models=tuple(
            RankedModel(name=name, runs=runs)
            for name, runs in zip(names, study.models, strict=True)
        ),
        cases=study.cases,
        patients=study.patients,
        left_out=study.left_out,
        ranks=tuple(one for row in study.rows for one in _ranks(row, names, how)),
        pairs=tuple(
            ModelPair(a=names[a], b=names[b], differences=decided[i * rows : (i + 1) * rows])
            for i, (a, b) in enumerate(pairs)
        ),
        spreads=tuple(one for row in study.rows for one in _spreads(row, names)),
        scaled=study.scaled,
    )


def _ranks(row: ComparedRow, names: Sequence[str], how: Resampling) -> list[Rank]:
    """Rank the models by one row, best first; nothing of a single model."""
    if len(names) < 2:
        return []
    better, level = higher_is_better(row.metric), how.get("level", LEVEL)
    values = np.array([np.mean([_value(run) for run in runs]) for runs in row.runs])
    resampled = np.empty((len(names), 0))
    if len(row.groups):
        flat = [run for runs in row.runs for run in runs]
        values_of_runs = metrics.resampled_statistics(flat, row.groups, **how)
        ends = np.cumsum([len(runs) for runs in row.runs])[:-1]
        random = np.random.default_rng(how.get("seed", 0))
        resampled = np.stack(
            [metrics.resample_runs(one, random) for one in np.split(values_of_runs, ends)]
        )
    found = metrics.rank_stability(values, resampled, higher_is_better=better, level=level)
    each = row.of_patients
    patient_ranks = (
        None
        if each is None or not each.size
        else metrics.rank_columns(each, higher_is_better=better).mean(axis=1)
    )
    ranks = [
        Rank(
            part=row.part,
            metric=row.metric,
            model=name,
            value=values[i],
            rank=found.rank[i],
            mean_rank=found.mean[i],
            low=found.low[i],
            high=found.high[i],
            first=found.first[i],
            patient_rank=None if patient_ranks is None else patient_ranks[i],
        )
        for i, name in enumerate(names)
    ]
    return sorted(ranks, key=lambda one: (math.isnan(one.rank), one.rank))


def _spreads(row: ComparedRow, names: Sequence[str]) -> Iterator[RunSpread]:
    """Yield how one row varies over the runs of each model that has several."""
    for name, runs in zip(names, row.runs, strict=True):
        if len(runs) < 2 or not len(row.groups):
            continue
        table = metrics.pseudo_values(runs, row.groups).T  # (G, S)
        found = metrics.run_variance(table)
        yield RunSpread(
            part=row.part,
            metric=row.metric,
            model=name,
            values=tuple(_value(run) for run in runs),
            patients=found.patients,
            runs=found.runs,
            rest=found.rest,
            of_means=found.of_means,
            error=math.hypot(found.patients, found.rest) / math.sqrt(len(table)),
        )


def _value(run: IntervalRequest) -> float:
    """Return the metric of a run; NaN without a case."""
    return float(run.function(*run.arrays)) if len(np.asarray(run.arrays[0])) else math.nan
