"""Validation of a network on held-out cases, by the predictor that users run."""

from hilum.training.validators.classification import ClassificationValidator
from hilum.training.validators.segmentation import SegmentationValidator, mean_dice
from hilum.training.validators.validator import Validator

__all__ = ["ClassificationValidator", "SegmentationValidator", "Validator", "mean_dice"]
