"""The contract of a validator: predict and score held-out cases by the predictor that users run."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from hilum.inference.predict_cases import UNLIMITED, Deadline, spread_evenly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    import torch
    from torch import nn

    from hilum.dataset import Case
    from hilum.inference import Metric
    from hilum.inference.predict_cases import Progress
    from hilum.plan import Plan


class CaseScore(Protocol):
    """A score of one case, of any task."""

    @property
    def case(self) -> str:
        """Id of the case."""
        ...


S = TypeVar("S", bound=CaseScore)
_QUICK_SECONDS = 5.0


@dataclass(frozen=True)
class Validator(ABC, Generic[S]):
    """Predicts and scores the validation cases of a fold.

    Args:
        plan: every decision.
        device: where it computes.
        cases: annotated or labelled cases.
    """

    plan: Plan
    device: torch.device
    cases: tuple[Case, ...]
    measure: ClassVar[str]
    """Name of the score that `check` computes."""
    ends_by_plateau: ClassVar[bool]
    """True if a training without a time limit ends where this score stops to rise."""
    checked: ClassVar[int]
    most_checked: ClassVar[int]
    """Validation cases during training: the first number without a time limit, as what they show
    must not depend on the speed of the machine; else as many as the time allows, up to the
    second."""

    @abstractmethod
    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: Deadline = UNLIMITED,
        progress: Progress | None = None,
    ) -> tuple[S, ...]:
        """Score a network on the cases, in their order.

        Args:
            network: as trained, on the device.
            save_to: a folder for the predictions.
            reuse: score the predictions in `save_to`: they are this very network's.
            deadline: when scoring must be done; at least one case is scored, and those that are
                scored represent all of them.
            progress: called as progress(done, total, case id).
        """

    @abstractmethod
    def check(self, network: nn.Module) -> float:
        """Compute one score over all cases, the higher the better; NaN where it is undefined."""

    def subset(self, most: int) -> Self:
        """Keep at most so many cases, spread evenly over all."""
        return replace(self, cases=spread_evenly(self.cases, most))

    @abstractmethod
    def metrics(self, scores: Sequence[S]) -> tuple[tuple[Metric, ...], float]:
        """Compute the metrics of the model card, and the level of their intervals."""

    @abstractmethod
    def rehearse(self, network: nn.Module, case: Case) -> None:
        """Do with an untrained network what `score` does for a case with a trained one."""

    def seconds_per_case(self, network: nn.Module) -> float:
        """Measure the seconds of predicting and scoring the first case."""
        for _ in range(2):  # the first warms up, which hardly counts where it takes long
            start = time.perf_counter()
            self.rehearse(network, self.cases[0])
            seconds = time.perf_counter() - start
            if seconds > _QUICK_SECONDS:
                break
        return seconds


def none_if_nan(value: float) -> float | None:
    """Return None instead of NaN."""
    return None if math.isnan(value) else value
