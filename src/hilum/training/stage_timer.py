"""Time of each stage of a training, and a sentence where the minutes were not enough."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
T = TypeVar("T")
_LATE, _SECONDS = 1.05, 5.0
"""So many times the minutes, and so many seconds more, may be taken before that is said."""


class StageTimer:
    """Times at which the stages of a training ended; the first stage begins at once.

    Args:
        first: what was done until now.
    """

    def __init__(self, first: str) -> None:
        self.ends = [(first, time.perf_counter())]

    def of(self, what: str, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do the next part."""
        result = work(*args, **options)
        self.ends.append((what, time.perf_counter()))
        return result


def explain_overrun(
    started: float, ends: Sequence[tuple[str, float]], each: float | None, folds: int = 1
) -> tuple[str, ...]:
    """A sentence where more time was taken than was given, and by what.

    Nothing where the minutes were kept.

    Args:
        started: when the minutes began.
        ends: what was done, and when it ended, in its order.
        each: minutes that were given to a fold; None: no limit.
        folds: how many.
    """
    taken = ends[-1][1] - started
    minutes = math.inf if each is None else each * folds
    if taken <= minutes * 60 * _LATE + _SECONDS:
        return ()
    begins = (started, *(end for _, end in ends))
    said = [
        f"{what} {(end - begun) / 60:.1f}"
        for begun, (what, end) in zip(begins, ends, strict=False)
        if end - begun >= 3
    ]
    return (
        (
            f"The time was overrun: {taken / 60:.1f} minutes instead of {minutes:g}"
            f" ({', '.join(said)}). Was the machine busy?"
        ),
    )
