"""From a trained model and an image to an answer on the image's own grid.

This front door loads what is asked for, torch late.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.inference.assurance import Assurance, Calibration
    from hilum.inference.class_prediction import CLASS_FORMATS, ClassPrediction
    from hilum.inference.class_predictor import ClassPredictor
    from hilum.inference.deploy.export import export_model
    from hilum.inference.deploy.exported import ExportedModel, load_runnable
    from hilum.inference.engines.engine import Engine, RunnableModel
    from hilum.inference.engines.torch_engine import (
        TorchEngine,
        computes_in_bfloat16,
        describe_device,
        resolve_device,
        resolve_precision,
    )
    from hilum.inference.find import find_cases
    from hilum.inference.inputs import Source, case_id, read_source
    from hilum.inference.manifest import Facts, Metric, ModelMetrics
    from hilum.inference.many import predict_many
    from hilum.inference.memory import HostMemory, host_memory
    from hilum.inference.nnunet import read_nnunet
    from hilum.inference.prediction import FORMATS, Prediction, Seconds
    from hilum.inference.predictor import Predictor, Prepared
    from hilum.inference.predictors import make_predictor
    from hilum.inference.run_report import CaseOutcome, RunClock, RunReport
    from hilum.inference.trained_model import TrainedModel, seal_card

_HOMES = {
    "CLASS_FORMATS": "hilum.inference.class_prediction",
    "FORMATS": "hilum.inference.prediction",
    "Assurance": "hilum.inference.assurance",
    "Calibration": "hilum.inference.assurance",
    "CaseOutcome": "hilum.inference.run_report",
    "ClassPrediction": "hilum.inference.class_prediction",
    "ClassPredictor": "hilum.inference.class_predictor",
    "Engine": "hilum.inference.engines.engine",
    "ExportedModel": "hilum.inference.deploy.exported",
    "Facts": "hilum.inference.manifest",
    "HostMemory": "hilum.inference.memory",
    "Metric": "hilum.inference.manifest",
    "ModelMetrics": "hilum.inference.manifest",
    "Prediction": "hilum.inference.prediction",
    "Predictor": "hilum.inference.predictor",
    "Prepared": "hilum.inference.predictor",
    "RunClock": "hilum.inference.run_report",
    "RunReport": "hilum.inference.run_report",
    "RunnableModel": "hilum.inference.engines.engine",
    "Seconds": "hilum.inference.prediction",
    "Source": "hilum.inference.inputs",
    "TorchEngine": "hilum.inference.engines.torch_engine",
    "TrainedModel": "hilum.inference.trained_model",
    "case_id": "hilum.inference.inputs",
    "computes_in_bfloat16": "hilum.inference.engines.torch_engine",
    "describe_device": "hilum.inference.engines.torch_engine",
    "export_model": "hilum.inference.deploy.export",
    "find_cases": "hilum.inference.find",
    "host_memory": "hilum.inference.memory",
    "load_runnable": "hilum.inference.deploy.exported",
    "make_predictor": "hilum.inference.predictors",
    "predict_many": "hilum.inference.many",
    "read_nnunet": "hilum.inference.nnunet",
    "read_source": "hilum.inference.inputs",
    "resolve_device": "hilum.inference.engines.torch_engine",
    "resolve_precision": "hilum.inference.engines.torch_engine",
    "seal_card": "hilum.inference.trained_model",
}

__all__ = [
    "CLASS_FORMATS",
    "FORMATS",
    "Assurance",
    "Calibration",
    "CaseOutcome",
    "ClassPrediction",
    "ClassPredictor",
    "Engine",
    "ExportedModel",
    "Facts",
    "HostMemory",
    "Metric",
    "ModelMetrics",
    "Prediction",
    "Predictor",
    "Prepared",
    "RunClock",
    "RunReport",
    "RunnableModel",
    "Seconds",
    "Source",
    "TorchEngine",
    "TrainedModel",
    "case_id",
    "computes_in_bfloat16",
    "describe_device",
    "export_model",
    "find_cases",
    "host_memory",
    "load_runnable",
    "make_predictor",
    "predict_many",
    "read_nnunet",
    "read_source",
    "resolve_device",
    "resolve_precision",
    "seal_card",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
