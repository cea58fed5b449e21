"""The work of each task at every step of the one training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.training.courses.classification import ClassificationCourse
from hilum.training.courses.segmentation import SegmentationCourse

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.training.courses.course import Course
    from hilum.training.loop import Assignment

__all__ = ["COURSES", "ClassificationCourse", "SegmentationCourse"]

COURSES: dict[str, Callable[[Assignment], Course]] = {
    "segmentation": SegmentationCourse,
    "classification": ClassificationCourse,
}
"""By the name of the task."""
