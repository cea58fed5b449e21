"""Cases and sets of them: opened where they lie, split by patient, checked and mended."""

from hilum.dataset.case import Case, Dataset, Fold
from hilum.dataset.doctor import Finding, Fixed, FixLog, check, fix
from hilum.dataset.folds import describe_folds, make_folds
from hilum.dataset.layouts import LAYOUTS
from hilum.dataset.open import open_dataset, read_annotation, read_case

__all__ = [
    "LAYOUTS",
    "Case",
    "Dataset",
    "Finding",
    "FixLog",
    "Fixed",
    "Fold",
    "check",
    "describe_folds",
    "fix",
    "make_folds",
    "open_dataset",
    "read_annotation",
    "read_case",
]
