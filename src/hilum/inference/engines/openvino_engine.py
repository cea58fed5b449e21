"""OpenVINO runs a network on the processor: float32, bfloat16, float16, or a model of int8.

Convolution, instance norm, its scale and shift, and the activation run as one or two fused kernels
in channels-last order. One patch runs at a time, on all threads: the order of the sums of an
instance norm depends on the threads of a patch, so two patches at a time, with half of the threads
each, would change the logits by their rounding, and labels with them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from hilum.errors import ModelError, ResourceError, UsageError
from hilum.inference.engines.host import has_bfloat16, is_out_of_memory, processor
from hilum.inference.engines.openvino_library import ov
from hilum.inference.memory import host_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SHARE = 0.5  # of the free memory is used where nothing is said
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16"}


@lru_cache
def core() -> Any:
    """The one OpenVINO runtime of this process."""
    return ov.Core()


def resolve_precision(wanted: str | None, *, stored: str) -> str:
    """The precision that a model is run in.

    Args:
        wanted: None or "auto": int8 of an int8 model; bfloat16 where the processor has instructions
            for it; else float32.
        stored: "int8" for a quantised model, else "float32".

    Raises:
        UsageError: no such precision, or another than the model's.
        ResourceError: this processor cannot compute in it.
    """
    if wanted in {None, "auto"}:
        return "int8" if stored == "int8" else _fast_float()
    if (wanted == "int8") != (stored == "int8"):
        cure = (
            "hilum export MODEL -o FOLDER --precision int8 --data DATA"
            if wanted == "int8"
            else "--precision int8"
        )
        raise UsageError(
            f"precision {wanted!r} of a model stored as {stored}",
            needed="its own precision, or auto",
            cure=cure,
        )
    if wanted not in {*_HINTS, "int8"}:
        raise UsageError(
            f"precision {wanted!r}",
            needed="auto, float32, bfloat16, float16 or int8 of openvino",
            cure="--precision auto",
        )
    if wanted in _CAPABILITIES and not _supports(wanted):
        raise ResourceError(
            f"precision {wanted!r}: this processor ({processor()}) has no instructions for it",
            needed="a processor that computes in it",
            cure="--precision auto",
        )
    return str(wanted)


class OpenVINOEngine:
    """A network, or the members of an ensemble, on the processor; an `Engine`.

    Args:
        models: one a member: openvino models, or the .xml files of them, with the input (1, C, Z,
            Y, X) and one output (1, K, Z, Y, X); of one shape.
        precision: as `resolve_precision` gives it.
        threads: of the processor; None: all.
        memory: bytes that it may take; None: half of what is free. Members that would take more
            together give theirs back after every patch.

    Raises:
        UsageError: no model.
        ModelError: a model cannot be read or is not of this form.
    """

    name = "openvino"
    because: str = "asked for"
    batch: int = 1

    def __init__(
        self,
        models: Sequence[Any],
        *,
        precision: str,
        threads: int | None = None,
        memory: int | None = None,
    ) -> None:
        if not models:
            raise UsageError("an engine without a network", needed="at least one")
        self.precision: str = precision
        settings = _settings(precision, threads)
        self._members = [
            _CompiledNetwork(str(model) if isinstance(model, Path) else model, settings)
            for model in models
        ]
        used = self._members[0].compiled.get_property("INFERENCE_NUM_THREADS")
        self.device = f"cpu: {processor()}, {used} threads"
        allowed = memory if memory is not None else int(_SHARE * host_memory().free)
        self._frugal = len(models) > 1 and self._bytes() * len(models) > allowed

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32, contiguous.

        A running mean over the members.

        Raises:
            UsageError: patches of another shape than the model was made for.
            ResourceError: memory is not enough.
        """
        first = self._members[0]
        if tuple(patches.shape[1:]) != first.inputs:
            raise UsageError(
                f"patches of shape {tuple(patches.shape)}",
                needed=f"(B, {', '.join(map(str, first.inputs))})",
            )
        patches = np.require(patches, dtype=np.float32, requirements=["C"])
        mean = np.empty((len(patches), *first.outputs), np.float32)
        first.run(patches, mean, give_back=self._frugal)
        for count, member in enumerate(self._members[1:], start=2):
            logits = np.empty_like(mean)
            member.run(patches, logits, give_back=self._frugal)
            logits -= mean
            logits /= count
            mean += logits
        return mean

    def close(self) -> None:
        """Give back the compiled networks."""
        self._members.clear()

    def _bytes(self) -> int:
        """Return the memory that a patch takes in one network: how much the first patch adds.

        That is less where the allocator still holds what was freed, but never less than the largest
        step takes.
        """
        first, process = self._members[0], psutil.Process()
        before = process.memory_info().rss
        first.run(
            np.zeros((1, *first.inputs), np.float32), np.empty((1, *first.outputs), np.float32)
        )
        return max(_largest_step(first.compiled), process.memory_info().rss - before)


class _CompiledNetwork:
    """One compiled network."""

    def __init__(self, model: Any, settings: dict[str, Any]) -> None:
        try:
            self.compiled = core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(
                f"{model}: OpenVINO cannot read or compile it ({error})",
                cure="copy the folder again",
            ) from error
        if len(self.compiled.inputs) != 1 or len(self.compiled.outputs) != 1:
            raise ModelError(f"{model}: several inputs or outputs", needed="one of each")
        self.inputs = tuple(self.compiled.input(0).shape)[1:]
        self.outputs = tuple(self.compiled.output(0).shape)[1:]
        self.request = self.compiled.create_infer_request()

    def run(
        self, patches: NDArray[np.float32], logits: NDArray[np.float32], *, give_back: bool = False
    ) -> None:
        """Fill `logits` (B, K, ...).

        With `give_back` what the network computed in is freed afterwards.
        """
        try:
            for row in range(len(patches)):
                self._run(patches[row : row + 1], logits[row : row + 1])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"memory is not enough for a patch of {self.inputs} ({error})", cure="--memory"
            ) from error
        if give_back:
            self.compiled.release_memory()

    def _run(self, patch: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Run one patch.

        Nothing still runs afterwards, whatever happened: it would write to memory given back.
        """
        self.request.set_input_tensor(ov.Tensor(patch, shared_memory=True))
        self.request.set_output_tensor(ov.Tensor(logits, shared_memory=True))
        try:
            self.request.start_async()
        finally:
            self.request.wait()


def _settings(precision: str, threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[_fast_float() if precision == "int8" else precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _fast_float() -> str:
    """Return bfloat16 where the processor has instructions for it.

    OpenVINO alone also names it where it is emulated.
    """
    return "bfloat16" if has_bfloat16() and _supports("bfloat16") else "float32"


def _supports(precision: str) -> bool:
    return _CAPABILITIES[precision] in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _largest_step(compiled: Any) -> int:
    """Bytes of the largest operation's input and output, which a network needs at least."""

    def size(port: Any) -> int:
        return int(np.prod(port.get_shape(), dtype=np.int64)) * int(port.get_element_type().size)

    largest = 0
    for node in compiled.get_runtime_model().get_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        largest = max(largest, sum(map(size, node.outputs())) + max(map(size, sources), default=0))
    ends = size(compiled.input(0)) + size(compiled.output(0))
    return largest + ends  # the two are ours, float32, and there all the time
