"""The order of the decisions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from hilum.errors import UsageError
from hilum.plan.plan import AugmentationSpec, Decision, Hardware, LossSpec, Plan
from hilum.plan.planner import grid as grids
from hilum.plan.planner import intensity, recipe
from hilum.plan.planner.coarse import coarser_grid
from hilum.plan.planner.sizing import Kind, Shape, Sizing, Wanted, size_up

if TYPE_CHECKING:
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Three
    from hilum.plan.planner.sizing import Measure

T = TypeVar("T")
_ASKED = "asked for by the user"


@dataclass(frozen=True)
class Overrides:
    """What the user fixes; None leaves a decision to the planner, and what depends on a fixed one follows it.

    Sizes and spacing are in the order (Z, Y, X) of the plan's orientation; a patch is rounded up to what the network can halve.

    Raises:
        UsageError: a size is not positive, or the overlap no fraction below 1.
    """

    dimensions: Literal[2, 3] | None = None
    spacing: tuple[float, float, float] | None = None
    patch: Three | None = None
    batch: int | None = None
    width: int | None = None
    network: Kind | None = None
    loss: LossSpec | None = None
    mirror_axes: tuple[int, ...] | None = None
    steps: int | None = None
    overlap: float | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive."""
        sizes = {"spacing": self.spacing, "patch": self.patch, "batch": self.batch, "width": self.width, "steps": self.steps}
        for name, value in sizes.items():
            values = value if isinstance(value, tuple) else (value,)
            if any(one is not None and one <= 0 for one in values):
                raise UsageError(f"{name} {value}", needed="positive numbers")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError(f"overlap {self.overlap}", needed="a fraction of at least 0 and below 1, e.g. 0.5")


def make_plan(
    fingerprint: Fingerprint,
    hardware: Hardware | None = None,
    *,
    measure: Measure | None = None,
    precision: Decision[Literal["float32", "bfloat16"]] | None = None,
    overrides: Overrides | None = None,
) -> Plan:
    """Decide everything that makes a model.

    Args:
        fingerprint: what the data look like.
        hardware: device, memory and minutes; a CPU with 8 GB and no time limit if None.
        measure: seconds of one training step for (network, patch, batch) on the device, in the precision given; without it
            steps are estimated from the number of operations.
        precision: what a measurement on the device found to be faster; float32 if None.
        overrides: what the user fixes.
    """
    hardware = hardware or Hardware()
    asked = overrides or Overrides()
    dimensions = _or_asked(asked.dimensions, grids.decide_dimensions(fingerprint))
    orientation = grids.decide_orientation(fingerprint, dimensions.value)
    crop = grids.decide_crop(fingerprint)
    spacing: Decision[grids.Spacing | None] = grids.decide_spacing(fingerprint, orientation.value, dimensions.value)
    if asked.spacing is not None:
        spacing = Decision(value=asked.spacing, because=_ASKED)
    grid = grids.make_grid(fingerprint, orientation.value, spacing.value, dimensions.value, crop=crop.value)
    shape = Shape(len(fingerprint.channels), fingerprint.labels.outputs, asked.network or "residual_unet")
    size = partial(size_up, shape=shape, hardware=hardware, measure=measure, wanted=_wanted(asked))
    sizing = size(grid)
    coarser = coarser_grid(fingerprint, grid, sizing) if asked.spacing is None and asked.patch is None else None
    if coarser is not None:
        grid, because = coarser
        spacing = Decision(value=grid.spacing, because=because)
        sizing = size(grid)
    augmentation = recipe.decide_augmentation(fingerprint, grid)
    if asked.mirror_axes is not None:
        value = augmentation.value.model_copy(update={"mirror_axes": asked.mirror_axes})
        augmentation = Decision[AugmentationSpec](value=value, because=f"{augmentation.because}; mirror axes {_ASKED}")
    return Plan(
        name=fingerprint.name,
        hardware=hardware,
        channels=tuple(channel.name for channel in fingerprint.channels),
        labels=fingerprint.labels,
        task=Decision(value="segmentation", because="the data set has a label table and label maps"),
        dimensions=dimensions,
        orientation=orientation,
        crop=crop,
        spacing=spacing,
        image_order=intensity.decide_image_order(fingerprint, resampled=spacing.value is not None),
        normalisation=intensity.decide_normalisation(fingerprint, cropped=crop.value == "nonzero"),
        patch=Decision(value=sizing.topology.patch, because=_explain_patch(sizing, grid, asked)),
        batch=Decision(value=sizing.batch, because=_explain_batch(hardware, asked)),
        network=Decision(value=sizing.network, because=_explain_network(sizing, hardware, asked)),
        loss=_or_asked(asked.loss, recipe.decide_loss(fingerprint, sizing, grid)),
        augmentation=augmentation,
        optimiser=recipe.decide_optimiser(),
        foreground_fraction=recipe.decide_foreground_fraction(fingerprint, sizing, grid),
        steps=_or_asked(asked.steps, recipe.decide_steps(fingerprint, sizing, grid, hardware)),
        precision=precision or Decision(value="float32", because="no measurement showed that bfloat16 is faster on this device"),
        overlap=_or_asked(
            asked.overlap, Decision(value=0.5, because="every voxel is seen from several patches, the border of none")
        ),
    )


def _wanted(asked: Overrides) -> Wanted:
    return Wanted(patch=asked.patch, batch=asked.batch, width=asked.width)


def _or_asked(asked: T | None, decided: Decision[T]) -> Decision[T]:
    return decided if asked is None else Decision(value=asked, because=_ASKED)


def _explain_patch(sizing: Sizing, grid: grids.Grid, asked: Overrides) -> str:
    if asked.patch is not None:
        return f"{_ASKED} as {' x '.join(str(n) for n in asked.patch)}, rounded up to what the network can halve"
    return grids.explain_patch(sizing.topology, grid, sizing.patch_voxels)


def _explain_batch(hardware: Hardware, asked: Overrides) -> str:
    if asked.batch is not None:
        return _ASKED
    return (
        f"at least 2, and as many as {hardware.memory_gb:g} GB on {hardware.device}, a twentieth of the data set's voxels and "
        "the time allow"
    )


def _explain_network(sizing: Sizing, hardware: Hardware, asked: Overrides) -> str:
    kind = (
        f"{sizing.network.kind.replace('_', ' ')} {_ASKED}"
        if asked.network
        else "residual encoders lead nnU-Net's own comparison"
    )
    width = (
        f"width {sizing.width} {_ASKED}"
        if asked.width
        else f"width {sizing.width}, a multiple of 16, which bfloat16 needs for its speed"
    )
    tried = "; tried: " + ", ".join(sizing.tried) if hardware.minutes is not None else ""
    stages = f"{sizing.topology.stages} stages halve each axis while at least 4 voxels are left"
    return f"{kind}; {stages}; {width}{tried}"
