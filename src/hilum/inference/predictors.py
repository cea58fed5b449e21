"""The predictor of a model, by the type of its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hilum.plan import ClassificationPlan

if TYPE_CHECKING:
    from hilum.inference.case_predictor import CasePredictor
    from hilum.inference.class_predictor import ClassPredictor
    from hilum.inference.model import RunnableModel
    from hilum.inference.predictor import Predictor
    from hilum.inference.trained_model import TrainedModel

    AnyPredictor = CasePredictor[Any]


def make_predictor(
    model: TrainedModel | RunnableModel, *, tta: bool = False
) -> Predictor | ClassPredictor:
    """Make the predictor of a model; for other options make `Predictor` or `ClassPredictor`.

    Args:
        model: trained, loaded or exported.
        tta: average over the mirrored images that the plan allows.
    """
    if isinstance(model.plan, ClassificationPlan):
        from hilum.inference.class_predictor import ClassPredictor  # needs torch

        return ClassPredictor(model, tta=tta)
    from hilum.inference.predictor import Predictor

    return Predictor(cast("RunnableModel", model), tta=tta)
