"""The work of each task at every step of the one training loop."""

from hilum.training.steps.classification import ClassificationStep as ClassificationStep
from hilum.training.steps.segmentation import SegmentationStep as SegmentationStep
from hilum.training.steps.step import TrainingStep as TrainingStep
