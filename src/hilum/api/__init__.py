"""The verbs. The command line parses, calls one of these, and shows what it returns."""

from hilum.api.data import CheckResult, Labelling, check, plan
from hilum.api.demonstration import DemoResult, demo
from hilum.api.learning import TuneResult, import_nnunet, train, tune
from hilum.api.machine import environment, gigabytes, to_json
from hilum.api.running import export, load_model, predict
from hilum.api.scoring import compare, evaluate
from hilum.evaluation.page import span
from hilum.pipelines import ClassificationOptions, SegmentationOptions
from hilum.plan.planner.network_options import NetworkOptions

__all__ = [
    "CheckResult",
    "ClassificationOptions",
    "DemoResult",
    "Labelling",
    "NetworkOptions",
    "SegmentationOptions",
    "TuneResult",
    "check",
    "compare",
    "demo",
    "environment",
    "evaluate",
    "export",
    "gigabytes",
    "import_nnunet",
    "load_model",
    "plan",
    "predict",
    "span",
    "to_json",
    "train",
    "tune",
]
