"""The seam between the training loop and what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class PreparedNetwork:
    """Record of the work done before the first step.

    Args:
        complete: nothing is left for steps to learn.
        left_out: training cases that the time did not allow to look at; only of what is complete.
        notes: what people must know of that.
    """

    complete: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class TrainingStep(Protocol):
    """The part of a training step that depends on the task.

    While it is entered, the next batches are read ahead.

    Every answer is a function of the plan, the data, the seed and the arguments, so that a training
    can be taken up anywhere.
    """

    forwards: tuple[str, ...]
    """Methods of the network, beside `forward`, that `loss` calls."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def groups(self, network: nn.Module) -> tuple[tuple[nn.Parameter, ...], ...]:
        """The network's weights in groups that share a learning rate."""
        ...

    def prepare(
        self,
        network: nn.Module,
        tick: Callable[[float, int], None] | None,
        seconds: float | None = None,
    ) -> PreparedNetwork:
        """Prepare a new network before its first step; `tick` hears progress and step 0.

        It takes `seconds` at most, where they are bounded, or what the least takes that is of use.
        """
        ...

    def set_progress(self, network: nn.Module, progress: float) -> tuple[float, ...]:
        """Let learn what learns at this progress (0..1) of the schedule.

        The learning rate of each group.
        """
        ...

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, Z', Y', X') float32 and their targets, on the CPU.

        Raises:
            DataError: a case cannot be read.
        """
        ...

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch on the training device: images (B, C, *patch)."""
        ...

    def loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, a number with a gradient."""
        ...
