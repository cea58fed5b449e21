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

from hilum.errors import HilumError, ResourceError
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
from hilum.inference.prediction import LabelWriter, Prediction, Seconds, written_as_picture
from hilum.inference.running_mean import Room, buffer_bytes
from hilum.inference.sliding_window import Sweep, Tally, Watch, mirrored, slabs, sliding_window
from hilum.inference.unlike import unlike
from hilum.inference.windows import count_windows
from hilum.io import inspect_file
from hilum.preprocess import preprocess_case
from hilum.preprocess.restore_stream import WORKING_BYTES, LabelStream, ProbabilityStream
from hilum.preprocess.steps import network_shape
from hilum.tasks.encoding import activate_logits, decode_logits
from hilum.tasks.postprocess import BYTES_A_VOXEL, apply_postprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from hilum.dataset.case import Case
    from hilum.inference.empty import Body
    from hilum.inference.engines.engine import Engine, RunnableModel
    from hilum.io import OutputFolder
    from hilum.preprocess import Restore
    from hilum.volume import Geometry

    Rows = Iterator[tuple[slice, NDArray[np.float32]]]

_log = logging.getLogger("hilum")
_ROWS = 6  # of K planes that exist beside the mean while rows are brought home
# bytes a voxel and channel, of the source's grid and of the network's, while a case is preprocessed
_PREPROCESSING = 8
_NORMALISING = {"case": 9, "case_nonzero": 15, "case_filled": 19}
"""Bytes a voxel of one channel that statistics of a case take beside the channels themselves:
float64, masks, numbered pieces."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case on the network's grid: array (C, Z, Y, X) float32, the way back (`Restore` or `InputWindow`), what it was read from.

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


@dataclass(frozen=True)
class Size:
    """Size of a case, from its files' headers.

    Args:
        voxels: of the source's grid.
        patches: that the network has to see, mirrored ones counted.
        bytes: of memory that reading and preprocessing it take.
    """

    voxels: int
    patches: int
    bytes: int


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
        self.budget = Budget.of(memory)
        if self.budget.given:  # else a little speed is worth more
            return_what_is_freed(self.budget.most)
        self.scratch = scratch
        self.every_patch = every_patch
        self.mirror_axes: tuple[int, ...] = (
            tuple(plan.augmentation.value.mirror_axes) if tta else ()
        )
        self.engine: Engine = model.make_engine(engine, precision, memory=self.budget.most // 2)
        outputs = plan.network.value.out_channels
        answer_bytes = 4 * outputs * math.prod(plan.patch.value)
        room = (
            self.budget.most // 8 // answer_bytes
        )  # patches whose answers an eighth of the memory holds
        self._sweep = Sweep(
            patch=tuple(plan.patch.value),
            overlap=plan.overlap.value if overlap is None else overlap,
            outputs=outputs,
            batch=batch or min(self.engine.batch, max(1, room)),
            mirror_axes=self.mirror_axes,
            reuse=not every_patch and room >= 2,
            weighting=plan.weighting.value,
        )
        self._air = Air(
            plan,
            self._sweep.patch,
            self._sweep.overlap,
            lambda patch: mirrored(self.engine, patch, self._sweep),
        )
        self._working = min(WORKING_BYTES, self.budget.most // 32)
        self._dtype = np.min_scalar_type(max(plan.labels.ids))

    @property
    def memory_gb(self) -> float:
        """Memory limit of this process, in GiB."""
        return self.budget.most / 2**30

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
    def answer_options(self) -> dict[str, str]:
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
        """Return the size of a case from its files' headers.

        None where these cannot be read quickly (DICOM) or at all.

        What nothing but reading would tell, cropping and air, is not known yet: it makes the case
        smaller.
        """
        files = image_files(source)
        if not files or any(file.is_dir() for file in files):
            return None
        try:
            facts = [inspect_file(file) for file in files]
        except HilumError:
            return None  # reading it will say what is wrong
        geometry, channels = facts[0].geometry, len(self._plan.channels)
        stored = sum(one.channels * one.dtype.itemsize for one in facts)
        return self._size(geometry, stored=stored, channels=channels)

    def reserve(self, expected: Size | None, before: Prepared | None) -> int | None:
        """Bytes of memory to set aside for reading a case while another is answered.

        None where it has to wait.

        Args:
            expected: size of the case to be read; None: as the one before it.
            before: the case that is answered meanwhile; None where there is nothing to answer.
        """
        if expected is None and before is not None:
            expected = self._size(
                before.restore.source, stored=4 * len(before.array), channels=len(before.array)
            )
        needed = 0 if expected is None else expected.bytes
        afterwards = 0 if before is None else self._afterwards(before.restore.source)
        return needed if needed <= (self.budget.most - resident() - afterwards) // 3 else None

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
        return self.answer(prepared, probabilities=probabilities)

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
        expected = self.size(source)
        if expected is not None:
            self._refuse_too_large(case, expected.bytes)
        image = read_source(source, channels)
        middle = time.perf_counter()
        if image.channels != len(channels):
            raise wrong_channels(case, image, channels)
        self._refuse_too_large(
            case, self._size(image.geometry, stored=0, channels=image.channels).bytes
        )
        found = unlike(image, self._plan, channel_files(source))
        array, restore = preprocess_case(image, self._plan)
        seconds = Seconds(read=middle - start, preprocess=time.perf_counter() - middle)
        picture = written_as_picture(image_files(source), self._plan.labels)
        return Prepared(case, array, restore, seconds, unlike=found, picture=picture)

    def answer(
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
        table, outputs = self._plan.labels, self._sweep.outputs
        labels_bytes = math.prod(restore.source.shape) * self._dtype.itemsize
        working, scratch, threads = (
            self._working,
            self.scratch or scratch,
            usable_cpus(),
        )  # the network waits meanwhile
        streams: list[LabelStream | ProbabilityStream] = [
            LabelStream(
                restore,
                outputs,
                lambda logits: decode_logits(logits, table),
                self._dtype,
                working_bytes=working,
                threads=threads,
            )
        ]
        if probabilities:
            out = self._array(
                outputs,
                restore.source,
                reserve + labels_bytes + self._afterwards(restore.source),
                scratch,
            )
            outside = [float(table.exclusive and n == 0) for n in range(outputs)]
            streams.append(
                ProbabilityStream(
                    restore,
                    outputs,
                    lambda logits: activate_logits(logits, table),
                    out,
                    outside=outside,
                    working_bytes=working,
                    threads=threads,
                )
            )
        row = 4 * outputs * math.prod(restore.shape[1:])
        extra = (
            reserve + labels_bytes + len(streams) * (2 * working + _ROWS * row) + max(working, row)
        )
        tally = Tally()
        watch = Watch(
            room=lambda held: self._room(restore.shape, held + extra, scratch),
            resident=resident,
            progress=progress,
            air=(lambda _: None) if self.every_patch else self._air.answer,
            tally=tally,
        )
        restoring = self._feed(prepared, watch, streams)
        middle = time.perf_counter()
        labels, *more = (stream.finish() for stream in streams)
        del streams  # their last rows
        room = self.budget.most - resident() - reserve
        labels = apply_postprocessing(
            labels, self._plan.postprocessing.value, table, limit_bytes=room
        )
        end = time.perf_counter()
        seconds = replace(
            prepared.seconds, network=middle - start - restoring, restore=restoring + end - middle
        )
        probable = more[0] if more else None
        return Prediction(
            prepared.case,
            labels,
            table,
            self.model.id,
            probable,
            seconds,
            tally.counts,
            prepared.unlike,
            prepared.picture,
        )

    def logits(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """All logits (K, Z, Y, X), float32, of a preprocessed image (C, Z, Y, X) at once, every patch run: to look at them.

        Needs 4 K bytes a voxel; `answer` does not.
        """
        return sliding_window(array, self.engine, replace(self._sweep, reuse=False))

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def _feed(
        self, prepared: Prepared, watch: Watch, streams: Sequence[LabelStream | ProbabilityStream]
    ) -> float:
        """Run the network and bring its answers home; the seconds that the latter took.

        Nothing of the logits is left.
        """
        seconds = 0.0
        with closing(self._rows(prepared, watch)) as parts:  # type: ignore[type-var]  # a generator can be closed
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
            with closing(slabs(array, self.engine, self._sweep, watch)) as parts:  # type: ignore[type-var]  # a generator can be closed
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
        step = max(1, self._working // (4 * len(logits) * shape[1] * shape[2]))
        frame = np.empty(
            (min(step, logits.shape[1]), len(logits), *shape[1:]), dtype=np.float32
        ).swapaxes(0, 1)
        frame[...] = body.fill[:, None, None, None]
        for start in range(0, logits.shape[1], step):
            part = logits[:, start : start + step]
            frame[:, : part.shape[1], y, x] = part
            first = z.start + rows.start + start
            yield slice(first, first + part.shape[1]), frame[:, : part.shape[1]]

    def _room(self, shape: Sequence[int], held: int, scratch: Path | None) -> tuple[Room, bool]:
        """Choose where the rows in the making are kept, given the bytes that are taken anyway."""
        sweep = self._sweep
        left = self.budget.most - held
        buffer = buffer_bytes(sweep.outputs, sweep.padded(shape), sweep.patch)
        another = 4 * sweep.outputs * math.prod(sweep.patch) * max(1, sweep.batch // sweep.copies)
        return Room(memory=left, folder=scratch), buffer + another <= left

    def _array(
        self, outputs: int, geometry: Geometry, reserve: int, scratch: Path | None
    ) -> NDArray[np.float32]:
        """For probabilities (K, Z, Y, X): in memory where they take at most half of what is left, else in a file."""
        shape = (outputs, *geometry.shape)
        if 4 * math.prod(shape) > (self.budget.most - resident() - reserve) // 2:
            return file_array(shape, scratch)
        array = np.empty(shape, dtype=np.float32)
        array.fill(
            0
        )  # from now on it counts as held, before what else there is room for is decided
        return array

    def _afterwards(self, geometry: Geometry) -> int:
        """Bytes that post-processing takes at most, where what it changes is spread over the whole grid."""
        voxels = math.prod(geometry.shape) if self._plan.postprocessing.value else 0
        return (BYTES_A_VOXEL + self._dtype.itemsize) * voxels

    def _size(self, geometry: Geometry, *, stored: int, channels: int) -> Size:
        """Of a grid, with so many stored bytes a voxel that have to be read yet."""
        from hilum.volume import Box, reorient_geometry

        code = self._plan.orientation.value
        turned = geometry if code == "source" else reorient_geometry(geometry, code)
        shape = network_shape(turned, Box((0, 0, 0), turned.shape), self._plan)
        voxels, inside = math.prod(geometry.shape), math.prod(shape)
        windows = count_windows(self._sweep.padded(shape), self._sweep.patch, self._sweep.overlap)
        statistics = max(_NORMALISING.get(how.kind, 0) for how in self._plan.normalisation.value)
        beside = max(_PREPROCESSING * channels, 4 * channels + statistics)
        needed = voxels * (stored + beside) + _PREPROCESSING * channels * inside
        return Size(voxels=voxels, patches=windows * self._sweep.copies, bytes=needed)

    def _refuse_too_large(self, case: str, needed: int) -> None:
        """Refuse before the memory is gone.

        Raises:
            ResourceError: what the process holds already and these bytes are more than is allowed.
        """
        held, most = resident(), self.budget.most
        if held + needed <= most:
            return
        least = math.ceil(11 * (held + needed) / 2**30) / 10  # a tenth more, for the patches
        enough = f"{least:.1f} GiB, of which the images take {needed / 2**30:.2f}"
        if held >= most:
            raise ResourceError(
                f"{case}: hilum and the model alone hold {held / 2**30:.2f} GiB, which is more than"
                f" the {self.budget}",
                needed=f"at least {enough}",
                cure=(
                    f"allow more memory (--memory {least:.1f}GiB), or close other programs; smaller"
                    " images do not help"
                ),
            )
        raise ResourceError(
            f"{case}: its images take {needed / 2**30:.2f} GiB while they are brought to the"
            f" model's spacing, beside the {held / 2**30:.2f} GiB that hilum and the model hold, of"
            f" {self.budget}",
            needed=f"about {enough}",
            cure=(
                f"allow more (--memory {least:.1f}GiB), crop the image to the part that matters, or"
                " use another machine"
            ),
        )
