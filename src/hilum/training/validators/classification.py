"""Validation of a classification: the very predictor that users run, out of fold."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hilum.errors import DataError
from hilum.evaluation import summarise_classes
from hilum.inference import ClassPredictor, Metric, TrainedModel
from hilum.metrics import auroc, macro_auroc
from hilum.tasks import ClassificationTask
from hilum.tasks.class_score import ClassScore
from hilum.tasks.predictions import read_predictions, write_predictions
from hilum.training.case_order import stratified_order
from hilum.training.validators.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from hilum.dataset import Case
    from hilum.inference import Prepared
    from hilum.plan import ClassificationPlan

_BATCH = 16
MOST_SEEN = 2000
"""Training cases at most from which a model learns when to refuse, and held-out cases that set its
limits."""
LEARNING_SHARE = 0.05
"""At most this share of the minutes goes into that."""
KEPT_BYTES = 256 * 2**20
"""Preprocessed inputs of validation cases that stay in memory, of one fold."""
_FIGURES_SECONDS = 3.0
_FIGURES_SECONDS_PER_CASE = 0.005
"""Bootstrap intervals of the network and its baselines, an output; measured on two cores."""
_FIGURES_SHARE = 0.1
"""At most this share of the minutes is kept for them."""


@dataclass(frozen=True)
class ClassificationValidator(Validator[ClassScore]):
    """Predicts validation cases.

    Args:
        plan: every decision.
        device: where it computes.
        cases: labelled cases.
    """

    plan: ClassificationPlan
    device: torch.device
    cases: tuple[Case, ...]
    _prepared: dict[str, Prepared] = field(default_factory=dict, repr=False)

    measure = "AUROC"
    ends_by_plateau = False
    """What is looked at on the way is for the eye alone: the same cases become out-of-fold answers,
    and the stages have their own shares of the schedule, so that nothing is chosen by them."""
    learning_share = 0.0
    """What is learnt from the answers is in `seconds_after`."""
    scoring_share = 0.1
    """A fair sample of the cases is answered where all of them would take more than this share of
    the minutes."""
    checked, most_checked = 20, 200
    """Fewer do not show whether an AUROC rises; of more the next ones add little."""

    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: float | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> tuple[ClassScore, ...]:
        """TrialCache for the cases, in their order.

        Where the time ends it, for a fair sample of them (see `stratified_order`).

        Args:
            network: as trained, on the device.
            save_to: a folder for predictions.csv.
            reuse: take the answers that are in `save_to` already: they are this very network's.
            deadline: a `time.perf_counter` value; no case is begun after it, but at least one.
            progress: called as progress(done, total, case id).
        """
        there = reuse and save_to is not None and (save_to / "predictions.csv").is_file()
        known = {
            one.case: one
            for one in (read_predictions(save_to, self.plan.classes) if there and save_to else ())
        }
        predictor, found = self._predictor(network), dict[int, ClassScore]()
        for done, place in enumerate(self._stratified_order(), start=1):
            case = self.cases[place]
            if done > 1 and deadline is not None and time.perf_counter() > deadline:
                break
            found[place] = (
                known.get(case.id)
                or predictor.predict_prepared(self._prepare(predictor, case)).score
            )
            if progress is not None:
                progress(done, len(self.cases), case.id)
        scores = [found[place] for place in sorted(found)]
        if save_to is not None:
            write_predictions(scores, self.plan.classes, save_to)
        return tuple(scores)

    def check(self, network: nn.Module) -> float:
        """AUROC of the positive class, or the mean over classes or findings.

        NaN where the cases are all of one class.
        """
        predictor = self._predictor(network)
        rows = []
        with predictor.engine.evaluating(), torch.inference_mode():
            for start in range(0, len(self.cases), _BATCH):
                cases = self.cases[start : start + _BATCH]
                images = torch.from_numpy(
                    np.stack([self._prepare(predictor, case).array for case in cases])
                )
                rows.append(
                    ClassificationTask(self.plan.classes)
                    .probabilities(predictor.logits(images))
                    .cpu()
                    .numpy()
                )
        probabilities = np.concatenate(rows)
        members = np.array([self.plan.classes.indicators(case.label or "") for case in self.cases])
        if self.plan.classes.binary:
            return auroc(probabilities[:, 1], members[:, 1])
        both = members.any(axis=0) & ~members.all(axis=0)
        return macro_auroc(probabilities[:, both], members[:, both]) if both.any() else math.nan

    def subset(self, most: int) -> ClassificationValidator:
        """At most so many cases, spread evenly over all.

        None where that is too few to show whether an AUROC rises.
        """
        if most < min(self.checked, len(self.cases)):
            return replace(self, cases=())
        chosen = np.unique(
            np.linspace(0, len(self.cases) - 1, min(most, len(self.cases))).round().astype(int)
        )
        return replace(self, cases=tuple(self.cases[i] for i in chosen))

    def seconds_after(self, per_case: float, trained: int, total: float) -> float:
        """Estimate the seconds of fitting the out-of-distribution check, metrics and baselines.

        Neither is given more than its share of `total` seconds, however many cases there are.
        """
        seen = min(MOST_SEEN, trained) + min(MOST_SEEN, len(self.cases))
        rows = len(self.cases) * self.plan.classes.outputs
        figures = _FIGURES_SECONDS + _FIGURES_SECONDS_PER_CASE * rows
        return min(per_case * seen, LEARNING_SHARE * total) + min(figures, _FIGURES_SHARE * total)

    def seconds_per_case(self, network: nn.Module) -> float:
        """Measure the seconds of one case: the first one, twice, to warm up."""
        predictor = self._predictor(network)
        for _ in range(2):
            start = time.perf_counter()
            predictor.predict_prepared(predictor.prepare(self.cases[0]))
        return time.perf_counter() - start

    def metrics(self, scores: Sequence[ClassScore]) -> tuple[tuple[Metric, ...], float]:
        """Return the metrics that the model card shows, and the level of their intervals."""
        summary = summarise_classes(scores, self.plan.classes)
        rows = [
            Metric(
                region=figure.part or "all",
                name=figure.metric,
                mean=_defined(figure.value),
                lower=_defined(figure.low),
                upper=_defined(figure.high),
                cases=figure.n,
            )
            for figure in summary.figures
        ]
        return tuple(rows), summary.level

    def _stratified_order(self) -> list[int]:
        return stratified_order(
            [case.id for case in self.cases], [case.label for case in self.cases], self.plan.classes
        )

    def _prepare(self, predictor: ClassPredictor, case: Case) -> Prepared:
        """Inputs are small: as many as a bounded memory holds are read once only."""
        if case.id in self._prepared:
            return self._prepared[case.id]
        if case.label is None:
            raise DataError(f"case {case.id} has no label", needed="labelled cases to validate on")
        prepared = predictor.prepare(case)
        if (
            len(self._prepared) + 1
        ) * prepared.array.nbytes <= KEPT_BYTES:  # all inputs are of one size
            self._prepared[case.id] = prepared
        return prepared

    def _predictor(self, network: nn.Module) -> ClassPredictor:
        return ClassPredictor(TrainedModel(plan=self.plan, networks=(network,), device=self.device))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
