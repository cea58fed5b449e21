"""The training loop, written out: it reads from top to bottom."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from hilum.errors import DataError, TrainingError
from hilum.networks import build_network, initialise
from hilum.tasks import SegmentationTask, deep_supervision_loss
from hilum.training.augmentation import Augmenter, enlarged_patch
from hilum.training.checkpoint import Progress, Row, load_checkpoint, save_checkpoint
from hilum.training.log import Log
from hilum.training.optimiser import WeightAverage, build_optimiser
from hilum.training.sampling import PatchSampler
from hilum.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from hilum.networks import Network
    from hilum.plan import Plan
    from hilum.preprocess import CaseStore
    from hilum.training.schedule import Budget

CHECKPOINT = "checkpoint.safetensors"
_ROW_EVERY = 20
"""Steps a row of the log."""


@dataclass(frozen=True)
class Assignment:
    """What one training is to do.

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
    """

    plan: Plan
    store: CaseStore
    cases: tuple[str, ...]
    folder: Path
    budget: Budget
    device: torch.device
    seed: int = 0
    resume: bool = False
    checkpoint_seconds: float = 60.0
    validate_every: float = 0.1


@dataclass(frozen=True)
class Fitted:
    """A trained network: the average of its weights, on its device, and how far the training went."""

    network: nn.Module
    progress: Progress


def fit(
    job: Assignment,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    report: Callable[[Row], None] | None = None,
) -> Fitted:
    """Train one network.

    Args:
        job: what to do.
        validate: mean Dice of a network on validation cases; called now and then with the averaged weights.
        report: called with every row of the log.

    Returns:
        The network with averaged weights.

    Raises:
        TrainingError: the loss is no number any more; the last checkpoint is from before that.
        DataError: a case cannot be read; a checkpoint of the moment before is written first.
        ResourceError: the disk is full; the last checkpoint is intact.
        ModelError: the checkpoint to resume from belongs to another training.
    """
    plan, path = job.plan, job.folder / CHECKPOINT
    precision = "bf16-mixed" if plan.precision.value == "bfloat16" else "32-true"
    fabric = Fabric(accelerator=job.device.type, devices=_devices(job.device), precision=precision)

    # the network, its average and its optimiser: new, or as the checkpoint has them
    network = new_network(plan, job.seed).to(job.device)
    average = WeightAverage(network, plan.optimiser.value.ema_decay)
    optimiser = build_optimiser(network, plan.optimiser.value)
    progress = Progress(plan=plan_hash(plan), seed=job.seed, cases=job.cases)
    if job.resume and path.is_file():
        saved = load_checkpoint(path, network, average.network, optimiser)
        saved.check(progress, path)
        progress = saved
    wrapped, optimiser = fabric.setup(network, optimiser)
    wrapped.mark_forward_method("forward_deep")

    task = SegmentationTask(plan.labels)
    loss = task.loss(plan.loss.value).to(job.device)
    augment = Augmenter(
        plan.augmentation.value,
        plan.patch.value,
        spacing=plan.spacing.value or (1.0, 1.0, 1.0),
        dimensions=plan.dimensions.value,
    )
    sampler = PatchSampler(
        job.store,
        job.cases,
        task,
        size=enlarged_patch(plan.augmentation.value, plan.patch.value, dimensions=plan.dimensions.value),
        patch=plan.patch.value,
        batch=plan.batch.value,
        foreground_fraction=plan.foreground_fraction.value,
        seed=job.seed,
    )
    log = Log(job.folder, progress.rows)
    step, plateau = progress.step, progress.plateau
    session = time.perf_counter() - progress.seconds  # as if the sessions before had just been made
    saved_at = time.perf_counter()
    validated = progress.validated
    losses: list[Tensor] = []

    def state() -> Progress:
        elapsed = time.perf_counter() - session
        return progress.model_copy(
            update={"step": step, "seconds": elapsed, "plateau": plateau, "validated": validated, "rows": tuple(log.rows)}
        )

    def save() -> None:
        save_checkpoint(path, network, average.network, optimiser, state())
        log.write()

    try:
        with sampler:
            while True:
                # where we are
                elapsed = time.perf_counter() - session
                done = plateau.bend(job.budget.progress(step, elapsed), step)
                if done >= 1.0:
                    break
                rate = learning_rate(plan.optimiser.value, done)
                for group in optimiser.param_groups:
                    group["lr"] = rate

                # one step: read, augment, forward, backward, clip, update, average
                images, targets = sampler.batch(step)
                images, targets = images.to(job.device), targets.to(job.device)
                images, targets = augment(images, targets, step_generator(job.seed, step))
                outputs = wrapped.forward_deep(images)
                value = deep_supervision_loss(loss, outputs, targets)
                optimiser.zero_grad()
                fabric.backward(value)
                norm = fabric.clip_gradients(
                    wrapped, optimiser, max_norm=plan.optimiser.value.gradient_clip, error_if_nonfinite=False
                )
                losses.append(value.detach())
                if job.device.type == "cpu" or len(losses) == _ROW_EVERY:  # on a GPU every look would wait for it
                    _check_finite(losses, norm, step, path)
                optimiser.step()
                average.update(step)
                step += 1

                # what people want to know
                if len(losses) == _ROW_EVERY:
                    dice = None
                    if validate is not None and done - validated >= job.validate_every and done < 1 - job.validate_every / 2:
                        dice, validated = validate(average.network), done
                        plateau = plateau.after(dice, step=step, progress=done) if job.budget.seconds is None else plateau
                    row = Row(
                        step=step,
                        seconds=round(time.perf_counter() - session, 3),
                        progress=round(done, 6),
                        learning_rate=rate,
                        loss=float(torch.stack(losses).mean()),
                        gradient_norm=float(norm) if norm is not None else math.nan,
                        dice=dice,
                    )
                    losses.clear()
                    log.add(row)
                    if report is not None:
                        report(row)
                if time.perf_counter() - saved_at >= job.checkpoint_seconds and not losses:
                    save()
                    saved_at = time.perf_counter()
    except TrainingError:
        raise  # what is in memory is spoilt; the last checkpoint is not
    except DataError:
        save()  # raised between two steps
        raise
    finally:
        log.close()
    save()
    return Fitted(average.network.eval(), state())


def new_network(plan: Plan, seed: int) -> Network:
    """The plan's network with initial weights from the seed."""
    network = build_network(plan.network.value)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of one step's augmentation; resuming needs no state of a generator."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def plan_hash(plan: Plan) -> str:
    """Hash of what a plan decides, without its reasons."""
    return hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:16]


def _check_finite(losses: list[Tensor], norm: Tensor | None, step: int, path: Path) -> None:
    """Stop before the weights are spoilt by a loss or a gradient that is no number."""
    bad = not bool(torch.isfinite(torch.stack(losses)).all()) or (norm is not None and not bool(torch.isfinite(norm)))
    if bad:
        raise TrainingError(
            f"the loss or its gradient is not a number at step {step}",
            needed="finite intensities and a learning rate at which training converges",
            cure=f"hilum check DATA finds NaN and Inf; lower optimiser.learning_rate in the plan; the last checkpoint is {path}",
        )


def _devices(device: torch.device) -> list[int] | int:
    return [device.index or 0] if device.type == "cuda" else 1
