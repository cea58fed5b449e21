"""Learning to classify: whole inputs, stages of fine-tuning, mixed pairs of cases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch

from hilum.tasks import ClassificationTask
from hilum.training.augmentation import Augmenter
from hilum.training.sampling import ViewSampler
from hilum.training.steps.probe import fit_probe
from hilum.training.steps.step import PreparedNetwork, TrainingStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from torch import Tensor, nn

    from hilum.networks.classifier import ClassifierNetwork
    from hilum.plan.classification import ClassificationPlan, Stage
    from hilum.preprocess import ClassifierStore
    from hilum.training.loop import TrainingJob


class ClassificationStep(TrainingStep):
    """See `TrainingStep`.

    Args:
        job: with a `ClassificationPlan`, a folder of stored inputs, and the label of every case.
    """

    forwards: tuple[str, ...] = ()

    def __init__(self, job: TrainingJob[ClassificationPlan, ClassifierStore]) -> None:
        plan = self._plan = job.plan
        self._job = job
        task = ClassificationTask(plan.classes)
        self._targets = {case: task.encode(job.labels[case]) for case in job.cases}
        self._loss = task.loss(plan.loss.value).to(job.device)
        self._augment = Augmenter(
            plan.augmentation.value,
            plan.patch.value,
            spacing=plan.spacing.value or (1.0, 1.0, 1.0),
            dimensions=plan.dimensions.value,
            masks=int(plan.region.value.mask_channel),
        )
        members = np.array([plan.classes.indicators(job.labels[case]) for case in job.cases])
        self._sampler = ViewSampler(
            job.store,
            job.cases,
            self._targets,
            batch=plan.batch.value,
            seed=job.seed,
            chances=case_chances(members) if plan.balance.value == "sampling" else None,
        )
        self._released: int | None = -1  # what no stage releases

    def __enter__(self) -> Self:
        self._sampler.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampler.__exit__(kind, error, trace)

    def groups(self, network: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
        """The network's own groups, from the input to the head."""
        return cast("ClassifierNetwork", network).groups()

    def prepare(
        self,
        network: nn.Module,
        tick: Callable[[float, int], None] | None,
        seconds: float | None = None,
    ) -> PreparedNetwork:
        """A linear probe is fitted at once; everything else is left to the steps."""
        if not any(stage.probe for stage in self._plan.stages.value):
            return PreparedNetwork()
        return fit_probe(network, self._sampler, self._plan, self._job, tick, seconds)

    def set_progress(self, network: nn.Module, progress: float) -> tuple[float, ...]:
        """Release what the stage at this progress releases."""
        stage, done = stage_at(self._plan.stages.value, progress)
        if stage.released != self._released:
            cast("ClassifierNetwork", network).release(stage.released)
            self._released = stage.released
        base = self._plan.optimiser.value.learning_rate
        return stage_rates(stage, done, groups=len(self.groups(network)), base=base)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, *size), targets (B, K')."""
        return self._sampler.batch(step)

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images (B, C, *patch), targets (B, K'), pairs of cases mixed."""
        images = self._augment.images(images, generator)
        strength = self._plan.loss.value.mixup
        return mix(images, targets, strength, generator) if strength > 0 else (images, targets)

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Of the logits (B, K')."""
        value: Tensor = self._loss(network(images), targets)
        return value


def mix(
    images: Tensor, targets: Tensor, strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix every case with the one before it: x' = s x + (1 - s) y, s of Beta(strength, strength).

    The larger of s and 1 - s is taken, so that each case stays mostly itself.

    Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(strength, strength, size=len(images))
    share = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(images.device)
    wide = share.view(-1, *[1] * (images.ndim - 1))
    mixed = images * wide + images.roll(1, dims=0) * (1 - wide)
    return mixed, targets * share[:, None] + targets.roll(1, dims=0) * (1 - share[:, None])


def case_chances(
    members: np.ndarray[Any, np.dtype[np.bool_]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The chance (N,) of each case to be drawn, so that every class (N, K) is seen equally often.

    Findings: the rarest counts.
    """
    counts = np.maximum(members.sum(axis=0), 1)
    rarest = np.where(members, 1 / counts, 0).max(axis=1)
    none = ~members.any(axis=1)
    rarest[none] = 1 / max(1, int(none.sum()))
    return np.asarray(rarest / rarest.sum())


def stage_at(stages: Sequence[Stage], progress: float) -> tuple[Stage, float]:
    """The stage at a progress of the whole training, and how much of it is done (0..1)."""
    begun = 0.0
    for stage in stages:
        if progress < begun + stage.share - 1e-9:
            return stage, max(0.0, (progress - begun) / stage.share)
        begun += stage.share
    return stages[-1], 1.0


def stage_rates(stage: Stage, done: float, *, groups: int, base: float) -> tuple[float, ...]:
    """The learning rate of each group, from the input to the head: warm-up, then half a cosine.

    0 where a group is frozen.
    """
    height = base * stage.rate
    if done < stage.warmup:
        height *= min(1.0, max(done, 1e-3) / stage.warmup)
    else:
        height *= 0.5 * (
            1.0 + math.cos(math.pi * (done - stage.warmup) / max(1e-9, 1.0 - stage.warmup))
        )
    frozen = 0 if stage.released is None else max(0, groups - stage.released)
    return tuple(
        0.0 if number < frozen else height * stage.decay ** (groups - 1 - number)
        for number in range(groups)
    )
