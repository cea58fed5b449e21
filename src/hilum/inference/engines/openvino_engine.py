"""OpenVINO runs a network on the processor: float32, bfloat16 or float16 where the processor has it, or a model of int8.

Convolution, instance norm, its scale and shift, and the activation run as one or two fused kernels in channels-last order; how
many patches run at a time is measured once on the real network and remembered.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from hilum.errors import ModelError, ResourceError, UsageError
from hilum.inference.engines.host import is_out_of_memory, others_are_busy, usable_cpus
from hilum.inference.engines.openvino_library import opset, ov
from hilum.inference.engines.remembered import AT, recall, remember
from hilum.inference.memory import host_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_log = logging.getLogger("hilum")
_WORTHWHILE = 1.2  # a lower precision must be this much faster to be worth its coarser mantissa
_BETTER = 0.9  # more patches at a time must bring the seconds below this part; each takes the memory of one again
_AT_A_TIME = (1, 2, 4)
_STEADY = 1.15  # the second quickest run takes at most so many times the quickest, or nothing is remembered
_TURNS = (2, 20)  # of each of two ways: at least, and at most
_SECONDS = 1.0  # that are measured of each way, unless the fewest turns take longer
_SHARE = 0.5  # of the free memory is used where nothing is said
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16"}


@lru_cache
def core() -> Any:
    """The one OpenVINO runtime of this process."""
    return ov.Core()


@lru_cache
def lower_precision_gain(precision: str) -> float:
    """How many times faster a small network is in "bfloat16" or "float16" than in float32; measured once and remembered.

    0 where the processor has no such instructions: OpenVINO would then convert to and fro.
    """
    if _CAPABILITIES[precision] not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return 0.0
    key = f"gain {precision} | {_machine()}"
    known = recall(key).get("gain")
    if isinstance(known, float):
        return known
    models = [core().compile_model(_small_network(), "CPU", _settings(name, 1, None)) for name in ("float32", precision)]
    image = np.random.default_rng(0).standard_normal((1, 32, 16, 48, 48), dtype=np.float32)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(6):  # in turn, and the best of each: on a busy machine single runs say more about its other work
        for model, times in zip(models, seconds, strict=True):
            start = time.perf_counter()
            model(image)
            times.append(time.perf_counter() - start)
    gain = min(seconds[0]) / min(seconds[1])
    if all(_steady(times) for times in seconds) and not others_are_busy():
        remember(key, {"gain": gain})
    return gain


def resolve_precision(wanted: str | None, *, stored: str) -> str:
    """The precision that a model is run in.

    Args:
        wanted: None or "auto": int8 of an int8 model; bfloat16 where it is really faster on this processor; else float32.
        stored: "int8" for a quantised model, else "float32".

    Raises:
        UsageError: no such precision, or another than the model's.
        ResourceError: this processor cannot compute in it.
    """
    if wanted in {None, "auto"}:
        return "int8" if stored == "int8" else _fast_float()
    if (wanted == "int8") != (stored == "int8"):
        cure = "hilum export MODEL -o FOLDER --precision int8 --data DATA" if wanted == "int8" else "--precision int8"
        raise UsageError(f"precision {wanted!r} of a model stored as {stored}", needed="its own precision, or auto", cure=cure)
    if wanted not in {*_HINTS, "int8"}:
        raise UsageError(
            f"precision {wanted!r}", needed="auto, float32, bfloat16, float16 or int8 of openvino", cure="--precision auto"
        )
    if wanted in _CAPABILITIES and not lower_precision_gain(str(wanted)):
        raise ResourceError(
            f"precision {wanted!r}: this processor ({_processor()}) has no instructions for it",
            needed="a processor that computes in it",
            cure="--precision auto",
        )
    return str(wanted)


class OpenVINOEngine:
    """A network, or the members of an ensemble, on the processor; an `Engine`.

    Args:
        models: one a member: openvino models, or the .xml files of them, with the input (1, C, Z, Y, X) and one output
            (1, K, Z, Y, X); of one shape.
        precision: as `resolve_precision` gives it.
        threads: of the processor; None: all.
        memory: bytes that it may take; None: half of what is free. Ways that would take more are not tried.
        key: names network and patch for what is remembered; None: measured anew each time.

    Raises:
        UsageError: no model.
        ModelError: a model cannot be read or is not of this form.
    """

    name = "openvino"
    because: str = "asked for"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        models: Sequence[Any],
        *,
        precision: str,
        threads: int | None = None,
        memory: int | None = None,
        key: str | None = None,
    ) -> None:
        if not models:
            raise UsageError("an engine without a network", needed="at least one")
        self._models = [str(model) if isinstance(model, Path) else model for model in models]
        self.precision: str = precision
        self._threads = threads
        self._memory = memory if memory is not None else int(_SHARE * host_memory().free)
        self._members: list[_Member] = []
        self._compile(1)
        # what runs within the process counts too: the same network in another precision or beside other threads is another key
        self._key = None if key is None else f"patches | {key} | {precision} | {len(models)} | {threads} | {_machine()}"
        self.batch, how = self._choose()
        if self.batch != len(self._members[0].requests):
            self._compile(self.batch)
        used = threads or core_threads(self._members[0].compiled)
        self.device = f"cpu: {_processor()}, {used} threads, {self.batch} {'patch' if self.batch == 1 else 'patches'} at a time"
        self.notes = (f"{self.batch} at a time: {how}",)

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32, contiguous; a running mean over the members.

        Raises:
            UsageError: patches of another shape than the model was made for.
            ResourceError: memory is not enough.
        """
        first = self._members[0]
        if tuple(patches.shape[1:]) != first.inputs:
            raise UsageError(f"patches of shape {tuple(patches.shape)}", needed=f"(B, {', '.join(map(str, first.inputs))})")
        patches = np.require(patches, dtype=np.float32, requirements=["C"])
        mean = np.empty((len(patches), *first.outputs), np.float32)
        first.run(patches, mean, give_back=self._frugal)
        for count, member in enumerate(self._members[1:], start=2):
            answer = np.empty_like(mean)
            member.run(patches, answer, give_back=self._frugal)
            answer -= mean
            answer /= count
            mean += answer
        return mean

    def close(self) -> None:
        """Give back the compiled networks."""
        self._members.clear()
        self._models.clear()

    def _compile(self, streams: int) -> None:
        self._members.clear()  # first: two compiled networks at a time would take twice the memory
        settings = _settings(self.precision, streams, self._threads)
        self._members = [_Member(model, settings, streams) for model in self._models]

    def _choose(self) -> tuple[int, str]:
        """How many patches at a time, and why."""
        known = recall(self._key) if self._key is not None else {}
        times = known.get("times")
        # seconds of so many at a time, as parts of those of half as many; measured in turn, since a machine's speed changes
        parts = {int(k): v for k, v in times.items() if k.isdigit() and isinstance(v, float)} if isinstance(times, dict) else {}
        held = known.get("bytes")
        # of one patch in one member; what a process grows by is less where its allocator still holds what was freed
        each = max(_largest_step(self._members[0].compiled), held if isinstance(held, int) else self._growth())
        together = each * len(self._members)
        self._frugal = len(self._members) > 1 and together > self._memory
        threads = core_threads(self._members[0].compiled, self._threads)
        best, news, steady, why = 1, False, True, "more have no threads of their own"
        for streams in (n for n in _AT_A_TIME[1:] if n <= threads):
            if self._frugal or together * streams > self._memory:
                why = f"{streams} would take {together * streams / 2**30:.2f} GiB of {self._memory / 2**30:.2f} allowed"
                break
            if streams not in parts:
                steady = steady and (news or not others_are_busy())
                pair = self._compare(best, streams, roomy=(best + streams) * each <= self._memory)
                steady, news = steady and all(_steady(one) for one in pair), True
                parts[streams] = min(pair[1]) / min(pair[0])
            why = f"{streams} took {parts[streams]:.2f} times the seconds of {best}"
            if parts[streams] > _BETTER:
                break
            best = streams
        if not steady:
            return best, f"{why}, measured on a machine that was busy, and not remembered"
        if news and self._key is not None:
            remember(self._key, {"bytes": each, "times": parts})
        return best, why + (f", measured {known[AT][:10]}" if known and not news else "")

    def _growth(self) -> int:
        """Bytes that this process grows by when the first member sees its first patch."""
        before = psutil.Process().memory_info().rss
        self._timed(self._members[0], 1)
        return int(max(0, psutil.Process().memory_info().rss - before))

    def _compare(self, fewer: int, more: int, *, roomy: bool) -> tuple[list[float], list[float]]:
        """Seconds a patch of the first member, run in turn with so many patches at a time, and with more.

        Args:
            fewer: patches at a time.
            more: of the other way.
            roomy: there is memory for both at a time; else each gives its own back after its turn.
        """
        found: dict[int, list[float]] = {fewer: [], more: []}
        members = {
            streams: self._members[0]
            if streams == len(self._members[0].requests)
            else _Member(self._models[0], _settings(self.precision, streams, self._threads), streams)
            for streams in found
        }
        least, most = _TURNS
        for turn in range(most):
            for streams, member in members.items():
                if turn == 0 or not roomy:  # the first run allocates and is not counted
                    self._timed(member, streams)
                found[streams].append(self._timed(member, streams))
                if not roomy:
                    member.compiled.release_memory()
            enough = turn + 1 >= least and all(sum(times) * streams >= _SECONDS for streams, times in found.items())
            if enough and (turn + 1 >= 2 * least or all(_steady(times) for times in found.values())):
                break  # what is not steady after as few turns gets as many again, so that it need not be measured in every run
        return found[fewer], found[more]

    def _timed(self, member: _Member, streams: int) -> float:
        """Seconds a patch, of one call."""
        patches = np.random.default_rng(0).standard_normal((streams, *member.inputs), dtype=np.float32)
        answer = np.empty((streams, *member.outputs), np.float32)
        start = time.perf_counter()
        member.run(patches, answer)
        return (time.perf_counter() - start) / streams


class _Member:
    """One compiled network, and as many requests as may run at a time."""

    def __init__(self, model: Any, settings: dict[str, Any], streams: int) -> None:
        try:
            self.compiled = core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"{model}: OpenVINO cannot read or compile it ({error})", cure="copy the folder again") from error
        if len(self.compiled.inputs) != 1 or len(self.compiled.outputs) != 1:
            raise ModelError(f"{model}: several inputs or outputs", needed="one of each")
        self.inputs = tuple(self.compiled.input(0).shape)[1:]
        self.outputs = tuple(self.compiled.output(0).shape)[1:]
        self.requests = [self.compiled.create_infer_request() for _ in range(streams)]

    def run(self, patches: NDArray[np.float32], answers: NDArray[np.float32], *, give_back: bool = False) -> None:
        """Fill `answers` (B, K, ...); with `give_back` what the network computed in is freed afterwards."""
        try:
            for start in range(0, len(patches), len(self.requests)):
                self._together(patches, answers, range(start, min(start + len(self.requests), len(patches))))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(f"memory is not enough for a patch of {self.inputs} ({error})", cure="--memory") from error
        if give_back:
            self.compiled.release_memory()

    def _together(self, patches: NDArray[np.float32], answers: NDArray[np.float32], rows: range) -> None:
        """Run these rows at a time. None still runs afterwards, whatever happened: it would write to memory given back."""
        started = []
        try:
            for request, row in zip(self.requests, rows, strict=False):
                request.set_input_tensor(ov.Tensor(patches[row : row + 1], shared_memory=True))
                request.set_output_tensor(ov.Tensor(answers[row : row + 1], shared_memory=True))
                started.append(request)
                request.start_async()
            for request in started:
                request.wait()
        finally:
            for request in started:
                with suppress(RuntimeError):  # the first error is on its way
                    request.wait()


def core_threads(compiled: Any, threads: int | None = None) -> int:
    """Threads that a compiled network computes with."""
    return int(threads or compiled.get_property("INFERENCE_NUM_THREADS") or usable_cpus())


def _settings(precision: str, streams: int, threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[_fast_float() if precision == "int8" else precision],
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _fast_float() -> str:
    return "bfloat16" if lower_precision_gain("bfloat16") >= _WORTHWHILE else "float32"


def _processor() -> str:
    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))


def _machine() -> str:
    """What a measurement depends on beside the network."""
    return f"{_processor()} | {usable_cpus()} processors | openvino {ov.__version__}"


def _steady(times: Sequence[float]) -> bool:
    """Whether the quickest of these is no accident."""
    quickest, second = sorted(times)[:2]
    return second <= _STEADY * quickest


def _largest_step(compiled: Any) -> int:
    """Bytes of the largest operation's input and output, as compiled: a network needs that at least."""

    def size(port: Any) -> int:
        return int(np.prod(port.get_shape(), dtype=np.int64)) * int(port.get_element_type().size)

    largest = 0
    for node in compiled.get_runtime_model().get_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        largest = max(largest, sum(map(size, node.outputs())) + max(map(size, sources), default=0))
    ends = size(compiled.input(0)) + size(compiled.output(0))
    return largest + ends  # the two are ours, float32, and there all the time


def _small_network() -> Any:
    """Two convolutions in three dimensions, (1, 32, 16, 48, 48)."""
    rng = np.random.default_rng(0)
    node = image = opset.parameter([1, 32, 16, 48, 48], np.float32)
    convolve: Callable[..., Any] = opset.convolution
    for _ in range(2):
        weights = opset.constant(rng.standard_normal((32, 32, 3, 3, 3), dtype=np.float32) / 30)
        node = opset.relu(convolve(node, weights, [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]))
    return ov.Model([node], [image])
