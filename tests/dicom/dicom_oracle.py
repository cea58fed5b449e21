"""Comparison of a volume with the files of its folder as pydicom alone reads them.

Nothing of hilum's reading is used. A volume is right if each of its slices is one frame of a file:
the four corners of the frame, placed by its own ImagePositionPatient, ImageOrientationPatient and
PixelSpacing (PS3.3 C.7.6.2.1.1), lie on the corners of the slice, and each voxel is the frame's
stored number, rescaled by the frame's own slope and intercept. Frames that are in no slice must be
told of. Labels are right if each frame's or contour's voxels, placed so, are what the map holds.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.pixels.utils import pixel_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from hilum.volume import Geometry, Volume

OFF = 0.11  # voxels that a slice may lie off: hilum allows a tenth, and says so
TOLD = "left out"
OFF_PLANE = 0.16  # slices: a contour may be uneven by .1, and lie .05 beside its slice
FINE = 16  # points along each axis of a pixel by which its covered part is found


@dataclass(frozen=True)
class Plane:
    """A frame: (rows, columns) numbers, rescaled, with LPS mm of its pixels."""

    values: np.ndarray
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    thickness: float
    padding: np.ndarray

    def corners(self) -> np.ndarray:
        """(4, 3) LPS mm of the centres of the corner pixels."""
        rows, columns = (n - 1 for n in self.values.shape)
        places = [(0, 0), (rows, 0), (0, columns), (rows, columns)]
        return np.array([self.position + r * self.down + c * self.across for r, c in places])


def read(path: Path) -> Dataset | None:
    """Read a file by pydicom; None where it is no DICOM."""
    with suppress(Exception):
        return pydicom.dcmread(path, force=True)
    return None


def image_fault(volume: Volume, notes: Sequence[str], files: Sequence[Path]) -> str:
    """Say what a volume has that the files do not say; "" where it is what they say."""
    held = [data for file in files if (data := read(file)) is not None and "PixelData" in data]
    if volume.array.shape[1] == 1 and len(held) == 1 and not _is_slice(held[0]):
        return _picture_fault(volume, held[0])
    planes: list[Plane] = []
    for data in held:
        with suppress(Exception):
            planes += _planes(data, held)
    left = list(range(len(planes)))
    for z, own in enumerate(volume.array[0]):
        found = next((n for n in left if _lies_on(planes[n], volume.geometry, z)), None)
        if found is None:
            return f"slice {z} lies where no frame does"
        left.remove(found)
        fault = _voxel_fault(own, planes[found], planes)
        if fault:
            return f"slice {z}: {fault}"
    if volume.array.shape[1] == 1:
        stated = planes[0].thickness if len(planes) == 1 else volume.geometry.spacing[0]
        if abs(stated - volume.geometry.spacing[0]) > 1e-6 and stated > 0:
            return f"a slice {volume.geometry.spacing[0]} mm thick, of {stated} mm"
    if (left or len(held) < len(files)) and TOLD not in str(notes):
        return (
            f"{len(left)} frames and {len(files) - len(held)} files are left out, and not told of"
        )
    return ""


def _voxel_fault(own: np.ndarray, plane: Plane, planes: Sequence[Plane]) -> str:
    """Compare numbers; padding must have the lowest of all that is none."""
    known = ~plane.padding
    if not np.allclose(own[known], plane.values[known], rtol=1e-5, atol=1e-3):
        off = np.abs(own[known] - plane.values[known]).max()
        return f"voxels are off by up to {off:g}"
    kept = [one.values[~one.padding] for one in planes if not one.padding.all()]
    if plane.padding.any() and kept:
        lowest = min(float(one.min()) for one in kept)
        if not np.allclose(own[plane.padding], lowest, rtol=1e-5, atol=1e-3):
            return "padding is not the lowest value"
    return ""


def _lies_on(plane: Plane, geometry: Geometry, z: int) -> bool:
    """Return True if the corners of a frame lie on those of a slice."""
    _, rows, columns = geometry.shape
    if plane.values.shape != (rows, columns):
        return False
    expected = [
        (z, 0, 0), (z, rows - 1, 0), (z, 0, columns - 1), (z, rows - 1, columns - 1)
    ]  # fmt: skip
    places = geometry.world_to_index(plane.corners())
    return bool(np.abs(places - expected).max() <= OFF)


def _is_slice(data: Dataset) -> bool:
    return str(data.get("Modality")) in {"CT", "MR", "PT"}


def _number(data: Dataset, keyword: str, default: float) -> float:
    value = data.get(keyword)
    value = value[0] if isinstance(value, pydicom.multival.MultiValue) else value
    return default if value in {None, ""} else float(str(value))


def _planes(data: Dataset, held: Sequence[Dataset]) -> Iterator[Plane]:
    """List the frames of a file."""
    count = int(_number(data, "NumberOfFrames", 1))
    groups = data.get("PerFrameFunctionalGroupsSequence") or [pydicom.Dataset()]
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), pydicom.Dataset())
    pixels = pixel_array(data, raw=True).reshape(count, data.Rows, data.Columns)
    for stored, group in zip(pixels, groups, strict=True):
        place, turned, measures, transform = (
            next(iter(group.get(name) or shared.get(name) or ()), data)
            for name in (
                *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
                "PixelValueTransformationSequence",
            )
        )
        slope = _number(transform, "RescaleSlope", 1)
        intercept = _number(transform, "RescaleIntercept", 0)
        factor = _uptake(data, held) if str(data.Modality) == "PT" else 1.0
        cosines = np.array([float(v) for v in turned.ImageOrientationPatient]).reshape(2, 3)
        cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
        row_mm, column_mm = (float(v) for v in measures.PixelSpacing)
        yield Plane(
            values=(stored.astype(np.float64) * slope + intercept) * factor,
            position=np.array([float(v) for v in place.ImagePositionPatient]),
            across=cosines[0] * column_mm,
            down=cosines[1] * row_mm,
            thickness=_number(measures, "SliceThickness", 0),
            padding=_padding(data, stored),
        )


def _padding(data: Dataset, stored: np.ndarray) -> np.ndarray:
    """Mark the pixels that stand for no measurement."""
    value = data.get("PixelPaddingValue")
    if value is None or str(data.get("LossyImageCompression")) == "01":
        return np.zeros(stored.shape, bool)
    limit = data.get("PixelPaddingRangeLimit", value)
    signed, span = data.PixelRepresentation == 1, 1 << int(data.BitsAllocated)
    ends = [(int(v) + span // 2) % span - span // 2 if signed else int(v) % span
            for v in (value, value if limit is None else limit)]  # fmt: skip
    return (stored >= min(ends)) & (stored <= max(ends))


def _uptake(data: Dataset, held: Sequence[Dataset]) -> float:
    """The factor to SUV by body weight, of activity whose decay is corrected to the scan's start.

    That is the series' time, but where an image was taken before it the first image's.
    """
    if str(data.Units) == "GML":
        return 1.0
    (drug,) = data.RadiopharmaceuticalInformationSequence
    dose, half = float(drug.RadionuclideTotalDose), float(drug.RadionuclideHalfLife)
    if str(data.DecayCorrection) == "START":
        taken = []
        for one in held:
            with suppress(Exception):
                taken.append(_moment(one.AcquisitionDate, one.AcquisitionTime))
        start = min([_moment(data.SeriesDate, data.SeriesTime), *taken])
        injected = _moment(data.SeriesDate, drug.RadiopharmaceuticalStartTime)
        dose *= 2 ** (-((start - injected).total_seconds() % 86400) / half)
    return float(data.PatientWeight) * 1000 / dose


def _moment(date: str, time: str) -> datetime:
    return datetime.strptime(f"{date}{time}"[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007


def _picture_fault(volume: Volume, data: Dataset) -> str:
    """Compare a picture: colours as they are, grey rescaled, MONOCHROME1 from the other end."""
    if int(_number(data, "SamplesPerPixel", 1)) > 1:
        pixels = np.moveaxis(pixel_array(data), -1, 0)
        grey = all(np.array_equal(pixels[0], one) for one in pixels)
        expected = pixels[:1] if grey else pixels
    else:
        stored = pixel_array(data, raw=True).astype(np.float64)
        if str(data.PhotometricInterpretation) == "MONOCHROME1":
            last = -1 if data.PixelRepresentation == 1 else (1 << int(data.BitsStored)) - 1
            stored = last - stored
        slope = _number(data, "RescaleSlope", 1)
        expected = (stored * slope + _number(data, "RescaleIntercept", 0))[np.newaxis]
    if volume.array.shape != (len(expected), 1, *expected.shape[1:]):
        return f"a picture of shape {volume.array.shape}, not {expected.shape}"
    if not np.allclose(volume.array[:, 0], expected, rtol=1e-5, atol=1e-3):
        return "colours or greys that the file does not hold"
    stated = [(1.0, 1.0)]
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        with suppress(Exception):
            stated.append(tuple(float(v) for v in data[keyword].value))
    pairs = (one for one in stated if len(one) == 2)
    near = [np.allclose(one, volume.geometry.spacing[1:], rtol=1e-6) for one in pairs]
    return "" if any(near) else f"pixels of {volume.geometry.spacing[1:]} mm, not {stated}"


# --- annotations


def label_fault(labels: Volume, notes: Sequence[str], path: Path) -> str:
    """Say what a label map has that its annotation does not say; "" where it is what it says."""
    data = read(path)
    if data is None:
        return "labels of a file that is no DICOM"
    if "ROIContourSequence" in data:
        return _contour_fault(labels, notes, data)
    return _segment_fault(labels, notes, data)


def _ids(described: Sequence[Dataset], number: str, name: str) -> dict[int, int]:
    """Number to label: the first number of its name."""
    first: dict[str, int] = {}
    ids = {}
    for item in described:
        own = int(item[number].value)
        text = str(item.get(name) or f"unnamed {own}")
        ids[own] = first.setdefault(" ".join(text.casefold().split()), own)
    return ids


def _segment_fault(labels: Volume, notes: Sequence[str], data: Dataset) -> str:
    """Compare every frame of a SEG with the voxels at its place."""
    ids = _ids(data.SegmentSequence, "SegmentNumber", "SegmentLabel")
    kind = str(data.SegmentationType)
    groups = data.PerFrameFunctionalGroupsSequence
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), pydicom.Dataset())
    frames = _stored(data, len(groups))
    sets = np.frompyfunc(lambda _: set(), 1, 1)(np.zeros(labels.array.shape[1:], int))
    for stored, group in zip(frames, groups, strict=True):
        place, turned, measures = (
            (group.get(name) or shared.get(name))[0]
            for name in (
                *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
            )
        )
        cosines = np.array([float(v) for v in turned.ImageOrientationPatient]).reshape(2, 3)
        cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
        row_mm, column_mm = (float(v) for v in measures.PixelSpacing)
        origin = np.array([float(v) for v in place.ImagePositionPatient])
        if kind == "LABELMAP":
            numbers = stored
        else:
            holder = group.get("SegmentIdentificationSequence")
            holder = holder or shared.SegmentIdentificationSequence
            number = int(holder[0].ReferencedSegmentNumber)
            half = _number(data, "MaximumFractionalValue", 255) / 2 or 127.5
            inside = stored >= half if kind == "FRACTIONAL" else stored != 0
            numbers = np.where(inside, number, 0)
        for row, column in np.argwhere(numbers != 0):
            number = int(numbers[row, column])
            if number not in ids:
                continue  # told of, or the background of a label map
            world = origin + row * row_mm * cosines[1] + column * column_mm * cosines[0]
            exact = labels.geometry.world_to_index(world[np.newaxis])[0]
            index = tuple(np.rint(exact).astype(int))
            if not all(0 <= n < size for n, size in zip(index, sets.shape, strict=True)):
                if "lie outside" not in str(notes):
                    return f"a voxel of segment {number} is outside of the grid, and not told of"
                continue
            if np.abs(exact - index).max() > OFF:
                return f"a frame lies {np.abs(exact - index).max():.2g} voxels off the grid"
            sets[index].add(ids[number])
    return _set_fault(labels, sets)


def _set_fault(labels: Volume, sets: np.ndarray) -> str:
    """Compare labels with the sets of structures that hold each voxel."""
    for index, held in np.ndenumerate(sets):
        own = int(labels.array[(0, *index)])
        if own not in (held or {0}):
            return f"label {own} at {index}, where the file has {sorted(held) or 'none'}"
    return ""


def _stored(data: Dataset, count: int) -> np.ndarray:
    """Decode frames (N, rows, columns); bits by hand, as pydicom 3.0 reads some wrongly."""
    rows, columns = int(data.Rows), int(data.Columns)
    if int(data.BitsAllocated) > 1:
        return pixel_array(data, raw=True).reshape(count, rows, columns)
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    return bits[: count * rows * columns].reshape(count, rows, columns)


def _contour_fault(labels: Volume, notes: Sequence[str], data: Dataset) -> str:
    """Compare contours: a voxel of which more than half is enclosed is their structure's.

    Between .4 and .6 of it either is right. Contours off the slices must be told of.
    """
    ids = _ids(data.StructureSetROISequence, "ROINumber", "ROIName")
    filled = {int(item.ReferencedROINumber) for item in data.ROIContourSequence
              if item.get("ContourSequence")}  # fmt: skip
    if any(number < 1 for number in filled & {*ids}):
        names = dict.fromkeys(ids[number] for number in ids if number in filled)
        ids = {number: [*names].index(ids[number]) + 1 for number in ids if number in filled}
    shape = labels.array.shape[1:]
    sure = np.frompyfunc(lambda _: set(), 1, 1)(np.zeros(shape, int))
    maybe = np.frompyfunc(lambda _: set(), 1, 1)(np.zeros(shape, int))
    for item in data.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        if number not in ids:
            continue
        slices: dict[int, list[np.ndarray]] = {}
        for one in item.get("ContourSequence") or ():
            points = np.array([float(v) for v in one.get("ContourData") or ()]).reshape(-1, 3)
            if str(one.get("ContourGeometricType")) != "CLOSED_PLANAR" or len(points) < 3:
                if "contours" not in str(notes):
                    return "a contour that encloses nothing is not told of"
                continue
            places = labels.geometry.world_to_index(points)
            z = round(float(places[:, 0].mean()))
            off = float(np.abs(places[:, 0] - z).max()) if 0 <= z < shape[0] else np.inf
            if off > 0.02 and "contours" in str(notes):
                return ""  # which of several contours count is a rule of hilum's own
            if off > OFF_PLANE:
                return "a contour off the slices is not told of"
            slices.setdefault(z, []).append(places[:, 1:])
        for z, polygons in slices.items():
            part = _coverage(polygons, shape[1:])
            for row, column in np.argwhere(part >= 0.4):
                (sure if part[row, column] > 0.6 else maybe)[z, row, column].add(ids[number])
    for index in np.ndindex(*shape):
        own, held = int(labels.array[(0, *index)]), sure[index]
        if own not in held | maybe[index] | (set() if held else {0}):
            return f"label {own} at {index}, where the contours have {sorted(held) or 'none'}"
    return ""


def _coverage(polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Covered part of each pixel by points within it, even-odd over all polygons once each."""
    rows, columns = (
        (np.arange(n * FINE) + 0.5) / FINE - 0.5 for n in shape
    )  # of points, in pixels
    inside = np.zeros((len(rows), len(columns)), bool)
    unique = {np.unique(np.rint(p * 1000), axis=0).tobytes(): p for p in polygons}
    for polygon in unique.values():
        for (r0, c0), (r1, c1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if r0 == r1:
                continue
            crossed = (rows >= min(r0, r1)) & (rows < max(r0, r1))
            at = c0 + (rows - r0) / (r1 - r0) * (c1 - c0)
            inside ^= crossed[:, None] & (columns[None, :] > at[:, None])
    fine = inside.reshape(shape[0], FINE, shape[1], FINE)
    return np.asarray(fine.mean(axis=(1, 3)))
