"""The training loop, written out: it reads from top to bottom."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import torch
from lightning_fabric import Fabric

from hilum.errors import DataError, ResourceError, TrainingError
from hilum.inference.predict_cases import UNLIMITED, Deadline
from hilum.networks.rng import fork_rng
from hilum.plan import Plan
from hilum.preprocess import CaseStore, ClassifierStore
from hilum.training.checkpoint import Progress, Row, load_checkpoint, read_progress, save_checkpoint
from hilum.training.init_network import new_network
from hilum.training.log import Log
from hilum.training.optimiser import WeightAverage, build_optimiser
from hilum.training.steps.step import PreparedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from hilum.networks import Weights
    from hilum.training.schedule import Budget
    from hilum.training.steps.step import TrainingStep

CHECKPOINT = "checkpoint.safetensors"
ROW_EVERY = 20
"""Steps a row of the log, at most."""
_ROW_SHARE = 0.025
"""Share of the schedule a row of the log, at most: a short training has 20 to 40 rows too."""
P_co = TypeVar("P_co", bound=Plan, covariant=True)
Store_co = TypeVar("Store_co", bound=CaseStore | ClassifierStore, covariant=True)
AnyJob: TypeAlias = "TrainingJob[Plan, CaseStore | ClassifierStore]"
"""A job of any task."""


@dataclass(frozen=True)
class TrainingJob(Generic[P_co, Store_co]):
    """Inputs of one training run: plan, data, seed and limits.

    Args:
        plan: every decision.
        store: preprocessed cases.
        cases: ids to train on.
        folder: where checkpoint and logs go.
        budget: what ends it.
        device: where it computes.
        seed: of initial weights, sampling and augmentation.
        resume: go on from the folder's checkpoint where there is one.
        checkpoint_seconds: time between checkpoints.
        validate_every: share of the schedule between two validations.
        end_by_plateau: end a training of so many steps earlier where its validations stop to rise.
        labels: class of each case, where cases are classified.
        groups: group of each case (see `fold_groups`): its patient, joined with near-duplicates.
        weights: pretrained ones that the network begins with.
    """

    plan: P_co
    store: Store_co
    cases: tuple[str, ...]
    folder: Path
    budget: Budget
    device: torch.device
    seed: int = 0
    resume: bool = False
    checkpoint_seconds: float = 60.0
    validate_every: float = 0.1
    end_by_plateau: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    weights: Weights | None = None


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with averaged weights on its device, and its progress."""

    network: nn.Module
    progress: Progress


def fit(
    job: AnyJob,
    step: TrainingStep,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    report: Callable[[Row], None] | None = None,
    tick: Callable[[float, int], None] | None = None,
) -> TrainedNetwork:
    """Train one network.

    Args:
        job: what to do.
        step: the task's part of every step, made for this job.
        validate: score of a network on validation cases (mean Dice, AUROC), the higher the better;
            called now and then with the averaged weights.
        report: called with every row of the log.
        tick: called with progress and step, about once a second.

    Returns:
        The network with averaged weights.

    Raises:
        TrainingError: the loss is no number any more; the last checkpoint is from before that.
        DataError: a case cannot be read; a checkpoint of the moment before is written first.
        ResourceError: the disk is full, or the device's memory not enough; the last checkpoint is
            intact.
        ModelError: the checkpoint to resume from belongs to another training.
    """
    plan = job.plan
    fabric = Fabric(
        accelerator=job.device.type,
        devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
        precision="bf16-mixed" if plan.precision.value == "bfloat16" else "32-true",
    )

    # the network, its average and its optimiser: new, or as the checkpoint has them
    network = new_network(plan, job.seed, job.weights).to(job.device)
    average = WeightAverage(network, plan.optimiser.value.ema_decay)
    optimiser = build_optimiser(step.groups(network), plan.optimiser.value)
    state = _TrainingState(job, network, average, optimiser, validate, report, tick)
    wrapped, optimiser = fabric.setup(network, optimiser)
    for forward in step.forwards:
        wrapped.mark_forward_method(forward)

    try:
        with step.sampler:
            prepared = (
                step.prepare(network, tick, state.deadline()) if state.new else PreparedNetwork()
            )
            if prepared.complete:
                state.keep_prepared(prepared)
                average.restart()
            network.train()
            while not prepared.complete and (done := state.progress()) < 1.0:
                rates = step.set_progress(network, done)
                for group in optimiser.param_groups:
                    group["lr"] = rates[group["number"]]

                images, targets = step.batch(state.step)  # (B, C, *size), e.g. (B, 1 or R, *size)
                images, targets = images.to(job.device), targets.to(job.device)
                generator = step_generator(job.seed, state.step)
                images, targets = step.augment(images, targets, generator)  # ... patch, not size

                with fork_rng(
                    int(torch.randint(2**62, (1,), generator=generator)), job.device
                ):  # dropout
                    value = step.loss(wrapped, images, targets)
                optimiser.zero_grad()
                fabric.backward(value)
                norm = fabric.clip_gradients(
                    wrapped,
                    optimiser,
                    max_norm=plan.optimiser.value.gradient_clip,
                    error_if_nonfinite=False,
                )
                state.check_finite(value, norm, done)
                optimiser.step()
                average.update(state.step)
                state.count_step(done, max(rates))
    except DataError as error:
        if not isinstance(
            error, TrainingError
        ):  # what is in memory is good: it was raised between two steps
            state.save()
        raise
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"{job.device} has not enough memory for a batch of {plan.batch.value} patches of"
            f" {plan.patch.value} voxels",
            needed="more free memory, or a smaller plan",
            cure="stop what else runs on the device, or plan for less, e.g. memory_gb=8",
        ) from error
    finally:
        state.log.close()
    state.finish()
    return TrainedNetwork(average.network.eval(), state.snapshot())


class _TrainingState:
    """State of a running training: progress, log, checkpoints.

    Resumes from the job's checkpoint where that is asked for and there is one.
    """

    def __init__(
        self,
        job: AnyJob,
        network: nn.Module,
        average: WeightAverage,
        optimiser: Optimizer,
        validate: Callable[[nn.Module], float] | None,
        report: Callable[[Row], None] | None,
        tick: Callable[[float, int], None] | None,
    ) -> None:
        self._job, self._network, self._average, self._optimiser = job, network, average, optimiser
        self._validate, self._report, self._tick = validate, report, tick
        self._path = job.folder / CHECKPOINT
        self._progress = Progress(plan=plan_hash(job.plan), seed=job.seed, cases=job.cases)
        if job.resume and self._path.is_file():
            saved = load_checkpoint(self._path, network, average.network, optimiser)
            saved.check(self._progress, self._path)
            self._progress = saved
        self.step = self._progress.step
        self._plateau, self._validated = self._progress.plateau, self._progress.validated
        self.log = Log(job.folder, self._progress.rows)
        self._saved = self._ticked = time.perf_counter()
        self._begun = (
            self._saved - self._progress.seconds
        )  # as if the sessions before had just been made
        self._losses = [torch.tensor(loss) for loss in self._progress.pending]
        self._norm: Tensor | None = None

    @property
    def new(self) -> bool:
        """True if no step was made and steps remain.

        A probe is fitted even where the time is up already.
        """
        return self.step == 0 and not self._progress.finished

    def deadline(self) -> Deadline:
        """Return when the budget's seconds are over."""
        seconds = self._job.budget.seconds
        return UNLIMITED if seconds is None else Deadline(self._begun + seconds)

    def keep_prepared(self, prepared: PreparedNetwork) -> None:
        """Keep what was left out before the first step."""
        self._progress = self._progress.model_copy(
            update={"left_out": prepared.left_out, "notes": prepared.notes}
        )

    def progress(self) -> float:
        """Return 0 at the beginning, 1 at the end."""
        if self._progress.finished:
            return 1.0
        elapsed = time.perf_counter() - self._begun
        return self._plateau.bend(self._job.budget.progress(self.step, elapsed), self.step)

    def check_finite(self, loss: Tensor, norm: Tensor | None, done: float) -> None:
        """Stop before the weights are spoilt by a loss or a gradient that is no number.

        On a GPU, where every look waits for it, only now and then; the weights may be spoilt by
        then, the checkpoint is not.

        Raises:
            TrainingError: one was found.
        """
        self._losses.append(loss.detach())
        self._norm = norm
        if self._job.device.type != "cpu" and not self._row_due(self.step + 1, done):
            return
        good = bool(torch.isfinite(torch.stack(self._losses)).all()) and (
            norm is None or bool(torch.isfinite(norm))
        )
        if not good:
            raise TrainingError(
                f"the loss or its gradient is not a number at step {self.step}",
                needed="finite intensities and a learning rate at which training converges",
                cure=(
                    "`hilum check DATA` finds NaN and Inf; else lower optimiser.learning_rate in"
                    " the plan and give that as plan. The last checkpoint, from before this, is"
                    f" {self._path}"
                ),
            )

    def count_step(self, done: float, rate: float) -> None:
        """Count a step; now and then validate, write a row, save."""
        self.step += 1
        now = time.perf_counter()
        if self._tick is not None and now - self._ticked >= 1.0:
            self._tick(done, self.step)
            self._ticked = now
        if self._row_due(self.step, done):
            self._add_row(done, rate)
        elif self._job.device.type != "cpu":
            return  # only what `check_finite` has just looked at is saved
        if time.perf_counter() - self._saved >= self._job.checkpoint_seconds:
            self.save()

    def _row_due(self, step: int, done: float) -> bool:
        """Return True if a step that began at this progress ends a row of the log."""
        last = self.log.rows[-1].progress if self.log.rows else 0.0
        return step % ROW_EVERY == 0 or done - last >= _ROW_SHARE

    def _add_row(self, done: float, rate: float) -> None:
        """Validate where that is due, and write a row of the log."""
        row = Row(
            step=self.step,
            seconds=round(time.perf_counter() - self._begun, 3),
            progress=round(done, 6),
            learning_rate=rate,
            loss=float(torch.stack(self._losses).mean()),
            gradient_norm=float(self._norm) if self._norm is not None else math.nan,
            score=None if self.step % ROW_EVERY else self._validated_score(done),
        )
        self._losses.clear()
        self.log.add(row)
        if self._report is not None:
            self._report(row)

    def _validated_score(self, done: float) -> float | None:
        """Score of the averaged weights, where a validation is due.

        The end has its own, over all cases.
        """
        every = self._job.validate_every
        if self._validate is None or done - self._validated < every or done > 1 - every / 2:
            return None
        score, self._validated = self._validate(self._average.network), done
        if self._job.budget.seconds is None and self._job.end_by_plateau:
            self._plateau = self._plateau.after(score, step=self.step, progress=done)
        return None if math.isnan(score) else score

    def snapshot(self) -> Progress:
        """Return the progress so far."""
        return self._progress.model_copy(
            update={
                "step": self.step,
                "seconds": time.perf_counter() - self._begun,
                "plateau": self._plateau,
                "validated": self._validated,
                "rows": tuple(self.log.rows),
                "pending": tuple(float(loss) for loss in self._losses),
            }
        )

    def finish(self) -> None:
        """Write the last checkpoint; resuming from it trains no further."""
        self._progress = self._progress.model_copy(update={"finished": True})
        self.save()

    def save(self) -> None:
        """Write checkpoint and log.

        Raises:
            ResourceError: the disk is full; the checkpoint before stays.
        """
        save_checkpoint(
            self._path, self._network, self._average.network, self._optimiser, self.snapshot()
        )
        self.log.write()
        self._saved = time.perf_counter()


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the randomness of one step, augmentation and dropout.

    Resuming needs no state of a generator.
    """
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def load_progress(folder: Path) -> Progress | None:
    """Read the progress of the training in a folder; None where there is no checkpoint.

    Raises:
        ModelError: the checkpoint is damaged.
    """
    path = folder / CHECKPOINT
    return read_progress(path) if path.is_file() else None


def plan_hash(plan: Plan) -> str:
    """Hash of what a plan decides, without its reasons."""
    return hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:16]
