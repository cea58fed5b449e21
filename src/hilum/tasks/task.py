"""The tasks that can be learnt."""

from __future__ import annotations

from hilum.tasks.classification import ClassificationTask
from hilum.tasks.segmentation import SegmentationTask

TASKS: dict[str, type[SegmentationTask | ClassificationTask]] = {
    "segmentation": SegmentationTask,
    "classification": ClassificationTask,
}
"""By the name that plans and users give."""
