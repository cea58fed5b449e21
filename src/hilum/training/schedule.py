"""Progress of a training, and the learning rate there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hilum.plan.plan import Record

_COOLDOWN = 0.15
"""After a plateau the rest of the schedule is done in this share of the steps made so far."""
_PATIENCE = 8
"""Checks without a gain that make a plateau."""
_WORTHWHILE = 0.002
"""A validation score must rise by this much to count as better."""


@dataclass(frozen=True)
class Budget:
    """Limit of a training: a number of steps, or seconds of wall-clock time.

    With seconds the schedule follows the clock, so that it ends when the time does on a machine of
    any speed; with steps the run is a function of plan, data and seed alone.
    """

    steps: int
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Return 0 at the beginning, 1 and more at the end."""
        return step / self.steps if self.seconds is None else elapsed / self.seconds


class Plateau(Record):
    """Detects that the validation metric no longer rises; kept in the checkpoint.

    Args:
        best: best validation score so far.
        waited: checks since then.
        cooldown_from: progress at which the training was found to have stopped to gain, None before
            that.
        cooldown_step: the step of that moment.
    """

    best: float = -1.0
    waited: int = 0
    cooldown_from: float | None = None
    cooldown_step: int = 0

    def after(self, score: float, *, step: int, progress: float) -> Plateau:
        """Return the state after one more validation."""
        if self.cooldown_from is not None or math.isnan(score):
            return self
        if score > self.best + _WORTHWHILE:
            return self.model_copy(update={"best": score, "waited": 0})
        waited = self.waited + 1
        if waited < _PATIENCE:
            return self.model_copy(update={"waited": waited})
        return self.model_copy(
            update={"waited": waited, "cooldown_from": progress, "cooldown_step": step}
        )

    def bend(self, progress: float, step: int) -> float:
        """Progress after a plateau: the rest of the schedule passes quickly."""
        if self.cooldown_from is None:
            return progress
        share = (step - self.cooldown_step) / max(1.0, _COOLDOWN * self.cooldown_step)
        return max(progress, self.cooldown_from + (1.0 - self.cooldown_from) * share)


def warm_up_then_cosine(peak: float, progress: float, *, warmup: float) -> float:
    """Compute the learning rate: a linear rise to its peak, then half a cosine to zero.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017; without restarts.

    Args:
        peak: the highest learning rate.
        progress: 0 at the beginning, 1 and more at the end.
        warmup: progress at which the peak is reached.
    """
    if progress < warmup:
        return min(peak, peak * max(progress, 1e-3) / warmup)
    rest = min(1.0, (progress - warmup) / max(1e-9, 1.0 - warmup))
    return peak * 0.5 * (1.0 + math.cos(math.pi * rest))
