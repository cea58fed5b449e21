"""Validation of a segmentation: the very predictor that users run, on the cases' own grids."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from hilum.dataset import read_annotation
from hilum.evaluation import LESION_METRICS, Score, score_labels, summarise
from hilum.inference import FORMATS, Metric, Predictor, TrainedModel
from hilum.io import read_labels
from hilum.metrics import dice
from hilum.training.case_order import shuffled_order
from hilum.training.validators.validator import Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from hilum.dataset import Case
    from hilum.plan import SegmentationPlan
    from hilum.volume import Volume

_QUICK_SECONDS = 5.0
"""A first prediction that took longer is not repeated to be timed: what warming up costs hardly
counts."""


@dataclass(frozen=True)
class SegmentationValidator(Validator[Score]):
    """Predicts and scores validation cases.

    Args:
        plan: every decision.
        device: where it computes.
        cases: annotated cases.
    """

    plan: SegmentationPlan
    device: torch.device
    cases: tuple[Case, ...]

    measure = "Dice"
    ends_by_plateau = True
    learning_share = 0.2
    scoring_share = 0.2
    checked, most_checked = 8, 16

    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: float | None = None,
        tolerance_mm: float = 2.0,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> tuple[Score, ...]:
        """Score a network on the cases.

        Args:
            network: as trained, on the device.
            save_to: a folder for the label maps.
            reuse: score the label maps that are in `save_to` already: they are this very network's.
            deadline: a `time.perf_counter` value; no case is begun that would end after it if it
                took as long as the longest so far; at least one is scored. Those that are make a
                fair sample (see `shuffled_order`).
            tolerance_mm: of the normalised surface distance.
            progress: called as progress(done, total, case id).

        Returns:
            One score a case and region, in the order of the cases.
        """
        predictor = self._predictor(network)
        scores: dict[str, tuple[Score, ...]] = {}
        longest = 0.0
        places = (
            range(len(self.cases))
            if deadline is None
            else shuffled_order([case.id for case in self.cases])
        )
        for done, case in enumerate((self.cases[place] for place in places), start=1):
            begun = time.perf_counter()
            if done > 1 and deadline is not None and begun + longest > deadline:
                break
            written = None if save_to is None else save_to / f"{case.id}.nii.gz"
            if written is not None and reuse and written.is_file():
                labels = read_labels(written)
            else:
                prediction = predictor.predict(case)
                labels = prediction.labels
                if save_to is not None:
                    FORMATS["nifti"].write(prediction, save_to)
            scores[case.id] = self._score(labels, read_annotation(case), case, tolerance_mm)
            longest = max(longest, time.perf_counter() - begun)
            if progress is not None:
                progress(done, len(self.cases), case.id)
        return tuple(score for case in self.cases for score in scores.get(case.id, ()))

    def check(self, network: nn.Module) -> float:
        """Mean Dice over cases and regions; NaN where no case defines it.

        Nothing else is measured: a network that has just begun predicts noise, whose surfaces would
        take minutes and gigabytes.
        """
        predictor, table = self._predictor(network), self.plan.labels
        by_region: dict[str, list[float]] = {region.name: [] for region in table.scored}
        for case in self.cases:
            predicted, reference = predictor.predict(case).labels.array, read_annotation(case).array
            counts = (
                np.full(reference.shape, fill_value=True)
                if table.ignore is None
                else reference != table.ignore
            )
            for region in table.scored:
                masks = (
                    np.isin(labels, region.labels) & counts for labels in (predicted, reference)
                )
                by_region[region.name].append(dice(*(mask[0] for mask in masks)))
        return _mean_of_means(by_region)

    def subset(self, most: int) -> SegmentationValidator:
        """At most so many cases, spread evenly over all."""
        chosen = np.unique(
            np.linspace(0, len(self.cases) - 1, min(most, len(self.cases))).round().astype(int)
        )
        return SegmentationValidator(self.plan, self.device, tuple(self.cases[i] for i in chosen))

    def metrics(self, scores: Sequence[Score]) -> tuple[tuple[Metric, ...], float]:
        """Return the metrics that the model card shows, and the level of their intervals."""
        return segmentation_metrics(scores)

    @override
    def seconds_after(self, per_case: float, trained: int, total: float) -> float:
        """Return 0: nothing but tuning follows once all cases are scored."""
        return 0.0

    def seconds_per_case(self, network: nn.Module) -> float:
        """Measure the seconds of one case: the first one, predicted and scored.

        The annotation stands for the prediction that a trained network will make; an untrained
        one's is noise.
        """
        case, predictor = self.cases[0], self._predictor(network)
        start = time.perf_counter()
        predictor.predict(case)
        if time.perf_counter() - start < _QUICK_SECONDS:
            start = time.perf_counter()
            predictor.predict(case)
        reference = read_annotation(case)
        self._score(reference, reference, case, 2.0)
        return time.perf_counter() - start

    def _predictor(self, network: nn.Module) -> Predictor:
        model: Any = TrainedModel(
            plan=self.plan, networks=(network,), device=self.device
        )  # its plan is known to be this one
        # the very network as it is trained, without compiling it for another engine
        return Predictor(model, engine="torch", precision=self.plan.precision.value)

    def _score(
        self, prediction: Volume, reference: Volume, case: Case, tolerance_mm: float
    ) -> tuple[Score, ...]:
        labels = prediction.array[0]
        if (
            self.plan.labels.ignore is not None
        ):  # never answered; the annotation may stand for a prediction
            labels = np.where(labels == self.plan.labels.ignore, 0, labels)
        return score_labels(
            labels,
            reference.array[0],
            spacing=reference.geometry.spacing,
            table=self.plan.labels,
            tolerance_mm=tolerance_mm,
            case=case.id,
            patient=case.patient,
        )


def segmentation_metrics(scores: Sequence[Score]) -> tuple[tuple[Metric, ...], float]:
    """Compute the metrics of the model card, and the level of their intervals."""
    summary = summarise(scores)
    rows = [
        Metric(
            region=region.region,
            name=name,
            mean=_defined(metric.mean),
            median=_defined(metric.median),
            lower=_defined(metric.low),
            upper=_defined(metric.high),
            cases=metric.n,
        )
        for region in summary.regions
        for name, metric in region.metrics.items()
        if region.lesions or name not in LESION_METRICS
    ]
    return tuple(rows), summary.level


def mean_dice(scores: Sequence[Score]) -> float:
    """Mean Dice over the regions' means; NaN where nothing is defined."""
    by_region: dict[str, list[float]] = {}
    for score in scores:
        by_region.setdefault(score.region, []).append(score.dice)
    return _mean_of_means(by_region)


def _mean_of_means(by_region: Mapping[str, Sequence[float]]) -> float:
    means = [
        float(np.nanmean(values)) for values in by_region.values() if not np.all(np.isnan(values))
    ]
    return float(np.mean(means)) if means else float("nan")


def _defined(value: float) -> float | None:
    # NaN is the one number that is not itself
    return None if value != value else value  # noqa: PLR0124
