"""The two tasks, each in one file, and the choice between them.

`hilum.pipelines.training` chooses for a training; what is here predicts and loads no torch.
"""

from hilum.pipelines.prediction import ClassificationOptions as ClassificationOptions
from hilum.pipelines.prediction import RunOptions as RunOptions
from hilum.pipelines.prediction import SegmentationOptions as SegmentationOptions
from hilum.pipelines.prediction import prediction_of as prediction_of
