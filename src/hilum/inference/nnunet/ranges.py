"""Ranges of an nnU-Net model's training images, from dataset_fingerprint.json and plans.json."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hilum.dataset.layouts.naming import read_json_object
from hilum.errors import HilumError
from hilum.plan.fingerprint import named_kind
from hilum.plan.plan import ChannelRange, Range, TrainingRanges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TRIPLE = tuple[Range, Range, Range]


def training_ranges(
    folder: Path,
    plans: Mapping[str, Any],
    channels: Sequence[str],
    *,
    pictures: bool,
    orientation: str,
) -> TrainingRanges:
    """Return the known ranges of the training images.

    A missing or odd fingerprint only makes fewer known.

    nnU-Net keeps intensities of annotated voxels only. Where a channel that is no CT has none below
    0 there, its images are taken to go no lower.
    """
    try:
        known = read_json_object(folder / "dataset_fingerprint.json")
    except (HilumError, OSError):
        known = {}
    properties = plans.get("foreground_intensity_properties_per_channel") or {}
    spacings, shapes = _triples(known.get("spacings")), _triples(known.get("shapes_after_crop"))
    extents = [
        tuple(n * mm for n, mm in zip(*pair, strict=True))
        for pair in zip(shapes, spacings, strict=False)
    ]
    scaled = bool(spacings) and not pictures
    return TrainingRanges(
        channels=tuple(_channel(name, properties.get(str(n))) for n, name in enumerate(channels)),
        cases=len(spacings),
        pictures=pictures,
        orientation=orientation,
        spacing=_ranges(spacings) if scaled else None,
        extent_mm=_ranges(extents) if scaled and len(shapes) == len(spacings) else None,
    )


def _channel(name: str, properties: Any) -> ChannelRange:
    kind = named_kind(name) or "unknown"
    least = properties.get("min") if isinstance(properties, dict) else None
    if kind == "ct" or not isinstance(least, int | float) or not 0 <= least < math.inf:
        return ChannelRange(name=name, kind=kind)
    return ChannelRange(name=name, kind=kind, minimum=(0.0, float(least)))


def _triples(found: Any) -> list[tuple[float, ...]]:
    """A list of three positive numbers each; nothing where it is anything else."""
    if not isinstance(found, list):
        return []
    triples = [tuple(one) for one in found if isinstance(one, list) and len(one) == 3]
    sound = all(isinstance(v, int | float) and 0 < v < math.inf for one in triples for v in one)
    return triples if sound and len(triples) == len(found) else []


def _ranges(triples: Sequence[tuple[float, ...]]) -> _TRIPLE:
    z, y, x = ((float(min(axis)), float(max(axis))) for axis in zip(*triples, strict=True))
    return z, y, x
