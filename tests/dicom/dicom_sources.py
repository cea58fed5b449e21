"""DICOM series of every geometry that results are written about."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from io_support import rotation, write_series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from hilum.volume import Geometry, Volume

SHAPE = (7, 12, 20)  # frames of 240 pixels, which are whole bytes and whole words
AXIAL = np.eye(3)[:, ::-1]  # columns of world axes: z, y, x
FULL = {
    "PatientName": "Müller^Jörg",
    "PatientID": "7",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "StudyDate": "20240102",
    "StudyTime": "101112",
    "StudyID": "s",
    "AccessionNumber": "a",
    "ReferringPhysicianName": "",
    "SpecificCharacterSet": "ISO_IR 192",
    "Manufacturer": "maker",
    "SeriesNumber": 3,
}
TILT = 0.25
"""Tangent of the gantry tilt: mm in the direction of rows for each mm along the table."""


@dataclass(frozen=True)
class MadeSource:
    """A series on disk.

    Args:
        folder: what hilum reads.
        files: in the order of positions along the normal.
        world: (N, rows, columns, 3) LPS mm of each pixel of each source frame, in that order; made
            from the files by PS3.3 C.7.6.2.1.1 and nothing of hilum.
        frames: (SOPInstanceUID, frame from 1) of each source frame, in the same order.
    """

    folder: Path
    files: tuple[Path, ...]
    world: np.ndarray
    frames: tuple[tuple[str, int], ...]


def geometry_of(name: str, shape=SHAPE) -> Geometry:
    """The grid of a kind of source: anisotropic, non-square, off the origin."""
    directions = {
        "axial": AXIAL,
        "sagittal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
        "oblique": rotation(5),
        "reversed": AXIAL @ np.diag([-1.0, -1.0, 1.0]),  # rows rise to anterior, slices downwards
        "tilted": AXIAL,
        "enhanced": rotation(8),
    }[name]
    affine = np.eye(4)
    affine[:3, :3] = directions * (2.5, 0.8, 0.55)
    affine[:3, 3] = (-101.234567, 33.3, -250.125)
    return Geometry(shape, affine)


SOURCES = ("axial", "sagittal", "oblique", "reversed", "tilted", "enhanced")


def make_source(folder: Path, name: str, *, shape=SHAPE, **tags: Any) -> MadeSource:
    """Write a series of a kind, with pixels that differ everywhere."""
    geometry = geometry_of(name, shape)
    array = np.random.default_rng(1).integers(-500, 500, (1, *shape)).astype(np.int16)
    files = write_series(folder, Volume(array, geometry), **FULL | tags)
    if name == "tilted":
        _tilt(files, geometry)
    if name == "enhanced":
        files = [_as_enhanced(folder, files)]
    return describe(folder, files)


def _tilt(files: list[Path], geometry: Geometry) -> None:
    """Shift each slice within its plane, as a tilted gantry does, and say so in no tag."""
    rows = geometry.directions[:, 1]
    for file in files:
        data = pydicom.dcmread(file)
        position = np.array([float(v) for v in data.ImagePositionPatient])
        depth = (position - geometry.origin) @ geometry.directions[:, 0]
        moved = position + TILT * depth * rows
        data.ImagePositionPatient = [DSfloat(v, auto_format=True) for v in moved]
        data.save_as(file)


def _as_enhanced(folder: Path, files: list[Path]) -> Path:
    """Join single-frame files to one Enhanced CT file, its frames in no order of place."""
    slices = [pydicom.dcmread(file) for file in files]
    for file in files:
        file.unlink()
    first, data = slices[0], Dataset()
    data.update({e.tag: e for e in first if e.tag.group in (0x0008, 0x0010) or e.tag.group == 0x20})
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        del data[keyword]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.ContentDate, data.ContentTime, data.InstanceNumber = "20240102", "101113", 1
    for keyword in (
        *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
        *("SamplesPerPixel", "PhotometricInterpretation"),
    ):
        setattr(data, keyword, first[keyword].value)
    data.NumberOfFrames = len(slices)
    shared, measures, orientation, transform = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    transform.RescaleSlope, transform.RescaleIntercept = first.RescaleSlope, first.RescaleIntercept
    transform.RescaleType = "HU"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [transform]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [_frame_group(one, n) for n, one in enumerate(slices)]
    data.PixelData = b"".join(one.PixelData for one in slices)
    file = folder / "enhanced"
    data.save_as(file, enforce_file_format=True)
    return file


def _frame_group(one: Dataset, number: int) -> Dataset:
    """The functional groups of one frame."""
    group, position, content, kind = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = one.ImagePositionPatient
    content.StackID, content.InStackPositionNumber = "1", number + 1
    content.DimensionIndexValues = [1, number + 1]
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
    group.CTImageFrameTypeSequence = [kind]
    return group


def describe(folder: Path, files: list[Path]) -> MadeSource:
    """Find every pixel's place from the headers alone."""
    planes = []
    for file in files:
        data = pydicom.dcmread(file)
        for number, plane in enumerate(_planes_of(data), start=1):
            across, down, position = (
                np.array([float(v) for v in values])
                for values in (
                    plane["orientation"][:3],
                    plane["orientation"][3:],
                    plane["position"],
                )
            )
            row_mm, column_mm = (float(v) for v in plane["spacing"])
            rows, columns = np.mgrid[: data.Rows, : data.Columns]
            world = (
                position + rows[..., None] * row_mm * down + columns[..., None] * column_mm * across
            )
            depth = float(position @ np.cross(across, down))
            planes.append((depth, file, world, (str(data.SOPInstanceUID), number)))
    planes.sort(key=lambda plane: plane[0])
    return MadeSource(
        folder,
        tuple(dict.fromkeys(file for _, file, _, _ in planes)),
        np.stack([world for _, _, world, _ in planes]),
        tuple(frame for _, _, _, frame in planes),
    )


def _planes_of(data: Dataset) -> list[dict[str, Any]]:
    """Position, orientation and spacing of each frame of a file."""
    if "PerFrameFunctionalGroupsSequence" not in data:
        return [
            {
                "position": data.ImagePositionPatient,
                "orientation": data.ImageOrientationPatient,
                "spacing": data.PixelSpacing,
            }
        ]
    shared = data.SharedFunctionalGroupsSequence[0]

    def of(group, name):
        return (group.get(name) or shared[name].value)[0]

    return [
        {
            "position": of(group, "PlanePositionSequence").ImagePositionPatient,
            "orientation": of(group, "PlaneOrientationSequence").ImageOrientationPatient,
            "spacing": of(group, "PixelMeasuresSequence").PixelSpacing,
        }
        for group in data.PerFrameFunctionalGroupsSequence
    ]
