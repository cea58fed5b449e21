"""The contract of a validator: predict and score held-out cases by the predictor that users run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from torch import nn

    from hilum.dataset import Case
    from hilum.inference import Metric


class CaseScore(Protocol):
    """A score of one case, of any task."""

    @property
    def case(self) -> str:
        """Id of the case."""
        ...


S = TypeVar("S", bound=CaseScore)


class Validator(ABC, Generic[S]):
    """Predicts and scores the validation cases of a fold."""

    cases: tuple[Case, ...]
    measure: ClassVar[str]
    """Name of the score that `check` computes."""
    ends_by_plateau: ClassVar[bool]
    """True if a training without a time limit ends where this score stops to rise."""
    learning_share: ClassVar[float]
    """Time that tuning on the saved predictions takes, as a share of scoring them once."""
    scoring_share: ClassVar[float]
    """At most this share of the minutes goes into scoring the validation cases at the end."""
    checked: ClassVar[int]
    most_checked: ClassVar[int]
    """Validation cases during training: the first number where their plateau ends the training,
    which must not depend on the speed of the machine; else as many as the time allows, up to the
    second."""

    @abstractmethod
    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: float | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> tuple[S, ...]:
        """Score a network on the cases, in their order.

        Args:
            network: as trained, on the device.
            save_to: a folder for the predictions.
            reuse: score the predictions in `save_to`: they are this very network's.
            deadline: a `time.perf_counter` value at which scoring stops; at least one case is
                scored, and those that are scored represent all of them.
            progress: called as progress(done, total, case id).
        """

    @abstractmethod
    def check(self, network: nn.Module) -> float:
        """Compute one score over all cases, the higher the better; NaN where it is undefined."""

    @abstractmethod
    def subset(self, most: int) -> Self:
        """Keep at most so many cases, spread evenly over all."""

    @abstractmethod
    def metrics(self, scores: Sequence[S]) -> tuple[tuple[Metric, ...], float]:
        """Compute the metrics of the model card, and the level of their intervals."""

    @abstractmethod
    def seconds_per_case(self, network: nn.Module) -> float:
        """Measure the seconds of predicting and scoring one case."""

    @abstractmethod
    def seconds_after(self, per_case: float, trained: int, total: float) -> float:
        """Estimate the seconds of what follows scoring, for so many training cases."""
