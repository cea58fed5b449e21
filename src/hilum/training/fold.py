"""One fold: its training, and the score of its validation cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic

from hilum.errors import counted
from hilum.plan import ClassificationPlan
from hilum.training.benchmark_step import time_step
from hilum.training.loop import fit, load_progress
from hilum.training.task import P, S, StoreT
from hilum.training.time_plan import (
    LITTLE_SHARE,
    PREDICTIONS_TO_VALIDATE,
    SHARES,
    Pace,
    TimePlan,
)

if TYPE_CHECKING:
    from torch import nn

    from hilum.dataset import Case
    from hilum.training.checkpoint import Progress, Row
    from hilum.training.loop import TrainingJob
    from hilum.training.options import Listener
    from hilum.training.task import Task
    from hilum.training.validators import Validator

_CHECK_EVERY = 0.1
_PLATEAU_CHECK_EVERY = 0.03
"""Share of the schedule between validations; where they also look for a plateau there are more."""


@dataclass(frozen=True)
class TrainedFold(Generic[S]):
    """One trained fold: its network, its scores, and what it was trained and validated on."""

    number: int
    network: nn.Module
    progress: Progress
    scores: tuple[S, ...]
    """One a case, or a case and region."""
    trained: tuple[str, ...]
    validated: tuple[Case, ...]
    earlier_seconds: float = 0.0
    """Seconds of its training in the sessions before this one."""
    minutes_for_all: float = 0.0
    """Minutes that would allow to score every validation case; 0 where all are scored."""

    @property
    def unscored(self) -> int:
        """Count the validation cases that the time did not allow to score."""
        return len(self.validated) - len({score.case for score in self.scores})


def train_fold(
    number: int,
    task: Task[P, StoreT, S],
    job: TrainingJob[P, StoreT],
    validator: Validator[S],
    time_plan: TimePlan,
    pace: Pace | None,
    listener: Listener,
) -> TrainedFold[S]:
    """Train one fold, then score all validation cases that the time allows.

    Args:
        number: of the fold, for people.
        task: makes the steps.
        job: the training.
        validator: of the fold's validation cases.
        time_plan: of the fold.
        pace: measured where there is a time limit.
        listener: is told what happens.

    Raises:
        HilumError: see `fit`.
    """
    before = load_progress(job.folder) if job.resume else None
    finished = before is not None and before.finished
    stage, cases = f"fold {number}", len(validator.cases)
    by_plateau = validator.ends_by_plateau and time_plan.steps is None
    every = _PLATEAU_CHECK_EVERY if by_plateau else _CHECK_EVERY
    job = replace(job, validate_every=every, end_by_plateau=by_plateau)
    if finished or _is_probe(job):
        few = 0
    elif pace is None or time_plan.steps is None:
        few = validator.checked
    else:
        few = int(SHARES["checks"] * every * time_plan.steps / pace.case)
        if short := _describe_shortage(time_plan, pace, cases):
            listener.say(short)
    if before is not None and finished:
        listener.say(
            f"Fold {number} is finished: it made {counted(before.step, 'step')}, and only its"
            " validation is left. For a longer training choose another folder."
        )
    else:
        after_step = "" if before is None else f"continuing after step {before.step}; "
        listener.say(
            f"Fold {number}: {after_step}{counted(len(job.cases), 'case')} to train on, {cases} to"
            f" validate on; {_describe_length(job, task, time_plan, pace)}."
        )

    def report(row: Row) -> None:
        score = "" if row.score is None else f", validation {validator.measure} {row.score:.3f}"
        listener.advance(
            stage, min(row.progress, 1.0), 1.0, f"step {row.step}, loss {row.loss:.3f}{score}"
        )

    def tick(done: float, step: int) -> None:
        listener.advance(stage, min(done, 1.0), 1.0, f"step {step}" if step else "features")

    checked = validator.subset(min(validator.most_checked, few))
    step = task.training_step(job)
    if pace is not None and time_plan.steps is not None:
        # reading the cases took time of the steps; the last of them ends in time
        left = time_plan.deadline("steps").left() - pace.step
        job = replace(job, budget=replace(job.budget, seconds=max(1.0, left)))
    fitted = fit(
        job,
        step,
        validate=checked.check if checked.cases else None,
        report=report,
        tick=tick,
    )
    for note in fitted.progress.notes:
        listener.say(f"Fold {number}: {note}")
    listener.advance(stage, 1.0, 1.0, counted(fitted.progress.step, "step"))
    begun = time.perf_counter()
    scores = validator.score(
        fitted.network,
        save_to=job.folder / "validation",
        reuse=finished,
        deadline=time_plan.deadline("validation"),
        progress=lambda done, total, case: listener.advance(
            f"validating fold {number}", done, total, case
        ),
    )
    fold = TrainedFold(
        number,
        fitted.network,
        fitted.progress,
        scores,
        job.cases,
        validator.cases,
        earlier_seconds=0.0 if before is None else before.seconds,
    )
    if fold.unscored:  # the bar ends where the time did
        done = cases - fold.unscored
        text = f"time up: {done} of {cases} scored"
        listener.advance(f"validating fold {number}", done, done, text)
        seconds = (time.perf_counter() - begun) / done * cases
        minutes = time_plan.minutes_for(PREDICTIONS_TO_VALIDATE * seconds)
        return replace(fold, minutes_for_all=minutes)
    return fold


def _is_probe(job: TrainingJob[P, StoreT]) -> bool:
    """Return True for a linear probe, which makes no optimiser steps."""
    return isinstance(job.plan, ClassificationPlan) and not job.plan.makes_steps


def _describe_length(
    job: TrainingJob[P, StoreT], task: Task[P, StoreT, S], time_plan: TimePlan, pace: Pace | None
) -> str:
    """Say how long a training will be."""
    if _is_probe(job):
        return "a linear probe: features of each case once, then one fit, no optimiser steps"
    if pace is None or time_plan.steps is None:
        step_seconds = time_step(job.plan, job.device, partial(task.trial_step, job.plan))
        return (
            f"{counted(job.budget.steps, 'step')}, about"
            f" {_words(job.budget.steps * step_seconds)} on this device (--minutes N bounds it);"
            " the schedule ends when they do"
        )
    after = sum(time_plan.seconds.values()) - time_plan.seconds["steps"]
    return (
        f"{time_plan.steps / 60:.1f} minutes of training, at most about"
        f" {time_plan.steps / pace.step:.0f} steps (fewer where the machine is busy), then"
        f" {after / 60:.1f} for validation; the schedule ends when they do"
    )


def _describe_shortage(time_plan: TimePlan, pace: Pace, cases: int) -> str:
    """Say that the minutes are too few for steps or to score so many cases; "" where they do."""
    total, left, reserved = (
        time_plan.total,
        time_plan.seconds["steps"],
        time_plan.seconds["validation"],
    )
    validation = PREDICTIONS_TO_VALIDATE * pace.case * cases
    minutes = time_plan.minutes_for(validation)
    if left < LITTLE_SHARE * total:
        after = sum(time_plan.seconds.values()) - left
        spent = total - left - after
        return (
            f"Attention: of {total / 60:g} minutes {max(0.0, left) / 60:.1f} are left for training"
            f" itself: reading, timing networks and preprocessing took {spent / 60:.1f}, validation"
            f" and its figures are to take {after / 60:.1f}. For a better model stop (Ctrl-C), then"
            f" --resume --minutes {max(total / 15, minutes):g}: what is preprocessed is kept."
        )
    scored = max(1, int(cases * reserved / validation))  # the first always is
    if scored >= cases:
        return ""
    return (
        f"Attention: the time allows to score about {scored} of"
        f" {counted(cases, 'validation case')}; for all, about --minutes {minutes:g} are needed."
    )


def _words(seconds: float) -> str:
    """Return a duration for people."""
    return (
        f"{seconds / 3600:.1f} hours"
        if seconds > 5400
        else f"{seconds / 60:.0f} minutes"
        if seconds > 90
        else f"{seconds:.0f} s"
    )
