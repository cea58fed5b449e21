"""The scores of a segmentation's validation cases, written as an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.evaluation import Evaluation, Score, summarise
from hilum.evaluation.segmentation.evaluation import EvaluationRecord
from hilum.evaluation.segmentation.proposal import propose
from hilum.evaluation.segmentation.scoring import ScoringRules
from hilum.evaluation.segmentation.subgroups import label_map_subgroups
from hilum.inference.manifest import hilum_version
from hilum.training.tuning.after_training import POSTPROCESSED

if TYPE_CHECKING:
    from hilum.plan import SegmentationPlan
    from hilum.preprocess import CaseStore
    from hilum.training.task import TrainedFolds

OUT_OF_FOLD = "out_of_fold"
_MOST_REGIONS = 20
"""Subgroups are estimated of so many regions at most: of a hundred they would take minutes."""


def write_out_of_fold_scores(folds: TrainedFolds[SegmentationPlan, CaseStore, Score]) -> None:
    """Write cases.csv, estimates.csv, summary.json and summary.md to `out_of_fold`.

    Raises:
        ResourceError: the folder cannot be written.
    """
    plan, dataset = folds.plan, folds.data.dataset
    label_maps = folds.work / POSTPROCESSED
    if not label_maps.is_dir():  # of several folds `training/`, whose folds hold them
        one = folds.work / f"fold_{folds.members[0].number}" / "validation"
        label_maps = one if len(folds.members) == 1 else folds.work
    scored = {score.case for score in folds.scores}
    validated = {case.id for fold in folds.members for case in fold.validated}
    summary = summarise(folds.scores)
    record = EvaluationRecord(
        hilum=hilum_version(),
        predictions=str(label_maps),
        reference=str(dataset.root),
        tolerance_mm=ScoringRules().tolerances[0],  # by which the validator scores
        scaled=plan.spacing.value is not None,
        labels=plan.labels,
        missing=tuple(sorted(validated - scored)),
        unexpected=(),
        notes=("each case was predicted by a network that was not trained on it",),
        proposals=propose(folds.scores, summary.regions, instances=False),
        summary=summary,
        subgroups=(
            label_map_subgroups(folds.scores, {case.id: case.columns for case in dataset.cases})
            if len(plan.labels.scored) <= _MOST_REGIONS
            else ()
        ),
    )
    Evaluation(folds.scores, record).save(folds.work / OUT_OF_FOLD)
