"""Two evaluations of the same cases, metric by metric: the record of both tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer

from hilum.evaluation.metric_table import higher_is_better, title
from hilum.evaluation.page import decimals, joined_sentence, p_value, some, span, table
from hilum.evaluation.records import Number, Record
from hilum.io import OutputFolder
from hilum.metrics import holm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMPARISON, COMPARISON_TEXT = "comparison.json", "comparison.md"
_LABEL_MAP_FIELDS = {"part": "region", "a": "mean_a", "b": "mean_b"}
"""What fields of a difference are called in comparison.json of label maps."""


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
    p_holm: Number
    n: int | None = None
    patients: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    better: Literal["a", "b", "undecided"]

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
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
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def __getitem__(self, key: str | tuple[str, str]) -> Difference:
        """The difference of a (part, metric), or of a metric of all classes ("auroc").

        Raises:
            KeyError: there is no such pair.
        """
        pair = ("", key) if isinstance(key, str) else key
        for difference in self.differences:
            if (difference.part, difference.metric) == pair:
                return difference
        raise KeyError(key)

    def markdown(self) -> str:
        """The comparison as a page of Markdown."""
        classes = self.patients is not None
        if classes:
            intro = (
                f"a: {self.a}. b: {self.b}. {self.cases} cases of {self.patients} patients;"
                f" differences are a minus b with {self.level:.0%} intervals over patients. p:"
                " paired DeLong test for the AUROC of a class, paired bootstrap for the rest;"
                " corrected (Holm) for the number of rows, which decides who is better."
            )
            if self.joined:
                intro += f" {joined_sentence(self.joined)}"
        else:
            intro = (
                f"a: {self.a}. b: {self.b}. {self.cases} cases; differences are a minus b with"
                f" {self.level:.0%} bootstrap intervals over patients; p: Wilcoxon signed-rank over"
                " patients, Holm-corrected for all rows."
            )
        head = ["of", "figure"] if classes else ["region", "metric"]
        head += ["a", "b", "difference", "interval", "p", "p, corrected", "better"]
        rows = [
            [
                d.part or "all",
                title(d.metric, scaled=self.scaled is not False),
                *(decimals(value) for value in (d.a, d.b, d.difference)),
                span(d.low, d.high) if d.n != 0 else "–",
                p_value(d.p_value),
                p_value(d.p_holm),
                d.better,
            ]
            for d in self.differences
        ]
        if not classes:
            head[6:8] = ["p"]
            rows = [[*row[:6], *row[7:]] for row in rows]
        lines = ["# Comparison", "", intro, "", *table(head, rows)]
        if self.left_out:
            names = some(self.left_out) if classes else ", ".join(self.left_out)
            lines += [f"Left out, as only one of the two has them: {names}."]
        return "\n".join(lines).rstrip() + "\n"

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


def correct_p_values(differences: Sequence[Difference], level: float) -> tuple[Difference, ...]:
    """Correct p-values for their number (Holm), and decide who is better."""
    corrected = holm([d.p_value for d in differences])
    return tuple(
        d.model_copy(update={"p_holm": p, "better": _better(d, p, level)})
        for d, p in zip(differences, corrected, strict=True)
    )


def _better(difference: Difference, p_holm: float, level: float) -> Literal["a", "b", "undecided"]:
    if not p_holm < 1 - level or difference.difference == 0:
        return "undecided"
    return "a" if (difference.difference > 0) == higher_is_better(difference.metric) else "b"
