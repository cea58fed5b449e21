"""Class probabilities against labels: a case, a folder, subgroups, baselines, two classifiers compared."""

from hilum.evaluation.classification.baseline import BASELINES, Baseline, baseline_scores
from hilum.evaluation.classification.compare import (
    ClassComparison,
    ClassDifference,
    compare_classes,
)
from hilum.evaluation.classification.curves import ClassCurves, QuestionCurves, curves_of
from hilum.evaluation.classification.evaluation import ClassEvaluation, ClassEvaluationRecord
from hilum.evaluation.classification.figures import ClassFigure
from hilum.evaluation.classification.folder import evaluate_classes
from hilum.evaluation.classification.measures import CLASS_METRICS, Question, questions
from hilum.evaluation.classification.metadata import ColumnChoice, choose_columns
from hilum.evaluation.classification.rows import ClassRows
from hilum.evaluation.classification.subgroups import Subgroup, subgroups_of
from hilum.evaluation.classification.summary import ClassSummary, summarise_classes
from hilum.tasks.class_score import ClassScore, decide
from hilum.tasks.predictions import read_classes, read_predictions, write_predictions

__all__ = [
    "BASELINES",
    "CLASS_METRICS",
    "Baseline",
    "ClassComparison",
    "ClassCurves",
    "ClassDifference",
    "ClassEvaluation",
    "ClassEvaluationRecord",
    "ClassFigure",
    "ClassRows",
    "ClassScore",
    "ClassSummary",
    "ColumnChoice",
    "Question",
    "QuestionCurves",
    "Subgroup",
    "baseline_scores",
    "choose_columns",
    "compare_classes",
    "curves_of",
    "decide",
    "evaluate_classes",
    "questions",
    "read_classes",
    "read_predictions",
    "subgroups_of",
    "summarise_classes",
    "write_predictions",
]
