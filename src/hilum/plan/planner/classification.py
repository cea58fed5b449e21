"""The plan of a classification: the order of its decisions, and what each follows from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from hilum.errors import UsageError
from hilum.plan.classification import (
    STAGES,
    ClassificationPlan,
    ClassLossSpec,
    RegionSpec,
    Stage,
    WeightsSpec,
)
from hilum.plan.fingerprint import summarise_training_images
from hilum.plan.plan import AugmentationSpec, ClassifierSpec, Decision, OptimiserSpec, decide
from hilum.plan.planner import grid as grids
from hilum.plan.planner import intensity
from hilum.plan.planner.input_size import SMALL_PICTURE, StepCost, decide_view, wanted_inputs
from hilum.plan.planner.overrides import ASKED, ClassifierKind, or_override
from hilum.plan.planner.training_decisions import named_side, side_pair, steps_in_time

if TYPE_CHECKING:
    from hilum.dataset.classes import ClassTable
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Hardware
    from hilum.plan.planner.overrides import Overrides, Precision
    from hilum.plan.planner.sizing import Measure

EMBEDDED_BACKBONE = "tf_efficientnet_lite0"
REGION_SHARE = 0.5
"""A mask says where to look when its usual extent is at most this share of the image along some
axis."""
BATCH = {2: 32, 3: 16}
PASSES = 40
"""Epochs of a training when no time is given."""
STEPS = (300, 20_000)
IMBALANCE = 10.0
"""A class that is so many times rarer than the largest is drawn more often; it costs calibration,
as the network then sees other frequencies than there are."""
FEW_CASES = 5_000
STILL = (1.0, 1.0)
TURNED = ("inflated", "acs")
"""Networks whose 2D kernels were turned to 3D."""
WIDTH = {"cpu": 16, "other": 32}
"""Features of the first stage of a 3D residual network."""
RATES = {True: 2e-3, False: 1e-3}
"""Learning rate of weights that were drawn at random, and of pretrained ones; found on cases that
no figure is reported on (docs/benchmarks.md)."""
_WHY_NETWORK = {
    "backbone": "a small backbone made for pictures, whose weights need no network access",
    "acs": "a 2D backbone, kernels along three planes, keeps pretrained weights (Yang et al. 2021)",
    "plain": "a small 3D residual network, as there are no pretrained weights",
    "resnet3d": "a small 3D residual network: several times as many cases a minute as a pretrained"
    " 2D backbone turned to 3D (network='acs'), and not worse (docs/benchmarks.md)",
}


def plan_classification(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    measure: Measure | None,
    precision: Precision,
    overrides: Overrides,
) -> ClassificationPlan:
    """Decide everything that makes a classification model; see `make_plan`.

    Raises:
        UsageError: no classes, or something was fixed that this task does not have.
    """
    table = fingerprint.classes
    if table is None:
        raise UsageError(
            f"{fingerprint.name} has no classes",
            needed="a data set whose cases have classes",
            cure="name the column of the classes: label='COLUMN'",
        )
    cases = len(fingerprint.cases)
    usual_dimensions: Decision[Literal[2, 3]] = decide(2, f"all {cases} cases are single pictures")
    if any(case.shape[0] > 1 for case in fingerprint.cases):
        usual_dimensions = decide(3, "the cases are volumes, and a class is about the whole of one")
    dimensions = or_override(overrides.dimensions, usual_dimensions)
    orientation = grids.decide_orientation(fingerprint, dimensions.value)
    region = or_override(overrides.region, _decide_region(fingerprint))
    channels = len(fingerprint.channels) + region.value.mask_channel
    network = _decide_network(table, dimensions.value, channels, hardware, overrides)
    weights = or_override(overrides.weights, _decide_weights(network.value))
    usual = BATCH[dimensions.value]
    decided = decide(
        min(usual, max(2, cases // 4)), f"{usual}, or a quarter of {cases} cases if that is less"
    )
    batch = or_override(overrides.batch, decided)
    balance = or_override(overrides.balance, _decide_balance(fingerprint, table))
    stages = or_override(overrides.stages, _decide_stages(network.value, weights.value))
    pace = StepCost(network.value, batch.value, measure)
    wanted = 0 if any(stage.probe for stage in stages.value) else wanted_inputs(cases)
    view = decide_view(
        fingerprint, region.value, hardware, dimensions.value, overrides, pace=pace, wanted=wanted
    )
    seconds, how = pace.seconds(view.patch.value)
    return ClassificationPlan(
        name=fingerprint.name,
        hardware=hardware,
        channels=tuple(channel.name for channel in fingerprint.channels),
        seen=summarise_training_images(fingerprint, scaled=view.spacing.value is not None),
        classes=table,
        task=decide("classification", f"every case has a class: {', '.join(table.names)}"),
        dimensions=dimensions,
        orientation=orientation,
        region=region,
        spacing=view.spacing,
        image_order=decide(1, "linear, smoothed before it shrinks: the input is coarse"),
        normalisation=intensity.decide_normalisation(fingerprint, cropped=False),
        patch=view.patch,
        batch=batch,
        network=network,
        weights=weights,
        stages=stages,
        loss=or_override(overrides.class_loss, _decide_loss(fingerprint, table, balance.value)),
        balance=balance,
        augmentation=_decide_augmentation(
            fingerprint, region.value, orientation.value, dimensions.value, overrides
        ),
        optimiser=decide(
            OptimiserSpec(
                learning_rate=RATES[weights.value.origin == "random"],
                weight_decay=0.05,
                warmup_fraction=0.0,
                ema_decay=0.99,
                gradient_clip=5.0,
            ),
            "AdamW; the stages have their own warm-ups; averaged over about a hundred steps",
        ),
        steps=or_override(
            overrides.steps, _decide_steps(cases, hardware, batch.value, seconds, how)
        ),
        precision=precision,
        coverage=decide(0.9, "the usual 90 % of cases whose class the prediction set holds"),
    )


def _decide_region(fingerprint: Fingerprint) -> Decision[RegionSpec]:
    """Decide for a mask or a point where every case has one and it is small; else the whole."""
    cases = fingerprint.cases
    shares = [
        np.array(case.region_mm) / (np.array(case.shape) * np.array(case.spacing))
        for case in cases
        if case.region_mm is not None
    ]
    share = np.median(shares, axis=0).min() if shares else 1.0
    points = sum(case.centred for case in cases)
    if len(shares) == len(cases) and share <= REGION_SHARE:
        return decide(
            RegionSpec(kind="mask", mask_channel=True),
            f"every case has a mask, which spans {share:.0%} of the image along one axis: a window"
            " around its middle, the mask as a channel; the model needs a mask for every case"
            " (region='middle' does without)",
        )
    if points == len(cases):
        why = "the data set gives the point to look at for every case"
        return decide(RegionSpec(kind="centre"), why)
    found = [
        f"a {what} for only {count} of {len(cases)} cases"
        for what, count in (("mask", len(shares)), ("point", points))
        if count
    ]
    why = "nothing says where to look"
    if len(shares) == len(cases):
        why = f"every case has a mask, but the masks usually span more than {REGION_SHARE:.0%}"
    elif found:
        why = f"there is {' and '.join(found)}, and a window needs the same of every case"
    return decide(RegionSpec(kind="whole"), f"{why}, so the network sees the whole image")


def _decide_network(
    table: ClassTable,
    dimensions: Literal[2, 3],
    channels: int,
    hardware: Hardware,
    overrides: Overrides,
) -> Decision[ClassifierSpec]:
    """Decide for the network: what was asked for, else by dimensions and first weights."""
    origin = overrides.weights.origin if overrides.weights is not None else None
    pretrained = overrides.backbone is not None or origin == "pretrained"
    kind = overrides.network or (
        "backbone" if dimensions == 2 else "acs" if pretrained else "resnet3d"
    )
    kinds = get_args(ClassifierKind) if dimensions == 3 else ("backbone",)
    if kind not in kinds:
        raise UsageError(
            f"network={kind!r} is not possible for a classification in {dimensions}D",
            needed=f"one of {', '.join(kinds)}" if dimensions == 3 else "backbone",
            cure="network='acs'" if dimensions == 3 else "network='backbone'",
        )
    own = kind == "resnet3d"
    width = WIDTH["cpu" if hardware.device == "cpu" else "other"]
    spec = ClassifierSpec(
        kind=kind,
        dimensions=dimensions,
        in_channels=channels,
        out_channels=table.outputs,
        backbone=overrides.backbone or ("" if own else EMBEDDED_BACKBONE),
        planes="three" if kind == "slices" else "axial",
        features=tuple(width * 2**stage for stage in range(4)) if own else (),
        blocks=(1, 1, 1, 1) if own else (),
        norm="batch" if own else "group",
    )
    why = ASKED if overrides.network else _WHY_NETWORK["plain" if own and origin else kind]
    return decide(spec, why)


def _decide_weights(network: ClassifierSpec) -> Decision[WeightsSpec]:
    """Decide for pretrained weights wherever there are some."""
    if network.kind == "resnet3d":
        why = "a 3D residual network has no pretrained weights here"
        return decide(WeightsSpec(origin="random"), why)
    why = "features learnt on photographs are a better beginning than chance, where cases are few"
    return decide(WeightsSpec(origin="pretrained"), why)


def _decide_stages(network: ClassifierSpec, weights: WeightsSpec) -> Decision[tuple[Stage, ...]]:
    """Decide if everything learns at once, or first the new head."""
    if weights.origin == "random":
        return decide(STAGES["all"], "random weights have nothing to keep: all learn at once")
    if network.kind in TURNED:
        why = "all layers learn at once: the first ones learnt too little of volumes in two stages"
        return decide(STAGES["all"], why)
    why = "first the new head on frozen features; then everything, early layers more slowly"
    return decide(STAGES["two"], why)


def _decide_loss(
    fingerprint: Fingerprint, table: ClassTable, balance: str
) -> Decision[ClassLossSpec]:
    """Decide for cross-entropy, with its weights, smoothing and mixing of cases."""
    cases, mixup = len(fingerprint.cases), 0.0
    because = "cross-entropy with smoothed labels"
    if _tiny(fingerprint):
        because += "; mixed pictures of so few pixels show nothing"
    elif cases < FEW_CASES:
        mixup = 0.2
        because += f"; {cases} cases are few, so pairs of cases are mixed"
    spec = ClassLossSpec(
        class_weights=class_weights(fingerprint, table) if balance == "weights" else None,
        label_smoothing=0.05 if table.kind == "exclusive" else 0.0,
        mixup=mixup,
    )
    return decide(spec, because)


def _decide_balance(
    fingerprint: Fingerprint, table: ClassTable
) -> Decision[Literal["none", "weights", "sampling"]]:
    """Decide for sampling rare classes more often, where one is much rarer than another."""
    counts = class_counts(fingerprint, table)
    shown = ", ".join(f"{name} {count}" for name, count in zip(table.names, counts, strict=True))
    present = [count for count in counts if count]
    if table.kind == "multilabel":
        return decide("none", f"findings keep their own frequencies ({shown})")
    if not present or max(present) < IMBALANCE * min(present):
        return decide("none", f"no class is {IMBALANCE:g} times rarer than another ({shown})")
    return decide("sampling", f"cases of rare classes are drawn more often ({shown})")


def class_counts(fingerprint: Fingerprint, table: ClassTable) -> tuple[int, ...]:
    """Count the cases of each class, in the table's order."""
    indicators = np.array(
        [table.indicators(case.label) for case in fingerprint.cases if case.label is not None],
        dtype=int,
    )
    return tuple(int(n) for n in indicators.reshape(-1, len(table.names)).sum(axis=0))


def class_weights(fingerprint: Fingerprint, table: ClassTable) -> tuple[float, ...]:
    """Return weights of the outputs, inverse to how many cases are behind each.

    Classes that exclude each other: N / (K n), scikit-learn's "balanced". Findings, and steps from
    grade to grade: inverse to the cases of the rarer side, scaled to a mean of 1.
    """
    counts = np.array(class_counts(fingerprint, table), dtype=float)
    if table.kind == "exclusive":
        return tuple(float(one) for one in counts.sum() / (len(counts) * np.maximum(counts, 1)))
    cases = sum(case.label is not None for case in fingerprint.cases)
    yes = counts if table.kind == "multilabel" else counts[::-1].cumsum()[-2::-1]
    inverse = 1 / np.maximum(np.minimum(yes, cases - yes), 1)
    return tuple(float(one) for one in inverse / inverse.mean())


class _Motion(NamedTuple):
    """Random rotation and scaling, with the probability of these and of changed intensities."""

    degrees: tuple[float, float, float]
    scale: tuple[float, float]
    spatial: float
    intensity: float
    because: tuple[str, ...]


def _decide_motion(fingerprint: Fingerprint, region: RegionSpec, dimensions: int) -> _Motion:
    """Decide how far inputs are turned and scaled, by what the network looks at."""
    if region.kind != "whole":
        turns = (15.0, 0.0, 0.0) if dimensions == 2 else (20.0, 20.0, 20.0)
        why = "never scaled, because a window in millimetres shows how large something is"
        return _Motion(turns, STILL, 0.8, 0.2, (why,))
    if dimensions == 3:
        why = "turned little and seldom and never scaled, because whole volumes lie alike"
        return _Motion((10.0, 10.0, 10.0), STILL, 0.3, 0.1, (why,))
    if _tiny(fingerprint):
        why = "little, because pictures of so few pixels lose by it what they show"
        return _Motion((5.0, 0.0, 0.0), (0.95, 1.05), 0.8, 0.0, (why,))
    return _Motion((15.0, 0.0, 0.0), (0.85, 1.2), 0.8, 0.2, ())


def _decide_augmentation(
    fingerprint: Fingerprint,
    region: RegionSpec,
    orientation: str,
    dimensions: Literal[2, 3],
    overrides: Overrides,
) -> Decision[AugmentationSpec]:
    """Decide strong augmentation that keeps what the classes differ by."""
    axes, mirrored = _mirror_axes(fingerprint, region, orientation, dimensions, overrides)
    motion = _decide_motion(fingerprint, region, dimensions)
    spec = AugmentationSpec(
        rotation_degrees=motion.degrees,
        scale=motion.scale,
        shift=0.06,
        spatial_probability=motion.spatial,
        mirror_axes=axes,
        noise_std=0.1,
        intensity_probability=motion.intensity,
    )
    reasons = ["one label a case teaches little, so the images are changed often", *motion.because]
    if all(channel.kind == "ct" for channel in fingerprint.channels):
        reasons.append("no other brightness or contrast, because CT numbers have a meaning")
        spec = spec.model_copy(update=dict.fromkeys(("brightness", "contrast", "gamma"), STILL))
    return decide(spec, f"{'; '.join(reasons)}; mirrored: {mirrored}")


def _mirror_axes(
    fingerprint: Fingerprint,
    region: RegionSpec,
    orientation: str,
    dimensions: Literal[2, 3],
    overrides: Overrides,
) -> tuple[tuple[int, ...], str]:
    """Return the axes that are mirrored and why: left-right, unless a class names a side."""
    if overrides.mirror_axes is not None:
        return overrides.mirror_axes, f"axes {overrides.mirror_axes}, {ASKED}"
    masked = all(case.region_mm for case in fingerprint.cases)
    any_way = dimensions == 3 and region.kind != "whole" and masked
    names = fingerprint.classes.names if fingerprint.classes else ()
    wanted = (0, 1, 2) if any_way else (2,)
    axes = tuple(n for n in wanted if not named_side(names, side_pair(orientation, n)))
    if len(axes) < len(wanted):
        along = f"along axes {axes}" if axes else "not at all"
        return axes, f"{along}, because classes are named after sides"
    return axes, "a window around a mask in any direction" if any_way else "left and right"


def _tiny(fingerprint: Fingerprint) -> bool:
    """Return True for pictures that must be enlarged for a backbone."""
    return all(
        case.shape[0] == 1 and max(case.shape) <= SMALL_PICTURE / 2 for case in fingerprint.cases
    )


def _decide_steps(
    cases: int, hardware: Hardware, batch: int, seconds: float, how: str
) -> Decision[int]:
    """Decide for as many steps as fit into the time; without one, for passes over the cases."""
    if hardware.minutes is not None:
        return steps_in_time(hardware.minutes, seconds, how)
    wanted = PASSES * cases // batch
    return decide(
        int(np.clip(wanted, *STEPS)),
        f"no time limit: {PASSES} passes over {cases} cases at batch {batch} are {wanted:,} steps,"
        f" kept within {STEPS[0]:,} .. {STEPS[1]:,}; all of them are made",
    )
