"""What a training step costs on this device, so that the plan can be sized to the time."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from hilum.inference import bfloat16_gain, describe_device, resolve_precision
from hilum.networks import build_network
from hilum.plan import Decision
from hilum.plan.plan import LossSpec, OptimiserSpec
from hilum.tasks import build_loss, deep_supervision_loss
from hilum.training.optimiser import build_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from hilum.plan.plan import NetworkSpec, Three
    from hilum.volume import LabelTable

    Precision = Literal["float32", "bfloat16"]

_TIMED_STEPS = 3


def choose_precision(device: torch.device) -> Decision[Precision]:
    """bfloat16 where a convolution is really faster in it on this device."""
    gain = bfloat16_gain(device)
    value = resolve_precision("bfloat16", device)
    text = f"a convolution in bfloat16 was measured at {gain:.1f} times the speed of float32 on {describe_device(device)}"
    return Decision(value=value, because=text)


def step_timer(device: torch.device, precision: Precision, table: LabelTable) -> Callable[[NetworkSpec, Three, int], float]:
    """A function that measures the seconds of one training step (forward, backward, optimiser) with random data."""

    def measure(spec: NetworkSpec, patch: Three, batch: int) -> float:
        generator = torch.Generator().manual_seed(0)
        network = build_network(spec).to(device)
        loss = build_loss(LossSpec(), table)
        optimiser = build_optimiser(network, OptimiserSpec())
        images = torch.randn(batch, spec.in_channels, *patch, generator=generator).to(device)
        channels = 1 if table.exclusive else table.outputs
        targets = torch.zeros(batch, channels, *patch, dtype=torch.uint8, device=device)
        seconds = []
        for _ in range(1 + _TIMED_STEPS):  # the first one warms up
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

    return measure
