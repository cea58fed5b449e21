"""Options of prediction that only one of the tasks has."""

from types import SimpleNamespace

import pytest

from hilum.errors import UsageError
from hilum.pipelines.prediction import (
    ClassificationOptions,
    ClassificationPrediction,
    RunOptions,
    SegmentationOptions,
    SegmentationPrediction,
    prediction_of,
)
from hilum.plan import ClassificationPlan, SegmentationPlan

SEGMENTER = SimpleNamespace(plan=SegmentationPlan.model_construct())
CLASSIFIER = SimpleNamespace(plan=ClassificationPlan.model_construct())


@pytest.mark.parametrize(("option", "value"), [("explain", "grad_cam"), ("sets_per_class", True)])
def test_a_segmentation_refuses_a_classifiers_option(option, value):
    given = f"{option}={value!r}"
    with pytest.raises(
        UsageError, match=rf"{given} does not apply to a segmentation[\s\S]*leave out {given}"
    ):
        prediction_of(SEGMENTER, None, ClassificationOptions(**{option: value}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("overlap", 0.0),
        ("every_patch", True),
        ("memory", "4GB"),
        ("alpha", 0.2),
        ("contours", True),
    ],
)
def test_a_classifier_refuses_a_segmentations_option(option, value):
    given = f"{option}={value!r}"
    with pytest.raises(
        UsageError, match=rf"{given} does not apply to a classifier[\s\S]*leave out {given}"
    ):
        prediction_of(CLASSIFIER, SegmentationOptions(**{option: value}), None)


def test_options_left_at_their_defaults_suit_every_model():
    defaults = SegmentationOptions(), ClassificationOptions()
    assert isinstance(prediction_of(SEGMENTER, *defaults), SegmentationPrediction)
    assert isinstance(prediction_of(CLASSIFIER, *defaults), ClassificationPrediction)


def test_a_classifier_refuses_an_engine_without_torch():
    run = RunOptions("openvino", None, tta=False, pictures=0)
    with pytest.raises(UsageError, match=r"engine=.openvino. does not run a classifier"):
        prediction_of(CLASSIFIER, None, None).make_predictor(CLASSIFIER, run)
