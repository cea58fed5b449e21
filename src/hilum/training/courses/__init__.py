"""The work of each task at every step of the one training loop."""

from hilum.training.courses.classification import ClassificationCourse
from hilum.training.courses.course import Course
from hilum.training.courses.segmentation import SegmentationCourse

__all__ = ["ClassificationCourse", "Course", "SegmentationCourse"]
