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
            minimum=(min(lows := [case.channels[n].minimum for case in cases]), max(lows)),
        )
        for n, one in enumerate(fingerprint.channels)
    )
    extents = [[n * mm for n, mm in zip(case.shape, case.spacing, strict=True)] for case in cases]
    return TrainingRanges(
        channels=channels,
        cases=len(cases),
        pictures=pictures,
        orientation="source" if pictures else "SPL",
        spacing=ranges_along_axes([case.spacing for case in cases]) if scaled else None,
        extent_mm=ranges_along_axes(extents) if scaled else None,
    )


def ranges_along_axes(triples: Sequence[Sequence[float]]) -> tuple[Range, Range, Range]:
    """Return the least and the largest of numbers along (Z, Y, X)."""
    z, y, x = ((float(min(axis)), float(max(axis))) for axis in zip(*triples, strict=True))
    return z, y, x
