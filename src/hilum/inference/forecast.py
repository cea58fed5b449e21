"""Forecast of the remaining time of a run, by the patches of its cases."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Advance:
    """Progress of a prediction run over its cases, and the time left.

    Args:
        case: at hand.
        done: cases that are finished.
        total: cases in all.
        fraction: of the expected work, 0 to 1.
        remaining_seconds: expected; None until there is something to judge by.
    """

    case: str
    done: int
    total: int
    fraction: float
    remaining_seconds: float | None


class Forecast:
    """Finished and expected work of a run, from which the end is estimated.

    A case's cost is the number of its patches, known from its header before it is read; where it is
    not, the mean of the others. The seconds of a patch are those of the cases so far, reading and
    writing that could not be hidden included.

    Args:
        costs: by case; None where not known.
        clock: seconds.
    """

    def __init__(
        self, costs: Mapping[str, float | None], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        known = [cost for cost in costs.values() if cost]
        usual = sum(known) / len(known) if known else 1.0
        self._costs = {case: cost or usual for case, cost in costs.items()}
        self._all = sum(self._costs.values())
        self._clock = clock
        self._begun = clock()
        self._finished_cost = 0.0
        self._finished = 0

    def finish(self, case: str) -> None:
        """Count a case as done, whatever became of it."""
        self._finished_cost += self._costs[case]
        self._finished += 1

    def at(self, case: str, share: float) -> Advance:
        """Return the progress with this share of a case (0 to 1) done beside the finished cases."""
        cost = self._finished_cost + share * self._costs.get(case, 0.0)
        seconds = self._clock() - self._begun
        remaining = seconds / cost * (self._all - cost) if cost > 0 else None
        return Advance(
            case,
            self._finished,
            len(self._costs),
            cost / self._all if self._all else 1.0,
            remaining,
        )
