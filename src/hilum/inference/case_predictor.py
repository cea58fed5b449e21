"""Base of the predictors of both tasks."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from hilum.dataset.case import Case
from hilum.dataset.layouts.study_folders import choose_series
from hilum.errors import HilumError
from hilum.inference.inputs import (
    Source,
    case_id,
    channel_files,
    image_files,
    in_order,
    read_source,
    wrong_channels,
)
from hilum.inference.memory_plan import MemoryPlan
from hilum.inference.prediction_writer import P
from hilum.inference.studies import choice_of_plan, describe_choices
from hilum.inference.unlike import unlike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from hilum.dicom.study import SeriesVolume
    from hilum.engines.engine import Engine
    from hilum.files import OutputFolder
    from hilum.inference.memory_plan import MemoryPlanner, Size
    from hilum.inference.model import Model
    from hilum.inference.prediction_writer import PredictionWriter
    from hilum.preprocess import InputWindow, Restore
    from hilum.volume import Volume

_log = logging.getLogger("hilum")


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds of the parts of one prediction."""

    read: float = 0.0
    preprocess: float = 0.0
    network: float = 0.0
    restore: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """Their sum; reading and writing may have run beside another case."""
        return self.read + self.preprocess + self.network + self.restore + self.write


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case as the network gets it.

    Args:
        case: its id.
        array: (C, Z, Y, X) float32.
        restore: the way back: `Restore` of a segmentation, `InputWindow` of a classifier.
        seconds: of reading and preprocessing.
        source: the case, where it was given as one.
        files: that it was read from.
        unlike: differences from the training images, see `hilum.inference.unlike`.
    """

    case: str
    array: NDArray[np.float32]
    restore: Any
    seconds: Seconds = field(default_factory=Seconds)
    source: Case | None = None
    files: tuple[Path, ...] = ()
    unlike: tuple[str, ...] = ()


class CasePredictor(ABC, Generic[P]):
    """A model that is ready to predict cases of its task."""

    model: Model
    engine: Engine
    usual_formats: tuple[str, ...]
    asks_annotated = False
    """True if also the annotated cases of a data set are predicted, where others are not."""
    mirror_axes: tuple[int, ...]
    _memory: MemoryPlanner | None = None

    @property
    def memory_gb(self) -> float | None:
        """Memory limit of this process, in GiB; None: there is none."""
        return None if self._memory is None else self._memory.budget.most / 2**30

    @property
    @abstractmethod
    def run_options(self) -> dict[str, JsonValue]:
        """The options that run.json names."""

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that a prediction depends on, by name."""
        return {
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "mirrored axes": str(list(self.mirror_axes)),
        }

    @abstractmethod
    def writer(
        self, out: OutputFolder, formats: Sequence[str], *, probabilities: bool
    ) -> PredictionWriter[P]:
        """Make the writer of predictions to a folder."""

    def refuse_all(self, cases: Sequence[Case]) -> None:
        """Refuse cases before anything is read where all lack what the model needs."""

    def size(self, source: Source) -> Size | None:
        """Return the size of a case from its files' headers; None where it is not known."""
        return None if self._memory is None else self._memory.size_of_files(source)

    def plan_memory(
        self,
        prepared: Prepared,
        *,
        probabilities: bool = False,
        following: Case | None = None,
        folder: Path | None = None,
    ) -> MemoryPlan:
        """Plan the memory of a preprocessed case, and whether the next one is read meanwhile.

        Args:
            prepared: the case.
            probabilities: keep probabilities, too.
            following: the next case.
            folder: of files in place of memory.
        """
        if self._memory is None:
            return MemoryPlan(probabilities=probabilities)
        return self._memory.plan_case(
            prepared.restore, probabilities=probabilities, following=following, folder=folder
        )

    def predict(self, source: Source, *, case: str | None = None, probabilities: bool = False) -> P:
        """Predict one case.

        Args:
            source: a volume, a case, a file, a DICOM folder, or one file a channel; a `Case` where
                the model looks at a mask or a point.
            case: its id; by default the case's, or the file's name.
            probabilities: also give probabilities on the case's own grid (4 K bytes a voxel more,
                in a temporary file where they do not fit into the memory); a classifier always
                gives them.

        Raises:
            DataError: it cannot be read, has other channels than the model, or no mask or point
                though the model needs one.
            ResourceError: memory is not enough.
        """
        prepared = self.prepare(source, case=case)
        if prepared.unlike:
            differences = "; ".join(prepared.unlike)
            _log.warning("%s: unlike the training data: %s", prepared.case, differences)
        memory = self.plan_memory(prepared, probabilities=probabilities)
        return self.predict_prepared(prepared, memory=memory)

    def unlike_training(self, file: Path) -> tuple[str, ...]:
        """List what is unlike the training images in a file or DICOM series, by its voxels.

        The model's own check, with which a series is chosen among others that suit it.

        Raises:
            DataError: it cannot be read.
        """
        plan = self.model.plan
        return unlike(read_source(file, plan.channels), plan, (file,))

    def judge(self, volume: SeriesVolume) -> tuple[str, ...]:
        """List what is unlike the training images in a series of a study."""
        try:
            return self.unlike_training(volume.source)
        except HilumError as error:
            return (f"it cannot be judged: {error.found}",)

    def _series_of(self, source: Source) -> Source:
        """Choose the series of each channel where a folder is a DICOM study of several.

        Raises:
            DataError: none suits, or several suit equally.
        """
        if not isinstance(source, Path | str) or not Path(source).is_dir():
            return source
        channels = self.model.plan.channels
        study = Case(case_id(source), None, dict.fromkeys(channels, Path(source)))
        choice = choice_of_plan(self.model.plan, rule=None, judge=self.judge)
        chosen = choose_series(study, choice)
        for words in describe_choices(chosen.choices):
            _log.warning("%s: %s", study.id, words)
        if chosen.case.fault is not None:
            raise chosen.case.fault
        return source if chosen.case.images == study.images else chosen.case

    def prepare(self, source: Source, *, case: str | None = None) -> Prepared:
        """Read and preprocess.

        The part of a prediction that needs no network, so that it may run beside another case.

        Raises:
            DataError: as `predict`.
            ResourceError: the images alone need more memory than is allowed.
        """
        plan = self.model.plan
        case, source = case or case_id(source), in_order(self._series_of(source), plan.channels)
        start = time.perf_counter()
        size = self.size(source)
        if self._memory is not None and size is not None:
            self._memory.refuse_too_large(case, size)
        image = read_source(source, plan.channels)
        middle = time.perf_counter()
        if image.channels != len(plan.channels):
            raise wrong_channels(case, image, plan.channels)
        if self._memory is not None:
            self._memory.refuse_too_large(case, self._memory.size(image.geometry, stored=0))
        differences = unlike(image, plan, channel_files(source))
        array, restore = self.preprocess(image, source)
        return Prepared(
            case,
            array,
            restore,
            Seconds(read=middle - start, preprocess=time.perf_counter() - middle),
            source if isinstance(source, Case) else None,
            image_files(source),
            differences,
        )

    @abstractmethod
    def preprocess(
        self, image: Volume, source: Source
    ) -> tuple[NDArray[np.float32], Restore | InputWindow]:
        """Bring an image to the network's input (C, Z, Y, X), with the way back."""

    @abstractmethod
    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        memory: MemoryPlan | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> P:
        """Predict a preprocessed case.

        Args:
            prepared: what `prepare` gave.
            memory: what `plan_memory` gave; None: planned here.
            progress: called with the patches that are done, and all.

        Raises:
            ResourceError: memory is not enough, for the patches or for post-processing, or a file
                is needed in its place and the disk is full.
        """
