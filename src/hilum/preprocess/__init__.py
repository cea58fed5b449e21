"""To the network's grid and back, and the store of preprocessed cases."""

from hilum.preprocess.restore import Restore
from hilum.preprocess.steps import preprocess_case, preprocess_labels, preprocessing_hash
from hilum.preprocess.store import OUTSIDE, CaseStore, StoredCase, build_store, cut_block
from hilum.preprocess.stream import (
    LabelStream,
    ProbabilityStream,
    restore_logits_to_labels,
    restore_probabilities,
)
from hilum.preprocess.view import View, preprocess_view
from hilum.preprocess.view_store import ViewStore, build_views

__all__ = [
    "OUTSIDE",
    "CaseStore",
    "LabelStream",
    "ProbabilityStream",
    "Restore",
    "StoredCase",
    "View",
    "ViewStore",
    "build_store",
    "build_views",
    "cut_block",
    "preprocess_case",
    "preprocess_labels",
    "preprocess_view",
    "preprocessing_hash",
    "restore_logits_to_labels",
    "restore_probabilities",
]
