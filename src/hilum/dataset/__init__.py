"""Data sets and their cases: opened in place, split by patient, checked, mended, audited."""

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.channels import arrange_channels, arrange_dataset, match_channels
from hilum.dataset.classes import ClassTable
from hilum.dataset.doctor import Finding, Fixed, FixLog, check, fix
from hilum.dataset.folds import describe_folds, make_folds
from hilum.dataset.labels import arranged, match_classes, match_labels, relabel
from hilum.dataset.layouts import LAYOUTS
from hilum.dataset.leaks import Audit, Pair, Predictor, audit
from hilum.dataset.open import (
    describing_files,
    known_patients,
    open_cases,
    open_dataset,
    read_annotation,
    read_case,
)

__all__ = [
    "LAYOUTS",
    "Audit",
    "Case",
    "ClassTable",
    "Dataset",
    "Finding",
    "FixLog",
    "Fixed",
    "Fold",
    "Pair",
    "Predictor",
    "arrange_channels",
    "arrange_dataset",
    "arranged",
    "audit",
    "check",
    "describe_folds",
    "describing_files",
    "fix",
    "known_patients",
    "make_folds",
    "match_channels",
    "match_classes",
    "match_labels",
    "open_cases",
    "open_dataset",
    "read_annotation",
    "read_case",
    "relabel",
]
