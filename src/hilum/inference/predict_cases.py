"""Prediction of a list of cases one after another, as many as the time allows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hilum.dataset import Case
from hilum.errors import HilumError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[int, int, str], None]

CaseT = TypeVar("CaseT", Case, str)
T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """The moment at which a stage must have ended.

    Args:
        at: a `time.perf_counter` value; infinity where no time limit is set.
    """

    at: float = math.inf

    def left(self) -> float:
        """Return the seconds until then; negative afterwards."""
        return self.at - time.perf_counter()

    def passed(self) -> bool:
        """Return True if the time is up."""
        return self.left() <= 0

    def part(self, share: float) -> Deadline:
        """Return the moment at which this share of the time left has passed."""
        return Deadline(self.at - (1 - share) * self.left()) if self.at < math.inf else self


UNLIMITED = Deadline()


def spread_evenly(cases: Sequence[CaseT], most: int) -> tuple[CaseT, ...]:
    """Choose at most so many cases, spread evenly over all."""
    number = min(most, len(cases))
    places = np.unique(np.linspace(0, len(cases) - 1, number).round().astype(int))
    return tuple(cases[place] for place in places)


def predict_cases(
    predict: Callable[[CaseT], T],
    cases: Sequence[CaseT],
    *,
    order: Sequence[int] | None = None,
    deadline: Deadline = UNLIMITED,
    least: int = 1,
    progress: Progress | None = None,
    failed: Callable[[CaseT, HilumError], None] | None = None,
) -> dict[str, T]:
    """Predict cases one after another.

    No case is begun that would end after the deadline if it took as long as the longest so far.

    Args:
        predict: predicts one case, and reads, scores or saves what belongs to it.
        cases: all of them, or the ids of stored ones.
        order: their places in the order of prediction, every beginning of which represents all of
            them; None keeps their own order.
        deadline: when the last one must be done.
        least: this many are predicted in any case.
        progress: called as progress(done, total, case id).
        failed: called with a case that cannot be predicted, which is left out; None raises its
            error.

    Returns:
        Results by case id, in the order of `cases`.
    """
    ids = [case.id if isinstance(case, Case) else case for case in cases]
    found: dict[str, T] = {}
    longest = 0.0
    for done, place in enumerate(range(len(cases)) if order is None else order, start=1):
        left = deadline.left()
        if done > least and (left <= 0 or left < longest):
            break
        try:
            found[ids[place]] = predict(cases[place])
        except HilumError as error:
            if failed is None:
                raise
            failed(cases[place], error)
        longest = max(longest, left - deadline.left()) if deadline.at < math.inf else 0.0
        if progress is not None:
            progress(done, len(cases), ids[place])
    return {case: found[case] for case in ids if case in found}
