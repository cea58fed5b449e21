"""Measurements of a predicted label map on the frames of its DICOM source.

Every label is measured as a whole, and its 26-connected components are counted, as lesion-wise
metrics count them. Of labels that are no anatomical structure each component is a lesion: the
largest are measured one by one, with the diameters of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom_results.codes import code_of_name
from hilum.dicom_results.concepts import ANATOMY, concepts_of
from hilum.dicom_results.findings import Bidirectional, Finding, Site
from hilum.metrics import Diameter, components, widest_slice
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hilum.dicom_results.concepts import SegmentConcepts
    from hilum.inference.dicom.source import DicomSource
    from hilum.inference.prediction import Prediction
    from hilum.metrics.masks import Mask
    from hilum.volume import Geometry, Label, LabelTable

_SIDES = ("7771000", "24028007", "51440002")
"""SNOMED CT: left, right, both."""
MOST_COMPONENTS = 20
"""Components of a label that are measured one by one: a speckled label may have thousands."""


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """A predicted label map on the frames of its source, and what was measured of it.

    Args:
        source: the DICOM series.
        labels: (N, rows, columns), ids of the label table.
        findings: see `measure_labels`.
    """

    source: DicomSource
    labels: NDArray[np.integer]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, prediction: Prediction) -> MeasuredCase:
        """Open the source of a prediction, and measure its labels there.

        Raises:
            DataError: the case is no DICOM, or its series cannot be read.
        """
        source = prediction.dicom_source
        array = prediction.labels.array[0]
        labels = np.asarray(source.stack.to_frames(array), dtype=array.dtype)
        found = measure_labels(labels, source.stack.geometry, prediction.table)
        return cls(source, labels, found)


def measure_labels(
    labels: NDArray[np.integer], geometry: Geometry, table: LabelTable
) -> tuple[Finding, ...]:
    """Measure every label of a table, and the components of those that are no anatomy.

    Volumes are voxels counted; diameters are measured in the plane of the frames. Nothing is
    measured in millimetres of a picture without a scale. Lengths and areas are rounded to two
    decimals, volumes to one, all to no fewer than four significant digits, so that report, page and
    key images give the same numbers.

    Args:
        labels: (N, rows, columns), on the frames of the source.
        geometry: the grid of the volume that the frames form.
        table: what the integers mean.
    """
    boxes = label_boxes(labels)
    scale = _Scale.of(geometry)
    return tuple(
        finding
        for label in table.foreground
        for finding in _measure_label(label, labels, boxes.get(label.id), scale)
    )


@dataclass(frozen=True)
class _Scale:
    """Size of a voxel: its volume, None on a single frame; spacing of pixels, None if not known."""

    voxel_mm3: float | None
    pixel_mm: tuple[float, float] | None

    @classmethod
    def of(cls, geometry: Geometry) -> _Scale:
        return cls(
            None if geometry.is_2d else geometry.voxel_volume_mm3,
            None if geometry.unscaled else geometry.spacing[1:],
        )

    def volume(self, voxels: int) -> float | None:
        return None if self.voxel_mm3 is None else rounded(voxels * self.voxel_mm3, decimals=1)

    def area(self, pixels: int) -> float | None:
        if self.voxel_mm3 is not None or self.pixel_mm is None:
            return None
        return rounded(pixels * self.pixel_mm[0] * self.pixel_mm[1], decimals=2)


def _measure_label(
    label: Label,
    labels: NDArray[np.integer],
    box: tuple[slice, slice, slice] | None,
    scale: _Scale,
) -> Iterator[Finding]:
    """Measure a label as a whole, then its components where it has several."""
    concepts = concepts_of(label)
    found = Finding(
        label.name,
        code_of_name(label.name) if concepts.generic else concepts.kind,
        label.id,
        (),
        components=0,
        site=_site(concepts),
    )
    if box is None:
        yield found
        return
    mask = labels[box] == label.id
    numbered, count = components(mask)
    corner = tuple(side.start for side in box)
    piece = _Piece(found, scale)
    lesion = concepts.category != ANATOMY
    one = lesion and count == 1
    yield piece.measure(mask, corner, label.name, components=count, diameters=one)
    if one or not lesion:
        return
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:MOST_COMPONENTS]
    parts = label_boxes(numbered)
    for place, number in enumerate(largest.tolist(), start=1):
        part = parts[number + 1]
        at = tuple(start + side.start for start, side in zip(corner, part, strict=True))
        part_mask = numbered[part] == number + 1
        yield piece.measure(part_mask, at, f"{label.name} #{place}", diameters=True)


def _site(concepts: SegmentConcepts) -> Site | None:
    """Return where a finding lies: a region that its name names, or an organ's side."""
    sides = [one for one in concepts.modifiers if one[0] in _SIDES]
    side = sides[0] if sides else None
    if concepts.region is not None:
        return Site(concepts.region, side)
    return None if side is None else Site(concepts.kind, side)


@dataclass(frozen=True)
class _Piece:
    """A label whose mask or components are measured."""

    label: Finding
    scale: _Scale

    def measure(
        self,
        mask: Mask,
        corner: tuple[int, ...],
        name: str,
        *,
        diameters: bool,
        components: int | None = None,
    ) -> Finding:
        """Measure a mask (Z, Y, X) in the box of the labels that begins at a corner.

        Diameters are those of the widest slice, where the size of a pixel is known.
        """
        voxels = int(np.count_nonzero(mask))
        spans = np.flatnonzero(mask.any(axis=(1, 2))) + corner[0]
        widest = None
        if diameters and self.scale.pixel_mm is not None:
            z, found = widest_slice(mask, self.scale.pixel_mm)
            long, short = _line(found.long, corner), _line(found.short, corner)
            widest = Bidirectional(corner[0] + z, long, short)
        return replace(
            self.label,
            name=name,
            frames=tuple(spans.tolist()),
            volume_mm3=self.scale.volume(voxels),
            area_mm2=self.scale.area(voxels),
            components=components,
            diameters=widest,
        )


def _line(found: Diameter, corner: tuple[int, ...]) -> Diameter:
    """Move a diameter from the box of its mask to the whole frame."""
    (y0, x0), (y1, x1) = found.start, found.end
    _, y, x = corner
    return Diameter((y + y0, x + x0), (y + y1, x + x1), rounded(found.length_mm, decimals=2))


def rounded(value: float, *, decimals: int) -> float:
    """Round a measurement, never to fewer than four significant digits.

    Args:
        value: in millimetres, square or cubic millimetres.
        decimals: that mean anything in its unit.

    >>> rounded(12345.678, decimals=1), rounded(0.0123456, decimals=1)
    (12345.7, 0.01235)
    """
    needed = 0 if value == 0 else 3 - math.floor(math.log10(abs(value)))
    return round(value, max(decimals, needed))
