"""The work of each task at every step of the one training loop."""

from hilum.training.steps.classification import ClassificationStep
from hilum.training.steps.segmentation import SegmentationStep
from hilum.training.steps.step import TrainingStep

__all__ = ["ClassificationStep", "SegmentationStep", "TrainingStep"]
