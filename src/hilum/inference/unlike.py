"""Simple rules that warn of images unlike the training images; they never refuse.

Each rule (docs/how-to/predict.md) compares what the file or the voxels say with `plan.seen`; of
models that were made without it, with what names and normalisation of the channels say. A rule that
lacks a side says nothing. No warning does not mean that the image is alike: these rules notice the
wrong kind of file, not another disease or scanner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import HilumError
from hilum.io import read_modality
from hilum.plan.fingerprint import named_kind
from hilum.plan.plan import ChannelRange, TrainingRanges
from hilum.volume import reorient_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hilum.plan.plan import Normalisation, Plan, Range
    from hilum.volume import Geometry, Volume

FAR = 3.0
"""A spacing or a field of view is unlike where it is so many times outside of the training images'
range."""
BELOW = 200.0
"""An image is unlike whose least value is so far below that of every training image."""
_DICOM_KINDS = {
    "CT": "ct",
    "MR": "mr",
    "PT": "pet",
    "NM": "pet",
    "US": "us",
    "CR": "xray",
    "DX": "xray",
    "MG": "xray",
}
_GREY = {"ct", "mr", "pet", "us", "xray"}


def unlike(image: Volume, plan: Plan, files: Sequence[Path] = ()) -> tuple[str, ...]:
    """List what is unlike the training images, one phrase each; nothing where nothing is.

    Args:
        image: (C, Z, Y, X) with the plan's channels.
        plan: of the model.
        files: what it was read from, one a channel, where known; DICOM says what made an image.
    """
    seen = plan.seen or _presumed(plan)
    found = list(_of_files(seen, files))
    for n, (channel, how) in enumerate(zip(seen.channels, plan.normalisation.value, strict=False)):
        found += _of_values(channel, how, float(image.array[n].min()), float(image.array[n].max()))
    flat = min(image.geometry.shape) == 1  # a single slice, along whichever axis
    if (
        flat
        and image.channels == 3
        and len(set(files)) == 1
        and all(one.kind in _GREY for one in seen.channels)
    ):
        found.append(f"a colour picture, where the model learnt from {_listed(seen)}")
    if flat and plan.dimensions.value == 3 and not seen.pictures:
        return ("a single picture, where the model learnt from volumes", *found)
    if not flat and seen.pictures:
        return (
            (
                f"a volume of {image.geometry.shape[0]} slices, where the model learnt from single"
                " pictures"
            ),
            *found,
        )
    return (*found, *_of_grid(seen, image.geometry))


def _presumed(plan: Plan) -> TrainingRanges:
    """Presume the kind of image from the channels' names and normalisation."""
    channels = []
    for name, how in zip(plan.channels, plan.normalisation.value, strict=True):
        channels.append(
            ChannelRange(
                name=name, kind=named_kind(name) or "unknown" if how.kind != "unit" else "picture"
            )
        )
    return TrainingRanges(channels=tuple(channels))


def _of_files(seen: TrainingRanges, files: Sequence[Path]) -> Iterator[str]:
    for channel, file in zip(seen.channels, files, strict=False):
        try:
            modality = read_modality(file)
        except HilumError:
            continue
        kind = _DICOM_KINDS.get(modality)
        if kind is not None and channel.kind in _GREY and kind != channel.kind:
            yield (
                f"its file says modality {modality}, where channel {channel.name} of the model is"
                f" {channel.kind.upper()}"
            )


def _of_values(
    channel: ChannelRange, how: Normalisation, least: float, most: float
) -> Iterator[str]:
    name, seen = channel.name, channel.minimum
    if (
        how.kind == "unit"
        and how.upper > 1
        and (most > FAR * how.upper or (0 < most <= 1 and least >= 0))
    ):
        yield (
            f"values from {least:g} to {most:g} in channel {name}, where the model learnt from 0 to"
            f" {how.upper:g}"
        )
    elif seen is not None and seen[0] > -BELOW and least < seen[0] - BELOW:
        yield (
            f"values down to {least:g} in channel {name}, far below the {seen[0]:g} at which those"
            " of the training images begin"
        )
    elif least >= 0 and channel.kind == "ct" and (seen is None or seen[1] <= -BELOW):
        reach = (
            "CT numbers of air are about -1000"
            if seen is None
            else f"every training image reaches {seen[1]:g} or less"
        )
        yield f"no value below 0 in channel {name} (CT), where {reach}"
    elif least < -BELOW and seen is None and channel.kind in _GREY - {"ct"}:
        yield (
            f"values down to {least:g} in channel {name}, which {channel.kind.upper()} has none of"
        )


def _of_grid(seen: TrainingRanges, geometry: Geometry) -> Iterator[str]:
    code = (
        ("source" if geometry.is_2d else "SPL")
        if seen.orientation == "source"
        else seen.orientation
    )  # as they were measured
    turned = geometry if code == "source" else reorient_geometry(geometry, code)
    extent = [n * mm for n, mm in zip(turned.shape, turned.spacing, strict=True)]
    for what, own, ranges in (
        ("spacing", turned.spacing, seen.spacing),
        ("field of view", extent, seen.extent_mm),
    ):
        for axis, value, known in zip("ZYX", own, ranges or (), strict=False):
            if not known[0] / FAR <= value <= known[1] * FAR:
                yield (
                    f"a {what} of {value:.3g} mm along {axis}, where the training images have"
                    f" {_span(known)} mm"
                )


def _span(known: Range) -> str:
    low, high = (f"{value:.3g}" for value in known)
    return low if low == high else f"{low} to {high}"


def _listed(seen: TrainingRanges) -> str:
    return ", ".join(dict.fromkeys(one.kind.upper() for one in seen.channels))
