"""Simple rules that warn of images unlike the training images; they never refuse.

`unlike` looks at the file before the network runs, `unlike_held_out` at what it made of the image.
Each rule (docs/how-to/predict.md) compares what the file or the voxels say with `plan.seen`; of
models that were made without it, with what names and normalisation of the channels say. A rule that
lacks a side says nothing. No warning does not mean that the image is alike: these rules notice the
wrong kind of file, not another disease or scanner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.channels import named_kind
from hilum.dicom.score import KINDS
from hilum.errors import HilumError, plain_digits
from hilum.io import read_modality
from hilum.plan.plan import ChannelRange, TrainingRanges
from hilum.volume import reorient_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hilum.inference.confidence import CaseConfidence
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.plan.plan import Normalisation, Plan
    from hilum.volume import Geometry, Volume

FAR = 3.0
"""A spacing or a field of view is unlike where it is so many times outside of the training images'
range."""
BELOW = 200.0
"""An image is unlike whose least value is so far below that of every training image."""
ENOUGH = 10
"""Held-out cases below which nothing is said of what the network made of an image."""
DOUBT = 1.5
"""A prediction is unlike whose expected Dice lacks so many times what the least sure one lacks."""
_GREY = {"ct", "mr", "pet", "us", "xray"}


def unlike(image: Volume, plan: Plan, files: Sequence[Path] = ()) -> tuple[str, ...]:
    """List what is unlike the training images, one phrase each; nothing where nothing is.

    Args:
        image: (C, Z, Y, X) with the plan's channels.
        plan: of the model.
        files: what it was read from, one a channel, where known; DICOM says what made an image.
    """
    ranges = plan.seen or _presume_ranges(plan)
    found = list(_of_files(ranges, files))
    for n, (channel, how) in enumerate(
        zip(ranges.channels, plan.normalisation.value, strict=False)
    ):
        found += _of_values(channel, how, float(image.array[n].min()), float(image.array[n].max()))
    flat = min(image.geometry.shape) == 1  # a single slice, along whichever axis
    if (
        flat
        and image.channels == 3
        and len(set(files)) == 1
        and all(one.kind in _GREY for one in ranges.channels)
    ):
        kinds = ", ".join(dict.fromkeys(one.kind.upper() for one in ranges.channels))
        found.append(f"a colour picture, where the model learnt from {kinds}")
    if flat and plan.dimensions.value == 3 and not ranges.pictures:
        return ("a single picture, where the model learnt from volumes", *found)
    if not flat and ranges.pictures:
        return (
            (
                f"a volume of {image.geometry.shape[0]} slices, where the model learnt from single"
                " pictures"
            ),
            *found,
        )
    return (*found, *_of_grid(ranges, image.geometry))


def unlike_held_out(judged: CaseConfidence, calibration: VoxelCalibration) -> tuple[str, ...]:
    """List what is unlike the held-out cases in what the network made of an image.

    The wrong part of the body, a wrong orientation or noise shows there, where the file's header
    and values do not tell. Nothing is said with fewer than `ENOUGH` held-out cases.
    """
    found = []
    for one, region in zip(judged.regions, calibration.regions, strict=True):
        volumes = [volume for volume in region.predicted_ml if volume > 0]
        if not one.volume_ml and len(volumes) == len(region.predicted_ml) >= ENOUGH:
            found.append(
                f"no {region.region}, of which every one of {len(volumes)} held-out cases has some"
            )
        elif one.volume_ml and len(volumes) >= ENOUGH:
            low, high = min(volumes), max(volumes)
            if not low / FAR <= one.volume_ml <= high * FAR:
                found.append(
                    f"{plain_digits(one.volume_ml, 3)} ml of {region.region}, of which the held-out"
                    f" cases have {plain_digits(low, 3)} to {plain_digits(high, 3)} ml"
                )
        if one.dice is None or region.dice is None or len(region.dice.expected) < ENOUGH:
            continue
        least = min(region.dice.expected)
        if 1 - one.dice > DOUBT * (1 - least):
            found.append(
                f"an expected Dice of {one.dice:.2f} of {region.region}, which is {least:.2f} or"
                " more in the held-out cases"
            )
    return tuple(found)


def _presume_ranges(plan: Plan) -> TrainingRanges:
    """Presume the kind of image from the channels' names and normalisation."""
    kinds = [
        "picture" if how.kind == "unit" else named_kind(name) or "unknown"
        for name, how in zip(plan.channels, plan.normalisation.value, strict=True)
    ]
    channels = [
        ChannelRange(name=name, kind=kind) for name, kind in zip(plan.channels, kinds, strict=True)
    ]
    return TrainingRanges(channels=tuple(channels))


def _of_files(ranges: TrainingRanges, files: Sequence[Path]) -> Iterator[str]:
    """Yield files whose modality is not that of their channel."""
    for channel, file in zip(ranges.channels, files, strict=False):
        try:
            modality = read_modality(file)
        except HilumError:
            continue
        kind = KINDS.get(modality)
        if kind is not None and channel.kind in _GREY and kind != channel.kind:
            yield (
                f"its file says modality {modality}, where channel {channel.name} of the model is"
                f" {channel.kind.upper()}"
            )


def _of_values(
    channel: ChannelRange, how: Normalisation, least: float, most: float
) -> Iterator[str]:
    """Describe values that the training images of this channel do not have."""
    name, lowest = channel.name, channel.minimum
    if (
        how.kind == "unit"
        and how.upper > 1
        and (most > FAR * how.upper or (0 < most <= 1 and least >= 0))
    ):
        yield (
            f"values from {least:g} to {most:g} in channel {name}, where the model learnt from 0 to"
            f" {how.upper:g}"
        )
    elif lowest is not None and lowest[0] > -BELOW and least < lowest[0] - BELOW:
        yield (
            f"values down to {least:g} in channel {name}, far below the {lowest[0]:g} at which"
            " those of the training images begin"
        )
    elif least >= 0 and channel.kind == "ct" and (lowest is None or lowest[1] <= -BELOW):
        reach = (
            "CT numbers of air are about -1000"
            if lowest is None
            else f"every training image reaches {lowest[1]:g} or less"
        )
        yield f"no value below 0 in channel {name} (CT), where {reach}"
    elif least < -BELOW and lowest is None and channel.kind in _GREY - {"ct"}:
        yield (
            f"values down to {least:g} in channel {name}, which {channel.kind.upper()} has none of"
        )


def _of_grid(ranges: TrainingRanges, geometry: Geometry) -> Iterator[str]:
    """Describe spacings and fields of view that are far from those of the training images."""
    code = (
        ("source" if geometry.is_2d else "SPL")
        if ranges.orientation == "source"
        else ranges.orientation
    )  # as they were measured
    turned = geometry if code == "source" else reorient_geometry(geometry, code)
    extent = [n * mm for n, mm in zip(turned.shape, turned.spacing, strict=True)]
    for what, own, limits in (
        ("spacing", turned.spacing, ranges.spacing),
        ("field of view", extent, ranges.extent_mm),
    ):
        for axis, value, known in zip("ZYX", own, limits or (), strict=False):
            if not known[0] / FAR <= value <= known[1] * FAR:
                span = " to ".join(dict.fromkeys(f"{one:.3g}" for one in known))
                yield (
                    f"a {what} of {value:.3g} mm along {axis}, where the training images have"
                    f" {span} mm"
                )
