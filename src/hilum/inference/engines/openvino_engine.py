"""OpenVINO runs a network on the processor: float32, bfloat16 or float16 where the processor has it, or a model of int8.

Convolution, instance norm, its scale and shift, and the activation run as one or two fused kernels in channels-last order; how
many patches run at a time is measured once on the real network and remembered.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from hilum.errors import ModelError, ResourceError, UsageError
from hilum.inference.engines.openvino_library import opset, ov
from hilum.inference.engines.remembered import recall, remember
from hilum.inference.memory import host_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_log = logging.getLogger("hilum")
_WORTHWHILE = 1.2  # a lower precision must be this much faster to be worth its coarser mantissa
_BETTER = 0.97  # more patches at a time must bring the seconds below this part; they cost memory
_AT_A_TIME = (1, 2, 4)
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
        self.batch, seconds = self._choose()
        if self.batch != len(self._members[0].requests):
            self._compile(self.batch)
        used = threads or core_threads(self._members[0].compiled)
        self.device = f"cpu: {_processor()}, {used} threads, {self.batch} {'patch' if self.batch == 1 else 'patches'} at a time"
        _log.info("openvino %s, %s; seconds a patch by patches at a time: %s", precision, self.device, seconds)

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

    def _choose(self) -> tuple[int, dict[int, float]]:
        """How many patches at a time, and the seconds a patch that were measured."""
        known = recall(self._key) if self._key is not None else {}
        seconds = {int(k): float(v) for k, v in known.get("seconds", {}).items() if str(k).isdigit() and isinstance(v, float)}
        each = known.get("bytes")
        if not isinstance(each, int) or 1 not in seconds:
            each, seconds = 0, {}
            before = psutil.Process().memory_info().rss
            seconds[1] = self._time(1)
            each = max(0, psutil.Process().memory_info().rss - before) // len(self._members)  # of one patch in one member
        self._frugal = len(self._members) > 1 and each * len(self._members) > self._memory
        best, news = 1, not known
        for streams in _AT_A_TIME[1:]:
            if streams > core_threads(self._members[0].compiled, self._threads) or self._frugal:
                break
            if each * len(self._members) * streams > self._memory:
                break
            if streams not in seconds:
                self._compile(streams)
                seconds[streams], news = self._time(streams), True
            if seconds[streams] > _BETTER * seconds[best]:
                break
            best = streams
        if news and self._key is not None:
            remember(self._key, {"bytes": each, "seconds": seconds})
        return best, {streams: round(value, 3) for streams, value in seconds.items()}

    def _time(self, streams: int) -> float:
        """Seconds a patch, the best of a few calls; the first call allocates and is not counted."""
        member = self._members[0]
        patches = np.random.default_rng(0).standard_normal((streams, *member.inputs), dtype=np.float32)
        answer = np.empty((streams, *member.outputs), np.float32)
        member.run(patches, answer)
        best, spent = np.inf, 0.0
        while spent < 1.0:  # one call of a large network, many of a small one
            start = time.perf_counter()
            member.run(patches, answer)
            took = time.perf_counter() - start
            best, spent = min(best, took / streams), spent + max(took, 0.05)
        return float(best)


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
                rows = range(start, min(start + len(self.requests), len(patches)))
                for request, row in zip(self.requests, rows, strict=False):
                    request.set_input_tensor(ov.Tensor(patches[row : row + 1], shared_memory=True))
                    request.set_output_tensor(ov.Tensor(answers[row : row + 1], shared_memory=True))
                    request.start_async()
                for request, _ in zip(self.requests, rows, strict=False):
                    request.wait()
        except RuntimeError as error:
            if "alloc" not in str(error) and "memory" not in str(error):
                raise
            raise ResourceError(f"memory is not enough for a patch of {self.inputs} ({error})", cure="--memory") from error
        if give_back:
            self.compiled.release_memory()


def core_threads(compiled: Any, threads: int | None = None) -> int:
    """Threads that a compiled network computes with."""
    return int(threads or compiled.get_property("INFERENCE_NUM_THREADS") or psutil.cpu_count() or 1)


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
    return f"{_processor()} | {psutil.cpu_count()} | openvino {ov.__version__}"


def _small_network() -> Any:
    """Two convolutions in three dimensions, (1, 32, 16, 48, 48)."""
    rng = np.random.default_rng(0)
    node = image = opset.parameter([1, 32, 16, 48, 48], np.float32)
    convolve: Callable[..., Any] = opset.convolution
    for _ in range(2):
        weights = opset.constant(rng.standard_normal((32, 32, 3, 3, 3), dtype=np.float32) / 30)
        node = opset.relu(convolve(node, weights, [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]))
    return ov.Model([node], [image])
