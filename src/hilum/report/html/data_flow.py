"""The way of the cases into a training as a diagram: found, left out and why, folds."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment

from hilum.errors import counted
from hilum.report.html.document import Drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.report.html.model_folder import FoldCases, ModelFolder

_WIDTH = 360
"""Pixels across the drawing: a phone shows it without scaling."""
_LINE, _PAD, _GAP, _INDENT = 19, 9, 24, 40
_LETTERS = 44
"""Letters in a line of a box of the whole width."""
_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg class="drawing" viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ label }}"
 xmlns="http://www.w3.org/2000/svg" font-size="14">
{% for arrow in arrows %}
<path d="M20 {{ arrow[0] }}V{{ arrow[1] - 1 }}m-5 -6l5 6l5 -6" fill="none" stroke="currentColor"/>
{% endfor %}
{% for box in boxes %}
<rect x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" height="{{ box.height }}" rx="5"
 class="{{ box.style }}"/>
{% for line in box.lines %}
<text x="{{ box.x + 9 }}" y="{{ box.y + 19 * loop.index }}" class="on-{{ box.style }}">
{{- line -}}
</text>
{% endfor %}
{% endfor %}
</svg>
""")


@dataclass(frozen=True)
class Step:
    """Cases that go on, and what leaves before the next step."""

    text: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Box:
    """A rectangle with lines of text; `style` is its class."""

    x: int
    y: int
    width: int
    lines: tuple[str, ...]
    style: str

    @property
    def height(self) -> int:
        return _LINE * len(self.lines) + _PAD


def data_flow(folder: ModelFolder) -> Drawing:
    """Draw how the cases of a model's data set came into its training."""
    return flow_drawing(flow_steps(folder), folder.folds)


def flow_steps(folder: ModelFolder) -> tuple[Step, ...]:
    """Return the steps from the files that were found to the cases that were trained on."""
    card, facts = folder.data_card, folder.manifest.facts
    if card is None:
        used = "cases: unknown" if facts is None else counted(facts.cases, "case")
        unknown = "what was left out before, and why, is unknown: the model has no data card"
        return (Step(f"Used for the training: {used}", (unknown,)),)
    away = [
        f"{counted(group.count, 'file')}: {group.reason}"
        for group in (() if card.files is None else (*card.files.left_out, *card.files.unreadable))
    ]
    words = {"orphan-image": "without annotation", "orphan-annotation": "without image"}
    away += [f"{counted(count, 'file')} {words.get(kind, kind)}" for kind, count in card.orphans]
    steps = (
        []
        if card.files is None
        else [Step(f"{counted(card.files.taken, 'file')} read", tuple(away))]
    )
    cases = card.cases + card.tests + card.unlabelled
    labelled, annotation = card.labelled
    unlabelled = (f"{card.unlabelled} without {annotation}",) if card.unlabelled else ()
    steps.append(Step(f"{counted(cases, 'case')} in {card.name}", unlabelled))
    kept = (f"{card.tests} kept for testing by the data set",) if card.tests else ()
    patients = "patients not known" if card.patients is None else counted(card.patients, "patient")
    steps.append(Step(f"{counted(card.cases + card.tests, f'{labelled} case')}", kept))
    steps.append(Step(f"{counted(card.cases, 'case')} for training and validation ({patients})"))
    return tuple(steps)


def flow_drawing(steps: Sequence[Step], folds: Sequence[FoldCases]) -> Drawing:
    """Draw the steps one below the other, and under them a bar for each fold."""
    boxes: list[_Box] = []
    arrows: list[tuple[int, int]] = []
    y = 1
    for number, step in enumerate(steps):
        box = _Box(1, y, _WIDTH - 2, _wrapped(step.text, _LETTERS), "step")
        boxes.append(box)
        start = y = y + box.height
        if step.left_out:
            lines = [line for text in step.left_out for line in _wrapped(text, _LETTERS - 6)]
            out = _Box(_INDENT, y + 8, _WIDTH - _INDENT - 1, ("left out:", *lines), "left-out")
            boxes.append(out)
            y += 8 + out.height
        if number + 1 < len(steps) or folds:
            y += _GAP if not step.left_out else 12
            arrows.append((start, y))
    for fold in folds:
        bars = _bars(fold, y)
        boxes += bars
        y = bars[-1].y + bars[-1].height + _PAD - 4
    said = "; ".join(
        [
            *(
                step.text + (f" (left out: {', '.join(step.left_out)})" if step.left_out else "")
                for step in steps
            ),
            *(_in_words(fold) for fold in folds),
        ]
    )
    svg = _SVG.render(boxes=boxes, arrows=arrows, width=_WIDTH, height=y + 2, label=said)
    return Drawing("Cases in, cases out", svg, f"{said}.")


def _bars(fold: FoldCases, y: int) -> list[_Box]:
    """Return the name of a fold and, below it, its parts, as wide as they have cases."""
    names = (fold.name, *_not_used(fold))
    least = 112  # the word and its number have room
    share = fold.train / max(1, fold.train + fold.validation)
    width = min(max(round(share * (_WIDTH - 2)), least), _WIDTH - 2 - least)
    top = y + _LINE * len(names)
    return [
        _Box(-6, y - 2, 0, names, "name"),
        _Box(1, top + 4, width, (f"train {fold.train}",), "train"),
        _Box(
            1 + width, top + 4, _WIDTH - 2 - width, (f"validate {fold.validation}",), "validation"
        ),
    ]


def _not_used(fold: FoldCases) -> list[str]:
    """Say which cases of a fold the time did not allow to use."""
    counts = {
        "to train on not learnt from in time": fold.left_out,
        "to validate on not scored in time": fold.unscored or 0,
    }
    return [f"{number} {what}" for what, number in counts.items() if number]


def _in_words(fold: FoldCases) -> str:
    used = f"{fold.name}: {fold.train} to train on, {fold.validation} to validate on"
    return ", ".join((used, *_not_used(fold)))


def _wrapped(text: str, letters: int) -> tuple[str, ...]:
    return tuple(textwrap.wrap(text, letters, break_long_words=True))
