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

    from hilum.dicom_results.findings import Bidirectional, Finding
    from hilum.inference.dicom.measure import MeasuredCase
    from hilum.inference.prediction import Prediction

MOST_PICTURES = 3


def key_images_of_labels(prediction: Prediction) -> list[KeyImage]:
    """Draw the outlines on the frames where the last labels are widest, else on the middle one."""
    measured, colours = prediction.measured, prediction.table.colours
    legend = [
        Words(f"{one.name} {_size(one)}", colours[one.label])
        for one in measured.findings
        if one.components is not None
    ]
    pictures = []
    for number in _key_frames(measured):
        grey = measured.source.display(number)
        there = [
            (one.name, one.diameters)
            for one in measured.findings
            if one.diameters is not None and one.diameters.frame == number
        ]
        lines = [line for _, widest in there for line in (widest.long, widest.short)]
        picture = with_outlines(grey, measured.labels[number], colours, lines)
        title = f"Frame {number + 1} of {len(measured.labels)}"
        rows = [
            [Words(title), *(Words(f"{name}: {_diameters(widest)}") for name, widest in there)],
            legend,
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
    rows = tuple(
        (
            one.name,
            _size(one),
            "" if one.components is None else f"{one.components}",
            "" if one.diameters is None else _diameters(one.diameters),
        )
        for one in whole + parts
    )
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


def _diameters(found: Bidirectional) -> str:
    """Write the long and the short diameter."""
    return f"{found.long.length_mm:.1f} x {found.short.length_mm:.1f} mm"
