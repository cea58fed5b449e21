"""The plan of a classification: the order of its decisions, and what each follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import UsageError
from hilum.plan.classification import (
    ClassificationPlan,
    ClassLossSpec,
    RegionSpec,
    Stage,
    WeightsSpec,
)
from hilum.plan.plan import AugmentationSpec, ClassifierSpec, Decision, OptimiserSpec
from hilum.plan.planner import grid as grids
from hilum.plan.planner import intensity
from hilum.plan.planner.overrides import ASKED, or_asked
from hilum.plan.planner.recipe import named_side, side_pair
from hilum.plan.planner.sizing import USABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.dataset.classes import ClassTable
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Hardware, Three
    from hilum.plan.planner.overrides import Overrides, Precision
    from hilum.plan.planner.sizing import Measure

EMBEDDED_BACKBONE = "tf_efficientnet_lite0"
REGION_SHARE = 0.5
"""A mask says where to look when its usual extent is at most this share of the image along some axis."""
WINDOW = 1.3
"""The window is so many times as wide as nearly all masks."""
CONTEXT_MM = 8.0
"""What is seen around a small mask at least, on both sides together."""
INPUT = {"cpu": {2: 224, 3: 40}, "other": {2: 320, 3: 96}}
"""Longest side of the input in voxels."""
SMALL_PICTURE = 128
"""Input for pictures that are much smaller than the usual input: more would only blow them up."""
BATCH = {2: 32, 3: 16}
PASSES = 40
"""How often training sees each case when no time is given."""
STEPS = (300, 20_000)
IMBALANCE = 10.0
"""A class that is so many times rarer than the largest is drawn more often; it costs calibration, as the network then sees other
frequencies than there are."""
FEW_CASES = 5_000
GUESSED_SECONDS = {2: 0.8, 3: 0.5}
"""A training step on two cores, where nothing was measured."""


def plan_classification(
    fingerprint: Fingerprint, hardware: Hardware, *, measure: Measure | None, precision: Precision, asked: Overrides
) -> ClassificationPlan:
    """Decide everything that makes a classification model; see `make_plan`.

    Raises:
        UsageError: no classes, or something was fixed that this task does not have.
    """
    table = fingerprint.classes
    if table is None:
        raise UsageError(f"{fingerprint.name} has no classes", needed="a data set whose cases have classes")
    dimensions = or_asked(asked.dimensions, _decide_dimensions(fingerprint))
    orientation = grids.decide_orientation(fingerprint, dimensions.value)
    region = or_asked(asked.region, _decide_region(fingerprint))
    view = _decide_view(fingerprint, region.value, hardware, dimensions.value, asked)
    weights = or_asked(asked.weights, _decide_weights(asked))
    channels = len(fingerprint.channels) + region.value.mask_channel
    network = _decide_network(table, dimensions.value, channels, weights.value, asked)
    batch = or_asked(asked.batch, _decide_batch(fingerprint, dimensions.value))
    balance = or_asked(asked.balance, _decide_balance(fingerprint, table))
    seconds, how = _step_seconds(network.value, view.patch.value, batch.value, measure)
    return ClassificationPlan(
        name=fingerprint.name,
        hardware=hardware,
        channels=tuple(channel.name for channel in fingerprint.channels),
        classes=table,
        task=Decision(value="classification", because=f"every case has a class: {', '.join(table.names)}"),
        dimensions=dimensions,
        orientation=orientation,
        region=region,
        spacing=view.spacing,
        image_order=Decision(value=1, because="the input is far coarser than a pixel's edge: linear, smoothed before it shrinks"),
        normalisation=intensity.decide_normalisation(fingerprint, cropped=False),
        patch=view.patch,
        batch=batch,
        network=network,
        weights=weights,
        stages=or_asked(asked.stages, _decide_stages(weights.value)),
        loss=or_asked(asked.class_loss, _decide_loss(fingerprint, table, balance.value)),
        balance=balance,
        augmentation=_decide_augmentation(fingerprint, region.value, orientation.value, dimensions.value, asked),
        optimiser=Decision(
            value=OptimiserSpec(learning_rate=1e-3, weight_decay=0.05, warmup_fraction=0.0, ema_decay=0.99, gradient_clip=5.0),
            because="AdamW; the stages have their own warm-ups; averaged over about a hundred steps, as there are not many",
        ),
        steps=or_asked(asked.steps, _decide_steps(fingerprint, hardware, batch.value, seconds, how)),
        precision=precision,
        coverage=Decision(value=0.9, because="the usual 90 % of cases whose class the prediction set holds"),
    )


def _decide_dimensions(fingerprint: Fingerprint) -> Decision[Literal[2, 3]]:
    if all(case.shape[0] == 1 for case in fingerprint.cases):
        return Decision(value=2, because=f"all {len(fingerprint.cases)} cases are single pictures")
    return Decision(value=3, because="the cases are volumes, and a class is about the whole of one")


def _decide_region(fingerprint: Fingerprint) -> Decision[RegionSpec]:
    """A mask or a point where every case has one and it is small; else the whole image."""
    cases = fingerprint.cases
    masks = [case.region_mm for case in cases if case.region_mm is not None]
    if len(masks) == len(cases):
        sizes = [np.array(case.shape) * np.array(case.spacing) for case in cases]
        shares = np.median([np.array(mask) / size for mask, size in zip(masks, sizes, strict=True)], axis=0)
        if shares.min() <= REGION_SHARE:
            return Decision(
                value=RegionSpec(kind="mask", mask_channel=True),
                because=f"every case has a mask, which spans {shares.min():.0%} of the image along one axis: the network sees a "
                "window around its middle, and the mask itself as a channel; the model needs a mask for every case "
                "(--region middle does without)",
            )
    if all(case.centred for case in cases):
        return Decision(value=RegionSpec(kind="centre"), because="the data set gives the point to look at for every case")
    return Decision(value=RegionSpec(kind="whole"), because="nothing says where to look, so the network sees the whole image")


@dataclass(frozen=True)
class _View:
    """What the network sees: input size, and mm a voxel where that is fixed."""

    patch: Decision[Three]
    spacing: Decision[grids.Spacing | None]


def _decide_view(
    fingerprint: Fingerprint, region: RegionSpec, hardware: Hardware, dimensions: Literal[2, 3], asked: Overrides
) -> _View:
    longest = INPUT["cpu" if hardware.device == "cpu" else "other"][dimensions]
    decide = _whole_view if region.kind == "whole" else _window_view
    view = decide(fingerprint, longest, dimensions)
    spacing = view.spacing if asked.spacing is None else Decision(value=asked.spacing, because=ASKED)
    return _View(patch=or_asked(asked.patch, view.patch), spacing=spacing)


def _whole_view(fingerprint: Fingerprint, longest: int, dimensions: Literal[2, 3]) -> _View:
    """All of the image: the input has the proportions of the median case."""
    shapes = np.array([case.shape for case in fingerprint.cases], dtype=float)
    sizes = np.median(shapes * np.array([case.spacing for case in fingerprint.cases]), axis=0)
    side = float(np.median(shapes[:, 3 - dimensions :].max(axis=1)))
    small = dimensions == 2 and side <= SMALL_PICTURE / 2
    side_used = SMALL_PICTURE if small else longest if dimensions == 2 else int(min(longest, _up(side, 8)))
    scale = side_used / sizes[3 - dimensions :].max()
    patch = _three(
        [1.0 if dimensions == 2 and axis == 0 else _up(sizes[axis] * scale, 32 if dimensions == 2 else 8) for axis in range(3)]
    )
    text = f"the median case has {side:g} voxels along its longest side; the input has {side_used}"
    if small:
        text += ", more than there are, because the backbones were made for larger pictures"
    return _View(
        patch=Decision(value=patch, because=text + ", and the proportions of the median case"),
        spacing=Decision(value=None, because="each image is scaled so that all of it fits the input"),
    )


def _window_view(fingerprint: Fingerprint, longest: int, dimensions: Literal[2, 3]) -> _View:
    """A window in millimetres, wide enough for nearly all masks."""
    masks = np.array([case.region_mm for case in fingerprint.cases if case.region_mm is not None])
    spacings = np.median([case.spacing for case in fingerprint.cases], axis=0)
    shapes = np.median([case.shape for case in fingerprint.cases], axis=0)
    if len(masks):
        usual = float(np.percentile(masks[:, 3 - dimensions :].max(axis=1), 95))
        side_mm = max(WINDOW * usual, usual + CONTEXT_MM)
        text = f"95 % of the masks are at most {usual:.3g} mm wide; a window of {side_mm:.3g} mm shows them and what is around"
    else:
        side_mm = float((shapes * spacings)[3 - dimensions :].min())
        text = f"a window of {side_mm:.3g} mm, the shortest side of the median image"
    finest = float(spacings[3 - dimensions :].min())
    side = int(min(longest, _up(side_mm / finest, 8)))
    mm = side_mm / side
    spacing = (float(spacings[0]) if dimensions == 2 else mm, mm, mm)
    return _View(
        patch=Decision(value=(1 if dimensions == 2 else side, side, side), because=text),
        spacing=Decision(value=spacing, because=f"{side} voxels across the window; the images have {finest:.3g} mm"),
    )


def _up(size: float, multiple: int) -> int:
    """A size rounded up to a multiple."""
    return max(multiple, math.ceil(size / multiple - 1e-6) * multiple)


def _three(sizes: list[float]) -> Three:
    z, y, x = (int(size) for size in sizes)
    return z, y, x


def _decide_weights(asked: Overrides) -> Decision[WeightsSpec]:
    """Pretrained wherever there are weights."""
    if asked.network == "resnet3d":
        return Decision(value=WeightsSpec(origin="random"), because="a 3D residual network has no pretrained weights here")
    return Decision(
        value=WeightsSpec(origin="pretrained"),
        because="features learnt on photographs are a better beginning than chance, where cases are few",
    )


def _decide_network(
    table: ClassTable, dimensions: Literal[2, 3], channels: int, weights: WeightsSpec, asked: Overrides
) -> Decision[ClassifierSpec]:
    turned = weights.origin != "random" or asked.backbone is not None
    kind = asked.network or ("backbone" if dimensions == 2 else "acs" if turned else "resnet3d")
    if kind not in {"backbone", "inflated", "acs", "slices", "resnet3d"}:
        raise UsageError(
            f"network {kind!r} for a classification", needed="backbone, inflated, acs, slices or resnet3d", cure="--network acs"
        )
    plain = kind == "resnet3d"
    spec = ClassifierSpec(
        kind=kind,
        dimensions=dimensions,
        in_channels=channels,
        out_channels=table.outputs,
        backbone=asked.backbone or ("" if plain else EMBEDDED_BACKBONE),
        planes="three" if kind == "slices" else "axial",
        features=(32, 64, 128, 256) if plain else (),
        blocks=(1, 1, 1, 1) if plain else (),
    )
    return Decision(value=spec, because=ASKED if asked.network else _WHY[kind])


_WHY = {
    "backbone": "a small backbone made for pictures, whose weights need no network access",
    "acs": "a 2D backbone whose kernels look along three planes keeps its pretrained weights in 3D (Yang et al. 2021)",
    "resnet3d": "a small 3D residual network, as there are no pretrained weights",
}


def _decide_batch(fingerprint: Fingerprint, dimensions: int) -> Decision[int]:
    most = max(2, len(fingerprint.cases) // 4)
    value = min(BATCH[dimensions], most)
    return Decision(value=value, because=f"{BATCH[dimensions]}, or a quarter of {len(fingerprint.cases)} cases if that is less")


def _decide_stages(weights: WeightsSpec) -> Decision[tuple[Stage, ...]]:
    if weights.origin == "random":
        return Decision(value=STAGES["all"](), because="weights that know nothing have nothing to keep: all learn at once")
    return Decision(
        value=STAGES["two"](),
        because="first the new head on frozen features, so that its large first errors spoil nothing; then everything, the early "
        "layers more slowly than the late ones",
    )


def _probe() -> tuple[Stage, ...]:
    return (Stage(share=1.0, released=1, probe=True),)


def _head() -> tuple[Stage, ...]:
    return (Stage(share=1.0, released=1, rate=3.0),)


def _two() -> tuple[Stage, ...]:
    return Stage(share=0.15, released=1, rate=3.0), Stage(share=0.85, rate=1.0, decay=0.75, warmup=0.1)


def _top() -> tuple[Stage, ...]:
    return Stage(share=0.15, released=1, rate=3.0), Stage(share=0.85, released=3, rate=1.0, decay=0.75, warmup=0.1)


def _all() -> tuple[Stage, ...]:
    return (Stage(share=1.0, rate=1.0, warmup=0.05),)


STAGES: dict[str, Callable[[], tuple[Stage, ...]]] = {"probe": _probe, "head": _head, "two": _two, "top": _top, "all": _all}
"""Ways to fine-tune, by the name users give: a linear probe on cached features, the head alone, the head and then everything (or
the top blocks), everything at once."""


def _decide_loss(fingerprint: Fingerprint, table: ClassTable, balance: str) -> Decision[ClassLossSpec]:
    smoothing = 0.05 if table.kind == "exclusive" else 0.0
    weights = class_weights(fingerprint, table) if balance == "weights" else None
    if len(fingerprint.cases) < FEW_CASES:
        return Decision(
            value=ClassLossSpec(class_weights=weights, label_smoothing=smoothing, mixup=0.2),
            because=f"cross-entropy; {len(fingerprint.cases)} cases are few, so labels are smoothed and pairs of cases mixed",
        )
    spec = ClassLossSpec(class_weights=weights, label_smoothing=smoothing)
    return Decision(value=spec, because="cross-entropy with smoothed labels")


def _decide_balance(fingerprint: Fingerprint, table: ClassTable) -> Decision[Literal["none", "weights", "sampling"]]:
    counts = class_counts(fingerprint, table)
    shown = ", ".join(f"{name} {count}" for name, count in zip(table.names, counts, strict=True))
    present = [count for count in counts if count]
    if table.kind == "multilabel":
        return Decision(value="none", because=f"findings keep their own frequencies ({shown})")
    if not present or max(present) < IMBALANCE * min(present):
        return Decision(value="none", because=f"no class is {IMBALANCE:g} times rarer than another ({shown})")
    return Decision(value="sampling", because=f"cases of rare classes are drawn more often ({shown})")


def class_counts(fingerprint: Fingerprint, table: ClassTable) -> tuple[int, ...]:
    """Cases of each class, in the table's order."""
    members = np.array([table.members(case.label) for case in fingerprint.cases if case.label is not None], dtype=int)
    return tuple(int(n) for n in members.reshape(-1, len(table.names)).sum(axis=0))


def class_weights(fingerprint: Fingerprint, table: ClassTable) -> tuple[float, ...]:
    """Weights of the outputs, inverse to how many cases are behind each.

    Classes that exclude each other: N / (K n), scikit-learn's "balanced". Findings, and steps from grade to grade: inverse to the
    cases of the rarer answer, scaled to a mean of 1.
    """
    counts = np.array(class_counts(fingerprint, table), dtype=float)
    if table.kind == "exclusive":
        return tuple(float(one) for one in counts.sum() / (len(counts) * np.maximum(counts, 1)))
    cases = sum(case.label is not None for case in fingerprint.cases)
    yes = counts if table.kind == "multilabel" else counts[::-1].cumsum()[-2::-1]
    inverse = 1 / np.maximum(np.minimum(yes, cases - yes), 1)
    return tuple(float(one) for one in inverse / inverse.mean())


def _decide_augmentation(
    fingerprint: Fingerprint, region: RegionSpec, orientation: str, dimensions: Literal[2, 3], asked: Overrides
) -> Decision[AugmentationSpec]:
    """Strong, because few cases have one label each; mirrored from left to right, unless a class is named after a side."""
    turns = (15.0, 0.0, 0.0) if dimensions == 2 else (20.0, 20.0, 20.0)
    any_way = dimensions == 3 and region.kind != "whole" and all(case.region_mm for case in fingerprint.cases)
    names = fingerprint.classes.names if fingerprint.classes else ()
    axes = tuple(n for n in ((0, 1, 2) if any_way else (2,)) if not named_side(names, side_pair(orientation, n)))
    why = "a window around a mask in any direction" if len(axes) == 3 else "left and right" if axes else "not at all"
    if len(axes) < (3 if any_way else 1):
        why = f"{f'along axes {axes}' if axes else 'not at all'}, because classes are named after sides"
    if asked.mirror_axes is not None:
        axes, why = asked.mirror_axes, f"axes {asked.mirror_axes}, {ASKED}"
    spec = AugmentationSpec(
        rotation_degrees=turns,
        shift=0.06,
        scale=(0.85, 1.2),
        spatial_probability=0.8,
        mirror_axes=axes,
        noise_std=0.1,
        intensity_probability=0.2,
    )
    return Decision(value=spec, because=f"one label a case teaches little, so the images are changed often; mirrored: {why}")


def _step_seconds(network: ClassifierSpec, patch: Three, batch: int, measure: Measure | None) -> tuple[float, str]:
    if measure is None:
        return GUESSED_SECONDS[network.dimensions], "guessed"
    return measure(network, patch, batch), "measured"


def _decide_steps(fingerprint: Fingerprint, hardware: Hardware, batch: int, seconds: float, how: str) -> Decision[int]:
    if hardware.minutes is not None:
        steps = max(1, int(hardware.minutes * 60 * USABLE / seconds))
        return Decision(
            value=steps,
            because=f"{hardware.minutes:g} minutes, of which {USABLE:.0%} for steps of {seconds:.3g} s ({how}); the schedule "
            "ends with the time",
        )
    wanted = PASSES * len(fingerprint.cases) // batch
    steps = int(np.clip(wanted, *STEPS))
    return Decision(
        value=steps,
        because=f"no time limit: {PASSES} passes over {len(fingerprint.cases)} cases at batch {batch} would be {wanted:,} steps, "
        f"kept within {STEPS[0]:,} .. {STEPS[1]:,}; a plateau ends it earlier",
    )
