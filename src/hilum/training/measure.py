"""What a training step costs on this device, so that the plan can be sized to the time."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from hilum.errors import ResourceError
from hilum.inference import bfloat16_gain, describe_device, resolve_precision
from hilum.networks import build_network
from hilum.plan import Decision
from hilum.plan.plan import LossSpec, OptimiserSpec
from hilum.tasks import build_loss, deep_supervision_loss
from hilum.training.loop import arranged
from hilum.training.optimiser import build_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from hilum.plan.plan import NetworkSpec, Three
    from hilum.volume import LabelTable

    Precision = Literal["float32", "bfloat16"]

_TIMED_STEPS = 3


def choose_precision(device: torch.device, dimensions: Literal[2, 3]) -> Decision[Precision]:
    """bfloat16 where convolutions in so many dimensions are really faster in it on this device."""
    gain = bfloat16_gain(device, dimensions)
    value = resolve_precision("bfloat16", device, dimensions=dimensions)
    where = describe_device(device)
    text = f"{dimensions}D convolutions in bfloat16 were measured at {gain:.1f} times the speed of float32 on {where}"
    return Decision(value=value, because=text)


def step_timer(device: torch.device, precision: Precision, table: LabelTable) -> Callable[[NetworkSpec, Three, int], float]:
    """A function that measures the seconds of one training step (forward, backward, optimiser) with random data.

    It raises ResourceError where the device has not enough memory for the step.
    """

    def measure(spec: NetworkSpec, patch: Three, batch: int) -> float:
        try:
            return _seconds_per_step(spec, patch, batch, device=device, precision=precision, table=table)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        # only here, as the error's traceback held the tensors
        if device.type == "cuda":
            torch.cuda.empty_cache()
        sizes = " x ".join(str(n) for n in patch)
        raise ResourceError(
            f"{device} has not enough memory for a training step with {batch} patches of {sizes} voxels",
            needed="a smaller patch, batch or network, or more memory",
            cure="close other programs that use the device, or --device cpu",
        )

    return measure


def _seconds_per_step(
    spec: NetworkSpec, patch: Three, batch: int, *, device: torch.device, precision: Precision, table: LabelTable
) -> float:
    """The median of a few steps after one that warms up."""
    generator = torch.Generator().manual_seed(0)
    network = arranged(build_network(spec)).to(device)
    loss = build_loss(LossSpec(), table)
    optimiser = build_optimiser(network, OptimiserSpec())
    images = torch.randn(batch, spec.in_channels, *patch, generator=generator).to(device)
    channels = 1 if table.exclusive else table.outputs
    targets = torch.zeros(batch, channels, *patch, dtype=torch.uint8, device=device)
    seconds = []
    for _ in range(1 + _TIMED_STEPS):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = network.forward_deep(images)
        value = deep_supervision_loss(loss, outputs, targets)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimiser.step()
        value.item()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _out_of_memory(error: Exception) -> bool:
    """Whether memory was not enough; torch has a class of its own for CUDA's allocator, and sentences for the others."""
    said = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(one in str(error) for one in said)
