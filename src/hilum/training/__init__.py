"""From a data set to a trained-model folder."""

from hilum.training.augmentation import Augmenter as Augmenter
from hilum.training.augmentation import enlarged_patch as enlarged_patch
from hilum.training.checkpoint import Progress as Progress
from hilum.training.checkpoint import Row as Row
from hilum.training.loop import TrainedNetwork as TrainedNetwork
from hilum.training.loop import TrainingJob as TrainingJob
from hilum.training.loop import fit as fit
from hilum.training.options import Listener as Listener
from hilum.training.options import TrainOptions as TrainOptions
from hilum.training.planning import make_plan_for as make_plan_for
from hilum.training.run import choose_folds as choose_folds
from hilum.training.run import run as run
from hilum.training.schedule import Budget as Budget
from hilum.training.schedule import warm_up_then_cosine as warm_up_then_cosine
