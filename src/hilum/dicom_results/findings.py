"""Statements of a structured report: measured labels and lesions, probabilities of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilum.metrics import Diameter


@dataclass(frozen=True)
class Bidirectional:
    """The longest line across a lesion on one frame, and the longest one perpendicular to it.

    Args:
        frame: number of the frame among those of the volume, from 0.
        long: the longest line.
        short: the longest one perpendicular to it.
    """

    frame: int
    long: Diameter
    short: Diameter


@dataclass(frozen=True)
class Site:
    """Place of a finding, as coded concepts (value, scheme, meaning).

    Args:
        region: the anatomy.
        side: left or right; None where it has none, or it is not known.
    """

    region: tuple[str, str, str]
    side: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Finding:
    """Measurements of a label, or of one of its components.

    Args:
        name: unique among the findings of a report.
        code: (value, scheme, meaning) of what it is.
        label: id of the label.
        frames: numbers of the frames it lies on, from 0; none where the label was not found.
        volume_mm3: number of voxels by the volume of one; None on a single frame.
        area_mm2: number of pixels by the area of one; None on several frames, and where the size of
            a pixel is not known.
        components: number of components of a label; None for one component.
        diameters: None of anatomy, of a label with several components, which are measured one by
            one, and where the size of a pixel is not known.
        site: where it lies; None where that is not known.
    """

    name: str
    code: tuple[str, str, str]
    label: int
    frames: tuple[int, ...]
    volume_mm3: float | None = None
    area_mm2: float | None = None
    components: int | None = None
    diameters: Bidirectional | None = None
    site: Site | None = None


@dataclass(frozen=True)
class ClassFinding:
    """Prediction of one class.

    Args:
        name: of the class.
        probability: as the network gives it, 0..1.
        calibrated: the same after calibration; None where the model is not calibrated.
        in_set: whether the class cannot be excluded; None where the model makes no sets.
        called: whether it is what the model calls the image.
    """

    name: str
    probability: float
    calibrated: float | None
    in_set: bool | None
    called: bool


@dataclass(frozen=True)
class Classification:
    """Prediction of a classifier for an image.

    Args:
        classes: every class of the model.
        coverage: how often prediction sets hold the true class; None where the model makes none.
        unlike: whether the image is unlike those of the training; None where the model cannot tell.
        because: the reason of that verdict in words; "" without one.
        distance: the out-of-distribution score; None without one.
    """

    classes: tuple[ClassFinding, ...]
    coverage: float | None = None
    unlike: bool | None = None
    because: str = ""
    distance: float | None = None


@dataclass(frozen=True)
class SegReference:
    """The SEG that findings refer to.

    Args:
        instance: its SOPInstanceUID.
        series: its SeriesInstanceUID.
        sop_class: its SOPClassUID.
        segments: number of the segment of each label it has.
    """

    instance: str
    series: str
    sop_class: str
    segments: Mapping[int, int] = field(default_factory=dict)
