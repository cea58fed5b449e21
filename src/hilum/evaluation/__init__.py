"""Scores of predictions against references: a case, a folder, two folders compared."""

from hilum.evaluation.segmentation import (
    HIGHER_IS_BETTER,
    METRICS,
    Comparison,
    Difference,
    Evaluation,
    EvaluationRecord,
    MetricSummary,
    RegionSummary,
    Score,
    Summary,
    compare,
    evaluate_folder,
    score_labels,
    summarise,
)

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
