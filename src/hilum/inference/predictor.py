"""Prediction of one case by a segmentation model: read, preprocess, sliding window, restore.

With any engine; without torch.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.engines.host import usable_cpus
from hilum.engines.memory import Budget, file_array, resident, return_what_is_freed
from hilum.errors import UsageError
from hilum.inference.case_predictor import CasePredictor, Prepared
from hilum.inference.empty import Air
from hilum.inference.memory_plan import MemoryPlanner
from hilum.inference.prediction import (
    CONTOURS,
    PROBABILITIES,
    LabelWriter,
    Prediction,
    written_as_picture,
)
from hilum.inference.sliding_window import Sweep, Watch, mean_over_mirrors, slabs, sliding_window
from hilum.inference.unlike import unlike_held_out
from hilum.inference.voxel_calibration import ALPHA
from hilum.inference.voxel_counter import VoxelCounter, encode_contours, region_volumes_ml
from hilum.preprocess import preprocess_case
from hilum.preprocess.restore_stream import CodeStream, LabelStream, ProbabilityStream
from hilum.targets.encoding import activate_logits, decode_logits
from hilum.targets.postprocess import apply_postprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from hilum.engines.engine import Engine
    from hilum.files import OutputFolder
    from hilum.inference.inputs import Source
    from hilum.inference.memory_plan import MemoryPlan
    from hilum.inference.model import RunnableModel
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.preprocess import Restore
    from hilum.volume import Volume


MIRRORED = (
    "mirrored images were averaged, which the held-out predictions were not: the guarantee is not"
    " exact"
)


class Predictor(CasePredictor[Prediction]):
    """A segmentation model, ready to predict.

    Args:
        model: networks and plan: trained, loaded from a folder, or exported.
        tta: also see each patch mirrored along the plan's mirror axes (2, 4 or 8 times the time; no
            change where the plan mirrors nothing, because left and right differ).
        batch: patches at a time; what the engine likes best if None.
        precision: "float32", "bfloat16", "float16", "int8"; if None the engine's choice: of an int8
            model int8, else bfloat16 where the device has instructions for it, whatever training
            used.
        engine: "torch", "openvino", "onnx", or "auto"; or one of this model that is there already.
        memory: what this process may hold, as "4GB" or a number of bytes; if None three quarters of
            what is free.
        overlap: fraction 0 <= overlap < 1 shared by neighbouring patches; the plan's if None.
        every_patch: also run the patches that `hilum.inference.empty` would leave out.
        scratch: folder for temporary files where memory is not enough; the system's own if None.
        alpha: how often an interval of the confidence may fail; `ALPHA` if None.
        contours: also give the inner and outer contours, of a model that carries a confidence.

    Raises:
        UsageError: an option is out of its range.
        ResourceError: the engine is not installed or cannot run this model.
    """

    model: RunnableModel
    usual_formats = ("auto",)
    _memory: MemoryPlanner

    def __init__(  # noqa: PLR0913  (options, keyword-only)
        self,
        model: RunnableModel,
        *,
        tta: bool = False,
        batch: int | None = None,
        precision: str | None = None,
        engine: str | Engine = "auto",
        memory: str | int | None = None,
        overlap: float | None = None,
        every_patch: bool = False,
        scratch: Path | None = None,
        alpha: float | None = None,
        contours: bool = False,
    ) -> None:
        """Refuse an alpha that the model does not allow, make the engine, plan the windows."""
        plan = self._plan = model.plan
        self.model = model
        self._alpha = ALPHA if alpha is None else alpha
        if alpha is not None or contours:
            _check_alpha(model, self._alpha)
        self._contours = contours
        budget = Budget.of(memory)
        if budget.given:  # else a little speed is worth more
            return_what_is_freed(budget.most)
        self.scratch = scratch
        self.every_patch = every_patch
        self.mirror_axes: tuple[int, ...] = (
            tuple(plan.augmentation.value.mirror_axes) if tta else ()
        )
        if isinstance(engine, str):
            engine = model.make_engine(engine, precision, memory=budget.most // 2)
        self.engine = engine
        outputs = plan.network.value.out_channels
        # patches whose logits an eighth of the memory holds
        held = budget.most // 8 // (4 * outputs * math.prod(plan.patch.value))
        self._sweep = Sweep(
            patch=plan.patch.value,
            overlap=plan.overlap.value if overlap is None else overlap,
            outputs=outputs,
            batch=batch or min(self.engine.batch, max(1, held)),
            mirror_axes=self.mirror_axes,
            reuse=not every_patch and held >= 2,
            weighting=plan.weighting.value,
        )
        regions = len(plan.labels.scored) if contours else 0
        self._memory = MemoryPlanner(plan, self._sweep, budget, regions)
        self._air = Air(
            plan,
            self._sweep.patch,
            self._sweep.overlap,
            lambda patch: mean_over_mirrors(self.engine, patch, self._sweep),
        )

    @property
    def batch(self) -> int:
        """Patches at a time."""
        return self._sweep.batch

    @property
    def overlap(self) -> float:
        """Fraction shared by neighbouring patches."""
        return self._sweep.overlap

    @property
    def run_options(self) -> dict[str, JsonValue]:
        """The options that run.json names."""
        return {
            "mirror_axes": list(self.mirror_axes),
            "batch": self.batch,
            "overlap": self.overlap,
            "every_patch": self.every_patch,
            **({} if self.model.confidence is None else {"alpha": self._alpha}),
        }

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that a prediction depends on, by name."""
        return super().prediction_options | {
            "overlap": str(self.overlap),
            "every patch": str(self.every_patch),
        }

    def writer(
        self, out: OutputFolder, formats: Sequence[str], *, probabilities: bool
    ) -> LabelWriter:
        """Make the writer of predictions to a folder."""
        more = [PROBABILITIES] * probabilities + [CONTOURS] * self._contours
        return LabelWriter(out, formats, self._plan.labels, more)

    def preprocess(
        self,
        image: Volume,
        source: Source,  # noqa: ARG002  (where to look, which a classifier may have to be told)
    ) -> tuple[NDArray[np.float32], Restore]:
        """Bring an image to the network's grid (C, Z, Y, X), with the way back."""
        return preprocess_case(image, self._plan)

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        memory: MemoryPlan | None = None,
        progress: Callable[[int, int], None] | None = None,
        counter: VoxelCounter | None = None,
    ) -> Prediction:
        """Predict a preprocessed case; see `CasePredictor.predict_prepared`.

        Args:
            prepared: what `prepare` gave.
            memory: what `plan_memory` gave; None: planned here.
            progress: called with the patches that are done, and all.
            counter: counts the voxels, of a case whose reference is known; None: only the
                confidence of a model that carries one is counted.

        Returns:
            Labels on the source's own grid.

        Raises:
            ResourceError: memory is not enough, for the patches or for post-processing, or a file
                is needed in its place and the disk is full.
        """
        start = time.perf_counter()
        memory = memory or self.plan_memory(prepared)
        if self.scratch is not None:
            memory = replace(memory, rows=replace(memory.rows, folder=self.scratch))
        streams = self._streams(prepared.restore, memory)
        calibration = self.model.confidence
        if counter is None and calibration is not None:
            counter = VoxelCounter(self._plan.labels, prepared.restore)
        watch = Watch(
            rows=memory.rows,
            progress=progress,
            air=(lambda _: None) if self.every_patch else self._air.logits_of_air,
        )
        restoring = 0.0
        # a generator can be closed
        with closing(self._rows(prepared.array, watch)) as rows:  # type: ignore[type-var]
            for logits in rows:
                begun = time.perf_counter()
                for stream in streams if counter is None else (*streams, counter):
                    stream.feed(logits)
                restoring += time.perf_counter() - begun
                del logits  # nothing of them is left when the streams are finished
        middle = time.perf_counter()
        labels, *others = (stream.finish() for stream in streams)
        del streams  # their last rows
        contours = others.pop() if self._contours else None
        labels = apply_postprocessing(
            labels,
            self._plan.postprocessing.value,
            self._plan.labels,
            limit_bytes=memory.limit - resident(),
        )
        confidence, differences = None, prepared.unlike
        if calibration is not None and counter is not None:
            volumes = region_volumes_ml(labels, self._plan.labels)
            confidence = calibration.judge(counter.finish(), volumes, self._alpha)
            differences += unlike_held_out(confidence, calibration)
            for note in self._departures(calibration):
                confidence = confidence.with_note(note)
        seconds = replace(
            prepared.seconds,
            network=middle - start - restoring,
            restore=restoring + time.perf_counter() - middle,
        )
        return Prediction(
            prepared.case,
            labels,
            self._plan.labels,
            self.model.id,
            others[0] if others else None,
            seconds,
            watch.tally.counts,
            differences,
            written_as_picture(prepared.files, self._plan.labels),
            prepared.files,
            confidence,
            contours,
        )

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute all logits (K, Z, Y, X), float32, of a preprocessed image, every patch run.

        Needs 4 K bytes a voxel; `predict_prepared` does not.
        """
        return sliding_window(array, self.engine, replace(self._sweep, reuse=False))

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def _departures(self, calibration: VoxelCalibration) -> list[str]:
        """Say where the options differ from those by which the held-out cases were predicted."""
        found = [MIRRORED] if self.mirror_axes else []
        compared = (
            ("overlap of patches", self.overlap, self._plan.overlap.value),
            ("precision", self.engine.precision, calibration.precision or self.engine.precision),
        )
        found += [
            f"{name} {ours}, of the held-out predictions {theirs}: the guarantee is not exact"
            for name, ours, theirs in compared
            if ours != theirs
        ]
        return found

    def _streams(
        self, restore: Restore, memory: MemoryPlan
    ) -> list[LabelStream | ProbabilityStream | CodeStream]:
        """Make the streams that bring rows of logits home: labels, probabilities, contours."""
        table, outputs = self._plan.labels, self._sweep.outputs
        working, threads = memory.rows.at_once, usable_cpus()  # the network waits meanwhile
        streams: list[LabelStream | ProbabilityStream | CodeStream] = [
            LabelStream(
                restore,
                outputs,
                lambda logits: decode_logits(logits, table),
                np.min_scalar_type(max(table.ids)),
                working_bytes=working,
                threads=threads,
            )
        ]
        if memory.probabilities:
            shape = (outputs, *restore.source.shape)
            if memory.probabilities_in_file:
                out = file_array(shape, memory.rows.folder)
            else:
                out = np.empty(shape, dtype=np.float32)
                out.fill(0)  # it counts as held from now on, when the rows' share is measured
            streams.append(
                ProbabilityStream(
                    restore,
                    outputs,
                    lambda logits: activate_logits(logits, table),
                    out,
                    outside=[float(table.exclusive and n == 0) for n in range(outputs)],
                    working_bytes=working,
                    threads=threads,
                )
            )
        if self._contours and self.model.confidence is not None:
            thresholds = self.model.confidence.probability_thresholds(self._alpha)
            codes = _codes((len(table.scored), *restore.source.shape), memory)
            streams.append(
                CodeStream(
                    restore,
                    outputs,
                    lambda logits: encode_contours(logits, table, thresholds),
                    codes,
                    working_bytes=working,
                    threads=threads,
                )
            )
        return streams

    def _rows(self, array: NDArray[np.float32], watch: Watch) -> Iterator[NDArray[np.float32]]:
        """Run the network over the box of what is not air: finished rows (K, z, Y, X), rising."""
        body = None if self.every_patch else self._air.body(array)
        box = (slice(None),) * 3 if body is None else body.box
        if body is not None:
            watch.tally.outside = body.saved
            air = np.broadcast_to(
                body.fill[:, None, None, None], (len(body.fill), *array.shape[1:])
            )
            yield air if box is None else air[:, : box[0].start]
        if box is None:
            return
        finished = slabs(array[(slice(None), *box)], self.engine, self._sweep, watch)
        # a generator can be closed
        with closing(finished) as parts:  # type: ignore[type-var]
            for _, logits in parts:
                if body is None:
                    yield logits
                    continue
                # rows of the box within rows of the whole, some at a time
                step = max(1, watch.rows.at_once // air[:, :1].size // 4)
                for start in range(0, logits.shape[1], step):
                    part = logits[:, start : start + step]
                    frame = air[:, : part.shape[1]].copy()
                    frame[(slice(None), slice(None), *box[1:])] = part
                    yield frame
        if body is not None:
            yield air[:, box[0].stop :]


def _codes(shape: tuple[int, ...], memory: MemoryPlan) -> NDArray[np.uint8]:
    """Make an array of zeros, in memory or in a file."""
    if memory.contours_in_file:
        flat = file_array((math.ceil(math.prod(shape) / 4),), memory.rows.folder)
        return flat.view(np.uint8)[: math.prod(shape)].reshape(shape)
    codes = np.empty(shape, dtype=np.uint8)
    codes.fill(0)  # it counts as held from now on, when the rows' share is measured
    return codes


def _check_alpha(model: RunnableModel, alpha: float) -> None:
    """Refuse an alpha that the model does not allow.

    Raises:
        UsageError: it carries no confidence, or was validated on too few patients.
    """
    if model.confidence is None:
        raise UsageError(
            f"alpha={alpha:g} or contours were given, and the model carries no confidence",
            needed="a model whose training learnt one on its validation cases",
            cure="leave out alpha and contours, or train the model anew: hilum train",
        )
    model.confidence.check_alpha(alpha)
