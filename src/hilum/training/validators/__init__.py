"""Validation of a network on held-out cases, by the predictor that users run."""

from hilum.training.validators.classification import (
    ClassificationValidator as ClassificationValidator,
)
from hilum.training.validators.segmentation import SegmentationValidator as SegmentationValidator
from hilum.training.validators.validator import Validator as Validator
