"""The plan of a segmentation: the order of its decisions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast, get_args

from hilum.errors import UsageError
from hilum.plan.plan import AugmentationSpec, Decision
from hilum.plan.planner import grid as grids
from hilum.plan.planner import intensity
from hilum.plan.planner import training_decisions as decisions
from hilum.plan.planner.coarse_grid import coarser_grid
from hilum.plan.planner.overrides import ASKED, or_override
from hilum.plan.planner.sizing import Kind, Shape, Sizing, size_up
from hilum.plan.segmentation import SegmentationPlan
from hilum.plan.training_ranges import summarise_training_images

if TYPE_CHECKING:
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Hardware
    from hilum.plan.planner.overrides import Overrides, Precision
    from hilum.plan.planner.sizing import Measure


def plan_segmentation(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    measure: Measure | None,
    precision: Precision,
    overrides: Overrides,
) -> SegmentationPlan:
    """Decide everything that makes a segmentation model; see `make_plan`."""
    dimensions = or_override(overrides.dimensions, grids.decide_dimensions(fingerprint))
    orientation = grids.decide_orientation(fingerprint, dimensions.value)
    crop = grids.decide_crop(fingerprint)
    spacing: Decision[grids.Spacing | None] = grids.decide_spacing(
        fingerprint, orientation.value, dimensions.value
    )
    if overrides.spacing is not None:
        spacing = Decision(value=overrides.spacing, because=ASKED)
    grid = grids.make_grid(
        fingerprint, orientation.value, spacing.value, dimensions.value, crop=crop.value
    )
    shape = Shape(len(fingerprint.channels), fingerprint.labels.outputs, _kind(overrides))
    size = partial(size_up, shape=shape, hardware=hardware, measure=measure, overrides=overrides)
    sizing = size(grid)
    coarser = (
        coarser_grid(fingerprint, grid, sizing)
        if overrides.spacing is None and overrides.patch is None
        else None
    )
    if coarser is not None:
        grid, because = coarser
        spacing = Decision(value=grid.spacing, because=because)
        sizing = size(grid)
    augmentation = decisions.decide_augmentation(fingerprint, grid)
    if overrides.mirror_axes is not None:
        value = augmentation.value.model_copy(update={"mirror_axes": overrides.mirror_axes})
        augmentation = Decision[AugmentationSpec](
            value=value, because=f"{augmentation.because}; mirror axes {ASKED}"
        )
    return SegmentationPlan(
        name=fingerprint.name,
        hardware=hardware,
        channels=tuple(channel.name for channel in fingerprint.channels),
        seen=summarise_training_images(fingerprint, scaled=spacing.value is not None),
        labels=fingerprint.labels,
        task=Decision(
            value="segmentation", because="the data set has a label table and label maps"
        ),
        dimensions=dimensions,
        orientation=orientation,
        crop=crop,
        spacing=spacing,
        image_order=intensity.decide_image_order(fingerprint, resampled=spacing.value is not None),
        normalisation=intensity.decide_normalisation(fingerprint, cropped=crop.value == "nonzero"),
        patch=Decision(
            value=sizing.topology.patch, because=_explain_patch(sizing, grid, overrides)
        ),
        batch=Decision(value=sizing.batch, because=_explain_batch(hardware, overrides)),
        network=Decision(
            value=sizing.network, because=_explain_network(sizing, hardware, overrides)
        ),
        loss=or_override(overrides.loss, decisions.decide_loss(fingerprint, sizing, grid)),
        augmentation=augmentation,
        optimiser=decisions.decide_optimiser(),
        foreground_fraction=decisions.decide_foreground_fraction(fingerprint, sizing, grid),
        steps=or_override(
            overrides.steps, decisions.decide_steps(fingerprint, sizing, grid, hardware)
        ),
        precision=precision,
        overlap=or_override(
            overrides.overlap,
            Decision(
                value=0.5, because="every voxel is seen from several patches, the border of none"
            ),
        ),
    )


def _kind(overrides: Overrides) -> Kind:
    """The network that the user fixed, or the best.

    Raises:
        UsageError: it is no network for segmentation.
    """
    known = get_args(Kind)
    if overrides.network is None:
        return "residual_unet"
    if overrides.network not in known:
        raise UsageError(
            f"network {overrides.network!r} for a segmentation",
            needed=", ".join(known),
            cure="network='residual_unet'",
        )
    return cast("Kind", overrides.network)


def _explain_patch(sizing: Sizing, grid: grids.Grid, overrides: Overrides) -> str:
    if overrides.patch is not None:
        return (
            f"{ASKED} as {' x '.join(str(n) for n in overrides.patch)}, rounded up to what the"
            " network can halve"
        )
    return grids.explain_patch(sizing.topology, grid, sizing.patch_voxels)


def _explain_batch(hardware: Hardware, overrides: Overrides) -> str:
    if overrides.batch is not None:
        return ASKED
    return (
        f"at least 2, and as many as {hardware.memory_gb:g} GB on {hardware.device}, a twentieth of"
        " the data set's voxels and the time allow"
    )


def _explain_network(sizing: Sizing, hardware: Hardware, overrides: Overrides) -> str:
    kind = (
        f"{sizing.network.kind.replace('_', ' ')} {ASKED}"
        if overrides.network
        else "residual encoders lead nnU-Net's own comparison"
    )
    width = (
        f"width {sizing.width} {ASKED}"
        if overrides.width
        else f"width {sizing.width}, a multiple of 16, which bfloat16 needs for its speed"
    )
    tried = "; tried: " + ", ".join(sizing.tried) if hardware.minutes is not None else ""
    stages = f"{sizing.topology.stages} stages halve each axis while at least 4 voxels are left"
    return f"{kind}; {stages}; {width}{tried}"
