"""hilum: deep learning on medical images, from scanner files to answers that can be trusted.

This is the front door: every public name, imported when it is first used, so that `import hilum`
loads no torch.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hilum.api import ClassificationOptions as ClassificationOptions
    from hilum.api import DeidentifyOptions as DeidentifyOptions
    from hilum.api import Labelling as Labelling
    from hilum.api import NetworkOptions as NetworkOptions
    from hilum.api import SegmentationOptions as SegmentationOptions
    from hilum.api import check as check
    from hilum.api import compare as compare
    from hilum.api import deidentify as deidentify
    from hilum.api import demo as demo
    from hilum.api import evaluate as evaluate
    from hilum.api import export as export
    from hilum.api import import_nnunet as import_nnunet
    from hilum.api import load_model as load_model
    from hilum.api import plan as plan
    from hilum.api import predict as predict
    from hilum.api import series as series
    from hilum.api import train as train
    from hilum.api import tune as tune
    from hilum.dataset import Audit as Audit
    from hilum.dataset import Case as Case
    from hilum.dataset import ClassTable as ClassTable
    from hilum.dataset import Dataset as Dataset
    from hilum.dataset import Fold as Fold
    from hilum.dataset import audit as audit
    from hilum.dataset import make_folds as make_folds
    from hilum.dataset import open_dataset as open_dataset
    from hilum.dataset import read_annotation as read_annotation
    from hilum.dataset import read_case as read_case
    from hilum.errors import DataError as DataError
    from hilum.errors import FormatError as FormatError
    from hilum.errors import GeometryError as GeometryError
    from hilum.errors import HilumError as HilumError
    from hilum.errors import LabelError as LabelError
    from hilum.errors import ModelError as ModelError
    from hilum.errors import ResourceError as ResourceError
    from hilum.errors import TrainingError as TrainingError
    from hilum.errors import UsageError as UsageError
    from hilum.evaluation import ClassEvaluation as ClassEvaluation
    from hilum.evaluation import ClassScore as ClassScore
    from hilum.evaluation import Comparison as Comparison
    from hilum.evaluation import Evaluation as Evaluation
    from hilum.evaluation import Score as Score
    from hilum.evaluation import score_labels as score_labels
    from hilum.evaluation import summarise as summarise
    from hilum.inference import ClassPrediction as ClassPrediction
    from hilum.inference import ClassPredictor as ClassPredictor
    from hilum.inference import Prediction as Prediction
    from hilum.inference import Predictor as Predictor
    from hilum.inference import RunReport as RunReport
    from hilum.inference import TrainedModel as TrainedModel
    from hilum.inference import make_predictor as make_predictor
    from hilum.io import read_labels as read_labels
    from hilum.io import read_volume as read_volume
    from hilum.io import write_labels as write_labels
    from hilum.io import write_volume as write_volume
    from hilum.networks import Classifier as Classifier
    from hilum.networks import UNet as UNet
    from hilum.networks import build_network as build_network
    from hilum.plan import Decision as Decision
    from hilum.plan import Fingerprint as Fingerprint
    from hilum.plan import Plan as Plan
    from hilum.plan import load_plan as load_plan
    from hilum.plan import make_fingerprint as make_fingerprint
    from hilum.plan import make_plan as make_plan
    from hilum.plan import save_plan as save_plan
    from hilum.volume import Geometry as Geometry
    from hilum.volume import Label as Label
    from hilum.volume import LabelTable as LabelTable
    from hilum.volume import Region as Region
    from hilum.volume import Volume as Volume
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
