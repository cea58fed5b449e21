"""OpenVINO runs a network on the processor: float32, bfloat16, float16, or a model of int8.

Convolution, instance norm, its scale and shift, and the activation run as one or two fused kernels
in channels-last order. One patch runs at a time, on all threads: the order of the sums of an
instance norm depends on the threads of a patch, so two patches at a time, with half of the threads
each, would change the logits by their rounding, and labels with them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.engines.engine import EXPORT_INT8, PatchEngine
from hilum.engines.host import has_bfloat16, processor
from hilum.engines.memory import host_memory
from hilum.engines.openvino_library import ov
from hilum.errors import ModelError, ResourceError, UsageError, damaged_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from hilum.engines.openvino_library import CompiledModel, Core, Model

_SHARE = 0.5  # of the free memory is used where nothing is said
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16"}


@lru_cache
def core() -> Core:
    """Return the one OpenVINO runtime of this process."""
    return ov.Core()


def resolve_precision(wanted: str | None, *, stored: str) -> str:
    """Choose the precision that a model is run in.

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
        raise UsageError(
            f"precision={wanted!r} is not possible for a model stored as {stored}",
            needed="its own precision, or auto",
            cure=EXPORT_INT8 if wanted == "int8" else "precision='int8'",
        )
    if wanted not in {*_HINTS, "int8"}:
        raise UsageError(
            f"precision={wanted!r} is not one of openvino",
            needed="auto, float32, bfloat16, float16 or int8",
            cure="precision='auto'",
        )
    if wanted in _CAPABILITIES and not _supports(wanted):
        raise ResourceError(
            f"this processor ({processor()}) has no instructions for precision={wanted!r}",
            needed="a processor that computes in it",
            cure="precision='auto'",
        )
    return str(wanted)


class OpenVINOEngine(PatchEngine):
    """A network, or the networks of an ensemble, on the processor.

    Args:
        models: one a network: openvino models, or the .xml files of them, with the input (1, C, Z,
            Y, X) and one output (1, K, Z, Y, X); of one shape.
        precision: as `resolve_precision` gives it.
        threads: of the processor; None: all.
        memory: bytes that it may take; None: half of what is free. Networks whose intermediate
            results might take more together give theirs back after every patch.

    Raises:
        ModelError: a model cannot be read or is not of this form.
    """

    name = "openvino"

    def __init__(
        self,
        models: Sequence[Model | Path],
        *,
        precision: str,
        threads: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Compile the networks for the processor."""
        self.precision = precision
        settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": _HINTS[_fast_float() if precision == "int8" else precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = [_compile(model, settings) for model in models]
        self._requests = [compiled.create_infer_request() for compiled in self._compiled]
        first = self._compiled[0]
        super().__init__(
            len(models), tuple(first.input(0).shape)[1:], tuple(first.output(0).shape)[1:]
        )
        self.device = f"cpu: {processor()}, {first.get_property('INFERENCE_NUM_THREADS')} threads"
        allowed = memory if memory is not None else int(_SHARE * host_memory().free)
        self._gives_back = len(models) > 1 and _result_bytes(first) * len(models) > allowed

    def run(self, number: int, patch: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Fill the logits of one network for a patch.

        Nothing still runs afterwards, whatever happened: it would write to memory given back.
        """
        request = self._requests[number]
        request.set_input_tensor(ov.Tensor(patch, shared_memory=True))
        request.set_output_tensor(ov.Tensor(logits, shared_memory=True))
        try:
            request.start_async()
        finally:
            request.wait()
        if self._gives_back:
            self._compiled[number].release_memory()

    def close(self) -> None:
        """Give back the compiled networks."""
        self._requests.clear()
        self._compiled.clear()


def _compile(model: Model | Path, settings: dict[str, str | int]) -> CompiledModel:
    """Compile a network for the CPU; refuse a damaged file, and several inputs or outputs."""
    try:
        compiled = core().compile_model(
            str(model) if isinstance(model, Path) else model, "CPU", settings
        )
    except RuntimeError as error:
        raise damaged_model(f"{model}: OpenVINO cannot read or compile it ({error})") from error
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise ModelError(
            f"{model} has several inputs or outputs",
            needed="one of each",
            cure="export the model again with hilum",
        )
    return compiled


def _result_bytes(compiled: CompiledModel) -> int:
    """Sum the results of all operations: more than a patch takes, as few exist at a time."""
    return sum(
        math.prod(port.get_shape()) * int(port.get_element_type().size)
        for operation in compiled.get_runtime_model().get_ops()
        for port in operation.outputs()
    )


def _fast_float() -> str:
    """Return bfloat16 where the processor has instructions for it.

    OpenVINO alone also names it where it is emulated.
    """
    return "bfloat16" if has_bfloat16() and _supports("bfloat16") else "float32"


def _supports(precision: str) -> bool:
    return _CAPABILITIES[precision] in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
