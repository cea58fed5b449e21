"""The task of a data set, chosen once, and its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.pipelines.classification import Classification
from hilum.pipelines.segmentation import Segmentation
from hilum.training.run import run

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset import Dataset
    from hilum.inference import TrainedModel
    from hilum.training.options import Listener, TrainOptions
    from hilum.training.task import AnyTask


def task_of(dataset: Dataset) -> AnyTask:
    """Choose the task: a data set with a class table is classified, any other segmented."""
    return Segmentation() if dataset.classes is None else Classification()


def train(
    data: Path | str, out: Path | str, options: TrainOptions, *, listener: Listener | None = None
) -> TrainedModel:
    """Open a data set and train a model of its task; see `hilum.training.run`.

    Raises:
        HilumError: the data set cannot be opened, or see `hilum.training.run`.
    """
    dataset = options.open(data)
    return run(dataset, task_of(dataset), out, options, listener=listener)
