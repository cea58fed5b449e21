"""ONNX Runtime runs an exported network on the processor, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime
import psutil

from hilum.engines.engine import PatchEngine
from hilum.engines.host import usable_cpus
from hilum.errors import ModelError, UsageError, damaged_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def resolve_precision(wanted: str | None) -> str:
    """Return the only precision that this engine has.

    Raises:
        UsageError: another one is wanted.
    """
    if wanted not in {None, "auto", "float32"}:
        raise UsageError(
            f"precision={wanted!r} is not one of onnx",
            needed="auto or float32",
            cure="engine='openvino', or precision='auto'",
        )
    return "float32"


class OnnxEngine(PatchEngine):
    """A network, or the networks of an ensemble, as .onnx files.

    Args:
        files: one a network, with the input (1, C, Z, Y, X) and one output (1, K, Z, Y, X); of one
            shape.
        threads: of the processor; None: one for each core that this process may use.

    Raises:
        ModelError: a file cannot be read, or is not of this form.
    """

    name = "onnx"
    precision = "float32"

    def __init__(self, files: Sequence[Path], *, threads: int | None = None) -> None:
        """Load the files."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what only warns is for those who write networks
        # a core's second thread only gets in the way of the first
        used = threads or min(usable_cpus(), psutil.cpu_count(logical=False) or usable_cpus())
        options.intra_op_num_threads = used
        try:
            self._sessions = [
                onnxruntime.InferenceSession(
                    str(file), sess_options=options, providers=["CPUExecutionProvider"]
                )
                for file in files
            ]
        except Exception as error:  # onnxruntime's own errors have no common base
            raise damaged_model(f"{files[0]}: ONNX Runtime cannot read it ({error})") from error
        inputs, outputs = self._sessions[0].get_inputs(), self._sessions[0].get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f"{files[0]} has {len(inputs)} inputs and {len(outputs)} outputs",
                needed="one of each",
                cure="export the model again with hilum",
            )
        super().__init__(len(files), tuple(inputs[0].shape[1:]), tuple(outputs[0].shape[1:]))
        self.device = f"cpu: {used} threads, onnxruntime {onnxruntime.__version__}"

    def close(self) -> None:
        """Give back the networks."""
        self._sessions.clear()

    def run(self, number: int, patch: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Fill the logits of one network for a patch."""
        session = self._sessions[number]
        (logits[...],) = session.run(None, {session.get_inputs()[0].name: patch})
