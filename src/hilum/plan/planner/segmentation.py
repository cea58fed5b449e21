"""The plan of a segmentation: the order of its decisions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast, get_args

from hilum.errors import UsageError
from hilum.plan.fingerprint import summarise_training_images
from hilum.plan.plan import Decision, decide
from hilum.plan.planner import grid as grids
from hilum.plan.planner import intensity
from hilum.plan.planner import training_decisions as decisions
from hilum.plan.planner.overrides import ASKED, Kind, or_override
from hilum.plan.planner.sizing import Shape, Sizing, size_up
from hilum.plan.segmentation import SegmentationPlan

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
    """Decide everything that makes a segmentation model; see `make_plan`.

    Raises:
        UsageError: the user fixed a network that is none for segmentation.
    """
    dimensions = or_override(overrides.dimensions, grids.decide_dimensions(fingerprint))
    orientation = grids.decide_orientation(fingerprint, dimensions.value)
    crop = grids.decide_crop(fingerprint)
    spacing: Decision[grids.Spacing | None] = grids.decide_spacing(
        fingerprint, orientation.value, dimensions.value
    )
    if overrides.spacing is not None:
        spacing = decide(overrides.spacing, ASKED)
    grid = grids.make_grid(
        fingerprint, orientation.value, spacing.value, dimensions.value, crop=crop.value
    )
    kind = overrides.network or "residual_unet"
    if kind not in get_args(Kind):
        raise UsageError(
            f"network {kind!r} for a segmentation does not exist",
            needed=", ".join(get_args(Kind)),
            cure="network='residual_unet'",
        )
    shape = Shape(len(fingerprint.channels), fingerprint.labels.outputs, cast("Kind", kind))
    size = partial(size_up, shape=shape, hardware=hardware, measure=measure, overrides=overrides)
    sizing = size(grid)
    if overrides.spacing is None and overrides.patch is None:
        coarser = grids.coarser_grid(fingerprint, grid, sizing)
        if coarser is not None:
            grid, because = coarser
            spacing, sizing = decide(grid.spacing, because), size(grid)
    if overrides.patch is None:
        why_patch = grids.explain_patch(sizing.topology, grid, sizing.patch_voxels)
    else:
        shown = " x ".join(map(str, overrides.patch))
        why_patch = f"{ASKED} as {shown}, rounded up to what the network can halve"
    return SegmentationPlan(
        name=fingerprint.name,
        hardware=hardware,
        channels=tuple(channel.name for channel in fingerprint.channels),
        seen=summarise_training_images(fingerprint, scaled=spacing.value is not None),
        labels=fingerprint.labels,
        task=decide("segmentation", "the data set has a label table and label maps"),
        dimensions=dimensions,
        orientation=orientation,
        crop=crop,
        spacing=spacing,
        image_order=intensity.decide_image_order(fingerprint, resampled=spacing.value is not None),
        normalisation=intensity.decide_normalisation(fingerprint, cropped=crop.value == "nonzero"),
        patch=decide(sizing.topology.patch, why_patch),
        batch=decide(
            sizing.batch,
            ASKED
            if overrides.batch is not None
            else f"at least 2, and as many as {hardware.memory_gb:g} GB on {hardware.device}, a"
            " twentieth of the data set's voxels and the time allow",
        ),
        network=decide(sizing.network, _explain_network(sizing, hardware, overrides)),
        loss=or_override(overrides.loss, decisions.decide_loss(fingerprint, sizing, grid)),
        augmentation=decisions.decide_augmentation(fingerprint, grid, overrides.mirror_axes),
        optimiser=decisions.decide_optimiser(),
        foreground_fraction=decisions.decide_foreground_fraction(fingerprint, sizing, grid),
        steps=or_override(
            overrides.steps, decisions.decide_steps(fingerprint, sizing, grid, hardware)
        ),
        precision=precision,
        overlap=or_override(
            overrides.overlap,
            decide(0.5, "every voxel is seen from several patches, the border of none"),
        ),
    )


def _explain_network(sizing: Sizing, hardware: Hardware, overrides: Overrides) -> str:
    """Give the reason for kind, stages and width of the network."""
    kind = "residual encoders lead nnU-Net's own comparison"
    if overrides.network:
        kind = f"{sizing.network.kind.replace('_', ' ')} {ASKED}"
    why = ", a multiple of 16, which bfloat16 needs for its speed"
    if overrides.width:
        why = f" {ASKED}"
    tried = "; tried: " + ", ".join(sizing.tried) if hardware.minutes is not None else ""
    stages = f"{sizing.topology.stages} stages halve each axis while at least 4 voxels are left"
    return f"{kind}; {stages}; width {sizing.width}{why}{tried}"
