"""Cost of a training step on this device, with which the plan is sized to the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import torch

from hilum.engines import computes_in_bfloat16, describe_device
from hilum.errors import ResourceError
from hilum.networks import build_network
from hilum.networks.rng import fork_rng
from hilum.plan import Decision
from hilum.plan.classification import ClassLossSpec
from hilum.plan.plan import OptimiserSpec
from hilum.plan.segmentation import LossSpec
from hilum.targets import ClassificationTask, build_loss, deep_supervision_loss
from hilum.training.augmentation import Augmenter, enlarged_patch
from hilum.training.init_network import new_network, to_channels_last
from hilum.training.optimiser import build_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from torch import Tensor, nn

    from hilum.dataset import ClassTable
    from hilum.networks import Weights
    from hilum.networks.network import Network
    from hilum.plan import Plan
    from hilum.plan.plan import AugmentationSpec, ClassifierSpec, NetworkSpec, Three
    from hilum.volume import LabelTable

    Precision = Literal["float32", "bfloat16"]
    Outputs = Tensor | tuple[Tensor, ...]

_TIMED_STEPS = 3
_REHEARSED = 8
"""Cases in the step that compares precisions."""
_ALIKE = 0.9
"""Cosine below which two gradients are not the same."""


class TrialStep(Protocol):
    """A training step with random images and made-up targets."""

    def outputs(self, network: nn.Module) -> Outputs:
        """Logits of the images."""
        ...

    def loss(self, outputs: Outputs) -> Tensor:
        """Return the loss of those logits."""
        ...


MakeTrial: TypeAlias = "Callable[[Tensor], TrialStep]"
"""Makes a trial step for images (B, C, Z, Y, X)."""


def choose_precision(device: torch.device) -> Decision[Precision]:
    """Choose bfloat16 where the device has instructions for it; nothing is timed."""
    where = describe_device(device)
    if computes_in_bfloat16(device):
        return Decision(value="bfloat16", because=f"{where} has instructions for bfloat16")
    return Decision(value="float32", because=f"{where} has no instructions for bfloat16")


def choose_precision_by_trial_step(
    plan: Plan, device: torch.device, trial: MakeTrial, weights: Weights | None = None
) -> Decision[Precision]:
    """Choose bfloat16 where the device computes in it and this network's gradient stays the same.

    Never on a CPU: torch 2.15 gave weight gradients of bfloat16 convolutions over few voxels there
    (3 x 3 x 3, 256 features) that were infinite or no numbers in about half of the steps, and right
    in the others, so that a trial proves nothing.
    """
    if device.type == "cpu":
        return Decision(
            value="float32",
            because=(
                "on CPUs torch's bfloat16 convolutions over few voxels, a classifier's last, give"
                " wrong gradients at times"
            ),
        )
    chosen = choose_precision(device)
    if chosen.value == "float32":
        return chosen
    try:
        alike = _compare_gradients(plan, device, trial, weights)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise ResourceError(
            f"{device} has not enough memory for a training step with inputs of {plan.patch.value}"
            " voxels",
            needed="a smaller input, batch or network, or more memory",
            cure="close other programs that use the device, or device='cpu'",
        ) from None
    return Decision(
        value="bfloat16" if alike >= _ALIKE else "float32",
        because=(
            f"{chosen.because}; this network's gradient in it has a cosine of {alike:.2f} with that"
            " in float32"
        ),
    )


def _compare_gradients(
    plan: Plan, device: torch.device, trial: MakeTrial, weights: Weights | None
) -> float:
    """Return the cosine of a step's gradient in bfloat16 with that in float32."""
    network = new_network(plan, 0, weights).to(device).train()
    generator = torch.Generator().manual_seed(0)
    size = (min(_REHEARSED, plan.batch.value), plan.network.value.in_channels, *plan.patch.value)
    images = torch.randn(size, generator=generator).to(device)
    step = trial(images)
    gradients: dict[bool, Tensor] = {}
    for half in (False, True):
        with (
            fork_rng(0, device),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=half),
        ):  # the same dropout in both
            outputs = step.outputs(network)
        network.zero_grad()
        torch.autograd.backward(step.loss(outputs))
        gradients[half] = torch.cat(
            [p.grad.float().flatten() for p in network.parameters() if p.grad is not None]
        ).cpu()
    return float(torch.nn.functional.cosine_similarity(gradients[False], gradients[True], dim=0))


def time_step(plan: Plan, device: torch.device, trial: MakeTrial) -> float:
    """Measure the seconds of one training step of a plan, augmentation included."""
    timer = step_timer(device, plan.precision.value, trial, plan.augmentation.value)
    return timer(plan.network.value, plan.patch.value, plan.batch.value)


def time_while(
    allowed: Callable[[str], bool],
    timer: Callable[[NetworkSpec | ClassifierSpec, Three, int], float],
) -> Callable[[NetworkSpec | ClassifierSpec, Three, int], float | None]:
    """Make a timer that is told what it times, and gives None where the time for that is up."""

    def seconds(spec: NetworkSpec | ClassifierSpec, patch: Three, batch: int) -> float | None:
        shown = " x ".join(map(str, patch))
        return timer(spec, patch, batch) if allowed(f"{shown}, batch {batch}") else None

    return seconds


def step_timer(
    device: torch.device,
    precision: Precision,
    trial: MakeTrial,
    augmentation: AugmentationSpec | None = None,
) -> Callable[[NetworkSpec | ClassifierSpec, Three, int], float]:
    """Make a function that measures the seconds of one training step with random data.

    It takes the quickest of a few steps after one that warms up, and raises ResourceError where the
    device has not enough memory for the step.
    """

    def seconds(spec: NetworkSpec | ClassifierSpec, patch: Three, batch: int) -> float:
        """Time a training step of a network on random patches."""
        generator = torch.Generator().manual_seed(0)
        network = to_channels_last(build_network(spec)).to(device).train()
        optimiser = build_optimiser([list(network.parameters())], OptimiserSpec())
        images = torch.randn(batch, spec.in_channels, *patch, generator=generator).to(device)
        step = trial(images)
        if augmentation is not None:
            dimensions = spec.dimensions
            augment = Augmenter(augmentation, patch, spacing=(1.0, 1.0, 1.0), dimensions=dimensions)
            size = enlarged_patch(augmentation, patch, dimensions=dimensions)
            larger = torch.randn(batch, spec.in_channels, *size, generator=generator).to(device)
            targets = torch.zeros(batch, 1, *size, dtype=torch.uint8, device=device)
        taken = []
        for _ in range(1 + _TIMED_STEPS):
            start = time.perf_counter()
            if augmentation is not None:
                augment(larger, targets, generator)
            with (
                fork_rng(0, device),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"),
            ):
                outputs = step.outputs(network)
            value = step.loss(outputs)
            optimiser.zero_grad()
            torch.autograd.backward(value)
            optimiser.step()
            value.item()  # waits for a GPU
            taken.append(time.perf_counter() - start)
        return min(taken[1:])

    def measure(spec: NetworkSpec | ClassifierSpec, patch: Three, batch: int) -> float:
        """Time a training step; refuse sizes that the device's memory does not hold."""
        try:
            return seconds(spec, patch, batch)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        # only here, as the error's traceback held the tensors
        if device.type == "cuda":
            torch.cuda.empty_cache()
        sizes = " x ".join(str(n) for n in patch)
        raise ResourceError(
            f"{device} has not enough memory for a training step with {batch} patches of {sizes}"
            " voxels",
            needed="a smaller patch, batch or network, or more memory",
            cure="close other programs that use the device, or device='cpu'",
        )

    return measure


class SegmentationTrial:
    """A step of segmentation with made-up targets; see `TrialStep`."""

    def __init__(self, table: LabelTable, images: Tensor) -> None:
        self._images, self._loss = images, build_loss(LossSpec(), table)
        channels = 1 if table.exclusive else table.outputs
        shape = (len(images), channels, *images.shape[2:])
        self._targets = torch.zeros(shape, dtype=torch.uint8, device=images.device)

    def outputs(self, network: nn.Module) -> Outputs:
        """Logits at every supervised resolution."""
        return cast("Network", network).forward_deep(self._images)

    def loss(self, outputs: Outputs) -> Tensor:
        """Loss over all supervised resolutions."""
        return deep_supervision_loss(self._loss, tuple(outputs), self._targets)


class ClassificationTrial:
    """A step of classification with made-up targets; see `TrialStep`."""

    def __init__(self, table: ClassTable, images: Tensor) -> None:
        self._images, self._loss = images, ClassificationTask(table).loss(ClassLossSpec())
        self._targets = torch.full(
            (len(images), table.outputs), 1 / table.outputs, device=images.device
        )

    def outputs(self, network: nn.Module) -> Outputs:
        """Logits (B, K')."""
        return cast("Tensor", network(self._images))

    def loss(self, outputs: Outputs) -> Tensor:
        """Loss of the logits."""
        return cast("Tensor", self._loss(outputs, self._targets))


def _out_of_memory(error: Exception) -> bool:
    """Return True if memory was not enough.

    Torch has a class of its own for CUDA's allocator, and sentences for the others.
    """
    said = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        one in str(error) for one in said
    )
