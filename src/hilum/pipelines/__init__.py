"""The two tasks, each in one file, and the choice between them.

`hilum.pipelines.training` chooses for a training; what is here predicts and loads no torch.
"""

from hilum.pipelines.prediction import (
    ClassificationOptions,
    RunOptions,
    SegmentationOptions,
    prediction_of,
)

__all__ = ["ClassificationOptions", "RunOptions", "SegmentationOptions", "prediction_of"]
