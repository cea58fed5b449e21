"""Choose the largest patch, network and batch for the device and the time at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import ResourceError
from hilum.plan.plan import NetworkSpec, Three
from hilum.plan.planner.grid import MAX_STAGES, fit_patch
from hilum.plan.planner.topology import make_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.plan.plan import ClassifierSpec, Hardware
    from hilum.plan.planner.grid import Grid
    from hilum.plan.planner.overrides import Kind, Overrides
    from hilum.plan.planner.topology import Topology

    Measure = Callable[[NetworkSpec | ClassifierSpec, Three, int], float | None]

MIN_STEPS = 2500
"""Steps that a training of 20 minutes should have; in less time the network is made narrower, then
the patch smaller."""
STEPS_RANGE = (300, 10_000)
USABLE = 0.85
"""Share of the minutes that goes into steps; the rest is preprocessing, validation and checkpoints.
"""
WIDTHS = (16, 32)
"""Features of the first stage: multiples of 16, because others halve the speed of bfloat16."""
PATCH_VOXELS = {
    "cpu": {2: 320 * 320, 3: 64 * 96 * 96},
    "other": {2: 1024 * 1024, 3: 192 * 192 * 192},
}
CPU_BATCH_VOXELS = 2**18
MIN_BATCH = 2
MAX_BATCH = {2: 32, 3: 8}
MAX_FEATURES = {2: 512, 3: 320}
BYTES_PER_FEATURE = 96
"""Memory of a training step for a voxel and a feature of the first stage; nnU-Net's 128^3 x 2 at
width 32 needs 8 to 10 GB."""
FLOPS = {"cpu": 3e11, "other": 2e13}
"""Operations a second, assumed where nothing was measured; two Zen 5 cores reach 5e11 in bfloat16.
"""

BLOCKS = {"cpu": (1, 2, 3, 3, 3, 3, 3, 3), "other": (1, 3, 4, 6, 6, 6, 6, 6)}
"""Residual blocks of each stage."""
SMALLEST_PATCH = {2: 64 * 64, 3: 32 * 32 * 32}
HOPELESS = 3.0
"""A candidate this many times too slow by estimate is not measured."""
USABLE_MEMORY = 0.7


@dataclass(frozen=True)
class Shape:
    """Requirements on the network beside its size."""

    in_channels: int
    out_channels: int
    kind: Kind = "residual_unet"


@dataclass(frozen=True)
class Sizing:
    """The chosen sizes.

    `seconds` is one training step, `measured` whether that was measured or estimated.

    A size that the device was found to have no memory for takes infinitely long.
    """

    topology: Topology
    network: NetworkSpec
    batch: int
    width: int
    seconds: float
    measured: bool
    patch_voxels: int
    tried: tuple[str, ...] = ()


def flops_per_step(spec: NetworkSpec, patch: Three, batch: int) -> float:
    """Multiply-adds of one forward and backward pass, times two.

    Transposed and 1 x 1 x 1 convolutions are left out.
    """
    convolutions = 2 if spec.kind == "residual_unet" else 1
    size = np.array(patch, dtype=np.float64)
    total = 0.0
    for stage, (features, kernel, stride) in enumerate(
        zip(spec.features, spec.kernels, spec.strides, strict=True)
    ):
        size = size / np.array(stride)
        one = float(np.prod(size) * np.prod(kernel)) * features * features
        first = spec.in_channels if stage == 0 else spec.features[stage - 1]
        total += one * (spec.encoder_blocks[stage] * convolutions - 1) + one * first / features
        if stage < len(spec.decoder_blocks):
            total += one * (spec.decoder_blocks[stage] * convolutions + 1)
    return 2 * 3 * total * batch  # backward costs two forwards


def size_up(
    grid: Grid, shape: Shape, hardware: Hardware, *, measure: Measure | None, overrides: Overrides
) -> Sizing:
    """Choose patch, width and batch.

    The largest patch comes first, as far as the narrowest network makes `min_steps` with it in the
    time; then the widest network that still does; then the largest batch. Without a time limit only
    the device's own limits count.

    Args:
        grid: what cases look like on the network's grid.
        shape: channels, outputs and kind of the network.
        hardware: device, memory and time.
        measure: gives the seconds of one training step, or None where the time for measuring is
            up; it raises ResourceError where the device has not enough memory for it. Without it
            they are estimated from the number of operations.
        overrides: patch, batch and width that the user fixed.

    Raises:
        ResourceError: the device has not enough memory even for the smallest.
    """
    trials = _Trials(grid, shape, hardware, measure)
    narrowest, *wider = WIDTHS if overrides.width is None else (overrides.width,)
    batch = overrides.batch or MIN_BATCH
    (topology, voxels), *smaller = _patches(trials, overrides, narrowest)
    if smaller and hardware.minutes is not None:
        # the cheapest is measured first, so that the estimates of the others are this device's
        cheapest = smaller[-1][0]
        trials.measure_step(trials.build(cheapest, narrowest), cheapest.patch, batch)
    best = trials.time(topology, narrowest, batch, voxels)
    for topology, voxels in smaller:
        if trials.enough(best):
            break
        if topology != best.topology:
            best = trials.time(topology, narrowest, batch, voxels)
    best = trials.grow(best, [(width, batch) for width in wider])
    batches = []
    most = batch if overrides.batch is not None else trials.most_batch(best)
    while batch < most:
        batch = min(2 * batch, most)
        batches.append((best.width, batch))
    best = trials.grow(best, batches)
    if not math.isfinite(best.seconds):
        raise ResourceError(
            f"{hardware.device} has not enough memory for one training step; tried:"
            f" {'; '.join(trials.tried)}",
            needed="a smaller patch or batch, or more memory",
            cure="close other programs that use the device, or device='cpu'",
        )
    return replace(best, tried=tuple(trials.tried))


def min_steps(minutes: float | None) -> int:
    """Return the steps that a training of so many minutes should have.

    They grow with the square root of the time, so that more time gives both more steps and larger
    ones.
    """
    least, most = STEPS_RANGE
    return (
        MIN_STEPS
        if minutes is None
        else round(min(max(MIN_STEPS * (minutes / 20) ** 0.5, least), most))
    )


class _Trials:
    """Measures candidates, except those far too slow by the rate of the last measurement."""

    def __init__(
        self, grid: Grid, shape: Shape, hardware: Hardware, measure: Measure | None
    ) -> None:
        self.grid, self.shape, self.measure = grid, shape, measure
        self.device = "cpu" if hardware.device == "cpu" else "other"
        self.memory_bytes = hardware.memory_gb * 1e9 * USABLE_MEMORY
        self.seconds = None if hardware.minutes is None else hardware.minutes * 60 * USABLE
        self.steps = min_steps(hardware.minutes)
        self.rate = FLOPS[self.device]
        self.tried: list[str] = []

    def enough(self, sizing: Sizing) -> bool:
        """Return True if the time is enough for `min_steps` steps."""
        if self.seconds is None:
            return math.isfinite(sizing.seconds)
        return self.seconds >= self.steps * sizing.seconds

    def build(self, topology: Topology, width: int) -> NetworkSpec:
        """Write a network out stage by stage: features double up to a cap."""
        n, dimensions = topology.stages, self.grid.dimensions
        residual = self.shape.kind == "residual_unet"
        cap = max(width, MAX_FEATURES[dimensions])
        blocks = BLOCKS[self.device] if residual else (2,) * 8
        return NetworkSpec(
            kind=self.shape.kind,
            dimensions=dimensions,
            in_channels=self.shape.in_channels,
            out_channels=self.shape.out_channels,
            features=tuple(min(width * 2**stage, cap) for stage in range(n)),
            kernels=topology.kernels,
            strides=topology.strides,
            encoder_blocks=blocks[:n],
            decoder_blocks=(1 if residual else 2,) * (n - 1),
            deep_supervision=self.shape.kind != "unet",
        )

    def measure_step(self, network: NetworkSpec, patch: Three, batch: int) -> float | None:
        """Measure the seconds of a step, and learn the rate from them.

        None where nothing can be measured; infinity where it does not fit, which says nothing of
        the rate.
        """
        if self.measure is None:
            return None
        try:
            seconds = self.measure(network, patch, batch)
        except ResourceError:
            return math.inf
        if seconds is not None:
            self.rate = flops_per_step(network, patch, batch) / max(seconds, 1e-9)
        return seconds

    def time(self, topology: Topology, width: int, batch: int, patch_voxels: int) -> Sizing:
        """Measure the seconds of a step, or estimate them where they are far too many."""
        network, patch = self.build(topology, width), topology.patch
        seconds = flops_per_step(network, patch, batch) / self.rate
        hopeless = self.seconds is not None and seconds * self.steps > HOPELESS * self.seconds
        timed = None if hopeless else self.measure_step(network, patch, batch)
        measured = timed is not None
        seconds = seconds if timed is None else timed
        how = "does not fit"
        if math.isfinite(seconds):
            how = f"{seconds:.3g} s a step ({'measured' if measured else 'estimated'})"
        shown = " x ".join(map(str, patch))
        self.tried.append(f"width {width}, patch {shown}, batch {batch}: {how}")
        return Sizing(topology, network, batch, width, seconds, measured, patch_voxels)

    def grow(self, sizing: Sizing, larger: Sequence[tuple[int, int]]) -> Sizing:
        """Return the last of ever larger (width, batch) that fits memory and time, or `sizing`."""
        patch = int(np.prod(sizing.topology.patch))
        for width, batch in larger:
            if patch * batch * width * BYTES_PER_FEATURE > self.memory_bytes:
                break
            timed = self.time(sizing.topology, width, batch, sizing.patch_voxels)
            if not self.enough(timed):
                break
            sizing = timed
        return sizing

    def most_batch(self, sizing: Sizing) -> int:
        """Return the largest batch that memory and 5 % of the data set's voxels (nnU-Net) allow."""
        patch = int(np.prod(sizing.topology.patch))
        most = MAX_BATCH[self.grid.dimensions]
        if self.device == "cpu":
            most = min(most, CPU_BATCH_VOXELS // patch)
        by_memory = int(self.memory_bytes // (patch * sizing.width * BYTES_PER_FEATURE))
        by_data = int(0.05 * self.grid.cases * self.grid.case_voxels // patch)
        return max(MIN_BATCH, min(most, by_memory, by_data))


def _patches(trials: _Trials, overrides: Overrides, narrowest: int) -> list[tuple[Topology, int]]:
    """Return patches with the voxels they may have, largest first, each half of the one before."""
    grid, dimensions = trials.grid, trials.grid.dimensions
    if overrides.patch is not None:
        stages = MAX_STAGES[dimensions]
        fixed = make_topology(
            overrides.patch, grid.spacing, dimensions=dimensions, max_stages=stages
        )
        return [(fixed, int(np.prod(overrides.patch)))]
    width = narrowest if trials.device == "cpu" else max(narrowest, WIDTHS[-1])
    by_memory = int(trials.memory_bytes // (2 * width * BYTES_PER_FEATURE))
    smallest = SMALLEST_PATCH[dimensions]
    budgets = [max(smallest, min(PATCH_VOXELS[trials.device][dimensions], by_memory))]
    while budgets[-1] // 2 >= smallest:
        budgets.append(budgets[-1] // 2)
    return [(fit_patch(grid, voxels), voxels) for voxels in budgets]
