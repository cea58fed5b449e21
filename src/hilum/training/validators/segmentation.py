"""Validation of a segmentation: the very predictor that users run, on the cases' own grids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset import read_annotation
from hilum.evaluation import LESION_METRICS, Score, score_labels, summarise
from hilum.inference import FORMATS, Metric, Predictor, TrainedModel
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases
from hilum.inference.voxel_counter import VoxelCounter
from hilum.io import read_labels
from hilum.metrics import dice
from hilum.preprocess import preprocess_labels
from hilum.training.case_order import shuffled_order
from hilum.training.validators.validator import Validator, none_if_nan
from hilum.training.voxel_files import counts_file, save_counts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from hilum.dataset import Case
    from hilum.inference.predict_cases import Progress
    from hilum.plan import SegmentationPlan
    from hilum.volume import LabelTable, Volume


@dataclass(frozen=True)
class SegmentationValidator(Validator[Score]):
    """Predicts and scores annotated validation cases."""

    plan: SegmentationPlan

    measure = "Dice"
    ends_by_plateau = True
    checked, most_checked = 8, 16

    def score(
        self,
        network: nn.Module,
        *,
        save_to: Path | None = None,
        reuse: bool = False,
        deadline: Deadline = UNLIMITED,
        progress: Progress | None = None,
    ) -> tuple[Score, ...]:
        """Score each region of as many cases as the deadline allows (at least one).

        See `Validator.score`; `save_to` gets their label maps, and counts of their voxels.

        Returns:
            One score a case and region.
        """
        predictor = self._predictor(network)

        def predict(case: Case) -> tuple[Score, ...]:
            written = None if save_to is None else save_to / f"{case.id}.nii.gz"
            reference = read_annotation(case)
            if (
                written is not None
                and reuse
                and written.is_file()
                and counts_file(written.parent, case.id).is_file()
            ):
                labels = read_labels(written)
            else:
                labels = self._predict(predictor, case, reference, save_to)
            return score_case(labels, reference, case, self.plan.labels)

        order = shuffled_order([case.id for case in self.cases])
        found = predict_cases(
            predict, self.cases, order=order, deadline=deadline, progress=progress
        )
        return tuple(score for scores in found.values() for score in scores)

    def _predict(
        self, predictor: Predictor, case: Case, reference: Volume, save_to: Path | None
    ) -> Volume:
        """Predict a case, and save its label map and the counts of its voxels."""
        if save_to is None:
            return predictor.predict(case).labels
        prepared = predictor.prepare(case)
        table, restore = self.plan.labels, prepared.restore
        counter = VoxelCounter(table, restore, preprocess_labels(reference, restore))
        prediction = predictor.predict_prepared(prepared, counter=counter)
        FORMATS["nifti"].write(prediction, save_to, ("nifti",))
        save_counts(counter.finish(), counts_file(save_to, case.id))
        return prediction.labels

    def check(self, network: nn.Module) -> float:
        """Mean Dice over cases and regions; NaN where no case defines it.

        Nothing else is measured: a network that has just begun predicts noise, whose surfaces would
        take minutes and gigabytes.
        """
        predictor, table = self._predictor(network), self.plan.labels

        def predict(case: Case) -> list[float]:
            labels, reference = predictor.predict(case).labels.array, read_annotation(case).array
            counts = np.full(reference.shape, fill_value=True)
            if table.ignore is not None:
                counts = reference != table.ignore
            return [
                dice(*((np.isin(one, region.labels) & counts)[0] for one in (labels, reference)))
                for region in table.scored
            ]

        regions = np.array([*predict_cases(predict, self.cases).values()]).T  # (R, N)
        means = [float(np.nanmean(values)) for values in regions if not np.isnan(values).all()]
        return float(np.mean(means)) if means else math.nan

    def metrics(self, scores: Sequence[Score]) -> tuple[tuple[Metric, ...], float]:
        """Compute the metrics of the model card, and the level of their intervals."""
        summary = summarise(scores)
        rows = [
            Metric(
                region=region.region,
                name=name,
                mean=none_if_nan(metric.mean),
                median=none_if_nan(metric.median),
                lower=none_if_nan(metric.low),
                upper=none_if_nan(metric.high),
                cases=metric.n,
            )
            for region in summary.regions
            for name, metric in region.metrics.items()
            if region.lesions or name not in LESION_METRICS
        ]
        return tuple(rows), summary.level

    def rehearse(self, network: nn.Module, case: Case) -> None:
        """Predict the case, and score its annotation: an untrained network's noise takes long."""
        self._predictor(network).predict(case)
        reference = read_annotation(case)
        score_case(reference, reference, case, self.plan.labels)

    def _predictor(self, network: nn.Module) -> Predictor:
        """Run the very network as it is trained, without compiling it for another engine."""
        model = TrainedModel(plan=self.plan, networks=(network,), device=self.device)
        return Predictor(model, engine="torch", precision=self.plan.precision.value)


def score_case(
    labels: Volume, reference: Volume, case: Case, table: LabelTable
) -> tuple[Score, ...]:
    """Score the labels of one case against its annotation, one score a region."""
    return score_labels(
        labels.array[0],
        reference.array[0],
        spacing=reference.geometry.spacing,
        table=table,
        case=case.id,
        patient=case.patient,
    )
