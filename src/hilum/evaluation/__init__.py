"""Scores of predictions against references: a case, a folder, two folders compared."""

from hilum.evaluation.compare import Comparison, Difference, compare
from hilum.evaluation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.folder import evaluate_folder
from hilum.evaluation.score import HIGHER_IS_BETTER, METRICS, Score, score_labels
from hilum.evaluation.summary import MetricSummary, RegionSummary, Summary, summarise

__all__ = [
    "HIGHER_IS_BETTER",
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
