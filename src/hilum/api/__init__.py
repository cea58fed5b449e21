"""The verbs. The command line parses, calls one of these, and shows what it returns."""

from hilum.api.data import CheckResult as CheckResult
from hilum.api.data import check as check
from hilum.api.data import plan as plan
from hilum.api.deidentification import DeidentifyOptions as DeidentifyOptions
from hilum.api.deidentification import deidentify as deidentify
from hilum.api.demonstration import DemoResult as DemoResult
from hilum.api.demonstration import demo as demo
from hilum.api.learning import TuneResult as TuneResult
from hilum.api.learning import import_nnunet as import_nnunet
from hilum.api.learning import train as train
from hilum.api.learning import tune as tune
from hilum.api.machine import environment as environment
from hilum.api.machine import gigabytes as gigabytes
from hilum.api.machine import to_json as to_json
from hilum.api.running import export as export
from hilum.api.running import load_model as load_model
from hilum.api.running import predict as predict
from hilum.api.scoring import compare as compare
from hilum.api.scoring import evaluate as evaluate
from hilum.api.studies import SeriesListing as SeriesListing
from hilum.api.studies import series as series
from hilum.dataset.open import Labelling as Labelling
from hilum.evaluation.page import span as span
from hilum.pipelines import ClassificationOptions as ClassificationOptions
from hilum.pipelines import SegmentationOptions as SegmentationOptions
from hilum.plan.planner.overrides import NetworkOptions as NetworkOptions
