"""Tuning on validation cases: post-processing of labels, overlap of patches."""

from hilum.training.tuning.records import Tuning as Tuning
from hilum.training.tuning.tune import TuneOptions as TuneOptions
from hilum.training.tuning.tune import tune as tune
