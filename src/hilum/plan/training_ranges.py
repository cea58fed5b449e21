"""Ranges of the training images that a plan keeps, to check new images against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.plan.plan import ChannelRange, Range, TrainingRanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.plan.fingerprint import Fingerprint


def summarise_training_images(fingerprint: Fingerprint, *, scaled: bool) -> TrainingRanges:
    """Return the ranges of the fingerprint's images.

    Without spacings where they have no physical scale.
    """
    cases = fingerprint.cases
    pictures = all(min(case.shape) == 1 for case in cases)
    channels = tuple(
        ChannelRange(
            name=one.name,
            kind=one.kind,
            minimum=_range([case.channels[n].minimum for case in cases]),
        )
        for n, one in enumerate(fingerprint.channels)
    )
    spacing = [_range([case.spacing[axis] for case in cases]) for axis in range(3)]
    extent = [
        _range([case.shape[axis] * case.spacing[axis] for case in cases]) for axis in range(3)
    ]
    return TrainingRanges(
        channels=channels,
        cases=len(cases),
        pictures=pictures,
        orientation="source" if pictures else "SPL",
        spacing=(spacing[0], spacing[1], spacing[2]) if scaled else None,
        extent_mm=(extent[0], extent[1], extent[2]) if scaled else None,
    )


def _range(values: Sequence[float]) -> Range:
    return float(min(values)), float(max(values))
