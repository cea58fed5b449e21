"""Validation of a network on held-out cases, by the predictor that users run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.training.validators.classification import ClassificationValidator
from hilum.training.validators.segmentation import SegmentationValidator, mean_dice

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "VALIDATORS",
    "ClassificationValidator",
    "SegmentationValidator",
    "Validator",
    "mean_dice",
]

Validator = SegmentationValidator | ClassificationValidator

VALIDATORS: dict[str, Callable[..., Validator]] = {
    "segmentation": SegmentationValidator,
    "classification": ClassificationValidator,
}
"""By the name of the task."""
