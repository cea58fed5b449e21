"""Class probabilities against labels: a case, a folder, subgroups, baselines, two classifiers compared."""

from hilum.evaluation.classification.baseline import BASELINES, Baseline, baseline_scores
from hilum.evaluation.classification.metadata import ColumnChoice, choose_columns
from hilum.evaluation.classification.predictions import read_predictions, write_predictions
from hilum.evaluation.classification.score import ClassScore

__all__ = [
    "BASELINES",
    "Baseline",
    "ClassScore",
    "ColumnChoice",
    "baseline_scores",
    "choose_columns",
    "read_predictions",
    "write_predictions",
]
