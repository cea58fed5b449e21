"""Scores of predictions against references: label maps and classes, cases, folders, comparisons."""

from hilum.evaluation.by_task import EvaluationOptions as EvaluationOptions
from hilum.evaluation.by_task import compare as compare
from hilum.evaluation.by_task import evaluate as evaluate
from hilum.evaluation.by_task import load_evaluation as load_evaluation
from hilum.evaluation.classification.arrays import ClassRows as ClassRows
from hilum.evaluation.classification.baseline import BASELINES as BASELINES
from hilum.evaluation.classification.baseline import Baseline as Baseline
from hilum.evaluation.classification.baseline import baseline_scores as baseline_scores
from hilum.evaluation.classification.compare import compare_classes as compare_classes
from hilum.evaluation.classification.curves import ClassCurves as ClassCurves
from hilum.evaluation.classification.curves import QuestionCurves as QuestionCurves
from hilum.evaluation.classification.curves import curves_of as curves_of
from hilum.evaluation.classification.evaluation import ClassEvaluation as ClassEvaluation
from hilum.evaluation.classification.evaluation import (
    ClassEvaluationRecord as ClassEvaluationRecord,
)
from hilum.evaluation.classification.folder import evaluate_classes as evaluate_classes
from hilum.evaluation.classification.folder import evaluate_scores as evaluate_scores
from hilum.evaluation.classification.measures import Question as Question
from hilum.evaluation.classification.measures import questions as questions
from hilum.evaluation.classification.subgroups import Subgroup as Subgroup
from hilum.evaluation.classification.subgroups import subgroups_of as subgroups_of
from hilum.evaluation.classification.summary import ClassSummary as ClassSummary
from hilum.evaluation.classification.summary import summarise_classes as summarise_classes
from hilum.evaluation.comparison import Comparison as Comparison
from hilum.evaluation.comparison import Difference as Difference
from hilum.evaluation.comparison import ModelPair as ModelPair
from hilum.evaluation.comparison import Rank as Rank
from hilum.evaluation.comparison import RankedModel as RankedModel
from hilum.evaluation.comparison import Ranking as Ranking
from hilum.evaluation.comparison import RunSpread as RunSpread
from hilum.evaluation.covariates import ColumnChoice as ColumnChoice
from hilum.evaluation.covariates import choose_columns as choose_columns
from hilum.evaluation.estimates import CaseValue as CaseValue
from hilum.evaluation.estimates import Estimate as Estimate
from hilum.evaluation.metric_table import CLASS_METRICS as CLASS_METRICS
from hilum.evaluation.metric_table import HIGHER_IS_BETTER as HIGHER_IS_BETTER
from hilum.evaluation.metric_table import LESION_METRICS as LESION_METRICS
from hilum.evaluation.metric_table import METRICS as METRICS
from hilum.evaluation.segmentation.evaluation import Evaluation as Evaluation
from hilum.evaluation.segmentation.evaluation import EvaluationRecord as EvaluationRecord
from hilum.evaluation.segmentation.folder import evaluate_folder as evaluate_folder
from hilum.evaluation.segmentation.score import Score as Score
from hilum.evaluation.segmentation.score import score_labels as score_labels
from hilum.evaluation.segmentation.scoring import Scoring as Scoring
from hilum.evaluation.segmentation.subgroups import LabelMapSubgroup as LabelMapSubgroup
from hilum.evaluation.segmentation.subgroups import label_map_subgroups as label_map_subgroups
from hilum.evaluation.segmentation.summary import MetricSummary as MetricSummary
from hilum.evaluation.segmentation.summary import RegionSummary as RegionSummary
from hilum.evaluation.segmentation.summary import Summary as Summary
from hilum.evaluation.segmentation.summary import summarise as summarise
from hilum.targets.class_score import ClassScore as ClassScore
from hilum.targets.class_score import decide as decide
from hilum.targets.predictions import read_classes as read_classes
from hilum.targets.predictions import read_predictions as read_predictions
from hilum.targets.predictions import write_predictions as write_predictions
