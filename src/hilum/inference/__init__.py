"""From a trained model and an image to an answer on the image's own grid.

This front door loads what is asked for, torch late.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

if TYPE_CHECKING:
    from hilum.inference.assurance import Assurance as Assurance
    from hilum.inference.assurance import Calibration as Calibration
    from hilum.inference.case_predictor import Prepared as Prepared
    from hilum.inference.case_predictor import Seconds as Seconds
    from hilum.inference.class_prediction import CLASS_FORMATS as CLASS_FORMATS
    from hilum.inference.class_prediction import ClassPrediction as ClassPrediction
    from hilum.inference.class_predictor import ClassPredictor as ClassPredictor
    from hilum.inference.exported import ExportedModel as ExportedModel
    from hilum.inference.exported import load_runnable as load_runnable
    from hilum.inference.find import find_cases as find_cases
    from hilum.inference.inputs import Source as Source
    from hilum.inference.inputs import case_id as case_id
    from hilum.inference.inputs import read_source as read_source
    from hilum.inference.manifest import Facts as Facts
    from hilum.inference.manifest import Metric as Metric
    from hilum.inference.manifest import ModelMetrics as ModelMetrics
    from hilum.inference.many import predict_many as predict_many
    from hilum.inference.model import RunnableModel as RunnableModel
    from hilum.inference.prediction import FORMATS as FORMATS
    from hilum.inference.prediction import Prediction as Prediction
    from hilum.inference.predictor import Predictor as Predictor
    from hilum.inference.predictors import make_predictor as make_predictor
    from hilum.inference.run_report import CaseOutcome as CaseOutcome
    from hilum.inference.run_report import RunClock as RunClock
    from hilum.inference.run_report import RunReport as RunReport
    from hilum.inference.trained_model import TrainedModel as TrainedModel
    from hilum.inference.trained_model import seal_card as seal_card
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
