"""One case from its files to its answer: read, preprocess, sliding window, restore."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hilum.errors import DataError, ResourceError
from hilum.inference.engines.torch_engine import Precision, TorchEngine, resolve_precision
from hilum.inference.inputs import Source, case_id, read_source
from hilum.inference.memory import host_memory
from hilum.inference.prediction import LabelWriter, Prediction, Seconds
from hilum.inference.sliding_window import sliding_window
from hilum.preprocess import preprocess_case, restore_logits_to_labels, restore_probabilities
from hilum.tasks import SegmentationTask
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.case import Case
    from hilum.inference.trained_model import TrainedModel
    from hilum.preprocess import Restore
    from hilum.volume import Volume

_log = logging.getLogger("hilum")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case on the network's grid: array (C, Z, Y, X) float32, the way back (`Restore` or `View`), what it was read from."""

    case: str
    array: NDArray[np.float32]
    restore: Any
    seconds: Seconds = field(default_factory=Seconds)
    source: Case | None = None


class Predictor:
    """A trained segmentation model, ready to answer.

    Args:
        model: networks and plan, loaded from a folder or just trained.
        tta: also see each patch mirrored along the plan's mirror axes (2, 4 or 8 times the time; no change where the plan
            mirrors nothing, because left and right differ).
        batch: patches at a time; the plan's if None.
        precision: "float32" or "bfloat16"; if None the plan's, where the device really computes faster in it.
    """

    usual_formats = ("nifti",)
    asks_annotated = False
    """Of a data set the cases without annotation are asked for, where there are any."""

    def __init__(
        self, model: TrainedModel, *, tta: bool = False, batch: int | None = None, precision: Precision | None = None
    ) -> None:
        plan: Any = model.plan
        self._plan = plan
        precision = precision or resolve_precision(plan.precision.value, model.device, dimensions=plan.dimensions.value)
        self.model = model
        self.batch = plan.batch.value if batch is None else batch
        self.mirror_axes = plan.augmentation.value.mirror_axes if tta else ()
        self.engine = TorchEngine(model.networks, device=model.device, precision=precision)
        self._task = SegmentationTask(plan.labels)
        self._dtype = np.min_scalar_type(max(plan.labels.ids))

    def writer(self, out: Path, formats: Sequence[str], *, keep: bool) -> LabelWriter:  # noqa: ARG002  (files stay anyway)
        """What writes the answers to a folder."""
        return LabelWriter(out, formats, self._plan.labels)

    def predict(self, source: Source, *, case: str | None = None, probabilities: bool = False) -> Prediction:
        """Predict one case.

        Args:
            source: a volume, a case, a file, a DICOM folder, or one file a channel.
            case: its id; by default the case's, or the file's name.
            probabilities: also give the probabilities on the case's grid (4 K bytes a voxel more).

        Returns:
            Labels on the source's own grid.

        Raises:
            DataError: it cannot be read, or has other channels than the model.
            ResourceError: memory is not enough.
        """
        return self.answer(self.prepare(source, case=case), probabilities=probabilities)

    def prepare(self, source: Source, *, case: str | None = None) -> Prepared:
        """Read and preprocess; the part of a prediction that needs no network, so that it may run beside another case.

        Raises:
            DataError: it cannot be read, or has other channels than the model.
        """
        case = case or case_id(source)
        channels = self.model.plan.channels
        start = time.perf_counter()
        image = read_source(source)
        middle = time.perf_counter()
        if image.channels != len(channels):
            raise DataError(
                f"{case}: an image with {image.channels} of {len(channels)} channels",
                needed=", ".join(channels),
                cure="give one file a channel, named <case>_0000.nii.gz, <case>_0001.nii.gz, ... in this order",
            )
        array, restore = preprocess_case(image, self._plan)
        return Prepared(case, array, restore, Seconds(read=middle - start, preprocess=time.perf_counter() - middle))

    def answer(self, prepared: Prepared, *, probabilities: bool = False) -> Prediction:
        """Predict a preprocessed case.

        Raises:
            ResourceError: memory is not enough.
        """
        start = time.perf_counter()
        logits = self.logits(prepared.array).cpu().numpy()  # (K, Z, Y, X), network space
        middle = time.perf_counter()
        labels = restore_logits_to_labels(logits, self._decode, prepared.restore)
        extra = self._probabilities(logits, prepared.restore) if probabilities else None
        seconds = replace(prepared.seconds, network=middle - start, restore=time.perf_counter() - middle)
        return Prediction(prepared.case, labels, self._plan.labels, self.model.id, extra, seconds)

    def logits(self, array: NDArray[np.float32]) -> Tensor:
        """Run the networks over a preprocessed image (C, Z, Y, X); logits (K, Z, Y, X), float32, ensemble members averaged.

        A GPU that runs out of memory is tried again with half the batch, which is logged.

        Raises:
            ResourceError: memory is not enough even for one patch, or not for the logits.
        """
        plan = self._plan
        self._check_memory(array.shape[1:])
        batch = self.batch
        while True:
            try:
                with self.engine.evaluating():
                    return sliding_window(
                        array,
                        self.engine.forward,
                        patch=plan.patch.value,
                        overlap=plan.overlap.value,
                        outputs=plan.network.value.out_channels,
                        batch=batch,
                        device=self.engine.torch_device,
                        mirror_axes=self.mirror_axes,
                    )
            except torch.OutOfMemoryError as error:
                if batch == 1:
                    raise ResourceError(
                        f"{self.engine.torch_device} has not enough memory for one patch of {plan.patch.value} voxels",
                        cure="--device cpu",
                    ) from error
            torch.cuda.empty_cache()
            _log.warning("%s ran out of memory with %d patches at a time: trying %d", self.engine.torch_device, batch, batch // 2)
            batch //= 2

    def _check_memory(self, shape: tuple[int, ...]) -> None:
        """Refuse before the operating system kills us."""
        plan = self.model.plan
        voxels = math.prod(max(n, p) for n, p in zip(shape, plan.patch.value, strict=True))
        needed = 4 * (plan.network.value.out_channels + 1) * voxels
        available = host_memory().free
        if needed > available:
            raise ResourceError(
                f"an image of {shape} voxels at the model's spacing, for whose logits {needed / 2**30:.1f} GiB of memory are "
                f"needed while {available / 2**30:.1f} GiB are free",
                cure="crop the image to the part that matters, or use a machine with more memory",
            )

    def _decode(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Logits (K, ...) to label ids (...)."""
        return self._task.decode(np.ascontiguousarray(logits)).astype(self._dtype)

    def _probabilities(self, logits: NDArray[np.float32], restore: Restore) -> Volume:
        """Probabilities on the source's grid; outside what was kept of it the background is certain."""
        outside = [0.0] * len(logits)
        if self._plan.labels.exclusive:
            outside[0] = 1.0
        return restore_probabilities(logits, self._activate, restore, outside=outside)

    def _activate(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (K, ...) to probabilities (K, ...)."""
        return self._task.probabilities(torch.from_numpy(np.ascontiguousarray(logits))).numpy()
