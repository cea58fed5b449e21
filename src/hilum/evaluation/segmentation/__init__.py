"""Label maps against label maps: a case, a folder, two folders compared."""

from hilum.evaluation.segmentation.compare import Comparison, Difference, compare
from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.segmentation.folder import evaluate_folder
from hilum.evaluation.segmentation.score import HIGHER_IS_BETTER, METRICS, Score, score_labels
from hilum.evaluation.segmentation.summary import (
    LESION_METRICS,
    MetricSummary,
    RegionSummary,
    Summary,
    summarise,
)

__all__ = [
    "HIGHER_IS_BETTER",
    "LESION_METRICS",
    "METRICS",
    "Comparison",
    "Difference",
    "Evaluation",
    "EvaluationRecord",
    "MetricSummary",
    "RegionSummary",
    "Score",
    "Summary",
    "compare",
    "evaluate_folder",
    "score_labels",
    "summarise",
]
