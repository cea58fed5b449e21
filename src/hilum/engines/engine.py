"""Interface of an engine: patches in, logits out, in numpy. Nothing here needs torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from hilum.engines.host import is_out_of_memory
from hilum.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


Precision = Literal["float32", "bfloat16", "float16", "int8"]
"""Number format of the computation; what goes in and comes out is always float32."""
EXPORT_INT8 = "export it with precision='int8' and data='DATA'"
"""The cure where a model that is not stored in int8 shall run in it."""


class Engine(Protocol):
    """A network, or the members of an ensemble, as one function."""

    name: str
    """"torch", "openvino" or "onnx"."""
    precision: str
    """Among `Precision`."""
    device: str
    """In words, for people and for run.json: "cpu: 2 threads, AVX512"."""
    batch: int
    """Patches a call at which it is fastest; more and fewer are taken as well."""

    because: str
    """Reason for this engine and its settings, for run.json."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map patches (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32 and contiguous.

        The members of an ensemble averaged.

        May be called from another thread than the one that made it, but from one at a time. The
        answer is the caller's: it is not written to by a later call.

        Raises:
            ResourceError: memory is not enough even for one patch.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; it is not called afterwards."""
        ...


class PatchEngine(ABC):
    """Networks of one shape that run one patch at a time on the processor; an `Engine`.

    Args:
        count: of the networks.
        inputs: (C, *patch).
        outputs: (K, *patch).
    """

    name: str
    because: str = "asked for"
    precision: str
    device: str
    batch: int = 1  # a patch alone keeps the processor busy; more only take more memory

    def __init__(self, count: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self._count, self.inputs, self.outputs = count, inputs, outputs

    @abstractmethod
    def run(self, number: int, patch: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Fill the logits (1, K, *patch) that a network gives to a patch (1, C, *patch)."""

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32, contiguous.

        A running mean over the networks.

        Raises:
            UsageError: patches of another shape than the model was made for.
            ResourceError: memory is not enough.
        """
        if tuple(patches.shape[1:]) != self.inputs:
            raise UsageError(
                f"the engine was given patches of shape {tuple(patches.shape)}",
                needed=f"(B, {', '.join(map(str, self.inputs))})",
            )
        patches = np.require(patches, dtype=np.float32, requirements=["C"])
        mean = np.empty((len(patches), *self.outputs), np.float32)
        for number in range(self._count):
            logits = np.empty_like(mean) if number else mean
            try:
                for row in range(len(patches)):
                    self.run(number, patches[row : row + 1], logits[row : row + 1])
            except Exception as error:  # the libraries' own errors have no common base
                if not is_out_of_memory(error):
                    raise
                raise ResourceError(
                    f"memory is not enough for a patch of {self.inputs} ({error})",
                    cure="close other programs, or take a machine with more memory",
                ) from error
            if number:
                logits -= mean
                logits /= number + 1
                mean += logits
        return mean
