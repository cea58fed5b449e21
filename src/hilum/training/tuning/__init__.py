"""Tuning of post-processing on cases that the networks were not trained on."""

from hilum.training.tuning.records import Tuning as Tuning
from hilum.training.tuning.tune import TuneOptions as TuneOptions
from hilum.training.tuning.tune import tune as tune
