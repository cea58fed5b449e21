"""torch runs a network: its device, its precision, the networks of an ensemble."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from hilum.engines.host import has_bfloat16
from hilum.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]

_log = logging.getLogger("hilum")
_AMPERE = (8, 0)
"""The first compute capability of NVIDIA GPUs with instructions for bfloat16."""


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Find the device of that name; "auto" takes the first CUDA device, else the CPU.

    Raises:
        UsageError: no such kind of device.
        ResourceError: this machine has none of that kind, or not that many.
    """
    if str(name) == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"device={str(name)!r} is no device",
            needed="auto, cpu, cuda, cuda:1, ... or mps",
            cure="device='auto'",
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"device={str(name)!r} is not there: torch {torch.__version__} sees"
            f" {torch.cuda.device_count()} CUDA devices",
            needed="a CUDA GPU with its driver, and a torch built for it",
            cure="device='cpu'",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError(
            "device='mps' is not there: torch sees no Apple GPU", cure="device='cpu'"
        )
    return device


def describe_device(device: torch.device) -> str:
    """Describe the device for people and for run.json."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if device.type == "cpu":
        return f"cpu: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return str(device)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16: of a processor or of a CUDA GPU.

    Of others nothing is known.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    return device.type == "cpu" and has_bfloat16()


def resolve_precision(wanted: Precision, device: torch.device) -> Precision:
    """Return bfloat16 where it is wanted and the device has instructions for it, else float32.

    Nothing is timed.
    """
    if wanted == "float32" or computes_in_bfloat16(device):
        return wanted
    _log.info(
        "float32 instead of bfloat16: %s has no instructions for bfloat16", describe_device(device)
    )
    return "float32"


@contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Keep networks in evaluation mode meanwhile.

    Afterwards they are as they were, so that training may lend its own.
    """
    modes = [network.training for network in networks]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


def running_mean(tensors: Iterable[Tensor]) -> Tensor:
    """Average tensors; equal ones give exactly their value."""
    others = iter(tensors)  # two exist at a time
    mean = next(others)
    for count, other in enumerate(others, start=2):
        mean = mean + (other - mean) / count
    return mean


class TorchEngine:
    """Networks of one architecture as one function: the mean of their logits; an `Engine`.

    Args:
        networks: one, or the members of an ensemble; already on `device`.
        device: where the patches are sent.
        precision: float32, or bfloat16 by autocast.
        batch: patches a call; halved, and logged, whenever a GPU runs out of memory.
        threads: of the processor while it computes, and afterwards as many as before; None: torch's
            own.
    """

    name = "torch"
    because: str = "asked for"

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        device: torch.device,
        precision: Precision,
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        self.networks = tuple(networks)
        self.torch_device = device
        self._threads = threads
        with self._its_threads():
            self.device = describe_device(device)
        self.precision: str = precision
        self.batch = batch
        self._most = math.inf  # patches a call that have fitted into the device's memory

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (B, C, Z, Y, X) to logits (B, K, Z, Y, X), float32, contiguous.

        Raises:
            ResourceError: memory is not enough even for one patch.
        """
        with self.evaluating(), self._its_threads(), torch.inference_mode():
            while len(patches) <= self._most:
                try:
                    return self._run(patches)
                except torch.OutOfMemoryError as error:
                    if len(patches) == 1:
                        raise ResourceError(
                            f"{self.device}: not enough memory for one patch of"
                            f" {tuple(patches.shape[2:])} voxels",
                            cure="device='cpu'",
                        ) from error
                torch.cuda.empty_cache()
                self._most = self.batch = len(patches) // 2
                _log.warning(
                    "%s ran out of memory with %d patches at a time: trying %d",
                    self.device,
                    len(patches),
                    self.batch,
                )
        size = int(self._most)
        return np.concatenate(
            [self(patches[start : start + size]) for start in range(0, len(patches), size)]
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Map (B, C, Z, Y, X) to logits, float32, on the device.

        A running mean over the networks.
        """
        with self.autocast():
            return running_mean(network(patches).float() for network in self.networks)

    def autocast(self) -> torch.autocast:
        """Compute in the engine's precision meanwhile."""
        bfloat16 = self.precision == "bfloat16"
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=bfloat16)

    def close(self) -> None:
        """Give back what torch keeps of a GPU for later."""
        if self.torch_device.type == "cuda":
            torch.cuda.empty_cache()

    def evaluating(self) -> AbstractContextManager[None]:
        """Keep the networks in evaluation mode meanwhile."""
        return evaluating(self.networks)

    @contextmanager
    def _its_threads(self) -> Iterator[None]:
        """Give the process the threads of this engine meanwhile, and others theirs afterwards."""
        before = torch.get_num_threads()
        if self._threads is None or self._threads == before:
            yield
            return
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _run(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on patches in numpy: to the device, through it, and back."""
        images = torch.from_numpy(np.require(patches, dtype=np.float32, requirements=["C", "W"]))
        on_cuda = self.torch_device.type == "cuda"
        if on_cuda:
            images = images.pin_memory()  # which is copied without waiting
        images = images.to(self.torch_device, non_blocking=on_cuda)
        return self.forward(images).contiguous().cpu().numpy()
