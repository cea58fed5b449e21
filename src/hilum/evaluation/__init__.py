"""Scores of predictions against references: label maps and classes, cases, folders, comparisons."""

from hilum.evaluation.by_task import EvaluationOptions, compare, evaluate, load_evaluation
from hilum.evaluation.classification.baseline import BASELINES, Baseline, baseline_scores
from hilum.evaluation.classification.compare import compare_classes
from hilum.evaluation.classification.curves import ClassCurves, QuestionCurves, curves_of
from hilum.evaluation.classification.estimates import ClassSummary, Estimate, summarise_classes
from hilum.evaluation.classification.evaluation import ClassEvaluation, ClassEvaluationRecord
from hilum.evaluation.classification.folder import evaluate_classes
from hilum.evaluation.classification.measures import Question, questions
from hilum.evaluation.classification.metadata import ColumnChoice, choose_columns
from hilum.evaluation.classification.rows import ClassRows
from hilum.evaluation.classification.subgroups import Subgroup, subgroups_of
from hilum.evaluation.comparison import Comparison, Difference
from hilum.evaluation.metric_table import CLASS_METRICS, HIGHER_IS_BETTER, METRICS
from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.segmentation.folder import evaluate_folder
from hilum.evaluation.segmentation.score import Score, score_labels
from hilum.evaluation.segmentation.summary import (
    LESION_METRICS,
    MetricSummary,
    RegionSummary,
    Summary,
    summarise,
)
from hilum.tasks.class_score import ClassScore, decide
from hilum.tasks.predictions import read_classes, read_predictions, write_predictions

__all__ = [
    "BASELINES",
    "CLASS_METRICS",
    "HIGHER_IS_BETTER",
    "LESION_METRICS",
    "METRICS",
    "Baseline",
    "ClassCurves",
    "ClassEvaluation",
    "ClassEvaluationRecord",
    "ClassRows",
    "ClassScore",
    "ClassSummary",
    "ColumnChoice",
    "Comparison",
    "Difference",
    "Estimate",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRecord",
    "MetricSummary",
    "Question",
    "QuestionCurves",
    "RegionSummary",
    "Score",
    "Subgroup",
    "Summary",
    "baseline_scores",
    "choose_columns",
    "compare",
    "compare_classes",
    "curves_of",
    "decide",
    "evaluate",
    "evaluate_classes",
    "evaluate_folder",
    "load_evaluation",
    "questions",
    "read_classes",
    "read_predictions",
    "score_labels",
    "subgroups_of",
    "summarise",
    "summarise_classes",
    "write_predictions",
]
