"""The report of several models, or of several runs of models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum.errors import counted, plain_digits
from hilum.evaluation.comparison_page import row_name
from hilum.evaluation.page import decimals, some
from hilum.evaluation.ranking_page import (
    pair_table,
    rank_table,
    ranking_conclusion,
    ranking_methods,
    ranking_title,
    run_table,
)
from hilum.report.canvas import BLUE, GREY, GRID, ORANGE, new_canvas, plain
from hilum.report.html.document import Document, KeyNumber, Plot, Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.evaluation import Rank, Ranking, RunSpread
    from hilum.report.html.document import Block

_NUMBERS = 3


def ranking_report(ranking: Ranking) -> Document:
    """Return the report of a ranking."""
    headline = ranking[ranking.ranks[0].part, ranking.ranks[0].metric] if ranking.ranks else ()
    captions = {
        "Ranks": ("Rank of each model by each metric; 1 is the best", rank_table(ranking)),
        "Pairs": ("Differences of every two models, first minus second", pair_table(ranking)),
        "Runs": ("Spread over runs and over patients, standard deviations", run_table(ranking)),
    }
    plots = {"Ranks": rank_plot(headline, ranking), "Runs": run_plot(ranking)}
    sections = []
    for name, (caption, (head, rows)) in captions.items():
        plot = plots.get(name)
        blocks: list[Block] = [] if plot is None else [plot]
        blocks += [Table(caption, head, tuple(rows))] if rows else []
        sections.append(Section(name, blocks=tuple(blocks)))
    gone = f"Left out, as not all have them: {some(ranking.left_out)}."
    methods = [ranking_methods(ranking), *([gone] if ranking.left_out else [])]
    sections.append(Section("Data and methods", tuple(methods)))
    return Document(
        ranking_title(ranking),
        tuple(ranking_conclusion(ranking)),
        _numbers(ranking, headline),
        tuple(sections),
    )


def rank_plot(headline: Sequence[Rank], ranking: Ranking) -> Plot | None:
    """Draw mean and range of each model's resampled ranks; None where there are none."""
    shown = [one for one in headline if not math.isnan(one.mean_rank)]
    if not shown:
        return None
    canvas = new_canvas(7.0, 0.45 * len(shown) + 1.1)
    axes = canvas.subplots()
    for row, one in enumerate(shown):
        axes.plot([one.low, one.high], [row, row], color=BLUE, linewidth=3, alpha=0.5)
        axes.plot([one.mean_rank], [row], "o", color=ORANGE, markersize=7)
    axes.set_yticks(range(len(shown)), [plain(one.model) for one in shown])
    axes.set_xticks(range(1, len(shown) + 1))
    axes.set_xlim(0.8, len(shown) + 0.2)
    axes.invert_yaxis()
    axes.set_xlabel("rank, 1 is the best")
    axes.grid(axis="x", color=GRID)
    said = "; ".join(f"{one.model} {one.mean_rank:.2f}, first in {one.first:.0%}" for one in shown)
    name = row_name(shown[0].part, shown[0].metric, scaled=ranking.scaled is not False)
    text = (
        f"Dots are mean ranks when patients are resampled, lines hold {ranking.level:.0%} of the"
        f" ranks: {said}."
    )
    return Plot(f"Ranks by {name}", canvas, text)


def run_plot(ranking: Ranking) -> Plot | None:
    """Draw each run of each model by the first metric; None of models with one run."""
    spreads: dict[str, RunSpread] = {}
    for one in ranking.spreads:
        if not math.isnan(one.error):
            spreads.setdefault(one.model, one)
    if not spreads:
        return None
    canvas = new_canvas(7.0, 0.6 * len(spreads) + 1.1)
    axes = canvas.subplots()
    for row, one in enumerate(spreads.values()):
        middle = sum(one.values) / len(one.values)
        ends = [middle - one.error, middle + one.error]
        axes.plot(ends, [row, row], color=GREY, linewidth=2)
        axes.plot(one.values, [row] * len(one.values), "o", color=BLUE, alpha=0.7, markersize=6)
    axes.set_yticks(range(len(spreads)), list(map(plain, spreads)))
    axes.invert_yaxis()
    first = next(iter(spreads.values()))
    name = row_name(first.part, first.metric, scaled=ranking.scaled is not False)
    axes.set_xlabel(plain(name))
    axes.grid(axis="x", color=GRID)
    said = "; ".join(f"{n} {', '.join(map(decimals, one.values))}" for n, one in spreads.items())
    text = f"A dot is a run, the line the standard error over patients around their mean. {said}."
    return Plot(f"Runs by {name}", canvas, text)


def _numbers(ranking: Ranking, headline: Sequence[Rank]) -> tuple[KeyNumber, ...]:
    """Return how often the first models are the first; of one model its runs' spread."""
    if headline:
        return tuple(
            KeyNumber(
                "–" if math.isnan(one.first) else f"{one.first:.0%}",
                f"of the resamples; value {decimals(one.value)}",
                f"{one.model} is the first",
            )
            for one in headline[:_NUMBERS]
        )
    return tuple(
        KeyNumber(
            plain_digits(one.of_means, 2),
            f"between {counted(len(one.values), 'run')};"
            f" over patients {plain_digits(one.error, 2)}",
            f"spread of {row_name(one.part, one.metric, scaled=ranking.scaled is not False)}",
        )
        for one in ranking.spreads[:_NUMBERS]
    )
