"""Key images and page of a segmentation: outlines, volumes, diameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom_results.display import Words, with_caption, with_outlines
from hilum.dicom_results.key_image import KeyImage
from hilum.dicom_results.page import Page, source_facts
from hilum.dicom_results.producer import NOT_A_DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dicom_results.findings import Finding
    from hilum.inference.dicom.measure import MeasuredCase
    from hilum.inference.prediction import Prediction

MOST_PICTURES = 3


def key_images_of_labels(prediction: Prediction) -> list[KeyImage]:
    """Draw the outlines on the frames where the last labels are widest, else on the middle one."""
    measured = prediction.measured
    pictures = []
    for number in _key_frames(measured):
        grey = measured.source.display(number)
        there = [one for one in measured.findings if _is_widest_on(one, number)]
        lines = [
            line
            for one in there
            if one.diameters
            for line in (one.diameters.long, one.diameters.short)
        ]
        picture = with_outlines(grey, measured.labels[number], prediction.table.colours, lines)
        title = f"Frame {number + 1} of {len(measured.labels)}"
        rows = [
            [Words(title), *(Words(f"{one.name}: {_diameters(one)}") for one in there)],
            _legend(prediction),
            *([Words(text)] for text in prediction.unlike),
            [Words(f"hilum model {prediction.model}. {NOT_A_DEVICE}")],
        ]
        pictures.append(KeyImage(with_caption(picture, rows), number, title))
    return pictures


def page_of_labels(prediction: Prediction) -> Page:
    """Lay out the page of a segmentation: a row a label or component."""
    measured = prediction.measured
    whole = [one for one in measured.findings if one.components is not None]
    parts = [one for one in measured.findings if one.components is None]
    rows = tuple((one.name, _size(one), _number(one), _diameters(one)) for one in whole + parts)
    return Page(
        title=f"Segmentation of {prediction.case}",
        facts=(*source_facts(measured.source.images), ("Model", prediction.model)),
        head=("Finding", "Volume", "Components", "Diameters"),
        rows=rows,
        pictures=tuple(
            with_outlines(
                measured.source.display(number),
                measured.labels[number],
                prediction.table.colours,
            )
            for number in _key_frames(measured)
        ),
        warnings=tuple(f"Unlike the training data: {text}" for text in prediction.unlike),
    )


def _key_frames(measured: MeasuredCase) -> Sequence[int]:
    """Choose up to three frames: the last labels are what is looked for, organs come first.

    Of a label the one where its largest lesion is widest, of anatomy the one with most of it.
    """
    largest: dict[int, int] = {}
    for finding in measured.findings:  # a label as a whole, then its components, largest first
        if finding.diameters is not None:
            largest.setdefault(finding.label, finding.diameters.frame)
    chosen: list[int] = []
    for finding in reversed(measured.findings):
        if finding.components and finding.label not in largest:
            areas = [(measured.labels[n] == finding.label).sum() for n in finding.frames]
            largest[finding.label] = finding.frames[int(np.argmax(areas))]
        if finding.label in largest:
            chosen.append(largest[finding.label])
    return sorted(list(dict.fromkeys(chosen))[:MOST_PICTURES]) or [len(measured.labels) // 2]


def _is_widest_on(finding: Finding, frame: int) -> bool:
    return finding.diameters is not None and finding.diameters.frame == frame


def _legend(prediction: Prediction) -> list[Words]:
    """Name every label in its colour, with its size."""
    whole = [one for one in prediction.measured.findings if one.components is not None]
    colours = prediction.table.colours
    return [Words(f"{one.name} {_size(one)}", colours[one.label]) for one in whole]


def _size(finding: Finding) -> str:
    """Write the volume, or the area of a single frame."""
    if not finding.frames:
        return "not found"
    if finding.volume_mm3 is not None:
        volume = finding.volume_mm3 / 1000
        return f"{volume:.1f} ml" if volume >= 10 else f"{volume:.2f} ml"
    if finding.area_mm2 is not None:
        return f"{finding.area_mm2:.1f} mm²"
    return "found"


def _number(finding: Finding) -> str:
    return "" if finding.components is None else f"{finding.components}"


def _diameters(finding: Finding) -> str:
    """Write the long and the short diameter."""
    if finding.diameters is None:
        return ""
    long, short = finding.diameters.long.length_mm, finding.diameters.short.length_mm
    return f"{long:.1f} x {short:.1f} mm"
