"""ONNX Runtime runs an exported network on the processor, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import psutil

from hilum.errors import ModelError, ResourceError, UsageError
from hilum.inference.engines.host import is_out_of_memory, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def resolve_precision(wanted: str | None) -> str:
    """The only precision that this engine has.

    Raises:
        UsageError: another one is wanted.
    """
    if wanted not in {None, "auto", "float32"}:
        raise UsageError(
            f"precision {wanted!r}",
            needed="auto or float32 of onnx",
            cure="--engine openvino, or --precision auto",
        )
    return "float32"


class OnnxEngine:
    """A network, or the members of an ensemble, as .onnx files; an `Engine`.

    Args:
        files: one a member, with the input (1, C, Z, Y, X) and one output (1, K, Z, Y, X); of one
            shape.
        threads: of the processor; None: one for each core that this process may use.

    Raises:
        UsageError: no file.
        ModelError: a file cannot be read, or is not of this form.
    """

    name = "onnx"
    because: str = "asked for"
    precision: str = "float32"
    batch: int = 1  # a patch alone keeps the processor busy; more only take more memory

    def __init__(self, files: Sequence[Path], *, threads: int | None = None) -> None:
        if not files:
            raise UsageError("an engine without a network", needed="at least one")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what only warns is for those who write networks
        # a core's second thread only gets in the way of the first
        used = threads or min(usable_cpus(), psutil.cpu_count(logical=False) or usable_cpus())
        options.intra_op_num_threads = used
        try:
            self._members = [
                onnxruntime.InferenceSession(
                    str(file), sess_options=options, providers=["CPUExecutionProvider"]
                )
                for file in files
            ]
        except Exception as error:  # onnxruntime's own errors have no common base
            raise ModelError(
                f"{files[0]}: ONNX Runtime cannot read it ({error})", cure="copy the folder again"
            ) from error
        inputs, outputs = self._members[0].get_inputs(), self._members[0].get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f"{files[0]}: {len(inputs)} inputs and {len(outputs)} outputs", needed="one of each"
            )
        self._inputs: tuple[int, ...] = tuple(inputs[0].shape[1:])
        self._outputs: tuple[int, ...] = tuple(outputs[0].shape[1:])
        self.device = f"cpu: {used} threads, onnxruntime {onnxruntime.__version__}"

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32, contiguous.

        A running mean over the members.

        Raises:
            UsageError: patches of another shape than the model was made for.
            ResourceError: memory is not enough.
        """
        if tuple(patches.shape[1:]) != self._inputs:
            raise UsageError(
                f"patches of shape {tuple(patches.shape)}",
                needed=f"(B, {', '.join(map(str, self._inputs))})",
            )
        logits = np.empty((len(patches), *self._outputs), np.float32)
        for row in range(len(patches)):
            patch = np.require(patches[row : row + 1], dtype=np.float32, requirements=["C"])
            logits[row] = self._run(0, patch)
            for count in range(2, len(self._members) + 1):
                logits[row] += (self._run(count - 1, patch) - logits[row]) / count
        return logits

    def close(self) -> None:
        """Give back the networks."""
        self._members.clear()

    def _run(self, member: int, patch: NDArray[np.float32]) -> NDArray[np.float32]:
        session = self._members[member]
        try:
            (found,) = session.run(None, {session.get_inputs()[0].name: patch})
        except Exception as error:  # onnxruntime's own errors have no common base
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"memory is not enough for a patch of {self._inputs} ({error})", cure="--memory"
            ) from error
        logits: NDArray[np.float32] = found[0]
        return logits
