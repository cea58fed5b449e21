"""Learning to segment: patches, their label maps, deep supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hilum.targets import SegmentationTask, deep_supervision_loss
from hilum.training.augmentation import Augmenter, enlarged_patch
from hilum.training.sampling import PatchSampler
from hilum.training.schedule import warm_up_then_cosine
from hilum.training.steps.step import TrainingStep

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from hilum.networks.network import Network
    from hilum.plan import SegmentationPlan
    from hilum.preprocess import CaseStore
    from hilum.training.loop import TrainingJob


class SegmentationStep(TrainingStep):
    """Training step of a segmentation: its patches, augmentation and deeply supervised loss.

    Args:
        job: with a `SegmentationPlan` and a folder of stored cases.
    """

    forwards = ("forward_deep",)

    def __init__(self, job: TrainingJob[SegmentationPlan, CaseStore]) -> None:
        plan = self._plan = job.plan
        task = SegmentationTask(plan.labels)
        self._loss = task.loss(plan.loss.value).to(job.device)
        size = enlarged_patch(
            plan.augmentation.value, plan.patch.value, dimensions=plan.dimensions.value
        )
        self._augment = Augmenter(
            plan.augmentation.value,
            plan.patch.value,
            spacing=plan.spacing.value or (1.0, 1.0, 1.0),
            dimensions=plan.dimensions.value,
        )
        super().__init__(
            PatchSampler(
                job.store,
                job.cases,
                task,
                size=size,
                patch=plan.patch.value,
                batch=plan.batch.value,
                foreground_fraction=plan.foreground_fraction.value,
                seed=job.seed,
            )
        )

    def groups(self, network: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Return all weights in one group."""
        return (tuple(network.parameters()),)

    def set_progress(self, network: nn.Module, progress: float) -> tuple[float, ...]:
        """Return the learning rate of the only group: all of the network learns all the time."""
        del network
        spec = self._plan.optimiser.value
        return (warm_up_then_cosine(spec.learning_rate, progress, warmup=spec.warmup_fraction),)

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images (B, C, *patch), targets (B, 1 or R, *patch)."""
        return self._augment(images, targets, generator)

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Over all supervised resolutions."""
        return deep_supervision_loss(
            self._loss, cast("Network", network).forward_deep(images), targets
        )
