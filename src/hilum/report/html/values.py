"""Values of plans and metrics as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from hilum.errors import plain_digits
from hilum.evaluation.metric_table import CLASS_METRICS, LABEL_METRICS, title

if TYPE_CHECKING:
    from hilum.plan.data_card import NumberSummary
    from hilum.plan.plan import Range

_LONGEST = 240
"""Letters of a value that are shown; plan.json has all."""
AXES = ("Z", "Y", "X")


def short(value: object) -> str:
    """Write the value of a decision for people.

    A record by its title, else by its fields; a long one is cut.
    """
    text = _text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _text(value: object) -> str:
    """Write a value of whatever kind."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, BaseModel):
        named = getattr(value, "title", None)
        fields = value.model_dump()
        return named if isinstance(named, str) else _text(fields)
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        numbers = bool(value) and all(isinstance(one, int | float) for one in value)
        between = " to " if numbers and isinstance(value[0], float) and len(value) == 2 else " x "
        return (between if numbers else "; ").join(map(_text, value)) or "none"
    return "none" if value is None else str(value)


def sentence(text: str) -> str:
    """Write a note as a sentence; names such as nnU-Net and centre_x keep their first letter."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    is_name = any(letter.isupper() or letter == "_" for letter in first)
    start = text[:1] if is_name else text[:1].upper()
    return f"{start}{text[1:].rstrip('.')}."


def kind_of_image(kind: str) -> str:
    """Write a kind of image, as `hilum.dataset.channels.Kind`, for people."""
    words = {"xray": "X-ray", "us": "ultrasound", "rgb": "colour picture"}
    return words.get(kind, kind.upper() if len(kind) < 4 else kind)


def metric_title(name: str, *, scaled: bool = True) -> str:
    """Return a metric's name for people, see `title`; one that is not of hilum stays as it is."""
    known = name in LABEL_METRICS or name in CLASS_METRICS
    return title(name, scaled=scaled) if known else name


def spread(numbers: NumberSummary, suffix: str = "") -> str:
    """Write least, middle and largest of several numbers."""
    return (
        f"{plain_digits(numbers.low)} to {plain_digits(numbers.high)}"
        f"{f' {suffix}' if suffix else ''} (median {plain_digits(numbers.median)})"
    )


def along_axes(ranges: tuple[Range, Range, Range], suffix: str) -> str:
    """Write the least and the largest number along each axis."""
    parts = [
        f"{axis} {low:.3g}" + ("" if low == high else f" to {high:.3g}")
        for axis, (low, high) in zip(AXES, ranges, strict=True)
    ]
    return f"{', '.join(parts)} {suffix}"
