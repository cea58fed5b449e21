"""Who answers for a model, by its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilum.inference.class_predictor import ClassPredictor
from hilum.inference.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.inference.trained_model import TrainedModel

AnyPredictor = Predictor | ClassPredictor

PREDICTORS: dict[str, Callable[..., AnyPredictor]] = {"segmentation": Predictor, "classification": ClassPredictor}
"""By the name of the task."""


def make_predictor(model: TrainedModel, **options: Any) -> AnyPredictor:
    """The predictor of a model; see `Predictor` and `ClassPredictor` for the options."""
    return PREDICTORS[model.plan.task.value](model, **options)
