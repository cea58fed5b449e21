"""To the network's grid and back, and the store of preprocessed cases."""

from hilum.preprocess.restore import Restore, restore_logits_to_labels, restore_probabilities
from hilum.preprocess.steps import preprocess_case, preprocess_labels, preprocessing_hash
from hilum.preprocess.store import OUTSIDE, CaseStore, StoredCase, build_store, cut_block

__all__ = [
    "OUTSIDE",
    "CaseStore",
    "Restore",
    "StoredCase",
    "build_store",
    "cut_block",
    "preprocess_case",
    "preprocess_labels",
    "preprocessing_hash",
    "restore_logits_to_labels",
    "restore_probabilities",
]
