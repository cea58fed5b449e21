"""The seam between the training loop and what is learnt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hilum.inference.predict_cases import UNLIMITED, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from hilum.training.sampling import Sampler


@dataclass(frozen=True)
class PreparedNetwork:
    """Record of the work done before the first step.

    Args:
        complete: nothing is left for steps to learn.
        left_out: training cases that the time did not allow to look at; only of what is complete.
        notes: sentences about that for the user.
    """

    complete: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class TrainingStep(ABC):
    """The part of a training step that depends on the task.

    Every result is a function of the plan, the data, the seed and the arguments, so that a training
    can be taken up anywhere.

    Args:
        sampler: reads the batches, the next ones ahead while it is entered.
    """

    forwards: ClassVar[tuple[str, ...]] = ()
    """Methods of the network, beside `forward`, that `loss` calls."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    @abstractmethod
    def groups(self, network: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Return the network's weights in groups that share a learning rate."""

    def prepare(
        self,
        network: nn.Module,
        tick: Callable[[float, int], None] | None,
        deadline: Deadline = UNLIMITED,
    ) -> PreparedNetwork:
        """Prepare a new network before its first step; most need nothing.

        `tick` is called with progress and step 0. It ends by the deadline, or when the least that
        is of use is done.
        """
        del network, tick, deadline
        return PreparedNetwork()

    @abstractmethod
    def set_progress(self, network: nn.Module, progress: float) -> tuple[float, ...]:
        """Release the weights that learn at this progress (0..1) of the schedule.

        Returns:
            The learning rate of each group.
        """

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (B, C, Z', Y', X') float32 and their targets, on the CPU.

        Raises:
            DataError: a case cannot be read.
        """
        return self.sampler.batch(step)

    @abstractmethod
    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch on the training device: images (B, C, *patch)."""

    @abstractmethod
    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch, a number with a gradient."""
