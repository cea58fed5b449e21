"""Who answers for a model, by its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.inference.case_predictor import CasePredictor
    from hilum.inference.engines.engine import RunnableModel
    from hilum.inference.trained_model import TrainedModel

    AnyPredictor = CasePredictor[Any]


def _segmentation(model: Any, **options: Any) -> AnyPredictor:
    from hilum.inference.predictor import Predictor

    return Predictor(model, **options)


def _classification(model: Any, **options: Any) -> AnyPredictor:
    from hilum.inference.class_predictor import ClassPredictor

    return ClassPredictor(model, **options)


PREDICTORS: dict[str, Callable[..., AnyPredictor]] = {
    "segmentation": _segmentation,
    "classification": _classification,
}
"""By the name of the task; a segmentation needs no torch, so that each is loaded when it is asked
for."""


def make_predictor(model: TrainedModel | RunnableModel, **options: Any) -> AnyPredictor:
    """The predictor of a model; see `Predictor` and `ClassPredictor` for the options."""
    return PREDICTORS[model.plan.task.value](model, **options)
