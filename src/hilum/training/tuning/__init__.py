"""Tuning on validation cases: post-processing of labels, overlap of patches."""

from hilum.training.tuning.records import Tuning
from hilum.training.tuning.tune import TuneOptions, tune

__all__ = ["TuneOptions", "Tuning", "tune"]
