"""To the network's grid and back, and the store of preprocessed cases."""

from hilum.preprocess.classifier_input import InputWindow, preprocess_classifier_input
from hilum.preprocess.classifier_store import ClassifierStore, build_classifier_store
from hilum.preprocess.restore import Restore
from hilum.preprocess.restore_stream import (
    LabelStream,
    ProbabilityStream,
    restore_logits_to_labels,
)
from hilum.preprocess.steps import preprocess_case, preprocess_labels, preprocessing_hash
from hilum.preprocess.store import OUTSIDE, CaseStore, StoredCase, build_store, cut_block

__all__ = [
    "OUTSIDE",
    "CaseStore",
    "ClassifierStore",
    "InputWindow",
    "LabelStream",
    "ProbabilityStream",
    "Restore",
    "StoredCase",
    "build_classifier_store",
    "build_store",
    "cut_block",
    "preprocess_case",
    "preprocess_classifier_input",
    "preprocess_labels",
    "preprocessing_hash",
    "restore_logits_to_labels",
]
