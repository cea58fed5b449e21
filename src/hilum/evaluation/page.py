"""Numbers and lists of names as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilum import errors
from hilum.metrics.resampling import NO_INTERVAL, T_PATIENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 10

INTERVALS = f"t below {T_PATIENTS} patients, BCa above"
"""Methods of the intervals of means over patients."""

ATTENTION = "Attention: "
"""First word of a note that must not be overlooked: it stands before the tables."""


CROSS_VALIDATED = (
    f"{ATTENTION}these are figures of a cross-validation: each case was predicted by a model that"
    " had not learnt from it, but plan, training and post-processing were chosen on these very"
    " patients, so that the figures are optimistic for new patients, and more so for other"
    " hospitals; the intervals hold what other patients would change, not what another training"
    " would"
)
"""Note on figures of a cross-validation (Bengio and Grandvalet, J Mach Learn Res 5, 2004)."""


def decimals(value: float) -> str:
    """Write a number for people; a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """Write an interval for people, or that there is none (NaN or None)."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return NO_INTERVAL
    return f"{low:{form}} to {high:{form}}"


def median_span(low: float, high: float) -> str:
    """Write the interval of a median for people; it needs six patients for 95 %."""
    return "too few patients" if math.isnan(low) else span(low, high)


def p_value(value: float) -> str:
    """Write a p-value for people: never "0.000"."""
    return "< 0.001" if value < 0.001 else decimals(value)


def some(names: Sequence[str], file: str = "") -> str:
    """Name the first of many, how many more there are, and the file that holds them all."""
    place = f"; all in {file}" if file and len(names) > _SHOWN else ""
    return errors.some(names, shown=_SHOWN) + place


def joined_sentence(count: int) -> str:
    """Make the sentence on patients that near-duplicates join; "" where they join none."""
    return (
        f"Near-duplicates join {count} further patients to these: they count, and are drawn, as"
        " one."
        if count
        else ""
    )
