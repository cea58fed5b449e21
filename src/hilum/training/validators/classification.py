"""Validation of a classification: the very predictor that users run, out of fold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.evaluation import summarise_classes
from hilum.inference import ClassPredictor, Metric, TrainedModel
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases
from hilum.metrics import auroc, macro_auroc
from hilum.targets.class_score import ClassScore
from hilum.targets.predictions import read_predictions, write_predictions
from hilum.training.case_order import stratified_order
from hilum.training.validators.validator import Validator, none_if_nan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from torch import nn

    from hilum.dataset import Case
    from hilum.inference import Prepared
    from hilum.inference.predict_cases import Progress
    from hilum.plan import ClassificationPlan

KEPT_BYTES = 256 * 2**20
"""Preprocessed inputs of validation cases that stay in memory, of one fold."""


@dataclass(frozen=True)
class ClassificationValidator(Validator[ClassScore]):
    """Predicts labelled validation cases."""

    plan: ClassificationPlan
    _prepared: dict[str, Prepared] = field(default_factory=dict, repr=False)

    measure = "AUROC"
    ends_by_plateau = False
    """Scores during training are only shown: the same cases become out-of-fold predictions, and the
    stages have their own shares of the schedule, so that nothing is chosen by them."""
    checked, most_checked = 20, 200
    """Fewer do not show whether an AUROC rises; of more the next ones add little."""

    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: Deadline = UNLIMITED,
        progress: Progress | None = None,
    ) -> tuple[ClassScore, ...]:
        """Predict the cases; see `Validator.score`. `save_to` gets predictions.csv."""
        table = self.plan.classes
        there = reuse and save_to is not None and (save_to / "predictions.csv").is_file()
        earlier = read_predictions(save_to, table) if there and save_to is not None else ()
        known = {score.case: score for score in earlier}
        predictor = ClassPredictor(
            TrainedModel(plan=self.plan, networks=(network,), device=self.device)
        )

        def predict(case: Case) -> ClassScore:
            if case.id in known:
                return known[case.id]
            prepared = self._prepared.get(case.id) or predictor.prepare(case)
            if (len(self._prepared) + 1) * prepared.array.nbytes <= KEPT_BYTES:
                self._prepared[case.id] = prepared  # inputs are of one size
            return predictor.predict_prepared(prepared).score

        order = stratified_order(
            [case.id for case in self.cases], [case.label for case in self.cases], table
        )
        found = predict_cases(
            predict, self.cases, order=order, deadline=deadline, progress=progress
        )
        if save_to is not None:
            write_predictions([*found.values()], table, save_to)
        return tuple(found.values())

    def check(self, network: nn.Module) -> float:
        """AUROC of the positive class, or the mean over classes or findings.

        NaN where the cases are all of one class.
        """
        table, scores = self.plan.classes, self.score(network)
        probabilities = np.array([score.probabilities for score in scores])
        present = np.array([table.indicators(score.reference or "") for score in scores])
        if table.binary:
            return auroc(probabilities[:, 1], present[:, 1])
        both = present.any(axis=0) & ~present.all(axis=0)
        return macro_auroc(probabilities[:, both], present[:, both]) if both.any() else math.nan

    def subset(self, most: int) -> Self:
        """Keep at most so many cases; none where they are too few to show if an AUROC rises."""
        return super().subset(0 if most < min(self.checked, len(self.cases)) else most)

    def rehearse(self, network: nn.Module, case: Case) -> None:
        """Predict one case, so that its time can be measured."""
        replace(self, cases=(case,), _prepared={}).score(network)

    def metrics(self, scores: Sequence[ClassScore]) -> tuple[tuple[Metric, ...], float]:
        """Compute the metrics of the model card, and the level of their intervals."""
        summary = summarise_classes(scores, self.plan.classes)
        rows = [
            Metric(
                region=figure.part or "all",
                name=figure.metric,
                mean=none_if_nan(figure.value),
                lower=none_if_nan(figure.low),
                upper=none_if_nan(figure.high),
                cases=figure.n,
            )
            for figure in summary.figures
        ]
        return tuple(rows), summary.level
