"""Learning on validation cases what is done around a network: post-processing of its labels, overlap of its patches."""

from hilum.training.tuning.records import Tuning
from hilum.training.tuning.tune import TuneOptions, tune

__all__ = ["TuneOptions", "Tuning", "tune"]
