"""From a trained model and an image to an answer on the image's own grid."""

from hilum.inference.assurance import Assurance, Calibration
from hilum.inference.class_prediction import CLASS_FORMATS, ClassPrediction
from hilum.inference.class_predictor import ClassPredictor
from hilum.inference.engine import TorchEngine, bfloat16_gain, describe_device, resolve_device, resolve_precision
from hilum.inference.inputs import Source, case_id, find_cases, read_source
from hilum.inference.manifest import Facts, Metric, ModelMetrics
from hilum.inference.many import predict_many
from hilum.inference.memory import HostMemory, host_memory
from hilum.inference.prediction import FORMATS, Prediction, Seconds
from hilum.inference.predictor import Predictor, Prepared
from hilum.inference.predictors import PREDICTORS, make_predictor
from hilum.inference.run_report import CaseOutcome, RunClock, RunReport
from hilum.inference.sliding_window import sliding_window
from hilum.inference.trained_model import TrainedModel, seal_card

__all__ = [
    "CLASS_FORMATS",
    "FORMATS",
    "PREDICTORS",
    "Assurance",
    "Calibration",
    "CaseOutcome",
    "ClassPrediction",
    "ClassPredictor",
    "Facts",
    "HostMemory",
    "Metric",
    "ModelMetrics",
    "Prediction",
    "Predictor",
    "Prepared",
    "RunClock",
    "RunReport",
    "Seconds",
    "Source",
    "TorchEngine",
    "TrainedModel",
    "bfloat16_gain",
    "case_id",
    "describe_device",
    "find_cases",
    "host_memory",
    "make_predictor",
    "predict_many",
    "read_source",
    "resolve_device",
    "resolve_precision",
    "seal_card",
    "sliding_window",
]
