"""A comparison in words and as a page of Markdown."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation.markdown import table_lines
from hilum.evaluation.metric_table import RATIOS, title
from hilum.evaluation.page import (
    ATTENTION,
    INTERVALS,
    decimals,
    joined_sentence,
    p_value,
    some,
    span,
)
from hilum.metrics.paired import POWER, patients_needed, smallest_p

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.evaluation.comparison import Comparison, Difference

WORTH_SEEING = 0.01
"""Difference of a metric from 0 to 1 for which the number of patients is said that show it."""

DECIDES = "Better: the corrected p is small enough, and the interval leaves 0 out."
"""Sentence that says who is called better."""


def comparison_page(comparison: Comparison, most: int | None = None) -> str:
    """Return the page of a comparison.

    Args:
        comparison: two evaluations.
        most: rows of its table at most, those of `foremost`; None: all.
    """
    shown = foremost(comparison.differences, most)
    head, rows = comparison_table(comparison.model_copy(update={"differences": shown}))
    lines = ["# Comparison", "", conclusion(comparison), "", comparison_methods(comparison), ""]
    lines += [*table_lines(head, rows), *rows_left_out(len(comparison.differences) - len(rows))]
    if comparison.left_out:
        lines += [f"Left out, as only one of the two has them: {some(comparison.left_out)}."]
    return "\n".join(lines).rstrip() + "\n"


def foremost(differences: Sequence[Difference], most: int | None) -> tuple[Difference, ...]:
    """Return the rows that matter most, in their order.

    These are those of the first one's metric and part (of each pair of models), those whose
    equivalence is tested, and those of the smallest p-values.

    Args:
        differences: the rows.
        most: how many; None: all.
    """

    def rank(place: int) -> tuple[bool, bool, float]:
        one = differences[place]
        other = (one.part, one.metric) != (differences[0].part, differences[0].metric)
        return other, one.margin is None, math.inf if math.isnan(one.p_value) else one.p_value

    return tuple(differences[i] for i in sorted(sorted(range(len(differences)), key=rank)[:most]))


def rows_left_out(number: int) -> list[str]:
    """Say how many rows of a table are not shown."""
    return [f"And {counted(number, 'more row')}.", ""] if number else []


def comparison_methods(comparison: Comparison) -> str:
    """Say what was compared, and how the intervals and tests were made."""
    classes = comparison.patients is not None
    intro = f"a: {comparison.a}. b: {comparison.b}. {comparison.cases} cases"
    level = f"{comparison.level:.0%}"
    if classes:
        intro += (
            f" of {comparison.patients} patients; differences are a minus b with {level} intervals"
            " over patients. p: paired DeLong test for the AUROC of a class, paired bootstrap for"
            f" the rest; corrected (Holm) for the number of rows. {DECIDES}"
        )
        if comparison.joined:
            intro += f" {joined_sentence(comparison.joined)}"
    else:
        intro += (
            f"; differences are a minus b with {level} intervals over patients ({INTERVALS}); p:"
            " Wilcoxon signed-rank over patients, corrected (Holm) for the number of rows; beside"
            f" it the permutation test of the mean, uncorrected. {DECIDES}"
        )
    if any(one.margin is not None for one in comparison.differences):
        intro += (
            " Equivalent: two one-sided tests (TOST) show that the difference is smaller than the"
            " margin."
        )
    return intro


def comparison_table(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of the table of differences."""
    return difference_table(
        comparison.differences,
        classes=comparison.patients is not None,
        scaled=comparison.scaled is not False,
    )


def difference_table(
    differences: Sequence[Difference], *, classes: bool, scaled: bool
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a table of differences.

    Args:
        differences: one a row.
        classes: they are of classes, not of label maps.
        scaled: distances are in mm; else in pixels, as the pictures state no scale.
    """
    margins = any(one.margin is not None for one in differences)
    permuted = any(one.p_permutation is not None for one in differences)
    head = ["of" if classes else "region", "metric", "a", "b", "difference", "interval"]
    head += ["p, permutation" if permuted else "p", "p, corrected", "better"]
    head += ["equivalent"] if margins else []
    rows = [
        (
            d.part or "all",
            title(d.metric, scaled=scaled),
            *(decimals(value) for value in (d.a, d.b, d.difference)),
            span(d.low, d.high) if d.n != 0 else "–",
            p_value(_or_nan(d.p_permutation) if permuted else d.p_value),
            p_value(d.p_holm),
            d.better,
            *([_equivalence(d)] if margins else []),
        )
        for d in differences
    ]
    return tuple(head), rows


def conclusion(comparison: Comparison) -> str:
    """Say in plain words what a comparison shows, and what it would take to show more."""
    rows = comparison.differences
    scaled = comparison.scaled is not False

    def name(one: Difference) -> str:
        return row_name(one.part, one.metric, scaled=scaled)

    parts = []
    for side, other in (("a", "b"), ("b", "a")):
        if better := [name(one) for one in rows if one.better == side]:
            number = f"{len(better)} of {counted(len(rows), 'row')}"
            parts.append(f"{side} is better than {other} in {number}: {some(better)}.")
    if not parts:
        parts.append(
            f"No difference is shown in any of {counted(len(rows), 'row')}; that alone does not"
            " show that the two are alike."
        )
    if comparison.patients is None:  # label maps, whose test is of patients' signs
        patients = max((one.patients or 0 for one in rows), default=0)
        parts.append(few_patients(count_tests(rows), patients, comparison.level))
    if alike := [f"{name(one)} (within {one.margin:g})" for one in rows if one.equivalent]:
        parts.append(f"Shown to be equivalent: {some(alike)}.")
    first = next((one for one in rows if not math.isnan(one.difference)), None)
    if first is not None and first.better == "undecided":
        patients = first.patients or comparison.patients or 0
        parts.append(allowed_difference(first, name(first), patients, comparison.level))
    return " ".join(filter(None, parts))


def count_tests(differences: Iterable[Difference]) -> int:
    """Count the rows that have a test, for whose number p-values are corrected."""
    return sum(not math.isnan(one.p_value) for one in differences)


def few_patients(tests: int, patients: int, level: float) -> str:
    """Say where so few patients of label maps can show no difference; "" where they can.

    Args:
        tests: how many p-values are corrected together.
        patients: whose signs the tests flip.
        level: 1 minus the level of significance.
    """

    def can_show(number: int) -> bool:
        return tests * smallest_p(number) < 1 - level

    if can_show(patients):
        return ""
    needed = next(filter(can_show, count(1)))
    return (
        f"{ATTENTION}{counted(patients, 'patient')} can show no difference, however large:"
        f" corrected for {counted(tests, 'test')}, at least {needed} patients are needed."
    )


def allowed_difference(one: Difference, name: str, patients: int, level: float) -> str:
    """Say which difference the cases allow, and how many patients would show a small one."""
    said = f"These cases allow a difference in {name} of {span(one.low, one.high)}."
    needed = patients_needed(one.deviation or math.nan, WORTH_SEEING, level=level)
    if needed is None or one.metric not in RATIOS:
        return said
    return (
        f"{said} To see a difference of {WORTH_SEEING:g} in it (with {POWER:.0%} power, at the"
        f" spread of these patients) about {counted(needed, 'patient')} are needed; there are"
        f" {patients}."
    )


def row_name(part: str, metric: str, *, scaled: bool = True) -> str:
    """Name a metric of a part for people, see `title`: Dice of liver."""
    return f"{title(metric, scaled=scaled)} of {part or 'all'}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _equivalence(one: Difference) -> str:
    """Write the test of equivalence of a row; empty where no margin was given."""
    if one.margin is None or one.p_equivalence is None:
        return ""
    verdict = f"within {one.margin:g}" if one.equivalent else f"not shown within {one.margin:g}"
    return f"{verdict} (p {p_value(one.p_equivalence)})"
