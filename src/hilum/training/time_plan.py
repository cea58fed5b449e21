"""The seconds of every stage of a training with a time limit, planned once and kept by deadlines.

Every share and every number of seconds that was chosen by trial stands here. What the stages after
the steps do not need goes to the steps.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from hilum.inference.predict_cases import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

Stage = Literal[
    "looking",
    "preprocessing",
    "steps",
    "checks",
    "validation",
    "tuning",
    "uncertainty",
    "report",
    "writing",
]
Needs: TypeAlias = "Mapping[Stage, float]"
"""Seconds that stages would need for all cases."""

SHARES: dict[Stage, float] = {
    "looking": 0.05,  # fingerprint and plan; takes what it takes
    "preprocessing": 0.10,  # the case store; takes what it takes
    "steps": 0.40,  # and what the other stages do not need; see also VALIDATION_TAKES
    "checks": 0.05,  # a few validation cases while steps are made
    "validation": 0.15,  # at most, where there is no time to predict and score every case
    "tuning": 0.05,  # at most, post-processing of a segmentation
    "uncertainty": 0.05,  # at most, out-of-distribution check of a classifier
    "report": 0.10,  # at most, bootstrap intervals and baselines of a classifier
    "writing": 0.05,  # at most, the model folder
}
"""Shares of the minutes of a fold, in the order of the stages."""
TUNE_SHARES = {"predicting": 0.6, "learning": 0.2, "scoring": 0.2}
"""Shares of the minutes of `hilum tune`."""
TRIAL_SHARE = 0.1
"""Share of the minutes of a fold for timing networks; the times of further sizes are estimated."""
PROBE_SHARE = 0.8
"""Share of the seconds for steps that a linear probe takes for features; its fit gets the rest."""
VALIDATION_TAKES = 0.25
"""Share of the seconds for steps that validation takes beside its own, at most, to score all
cases."""
LITTLE_SHARE = 0.25
"""A warning is given where less of the minutes than this share is left for steps."""
OVERRUN = 1.05, 5.0
"""A message is given where the minutes times this, and so many seconds, are exceeded."""
WRITING_SECONDS = 5.0
LOOKS_TO_PREPROCESS = 2.0
"""Preprocessing a case takes so many times what looking at it took."""
PREDICTIONS_TO_VALIDATE, PREDICTIONS_TO_TUNE = 1.25, 0.2
"""Validating a case, and tuning on it, take so many times what predicting and scoring it took.
Validating took 1.1 to 1.2 times that; the last case is only begun where the longest would fit."""
MOST_LEARNT = 2000
"""Training cases at most that the out-of-distribution check is fitted on, and held-out cases at
most that set its limits."""
REPORT_SECONDS, REPORT_SECONDS_PER_ROW = 3.0, 0.005
"""Intervals of the network and its baselines, an output and case; measured on two cores."""


@dataclass(frozen=True)
class Pace:
    """Measured seconds of one training step, and of predicting and scoring one case."""

    step: float
    case: float


@dataclass(frozen=True)
class TimePlan:
    """Seconds of each stage of one fold.

    Args:
        started: `time.perf_counter` when its minutes began.
        total: seconds of the fold; infinity without a time limit.
        seconds: of the stages that are still to come.
    """

    started: float
    total: float
    seconds: Needs

    @classmethod
    def of(cls, minutes: float | None, needs: Needs, *, started: float) -> TimePlan:
        """Give each stage what it needs, at most its share, and the rest to the steps.

        Validation gets more than its share where all cases can then be scored: metrics of a part of
        them say less, and `VALIDATION_TAKES` of the steps change the network little.
        """
        total = math.inf if minutes is None else minutes * 60
        needs = {**needs, "writing": WRITING_SECONDS}
        seconds = {stage: min(need, SHARES[stage] * total) for stage, need in needs.items()}
        left = total - (time.perf_counter() - started) - sum(seconds.values())
        more = needs.get("validation", 0.0) - seconds.get("validation", 0.0)
        if 0 < more <= VALIDATION_TAKES * left:
            seconds["validation"] += more
            left -= more
        return cls(started, total, {**seconds, "steps": left})

    @property
    def steps(self) -> float | None:
        """Seconds for the steps and the checks between them; None without a time limit."""
        return None if math.isinf(self.total) else max(1.0, self.seconds["steps"])

    def deadline(self, stage: Stage) -> Deadline:
        """Return when a stage must have ended, so that the time of the following is left."""
        order = list(SHARES)
        following = order[order.index(stage) + 1 :]
        after = sum(self.seconds.get(one, 0.0) for one in following)
        return Deadline(self.started + self.total - after)

    def minutes_for(self, validation: float) -> float:
        """Estimate in how many minutes validation would get so many seconds, rounded up.

        Stages that have all of their share keep it of more minutes, and so does the timing of
        networks. All else but the steps and validation takes what it takes now.
        """
        more = validation - self.seconds["validation"]
        capped = sum(
            SHARES[stage]
            for stage, seconds in self.seconds.items()
            if stage not in {"steps", "validation"} and seconds >= SHARES[stage] * self.total
        )
        others = self.total * (1 - capped) - self.seconds["steps"] - self.seconds["validation"]
        share = SHARES["validation"]
        most = share + VALIDATION_TAKES * (1 - share - TRIAL_SHARE - capped)
        needed = max(self.total + more, (validation + VALIDATION_TAKES * others) / most)
        return math.ceil(needed / 6) / 10

    def overrun(self, started: float, folds: int) -> str:
        """Say that all folds together took longer than given; "" where they did not."""
        taken, given = time.perf_counter() - started, self.total * folds
        factor, seconds = OVERRUN
        if taken <= given * factor + seconds:
            return ""
        return (
            f"The time was overrun: {taken / 60:.1f} minutes instead of {given / 60:g}. Was the"
            " machine busy?"
        )


def segmentation_needs(pace: Pace, *, validated: int) -> Needs:
    """Estimate the seconds that follow the steps of a segmentation."""
    return {
        "validation": PREDICTIONS_TO_VALIDATE * pace.case * validated,
        "tuning": PREDICTIONS_TO_TUNE * pace.case * validated,
    }


def classification_needs(pace: Pace, *, trained: int, validated: int, outputs: int) -> Needs:
    """Estimate the seconds that follow the steps of a classification."""
    learnt = min(MOST_LEARNT, trained) + min(MOST_LEARNT, validated)
    return {
        "validation": PREDICTIONS_TO_VALIDATE * pace.case * validated,
        "uncertainty": pace.case * learnt,
        "report": REPORT_SECONDS + REPORT_SECONDS_PER_ROW * validated * outputs,
    }
