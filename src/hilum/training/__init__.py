"""From a data set to a trained-model folder."""

from hilum.training.augmentation import Augmenter, enlarged_patch
from hilum.training.checkpoint import Progress, Row
from hilum.training.loop import TrainedNetwork, TrainingJob, fit
from hilum.training.options import Listener, TrainOptions
from hilum.training.planning import make_plan_for
from hilum.training.run import run
from hilum.training.schedule import Budget, learning_rate

__all__ = [
    "Augmenter",
    "Budget",
    "Listener",
    "Progress",
    "Row",
    "TrainOptions",
    "TrainedNetwork",
    "TrainingJob",
    "enlarged_patch",
    "fit",
    "learning_rate",
    "make_plan_for",
    "run",
]
