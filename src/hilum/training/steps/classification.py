"""Learning to classify: whole inputs, stages of fine-tuning, mixed pairs of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from hilum.inference.predict_cases import UNLIMITED, Deadline
from hilum.targets import ClassificationTask
from hilum.training.augmentation import Augmenter
from hilum.training.sampling import ViewSampler
from hilum.training.schedule import warm_up_then_cosine
from hilum.training.steps.probe import fit_probe
from hilum.training.steps.step import PreparedNetwork, TrainingStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hilum.networks.classifier import ClassifierNetwork
    from hilum.plan.classification import ClassificationPlan, Stage
    from hilum.preprocess import ClassifierStore
    from hilum.training.loop import TrainingJob


class ClassificationStep(TrainingStep):
    """Training step of a classification: its inputs, augmentation, loss and released layers.

    Args:
        job: with a `ClassificationPlan`, a folder of stored inputs, and the label of every case.
    """

    def __init__(self, job: TrainingJob[ClassificationPlan, ClassifierStore]) -> None:
        plan = self._plan = job.plan
        self._job = job
        task = ClassificationTask(plan.classes)
        self._loss = task.loss(plan.loss.value).to(job.device)
        self._augment = Augmenter(
            plan.augmentation.value,
            plan.patch.value,
            spacing=plan.spacing.value or (1.0, 1.0, 1.0),
            dimensions=plan.dimensions.value,
            masks=int(plan.region.value.mask_channel),
        )
        present = np.array([plan.classes.indicators(job.labels[case]) for case in job.cases])
        self._views = ViewSampler(
            job.store,
            job.cases,
            {case: task.encode(job.labels[case]) for case in job.cases},
            batch=plan.batch.value,
            seed=job.seed,
            chances=case_chances(present) if plan.balance.value == "sampling" else None,
        )
        super().__init__(self._views)
        self._released: int | None = -1  # what no stage releases

    def groups(self, network: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Return the network's own groups, from the input to the head."""
        return cast("ClassifierNetwork", network).groups()

    def prepare(
        self,
        network: nn.Module,
        tick: Callable[[float, int], None] | None,
        deadline: Deadline = UNLIMITED,
    ) -> PreparedNetwork:
        """Fit a linear probe at once; everything else is left to the steps."""
        if self._plan.makes_steps:
            return PreparedNetwork()
        return fit_probe(cast("ClassifierNetwork", network), self._views, self._job, tick, deadline)

    def set_progress(self, network: nn.Module, progress: float) -> tuple[float, ...]:
        """Release what the stage at this progress releases."""
        stage, done = stage_at(self._plan.stages.value, progress)
        if stage.released != self._released:
            cast("ClassifierNetwork", network).release(stage.released)
            self._released = stage.released
        base = self._plan.optimiser.value.learning_rate
        return stage_rates(stage, done, groups=len(self.groups(network)), base=base)

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images (B, C, *patch), targets (B, K'), pairs of cases mixed."""
        images = self._augment.images(images, generator)
        strength = self._plan.loss.value.mixup
        return mix(images, targets, strength, generator) if strength > 0 else (images, targets)

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the logits (B, K')."""
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
    shares = np.random.default_rng(seed).beta(strength, strength, size=len(images))
    share = torch.from_numpy(np.maximum(shares, 1 - shares).astype(np.float32)).to(images.device)
    wide = share.view(-1, *[1] * (images.ndim - 1))
    mixed = images * wide + images.roll(1, dims=0) * (1 - wide)
    return mixed, targets * share[:, None] + targets.roll(1, dims=0) * (1 - share[:, None])


def case_chances(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The chance (N,) of each case to be sampled, so that every class (N, K) comes equally often.

    Findings: the rarest counts.
    """
    counts = np.maximum(present.sum(axis=0), 1)
    rarest = np.where(present, 1 / counts, 0).max(axis=1)
    none = ~present.any(axis=1)
    rarest[none] = 1 / max(1, int(none.sum()))
    return np.asarray(rarest / rarest.sum())


def stage_at(stages: Sequence[Stage], progress: float) -> tuple[Stage, float]:
    """Return the stage at a progress of the whole training, and how much of it is done (0..1)."""
    begun = 0.0
    for stage in stages:
        if progress < begun + stage.share - 1e-9:
            return stage, max(0.0, (progress - begun) / stage.share)
        begun += stage.share
    return stages[-1], 1.0


def stage_rates(stage: Stage, done: float, *, groups: int, base: float) -> tuple[float, ...]:
    """Compute the learning rate of each group, from the input to the head; 0 where it is frozen."""
    height = warm_up_then_cosine(base * stage.rate, done, warmup=stage.warmup)
    frozen = 0 if stage.released is None else max(0, groups - stage.released)
    return tuple(
        0.0 if number < frozen else height * stage.decay ** (groups - 1 - number)
        for number in range(groups)
    )
