"""Pictures in DICOM, which have no place in the patient: their scale and their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom.header import number_of, numbers_of, text_of, whole_of
from hilum.files.record import NO_SPACING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PICTURE_TAGS = (
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions"),
    *("EstimatedRadiographicMagnificationFactor", "BurnedInAnnotation"),
)
"""Elements of a header that are needed here."""

_TISSUE, _CENTIMETRES = 1, 3  # codes of RegionSpatialFormat (2D) and PhysicalUnits
_MM_PER_CM = 10.0
_SAME = 1e-3


def header_is_coloured(header: Dataset) -> bool:
    """Return True for pixels with colours, or with a palette of colours."""
    palette = text_of(header, "PhotometricInterpretation") == "PALETTE COLOR"
    return palette or (whole_of(header, "SamplesPerPixel") or 1) > 1


def picture_spacing(header: Dataset) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Find the mm between rows and columns of a picture.

    Returns:
        The spacing, 1 mm where none is known, and notes.
    """
    if "SequenceOfUltrasoundRegions" in header:
        return _of_regions(header)
    spacing = numbers_of(header, "PixelSpacing")
    if _is_spacing(spacing):
        return (spacing[0], spacing[1]), ()
    spacing = numbers_of(header, "ImagerPixelSpacing")
    if _is_spacing(spacing):
        factor = number_of(header, "EstimatedRadiographicMagnificationFactor") or 0.0
        if factor > 0:
            note = f"the spacing at the detector was divided by the stated magnification {factor:g}"
            return (spacing[0] / factor, spacing[1] / factor), (note,)
        return (spacing[0], spacing[1]), (
            "the spacing is that at the detector: the magnification is not stated",
        )
    spacing = numbers_of(header, "NominalScannedPixelSpacing")
    if _is_spacing(spacing):
        return (spacing[0], spacing[1]), ("the spacing is that of the scanned film",)
    return (1.0, 1.0), (NO_SPACING,)


def _is_spacing(values: tuple[float, ...]) -> bool:
    return len(values) == 2 and all(0 < value < float("inf") for value in values)


def _of_regions(header: Dataset) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Find the scale of an ultrasound picture, and note which part of it is the image."""
    rows, columns = int(header.Rows), int(header.Columns)
    scales, parts = [], []
    for region in header.SequenceOfUltrasoundRegions:
        units = {whole_of(region, f"PhysicalUnits{axis}Direction") for axis in "XY"}
        if whole_of(region, "RegionSpatialFormat") != _TISSUE or units != {_CENTIMETRES}:
            continue
        steps = (number_of(region, "PhysicalDeltaY"), number_of(region, "PhysicalDeltaX"))
        scales.append(tuple(abs(step or 0.0) * _MM_PER_CM for step in steps))
        corners = [
            whole_of(region, f"RegionLocation{name}")
            for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        ]
        parts.append(corners)
    notes = tuple(_border_note(corners, rows, columns) for corners in parts[:1])
    scale = scales[0] if scales else ()
    alike = all(
        abs(a - b) <= _SAME * a for other in scales for a, b in zip(scale, other, strict=True)
    )
    if not _is_spacing(scale) or not alike:
        kinds = "regions of different scales" if scales else "no region with a scale in cm"
        return (1.0, 1.0), (f"{NO_SPACING} (ultrasound with {kinds})", *notes)
    return (scale[0], scale[1]), notes


def _border_note(corners: list[int | None], rows: int, columns: int) -> str:
    """Note which part of an ultrasound picture is the image: the rest holds burned-in text."""
    left, top, right, bottom = (0 if corner is None else corner for corner in corners)
    covered = max(0, right - left + 1) * max(0, bottom - top + 1) / (rows * columns)
    return (
        f"the ultrasound image covers {covered:.0%} of the picture (columns {left} to {right}, rows"
        f" {top} to {bottom}); the rest is border, often with text"
    )
