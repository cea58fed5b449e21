"""Scores of predictions against references: a case, a folder, two folders compared."""

from hilum.evaluation.score import HIGHER_IS_BETTER, METRICS, Score, score_labels
from hilum.evaluation.summary import MetricSummary, RegionSummary, Summary, summarise

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "MetricSummary",
    "RegionSummary",
    "Score",
    "Summary",
    "score_labels",
    "summarise",
]
