"""One fold: how its time is divided, its training, and the score of its validation cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic

from hilum.training.benchmark_step import step_timer
from hilum.training.init_network import new_network
from hilum.training.loop import fit, load_progress
from hilum.training.schedule import Budget
from hilum.training.task import P, S, StoreT

if TYPE_CHECKING:
    from torch import nn

    from hilum.dataset import Case
    from hilum.training.checkpoint import Progress, Row
    from hilum.training.loop import TrainingJob
    from hilum.training.options import Listener, TrainOptions
    from hilum.training.task import Task
    from hilum.training.validators import Validator

_CHECK_EVERY = 0.1
_PLATEAU_CHECK_EVERY = 0.03
"""Share of the schedule between validations; where they also look for a plateau there are more."""
_CHECKS_SHARE = 0.05
"""At most this share of the training goes into all validations on the way together."""
_FINISH_SECONDS = 5.0
"""What starting Python and writing the model take."""
_LITTLE_SHARE = 0.25
"""When less of the minutes than this is left for training itself, that is said."""


@dataclass(frozen=True)
class FoldResult(Generic[S]):
    """One trained fold."""

    network: nn.Module
    progress: Progress
    scores: tuple[S, ...]
    """One a case, or a case and region."""
    unscored: int


@dataclass(frozen=True)
class TrainedFold(Generic[S]):
    """One trained fold: its network's scores and what it was trained and validated on."""

    number: int
    result: FoldResult[S]
    trained: tuple[str, ...]
    validated: tuple[Case, ...]


def train_fold(
    number: int,
    task: Task[P, StoreT, S],
    job: TrainingJob[P, StoreT],
    validator: Validator[S],
    options: TrainOptions,
    listener: Listener,
    *,
    started: float,
) -> FoldResult[S]:
    """Train one fold, then score all validation cases that the time allows.

    Args:
        number: of the fold, for people.
        task: whose steps are made.
        job: what to train; its budget counts steps, the minutes of the options turn it into time.
        validator: of the fold's validation cases.
        options: what the user asked for.
        listener: is told what happens.
        started: `time.perf_counter` when the minutes began.

    Raises:
        HilumError: see `fit`.
    """
    before = load_progress(job.folder) if job.resume else None
    if before is not None and before.finished:
        listener.say(
            f"Fold {number}: its training came to its end after {before.step} steps; --resume"
            " trains it no further. For a longer one choose another folder with -o."
        )
    job, few, after = _divide_time(number, task, job, validator, options, listener, started=started)
    stage = f"fold {number}"

    def report(row: Row) -> None:
        score = "" if row.score is None else f", validation {validator.measure} {row.score:.3f}"
        listener.advance(
            stage, min(row.progress, 1.0), 1.0, f"step {row.step}, loss {row.loss:.3f}{score}"
        )

    def tick(done: float, step: int) -> None:
        listener.advance(stage, min(done, 1.0), 1.0, f"step {step}" if step else "features")

    step = task.training_step(job)
    fitted = fit(job, step, validate=few.check if few.cases else None, report=report, tick=tick)
    for note in fitted.progress.notes:
        listener.say(f"Fold {number}: {note}")
    listener.advance(stage, 1.0, 1.0, f"{fitted.progress.step} steps")
    scores = validator.score(
        fitted.network,
        save_to=job.folder / "validation",
        reuse=before is not None and before.finished,
        deadline=(
            None
            if options.minutes is None
            else started + options.minutes * 60 - _FINISH_SECONDS / 2 - after
        ),
        progress=lambda done, total, case: listener.advance(
            f"validating fold {number}", done, total, case
        ),
    )
    unscored = len(validator.cases) - len({score.case for score in scores})
    if unscored:  # the bar ends where the time did
        done = len(validator.cases) - unscored
        text = f"the time was up: {unscored} of {len(validator.cases)} cases not scored"
        listener.advance(f"validating fold {number}", done, done, text)
    return FoldResult(fitted.network, fitted.progress, scores, unscored)


def _divide_time(
    number: int,
    task: Task[P, StoreT, S],
    job: TrainingJob[P, StoreT],
    validator: Validator[S],
    options: TrainOptions,
    listener: Listener,
    *,
    started: float,
) -> tuple[TrainingJob[P, StoreT], Validator[S], float]:
    """Divide the time between training, validation on the way and at the end; say so.

    Returns:
        The job with its budget, the few cases that are validated on the way, and the seconds that
        must be left once the
        validation cases are scored.
    """
    plan, cases = job.plan, len(validator.cases)
    per_case = (
        validator.seconds_per_case(new_network(plan, job.seed).to(job.device)) if cases else 0.0
    )
    after = 0.0
    if options.minutes is not None:
        total, spent = options.minutes * 60, time.perf_counter() - started
        after = validator.seconds_after(per_case, len(job.cases), total)
        scoring = (1.1 + validator.learning_share) * per_case * cases
        reserve = min(scoring + _FINISH_SECONDS, validator.scoring_share * total) + after
        left = total - spent - reserve
        if left < _LITTLE_SHARE * total:
            listener.say(
                f"Attention: of {options.minutes:g} minutes {max(0.0, left / 60):.1f} are left for"
                f" training itself: reading and preprocessing took {spent / 60:.1f}, validation and"
                f" its figures are to take {reserve / 60:.1f}. For a better model stop (Ctrl-C) and"
                f" go on with --resume --minutes {4 * options.minutes:g}: what is preprocessed is"
                " kept."
            )
        seconds = max(1.0, left)
        job = replace(job, budget=Budget(job.budget.steps, seconds), validate_every=_CHECK_EVERY)
        expected = f"{seconds / 60:.1f} minutes of training, then {reserve / 60:.1f} for validation"
    else:
        step = step_timer(job.device, plan.precision.value, partial(task.trial_step, plan))(
            plan.network.value, plan.patch.value, plan.batch.value
        )
        seconds = job.budget.steps * step
        every = _PLATEAU_CHECK_EVERY if validator.ends_by_plateau else _CHECK_EVERY
        job = replace(job, validate_every=every, end_by_plateau=validator.ends_by_plateau)
        expected = (
            f"{job.budget.steps} steps, about {_words(seconds)} on this device (--minutes N"
            " bounds it)"
        )
    listener.say(
        f"Fold {number}: {len(job.cases)} cases to train on, {cases} to validate on; {expected};"
        " the schedule ends when they do."
    )
    checked = int(_CHECKS_SHARE * job.validate_every * seconds / max(per_case, 1e-6))
    if (
        options.minutes is None and validator.ends_by_plateau
    ):  # their scores end the training: not as many as the clock allows
        checked = validator.checked
    return job, validator.subset(min(validator.most_checked, checked)), after


def _words(seconds: float) -> str:
    """A duration for people."""
    return (
        f"{seconds / 3600:.1f} hours"
        if seconds > 5400
        else f"{seconds / 60:.0f} minutes"
        if seconds > 90
        else f"{seconds:.0f} s"
    )
