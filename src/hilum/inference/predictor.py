"""One case from its files to its answer: read, preprocess, sliding window, restore.

With any engine; without torch.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.inference.empty import Air
from hilum.inference.engines.host import usable_cpus
from hilum.inference.inputs import (
    Source,
    case_id,
    channel_files,
    image_files,
    in_order,
    read_source,
    wrong_channels,
)
from hilum.inference.memory import Budget, file_array, resident, return_what_is_freed
from hilum.inference.memory_plan import MemoryPlanner
from hilum.inference.prediction import LabelWriter, Prediction, Seconds, written_as_picture
from hilum.inference.sliding_window import Sweep, Watch, mirrored, slabs, sliding_window
from hilum.inference.unlike import unlike
from hilum.preprocess import preprocess_case
from hilum.preprocess.restore_stream import LabelStream, ProbabilityStream
from hilum.tasks.encoding import activate_logits, decode_logits
from hilum.tasks.postprocess import apply_postprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from hilum.dataset.case import Case
    from hilum.inference.empty import Body
    from hilum.inference.engines.engine import Engine, RunnableModel
    from hilum.inference.memory_plan import MemoryPlan, Size
    from hilum.io import OutputFolder
    from hilum.preprocess import Restore

    Rows = Iterator[tuple[slice, NDArray[np.float32]]]

_log = logging.getLogger("hilum")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case on the network's grid: array (C, Z, Y, X) float32, and the way back.

    `unlike` says what in it is unlike the training data, see `hilum.inference.unlike`.
    """

    case: str
    array: NDArray[np.float32]
    restore: Any
    seconds: Seconds = field(default_factory=Seconds)
    source: Case | None = None
    unlike: tuple[str, ...] = ()
    picture: bool = False
    """Whether the labels can be written as a picture, as the image was one."""


class Predictor:
    """A segmentation model, ready to answer.

    Args:
        model: networks and plan: trained, loaded from a folder, or exported.
        tta: also see each patch mirrored along the plan's mirror axes (2, 4 or 8 times the time; no
            change where the plan mirrors nothing, because left and right differ).
        batch: patches at a time; what the engine likes best if None.
        precision: "float32", "bfloat16", "float16", "int8"; if None the engine's choice: of an int8
            model int8, else bfloat16 where the device has instructions for it, whatever training
            used.
        engine: "torch", "openvino", "onnx", or "auto".
        memory: what this process may hold, as "4GB" or a number of bytes; if None three quarters of
            what is free.
        overlap: fraction 0 <= overlap < 1 shared by neighbouring patches; the plan's if None.
        every_patch: also run the patches that `hilum.inference.empty` would leave out.
        scratch: folder for temporary files where memory is not enough; the system's own if None.

    Raises:
        UsageError: an option is out of its range.
        ResourceError: the engine is not installed or cannot run this model.
    """

    usual_formats: tuple[str, ...] = ("auto",)
    asks_annotated = False
    """Of a data set the cases without annotation are asked for, where there are any."""

    def __init__(  # noqa: PLR0913  (options, keyword-only)
        self,
        model: RunnableModel,
        *,
        tta: bool = False,
        batch: int | None = None,
        precision: str | None = None,
        engine: str = "auto",
        memory: str | int | None = None,
        overlap: float | None = None,
        every_patch: bool = False,
        scratch: Path | None = None,
    ) -> None:
        plan: Any = model.plan
        self._plan = plan
        self.model = model
        budget = Budget.of(memory)
        if budget.given:  # else a little speed is worth more
            return_what_is_freed(budget.most)
        self.scratch = scratch
        self.every_patch = every_patch
        self.mirror_axes: tuple[int, ...] = (
            tuple(plan.augmentation.value.mirror_axes) if tta else ()
        )
        self.engine: Engine = model.make_engine(engine, precision, memory=budget.most // 2)
        outputs = plan.network.value.out_channels
        # patches whose logits an eighth of the memory holds
        held = budget.most // 8 // (4 * outputs * math.prod(plan.patch.value))
        self._sweep = Sweep(
            patch=tuple(plan.patch.value),
            overlap=plan.overlap.value if overlap is None else overlap,
            outputs=outputs,
            batch=batch or min(self.engine.batch, max(1, held)),
            mirror_axes=self.mirror_axes,
            reuse=not every_patch and held >= 2,
            weighting=plan.weighting.value,
        )
        self._memory = MemoryPlanner(plan, self._sweep, budget)
        self._air = Air(
            plan,
            self._sweep.patch,
            self._sweep.overlap,
            lambda patch: mirrored(self.engine, patch, self._sweep),
        )

    @property
    def memory_gb(self) -> float:
        """Memory limit of this process, in GiB."""
        return self._memory.budget.most / 2**30

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
        }

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that an answer depends on, by name."""
        return {
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "mirrored axes": str(list(self.mirror_axes)),
            "overlap": str(self.overlap),
            "every patch": str(self.every_patch),
        }

    def writer(
        self, out: OutputFolder, formats: Sequence[str], *, probabilities: bool
    ) -> LabelWriter:
        """Make the writer of predictions to a folder."""
        return LabelWriter(out, formats, self._plan.labels, probabilities=probabilities)

    def refuse_all(self, cases: Sequence[Case]) -> None:
        """Nothing that all cases lack is needed beside their images.

        See `ClassPredictor.refuse_all`.
        """

    def size(self, source: Source) -> Size | None:
        """Return the size of a case; see `MemoryPlanner.size_of_files`."""
        return self._memory.size_of_files(source)

    def reserve(self, expected: Size | None, before: Prepared | None) -> int | None:
        """Return the bytes to set aside for reading a case; see `MemoryPlanner.read_ahead`."""
        return self._memory.read_ahead(expected, None if before is None else before.restore.source)

    def predict(
        self, source: Source, *, case: str | None = None, probabilities: bool = False
    ) -> Prediction:
        """Predict one case.

        Args:
            source: a volume, a case, a file, a DICOM folder, or one file a channel.
            case: its id; by default the case's, or the file's name.
            probabilities: also give the probabilities on the case's grid (4 K bytes a voxel more,
                in a temporary file where they do not fit into the memory).

        Returns:
            Labels on the source's own grid.

        Raises:
            DataError: it cannot be read, or has other channels than the model.
            ResourceError: memory is not enough.
        """
        prepared = self.prepare(source, case=case)
        if prepared.unlike:
            _log.warning(
                "%s: unlike the training data: %s", prepared.case, "; ".join(prepared.unlike)
            )
        return self.predict_prepared(prepared, probabilities=probabilities)

    def prepare(self, source: Source, *, case: str | None = None) -> Prepared:
        """Read and preprocess.

        The part of a prediction that needs no network, so that it may run beside another case.

        Raises:
            DataError: it cannot be read, or has other channels than the model.
            ResourceError: the images alone need more memory than is allowed.
        """
        channels = self.model.plan.channels
        case, source = case or case_id(source), in_order(source, channels)
        start = time.perf_counter()
        expected = self._memory.size_of_files(source)
        if expected is not None:
            self._memory.refuse_too_large(case, expected.bytes)
        image = read_source(source, channels)
        middle = time.perf_counter()
        if image.channels != len(channels):
            raise wrong_channels(case, image, channels)
        size = self._memory.size(image.geometry, stored=0, channels=image.channels)
        self._memory.refuse_too_large(case, size.bytes)
        found = unlike(image, self._plan, channel_files(source))
        array, restore = preprocess_case(image, self._plan)
        seconds = Seconds(read=middle - start, preprocess=time.perf_counter() - middle)
        picture = written_as_picture(image_files(source), self._plan.labels)
        return Prepared(case, array, restore, seconds, unlike=found, picture=picture)

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        probabilities: bool = False,
        reserve: int = 0,
        progress: Callable[[int, int], None] | None = None,
        scratch: Path | None = None,
    ) -> Prediction:
        """Predict a preprocessed case.

        Args:
            prepared: what `prepare` gave.
            probabilities: as for `predict`.
            reserve: bytes of memory that something else, such as reading the next case, will take
                meanwhile.
            progress: called with the patches that are done, and all.
            scratch: folder for temporary files where the predictor was given none.

        Raises:
            ResourceError: memory is not enough, for the patches or for post-processing, or a file
                is needed in its place and the disk is full.
        """
        start = time.perf_counter()
        restore: Restore = prepared.restore
        memory = self._memory.plan_case(
            restore,
            probabilities=probabilities,
            reserve=reserve,
            folder=self.scratch or scratch,
        )
        streams: list[LabelStream | ProbabilityStream] = [self._label_stream(restore)]
        if probabilities:
            streams.append(self._probability_stream(restore, memory))
        watch = Watch(
            rows=memory.rows,
            progress=progress,
            air=(lambda _: None) if self.every_patch else self._air.logits_of_air,
        )
        restoring = self._feed(prepared, watch, streams)
        middle = time.perf_counter()
        labels, *more = (stream.finish() for stream in streams)
        del streams  # their last rows
        labels = apply_postprocessing(
            labels,
            self._plan.postprocessing.value,
            self._plan.labels,
            limit_bytes=memory.limit - resident(),
        )
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
            more[0] if more else None,
            seconds,
            watch.tally.counts,
            prepared.unlike,
            prepared.picture,
        )

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """All logits (K, Z, Y, X), float32, of a preprocessed image, every patch run.

        Needs 4 K bytes a voxel; `predict_prepared` does not.
        """
        return sliding_window(array, self.engine, replace(self._sweep, reuse=False))

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def _label_stream(self, restore: Restore) -> LabelStream:
        table = self._plan.labels
        return LabelStream(
            restore,
            self._sweep.outputs,
            lambda logits: decode_logits(logits, table),
            np.min_scalar_type(max(table.ids)),
            working_bytes=self._memory.working,
            threads=usable_cpus(),  # the network waits meanwhile
        )

    def _probability_stream(self, restore: Restore, memory: MemoryPlan) -> ProbabilityStream:
        table, outputs = self._plan.labels, self._sweep.outputs
        shape = (outputs, *restore.source.shape)
        if memory.probabilities_in_file:
            out = file_array(shape, memory.rows.folder)
        else:
            out = np.empty(shape, dtype=np.float32)
            out.fill(0)  # it counts as held from now on, when the rows' share is measured
        return ProbabilityStream(
            restore,
            outputs,
            lambda logits: activate_logits(logits, table),
            out,
            outside=[float(table.exclusive and n == 0) for n in range(outputs)],
            working_bytes=self._memory.working,
            threads=usable_cpus(),
        )

    def _feed(
        self, prepared: Prepared, watch: Watch, streams: Sequence[LabelStream | ProbabilityStream]
    ) -> float:
        """Run the network and bring its answers home; the seconds that the latter took.

        Nothing of the logits is left.
        """
        seconds = 0.0
        # a generator can be closed
        with closing(self._rows(prepared, watch)) as parts:  # type: ignore[type-var]
            for _, logits in parts:
                begun = time.perf_counter()
                for stream in streams:
                    stream.feed(logits)
                seconds += time.perf_counter() - begun
        return seconds

    def _rows(self, prepared: Prepared, watch: Watch) -> Rows:
        """Every row of the network's grid, rising, and its logits (K, z, Y, X)."""
        array = prepared.array
        body = None if self.every_patch else self._air.body(array)
        if body is None:
            finished = slabs(array, self.engine, self._sweep, watch)
            # a generator can be closed
            with closing(finished) as parts:  # type: ignore[type-var]
                yield from parts
            return
        watch.tally.outside = body.saved
        depth = array.shape[1]
        nothing = np.broadcast_to(
            body.fill[:, None, None, None], (len(body.fill), *array.shape[1:])
        )
        if body.box is None:
            yield slice(0, depth), nothing
            return
        z = body.box[0]
        if z.start:
            yield slice(0, z.start), nothing[:, : z.start]
        with closing(
            slabs(array[(slice(None), *body.box)], self.engine, self._sweep, watch)
        ) as parts:  # type: ignore[type-var]  # a generator can be closed
            for rows, logits in parts:
                yield from self._framed(rows, logits, body, array.shape[1:])
        if z.stop < depth:
            yield slice(z.stop, depth), nothing[:, z.stop :]

    def _framed(
        self, rows: slice, logits: NDArray[np.float32], body: Body, shape: Sequence[int]
    ) -> Rows:
        """Rows of the box within rows of the whole, some at a time."""
        if body.box is None:
            return
        z, y, x = body.box
        if logits.shape[2:] == tuple(shape[1:]):
            yield slice(z.start + rows.start, z.start + rows.stop), logits
            return
        step = max(1, self._memory.working // (4 * len(logits) * shape[1] * shape[2]))
        frame = np.empty(
            (min(step, logits.shape[1]), len(logits), *shape[1:]), dtype=np.float32
        ).swapaxes(0, 1)
        frame[...] = body.fill[:, None, None, None]
        for start in range(0, logits.shape[1], step):
            part = logits[:, start : start + step]
            frame[:, : part.shape[1], y, x] = part
            first = z.start + rows.start + start
            yield slice(first, first + part.shape[1]), frame[:, : part.shape[1]]
