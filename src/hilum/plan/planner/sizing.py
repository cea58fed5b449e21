"""Choose the largest patch, network and batch for the device and the time at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum.errors import ResourceError
from hilum.plan.plan import NetworkSpec, Three
from hilum.plan.planner.grid import MAX_STAGES, fit_patch
from hilum.plan.planner.topology import make_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.plan.plan import Hardware
    from hilum.plan.planner.grid import Grid
    from hilum.plan.planner.overrides import Overrides
    from hilum.plan.planner.topology import Topology

    Measure = Callable[[Any, Three, int], float]

MIN_STEPS = 2500
"""Steps that a training of 20 minutes should have; in less time the network is made narrower, then
the patch smaller."""
STEPS_RANGE = (300, 10_000)
USABLE = 0.85
"""Share of the minutes that goes into steps; the rest is preprocessing, validation and checkpoints.
"""
WIDTHS = {"cpu": (16, 32), "other": (16, 32)}
"""Features of the first stage: multiples of 16, because others halve the speed of bfloat16."""
CPU_PATCH_VOXELS = {2: 320 * 320, 3: 64 * 96 * 96}
GPU_PATCH_VOXELS = {2: 1024 * 1024, 3: 192 * 192 * 192}
CPU_BATCH_VOXELS = {2: 2**18, 3: 2**18}
MIN_BATCH = 2
MAX_BATCH = {2: 32, 3: 8}
MAX_FEATURES = {2: 512, 3: 320}
BYTES_PER_FEATURE = 96
"""Memory of a training step for a voxel and a feature of the first stage; nnU-Net's 128^3 x 2 at
width 32 needs 8 to 10 GB."""
FLOPS = {"cpu": 3e11, "other": 2e13}
"""Operations a second, assumed where nothing was measured; two Zen 5 cores reach 5e11 in bfloat16.
"""

SMALLEST_PATCH = {2: 64 * 64, 3: 32 * 32 * 32}
HOPELESS = 3.0
"""A candidate this many times too slow by estimate is not measured."""
USABLE_MEMORY = 0.7

Kind = Literal["unet", "plain_unet", "residual_unet"]


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


def build_spec(
    topology: Topology, shape: Shape, *, dimensions: Literal[2, 3], width: int, device: str
) -> NetworkSpec:
    """Write a network out stage by stage: features double up to a cap."""
    n = topology.stages
    features = tuple(
        min(width * 2**stage, max(width, MAX_FEATURES[dimensions])) for stage in range(n)
    )
    if shape.kind == "residual_unet":
        blocks = (1, 2, 3, 3, 3, 3, 3, 3) if device == "cpu" else (1, 3, 4, 6, 6, 6, 6, 6)
    else:
        blocks = (2,) * 8
    decoder = 1 if shape.kind == "residual_unet" else 2
    return NetworkSpec(
        kind=shape.kind,
        dimensions=dimensions,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        features=features,
        kernels=topology.kernels,
        strides=topology.strides,
        encoder_blocks=blocks[:n],
        decoder_blocks=(decoder,) * (n - 1),
        deep_supervision=shape.kind != "unet",
    )


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
        measure: gives the seconds of one training step, or raises ResourceError where the device
            has not enough memory for it; estimated from the number of operations if None.
        overrides: patch, batch and width that the user fixed.

    Raises:
        ResourceError: the device has not enough memory even for the smallest.
    """
    clock = _Clock(hardware, measure)
    widths = (
        (overrides.width,)
        if overrides.width is not None
        else WIDTHS["cpu" if hardware.device == "cpu" else "other"]
    )
    least = overrides.batch or MIN_BATCH
    make = partial(_candidate, grid, shape, hardware)
    first, *smaller = _patch_budgets(grid, hardware, overrides, narrowest=widths[0])
    if smaller:
        clock.learn_rate(
            make(
                _topology(grid, smaller[-1], overrides),
                width=widths[0],
                batch=least,
                voxels=smaller[-1],
            )
        )
    best = clock.time(
        make(_topology(grid, first, overrides), width=widths[0], batch=least, voxels=first)
    )
    for voxels in smaller:
        if clock.enough(best):
            break
        topology = _topology(grid, voxels, overrides)
        if topology != best.topology:
            best = clock.time(make(topology, width=widths[0], batch=least, voxels=voxels))
    options = [
        make(best.topology, width=width, batch=least, voxels=best.patch_voxels)
        for width in widths[1:]
    ]
    best = clock.grow(best, options)
    most = least if overrides.batch is not None else _most_batch(best, grid, hardware)
    options, batch = [], least
    while batch < most:
        batch = min(2 * batch, most)
        options.append(make(best.topology, width=best.width, batch=batch, voxels=best.patch_voxels))
    best = clock.grow(best, options)
    if not math.isfinite(best.seconds):
        raise ResourceError(
            f"{hardware.device} has not enough memory for one training step; tried:"
            f" {'; '.join(clock.tried)}",
            needed="a smaller patch or batch, or more memory",
            cure="close other programs that use the device, or device='cpu'",
        )
    return replace(best, tried=tuple(clock.tried))


def min_steps(minutes: float | None) -> int:
    """Steps that a training of so many minutes should have.

    They grow with the square root of the time, so that more time gives both more steps and larger
    ones.
    """
    least, most = STEPS_RANGE
    return (
        MIN_STEPS
        if minutes is None
        else round(min(max(MIN_STEPS * (minutes / 20) ** 0.5, least), most))
    )


class _Clock:
    """Measures candidates, except those far too slow by the rate of the last measurement."""

    def __init__(self, hardware: Hardware, measure: Measure | None) -> None:
        self._hardware = hardware
        self._measure = measure
        self._seconds = None if hardware.minutes is None else hardware.minutes * 60 * USABLE
        self._steps = min_steps(hardware.minutes)
        self._rate = FLOPS["cpu" if hardware.device == "cpu" else "other"]
        self.tried: list[str] = []

    def enough(self, sizing: Sizing) -> bool:
        if self._seconds is None:
            return math.isfinite(sizing.seconds)
        return self._seconds >= self._steps * sizing.seconds

    def learn_rate(self, smallest: Sizing) -> None:
        """Measure the cheapest candidate, so that the estimates of the others are this device's."""
        if self._measure is not None and self._seconds is not None:
            self._timed(smallest, self._measure)

    def grow(self, sizing: Sizing, larger: Sequence[Sizing]) -> Sizing:
        """The last of ever larger sizings that fits memory and time, or the one at hand."""
        for option in larger:
            voxels = int(np.prod(option.topology.patch)) * option.batch
            if voxels * option.width * BYTES_PER_FEATURE > _memory_bytes(self._hardware):
                break
            timed = self.time(option)
            if not self.enough(timed):
                break
            sizing = timed
        return sizing

    def time(self, sizing: Sizing) -> Sizing:
        """The same sizing with the seconds of a step."""
        operations = flops_per_step(sizing.network, sizing.topology.patch, sizing.batch)
        seconds, measured = operations / self._rate, False
        hopeless = self._seconds is not None and seconds * self._steps > HOPELESS * self._seconds
        if self._measure is not None and not hopeless:
            seconds, measured = self._timed(sizing, self._measure), True
        patch = " x ".join(str(n) for n in sizing.topology.patch)
        how = (
            f"{seconds:.3g} s a step ({'measured' if measured else 'estimated'})"
            if math.isfinite(seconds)
            else "does not fit"
        )
        self.tried.append(f"width {sizing.width}, patch {patch}, batch {sizing.batch}: {how}")
        return replace(sizing, seconds=seconds, measured=measured)

    def _timed(self, sizing: Sizing, measure: Measure) -> float:
        """Seconds of a step, from which the rate is learnt.

        Infinity where it does not fit, which says nothing of the rate.
        """
        try:
            seconds = measure(sizing.network, sizing.topology.patch, sizing.batch)
        except ResourceError:
            return math.inf
        self._rate = flops_per_step(sizing.network, sizing.topology.patch, sizing.batch) / max(
            seconds, 1e-9
        )
        return seconds


def _topology(grid: Grid, voxels: int, overrides: Overrides) -> Topology:
    stages = MAX_STAGES[grid.dimensions]
    if overrides.patch is not None:
        return make_topology(
            overrides.patch, grid.spacing, dimensions=grid.dimensions, max_stages=stages
        )
    return fit_patch(grid, voxels)


def _candidate(
    grid: Grid,
    shape: Shape,
    hardware: Hardware,
    topology: Topology,
    *,
    width: int,
    batch: int,
    voxels: int,
) -> Sizing:
    spec = build_spec(
        topology, shape, dimensions=grid.dimensions, width=width, device=hardware.device
    )
    return Sizing(
        topology=topology,
        network=spec,
        batch=batch,
        width=width,
        seconds=0.0,
        measured=False,
        patch_voxels=voxels,
    )


def _most_batch(sizing: Sizing, grid: Grid, hardware: Hardware) -> int:
    """Return the largest batch that memory and 5 % of the data set's voxels (nnU-Net) allow."""
    patch = int(np.prod(sizing.topology.patch))
    most = MAX_BATCH[grid.dimensions]
    if hardware.device == "cpu":
        most = min(most, CPU_BATCH_VOXELS[grid.dimensions] // patch)
    by_memory = int(_memory_bytes(hardware) // (patch * sizing.width * BYTES_PER_FEATURE))
    by_data = int(0.05 * grid.cases * grid.case_voxels // patch)
    return max(MIN_BATCH, min(most, by_memory, by_data))


def _patch_budgets(
    grid: Grid, hardware: Hardware, overrides: Overrides, *, narrowest: int
) -> list[int]:
    """Voxels a patch may have, largest first, each half of the one before."""
    if overrides.patch is not None:
        return [int(np.prod(overrides.patch))]
    most = (CPU_PATCH_VOXELS if hardware.device == "cpu" else GPU_PATCH_VOXELS)[grid.dimensions]
    width = narrowest if hardware.device == "cpu" else max(narrowest, WIDTHS["other"][-1])
    by_memory = int(_memory_bytes(hardware) // (2 * width * BYTES_PER_FEATURE))
    budgets = [max(SMALLEST_PATCH[grid.dimensions], min(most, by_memory))]
    while budgets[-1] // 2 >= SMALLEST_PATCH[grid.dimensions]:
        budgets.append(budgets[-1] // 2)
    return budgets


def _memory_bytes(hardware: Hardware) -> float:
    return hardware.memory_gb * 1e9 * USABLE_MEMORY
