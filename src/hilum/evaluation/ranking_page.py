"""A ranking of models, and the spread over their runs, in words and as a page of Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from hilum.errors import counted, plain_digits
from hilum.evaluation.comparison_page import (
    DECIDES,
    allowed_difference,
    count_tests,
    difference_table,
    few_patients,
    foremost,
    row_name,
    rows_left_out,
)
from hilum.evaluation.markdown import table_lines
from hilum.evaluation.metric_table import title
from hilum.evaluation.page import decimals, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.evaluation.comparison import Rank, Ranking, RunSpread

    Ranked = TypeVar("Ranked", Rank, RunSpread)
    TableOf = tuple[tuple[str, ...], list[tuple[str, ...]]]


def ranking_page(ranking: Ranking, most: int | None = None) -> str:
    """Return the page of a ranking.

    Args:
        ranking: several models.
        most: rows of its pairs at most, those of `foremost`, beside the ranks and spreads by the
            first metric only; None: all rows.
    """
    lines = [f"# {ranking_title(ranking)}", ""]
    for sentence in ranking_conclusion(ranking):
        lines += [sentence, ""]
    lines += [ranking_methods(ranking), ""]
    brief = ranking if most is None else _foremost_rows(ranking, most)
    for name, table in {"Ranks": rank_table, "Pairs": pair_table, "Runs": run_table}.items():
        (head, rows), (_, all_rows) = table(brief), table(ranking)
        if rows:
            lines += [f"## {name}", "", *table_lines(head, rows)]
            lines += rows_left_out(len(all_rows) - len(rows))
    if ranking.left_out:
        lines += [f"Left out, as not all have them: {some(ranking.left_out)}."]
    return "\n".join(lines).rstrip() + "\n"


def ranking_title(ranking: Ranking) -> str:
    """Name what is compared."""
    if len(ranking.models) == 1:
        return f"{counted(len(ranking.models[0].runs), 'run')} of one model"
    return f"Comparison of {counted(len(ranking.models), 'model')}"


def ranking_conclusion(ranking: Ranking) -> list[str]:
    """Say in plain words who is first, how sure that is, and what other runs would change."""
    sentences = []
    if ranking.ranks:
        first = ranking.ranks[0]
        headline = ranking[first.part, first.metric]
        sentences = [_order(ranking, headline), _tests(ranking, headline)]
    if ranking.scaled is not None and not _several_runs(ranking):  # label maps: signs of patients
        tests = count_tests(one for pair in ranking.pairs for one in pair.differences)
        sentences.append(few_patients(tests, ranking.patients, ranking.level))
    scaled = ranking.scaled is not False
    if alike := [
        f"{pair.a} and {pair.b} in {row_name(one.part, one.metric, scaled=scaled)}"
        f" (within {one.margin:g})"
        for pair in ranking.pairs
        for one in pair.differences
        if one.equivalent
    ]:
        sentences.append(f"Shown to be equivalent: {some(alike)}.")
    return [*filter(None, sentences), *_runs(ranking)]


def ranking_methods(ranking: Ranking) -> str:
    """Say what was compared, and how ranks, intervals and tests were made."""

    def many(runs: tuple[str, ...]) -> str:
        return f" ({counted(len(runs), 'run')})" if len(runs) > 1 else ""

    models = " ".join(
        f"{one.name}: {', '.join(one.runs)}{many(one.runs)}." for one in ranking.models
    )
    said = [f"{models} {ranking.cases} cases of {counted(ranking.patients, 'patient')}."]
    level = f"{ranking.level:.0%}"
    several = _several_runs(ranking)
    if ranking.pairs:
        said.append(
            "Ranks: by the value in all cases; their stability in resamples of the patients"
            f"{' and of the runs' if several else ''}, with the range that holds {level} of them."
            f" Pairs: differences with {level} intervals over patients"
            f"{' and runs' if several else ''}, p-values corrected (Holm) for all rows of all"
            f" pairs. {DECIDES}"
        )
    if several:
        said.append(
            "Runs: the variance of patients by runs is split (analysis of variance, random"
            " effects); a model of one run is taken as it is, as nobody knows how it would vary."
        )
    return " ".join(said)


def rank_table(ranking: Ranking) -> TableOf:
    """Return the header and the rows of the table of ranks."""
    of_maps = ranking.scaled is not None
    head = ["of" if not of_maps else "region", "metric", "model", "value", "rank", "mean rank"]
    head += ["range", "first in", *(["mean rank in a patient"] if of_maps else [])]
    rows = [
        (
            one.part or "all",
            title(one.metric, scaled=ranking.scaled is not False),
            one.model,
            decimals(one.value),
            _plain(one.rank),
            _two(one.mean_rank),
            "–" if math.isnan(one.low) else f"{one.low:g} to {one.high:g}",
            "–" if math.isnan(one.first) else f"{one.first:.0%}",
            *(
                [_two(math.nan if one.patient_rank is None else one.patient_rank)]
                if of_maps
                else []
            ),
        )
        for one in ranking.ranks
    ]
    return tuple(head), rows


def pair_table(ranking: Ranking) -> TableOf:
    """Return the header and the rows of the table of all pairs' differences."""
    paired = [(pair, one) for pair in ranking.pairs for one in pair.differences]
    columns, lines = difference_table(
        [one for _, one in paired],
        classes=ranking.scaled is None,
        scaled=ranking.scaled is not False,
    )
    better = columns.index("better")
    head = ("pair", *("first" if c == "a" else "second" if c == "b" else c for c in columns))
    rows = [
        (
            f"{pair.a} - {pair.b}",
            *line[:better],
            {"a": pair.a, "b": pair.b}.get(line[better], line[better]),
            *line[better + 1 :],
        )
        for (pair, _), line in zip(paired, lines, strict=True)
    ]
    return head, rows


def run_table(ranking: Ranking) -> TableOf:
    """Return the header and the rows of the table of spreads over runs and patients."""
    head = ("of", "metric", "model", "each run", "spread of the runs", "of patients", "of the rest")
    rows = [
        (
            one.part or "all",
            title(one.metric, scaled=ranking.scaled is not False),
            one.model,
            ", ".join(map(decimals, one.values)),
            *map(_spread, (one.of_means, one.patients, one.rest)),
        )
        for one in ranking.spreads
    ]
    return head, rows


def _foremost_rows(ranking: Ranking, most: int) -> Ranking:
    """Leave out the rows of tables that matter less."""
    rows = [one for pair in ranking.pairs for one in pair.differences]
    kept = {id(one) for one in foremost(rows, most)}

    def of_headline(ranks: Sequence[Ranked]) -> tuple[Ranked, ...]:
        return tuple(
            one for one in ranks if (one.part, one.metric) == (ranks[0].part, ranks[0].metric)
        )

    pairs = tuple(
        pair.model_copy(
            update={"differences": tuple(one for one in pair.differences if id(one) in kept)}
        )
        for pair in ranking.pairs
    )
    changed = {"ranks": of_headline(ranking.ranks), "spreads": of_headline(ranking.spreads)}
    return ranking.model_copy(update={"pairs": pairs, **changed})


def _several_runs(ranking: Ranking) -> bool:
    return any(len(one.runs) > 1 for one in ranking.models)


def _order(ranking: Ranking, headline: tuple[Rank, ...]) -> str:
    """Say the order of the models by the headline, and how often each is the first."""
    first = headline[0]
    name = row_name(first.part, first.metric, scaled=ranking.scaled is not False)
    if math.isnan(first.rank):
        return f"By {name} the models have no order: one of them has no value."
    order = ", ".join(f"{one.model} ({decimals(one.value)})" for one in headline)
    often = ", ".join(
        f"{one.model} in {one.first:.0%}"
        for one in sorted(headline, key=lambda one: -one.first)
        if one.first >= 0.005
    )
    said = f"By {name} the order is {order}. First when patients are resampled: {often}."
    by_patient = {one.model: one.patient_rank for one in headline if one.patient_rank is not None}
    best = min(by_patient, key=lambda model: by_patient[model], default=first.model)
    if best != first.model:
        said += (
            f" Ranked in each patient, {best} is the first on average: the two ways of ranking"
            " disagree."
        )
    return said


def _tests(ranking: Ranking, headline: tuple[Rank, ...]) -> str:
    """Say which models the tests tell from the first one by the headline."""
    first, *others = (one.model for one in headline)
    part, metric = headline[0].part, headline[0].metric
    verdicts: dict[str, list[str]] = {"won": [], "lost": [], "undecided": []}
    smallest = None
    for pair in ranking.pairs:
        if first not in (pair.a, pair.b):
            continue
        (one,) = (d for d in pair.differences if (d.part, d.metric) == (part, metric))
        won = one.better == ("a" if pair.a == first else "b")
        verdict = "won" if won else "undecided" if one.better == "undecided" else "lost"
        verdicts[verdict].append(pair.b if pair.a == first else pair.a)
        smallest = one if smallest is None and verdict == "undecided" else smallest
    if len(verdicts["won"]) == len(others):
        return (
            f"The corrected tests tell {first} from every other model: on patients like these it is"
            " the best."
        )
    said = _unsettled(first, **verdicts)
    if smallest is not None and not math.isnan(smallest.difference):
        name = row_name(part, metric, scaled=ranking.scaled is not False)
        patients = smallest.patients or ranking.patients
        said += f" {allowed_difference(smallest, name, patients, ranking.level)}"
    return said


def _unsettled(first: str, won: list[str], lost: list[str], undecided: list[str]) -> str:
    """Say that the first one has not won every test, and of which models."""
    said = []
    if lost:
        said.append(
            f"The corrected tests find {', '.join(lost)} better than {first} on the cases that"
            " both of a pair have; the order is of the cases that all have"
        )
    if undecided:
        only = f", only from {', '.join(won)}" if won else ""
        said.append(f"The corrected tests do not tell {first} from {', '.join(undecided)}{only}")
    return f"{'. '.join(said)}: who is the best is not settled."


def _runs(ranking: Ranking) -> list[str]:
    """Say of each model with several runs what another run would change, and other patients."""
    first: dict[str, RunSpread] = {}
    for one in ranking.spreads:
        if not math.isnan(one.of_means):
            first.setdefault(one.model, one)
    sentences = []
    for one in first.values():
        name = row_name(one.part, one.metric, scaled=ranking.scaled is not False)
        more = "patients" if one.error >= one.of_means else "runs"
        sentences.append(
            f"{counted(len(one.values), 'run')} of {one.model} have a {name} of"
            f" {', '.join(map(decimals, one.values))}: another run would change it by about"
            f" {_spread(one.of_means)}, other patients by about {_spread(one.error)} (standard"
            f" deviations). Most of what is not known comes from the {more}."
        )
    return sentences


def _plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:g}"


def _two(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _spread(value: float) -> str:
    """Write a standard deviation, which may be far smaller than the value."""
    return "–" if math.isnan(value) else plain_digits(value, 2)
