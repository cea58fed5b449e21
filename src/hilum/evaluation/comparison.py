"""Records of comparisons: of two models, or of several and of several runs of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import (
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from hilum import metrics
from hilum.errors import DataError, find_named
from hilum.evaluation.comparison_page import comparison_page
from hilum.evaluation.metric_table import difference_range, higher_is_better
from hilum.evaluation.ranking_page import ranking_page
from hilum.evaluation.records import Number, Record
from hilum.files import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence
    from pathlib import Path

    from hilum.evaluation.study import ComparedRow
    from hilum.metrics import IntervalRequest

COMPARISON, COMPARISON_TEXT = "comparison.json", "comparison.md"
_LABEL_MAP_FIELDS = {"part": "region", "a": "mean_a", "b": "mean_b"}
"""Names of a difference's fields in comparison.json of label maps."""


Test = Literal["delong", "bootstrap", "permutation", "runs", "none"]
"""Names of tests, see `Difference.test`."""


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
        low: lower end of its interval over patients, cut where differences of the metric end.
        high: upper end.
        test: how the p-value was made. "delong": paired DeLong test of the AUROC, for
            patients with several cases. "bootstrap": the paired bootstrap interval, its end that
            faces 0 taken for that of a normal distribution, so that p is below 1 - level where the
            interval leaves 0 out. Both are at least `hilum.metrics.smallest_p`. "permutation": of
            the mean over regions, which no single case has, the sign-flip permutation test over
            patients. "runs": of models with several runs, over patients and runs, and so is the
            interval, see `hilum.metrics.runs_test`. "none": there is no test. None: of label maps,
            which have the Wilcoxon signed-rank test over patients.
        p_value: two-sided.
        p_holm: the same, corrected for the number of tests in this comparison (Holm, Scand J Stat
            6, 1979).
        n: of label maps, cases where both are defined.
        patients: of label maps, patients of these cases.
        p_permutation: of label maps, the sign-flip permutation test of the mean difference over
            patients, two-sided; None of several runs.
        margin: the largest difference that does not matter, where one was given.
        p_equivalence: that the difference is smaller than the margin (two one-sided tests); None
            where there is no interval.
        equivalent: p_equivalence is below 1 - level.
        deviation: standard deviation of the patients' differences; of classes, and of the mean
            over regions, the one that their interval has; None of several runs.
        from_runs: of models with several runs, the share of the difference's variance that is due
            to the runs.
        only_a: of label maps, cases where only a is defined.
        only_b: of label maps, cases where only b is defined.
        better: who is better, where p_holm is below 1 - level and the interval leaves 0 out, so
            that test and mean agree; "undecided" otherwise.
    """

    part: str = Field(validation_alias=AliasChoices("part", "region"))
    metric: str
    a: Number = Field(validation_alias=AliasChoices("a", "mean_a"))
    b: Number = Field(validation_alias=AliasChoices("b", "mean_b"))
    difference: Number
    low: Number
    high: Number
    test: Test | None = None
    p_value: Number
    p_holm: Number = math.nan
    p_permutation: float | None = None
    margin: float | None = None
    p_equivalence: float | None = None
    equivalent: bool | None = None
    deviation: float | None = None
    from_runs: float | None = None
    n: int | None = None
    patients: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    better: Literal["a", "b", "undecided"] = "undecided"

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        names = {} if self.n is None else _LABEL_MAP_FIELDS
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

    def markdown(self, most: int | None = None) -> str:
        """Return the comparison as a page of Markdown, with the rows that matter most or all."""
        return comparison_page(self, most)

    def save(self, folder: Path | str) -> None:
        """Write comparison.json and comparison.md.

        Raises:
            UsageError: a file of these names that no comparison wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        _save(self, folder)


class RankedModel(Record):
    """A model of a ranking.

    Args:
        name: what it is called in the ranking: the folder of its evaluation, see `model_names`.
        runs: the predictions of each of its runs.
    """

    name: str
    runs: tuple[str, ...]


class Rank(Record):
    """The place of one model among several, by one metric of one part; 1 is the best.

    Args:
        part: as in `Difference`; "" of label maps is the mean of the regions' means.
        metric: as in `Difference`.
        model: its name.
        value: the metric, of several runs their mean; of label maps the mean of the cases.
        rank: by this value; ties share the mean of their ranks.
        mean_rank: mean of the ranks in resamples of the patients, and of the runs where there are
            several.
        low: lower end of the range that holds `level` of these ranks.
        high: upper end.
        first: share of the resamples in which the model is the first.
        patient_rank: of label maps, the mean over patients of its rank in each of them.
    """

    part: str
    metric: str
    model: str
    value: Number
    rank: Number
    mean_rank: Number
    low: Number
    high: Number
    first: Number
    patient_rank: float | None = None


class ModelPair(Record):
    """Two models of a ranking and their differences, "a" minus "b".

    Args:
        a: name of the one.
        b: name of the other.
        differences: one a part and metric; p-values are corrected over all pairs.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]


class RunSpread(Record):
    """Spread of one metric of one part between the runs of a model and between patients.

    Standard deviations, see `hilum.metrics.RunVariance`: of metrics that a single patient does not
    have, such as the AUROC, those of their pseudo-values.

    Args:
        part: as in `Rank`.
        metric: as in `Difference`.
        model: its name.
        values: of each run.
        patients: between patients.
        runs: between runs.
        rest: a patient's value from run to run, beyond that.
        of_means: between the values of the runs: what another run would change.
        error: standard error of one run's value over patients: what other patients would change.
    """

    part: str
    metric: str
    model: str
    values: tuple[Number, ...]
    patients: Number
    runs: Number
    rest: Number
    of_means: Number
    error: Number


class Ranking(Record):
    """Several models on the same cases, or several runs of one or more.

    Args:
        level: coverage of the intervals.
        models: the models, in the order in which they were given.
        cases: cases that all have.
        patients: patients of these; those whom near-duplicates join count as one.
        left_out: cases that only some have.
        ranks: a row a part, metric and model, best first; none of a single model.
        pairs: every two models.
        spreads: a row a part, metric and model with several runs.
        scaled: see `Comparison`.
    """

    level: float
    models: tuple[RankedModel, ...]
    cases: int
    patients: int
    left_out: tuple[str, ...]
    ranks: tuple[Rank, ...]
    pairs: tuple[ModelPair, ...]
    spreads: tuple[RunSpread, ...]
    scaled: bool | None = None

    def __getitem__(self, key: str | tuple[str, str]) -> tuple[Rank, ...]:
        """Return the ranks by a (part, metric), or by a metric of all parts, best first.

        Raises:
            KeyError: there is no such pair.
        """
        pair = ("", key) if isinstance(key, str) else key
        found = tuple(one for one in self.ranks if (one.part, one.metric) == pair)
        if not found:
            raise KeyError(pair)
        return found

    def markdown(self, most: int | None = None) -> str:
        """Return the ranking as a page of Markdown, with the rows that matter most or all."""
        return ranking_page(self, most)

    def save(self, folder: Path | str) -> None:
        """Write comparison.json and comparison.md.

        Raises:
            UsageError: a file of these names that no comparison wrote is in the way.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        _save(self, folder)


def load_comparison(folder: Path) -> Comparison | Ranking:
    """Read what `save` of a comparison or ranking wrote.

    Raises:
        DataError: the file is damaged or of another version.
    """
    file = folder / COMPARISON
    kinds: TypeAdapter[Comparison | Ranking] = TypeAdapter(Comparison | Ranking)
    try:
        return kinds.validate_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{file} is damaged or of another version: {error}",
            needed="a comparison that this version of hilum wrote",
            cure="compare again",
        ) from error


def make_difference(
    row: ComparedRow,
    values: tuple[float, float],
    interval: tuple[float, float, float],
    *,
    p_value: float,
    test: Test | None,
    deviation: float | None,
) -> Difference:
    """Build the difference of a row; without a p-value it has no test.

    Args:
        row: what is compared.
        values: the metric of a and of b.
        interval: a minus b, its lower and its upper end.
        p_value: NaN where there is none.
        test: see `Difference`.
        deviation: see `Difference`.
    """
    return Difference(
        part=row.part,
        metric=row.metric,
        a=values[0],
        b=values[1],
        difference=interval[0],
        low=interval[1],
        high=interval[2],
        test="none" if test is not None and math.isnan(p_value) else test,
        p_value=p_value,
        deviation=deviation,
    )


def over_runs(
    one: Difference,
    a: Sequence[IntervalRequest],
    b: Sequence[IntervalRequest],
    groups: Sequence[Hashable],
    level: float,
) -> Difference:
    """Return a difference with interval and test over patients and runs.

    Args:
        one: the difference of the means over the runs.
        a: the metric of each run of the one model.
        b: of each run of the other.
        groups: (N,) whose case it is.
        level: coverage of the interval.
    """
    tables = [metrics.pseudo_values(side, groups).T for side in (a, b)]
    tested = metrics.runs_test(*tables, level=level)
    changed = {
        "low": tested.low,
        "high": tested.high,
        "p_value": tested.p_value,
        "test": "none" if math.isnan(tested.p_value) else "runs",
        "from_runs": defined(tested.from_runs),
        "p_permutation": None,  # of patients alone, as is the deviation
        "deviation": None,
    }
    return one.model_copy(update=changed)


def defined(value: float) -> float | None:
    """Return a number; None where it is undefined (NaN), which JSON leaves out."""
    return None if math.isnan(value) else value


def deviation_of_interval(
    low: float, high: float, patients: int, level: float, *, student: bool = False
) -> float | None:
    """Return the standard deviation of so many patients whose mean has this interval.

    Its ends are taken as those of a normal distribution, or with `student` of Student's t.
    """
    from scipy.special import ndtri, stdtrit

    share = (1 + level) / 2
    quantile = stdtrit(patients - 1, share) if student else ndtri(share)
    return defined((high - low) / 2 / float(quantile) * math.sqrt(patients))


def p_of_interval(difference: float, low: float, high: float, level: float, patients: int) -> float:
    """The p-value whose interval at `1 - p` would just reach 0, the way there taken as normal.

    1 where nothing differs; never less than the smallest p of a permutation of so many patients, as
    the interval of a few is far from exact.
    """
    from scipy.special import ndtr, ndtri

    if difference == 0:
        return 1.0
    reach = difference - low if difference > 0 else high - difference
    if not reach > 0:  # undefined, or an interval that leaves its estimate out: too little is known
        return math.nan
    p = float(2 * ndtr(-abs(difference) / reach * ndtri((1 + level) / 2)))
    return max(p, metrics.smallest_p(patients))


def known_margins(
    margins: Mapping[str, float] | None, known: Collection[str]
) -> Mapping[str, float]:
    """Return the margins; refuse those of metrics that are not compared."""
    for metric in margins or {}:
        find_named("margin", "metrics", metric, dict.fromkeys(known))
    return margins or {}


def decide(
    differences: Sequence[Difference], level: float, margins: Mapping[str, float]
) -> tuple[Difference, ...]:
    """Correct p-values for their number (Holm), decide who is better, and test equivalence.

    Only then are intervals cut where differences of a metric end: equivalence is tested by the
    width that they have, of few patients more than any difference.
    """
    decided = []
    for one, p in zip(differences, metrics.holm([d.p_value for d in differences]), strict=True):
        better = "undecided"
        if p < 1 - level and (one.low > 0 or one.high < 0):
            better = "a" if (one.low > 0) == higher_is_better(one.metric) else "b"
        low, high = np.clip((one.low, one.high), *difference_range(one.metric)).tolist()
        changed: dict[str, object] = {"p_holm": p, "better": better, "low": low, "high": high}
        if one.metric in margins:
            margin = margins[one.metric]
            alike = metrics.equivalence_p(one.difference, one.low, one.high, margin, level)
            changed |= {
                "margin": margin,
                "p_equivalence": defined(alike),
                "equivalent": alike < 1 - level,
            }
        decided.append(one.model_copy(update=changed))
    return tuple(decided)


def _save(record: Comparison | Ranking, folder: Path | str) -> None:
    text = record.model_dump_json(indent=2) + "\n"
    with OutputFolder(folder, "compare") as out:
        out.write({COMPARISON_TEXT: record.markdown(), COMPARISON: text})
