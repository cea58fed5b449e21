"""To the network's grid and back, and the store of preprocessed cases."""

from hilum.preprocess.classifier_input import InputWindow as InputWindow
from hilum.preprocess.classifier_input import (
    preprocess_classifier_input as preprocess_classifier_input,
)
from hilum.preprocess.classifier_store import ClassifierStore as ClassifierStore
from hilum.preprocess.classifier_store import build_classifier_store as build_classifier_store
from hilum.preprocess.restore import Restore as Restore
from hilum.preprocess.restore_stream import LabelStream as LabelStream
from hilum.preprocess.restore_stream import ProbabilityStream as ProbabilityStream
from hilum.preprocess.restore_stream import restore_logits_to_labels as restore_logits_to_labels
from hilum.preprocess.steps import preprocess_case as preprocess_case
from hilum.preprocess.steps import preprocess_labels as preprocess_labels
from hilum.preprocess.steps import preprocessing_hash as preprocessing_hash
from hilum.preprocess.store import OUTSIDE as OUTSIDE
from hilum.preprocess.store import CaseStore as CaseStore
from hilum.preprocess.store import StoredCase as StoredCase
from hilum.preprocess.store import build_store as build_store
from hilum.preprocess.store import cut_block as cut_block
