"""Small DICOM sources of every kind that hilum reads, the same bytes wherever they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import SimpleITK
from annotation_support import contour, on_slice, segment, structure, write_rtstruct, write_seg
from dicom_series import items, write_enhanced
from io_support import rotation, write_series
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (4, 8, 6)
WIDE = (3, 32, 32)  # the smallest that OpenJPEG's encoder takes
SERIES = "1.2.826.7"
DRUG = {
    "RadiopharmaceuticalStartTime": "090000",
    "RadionuclideTotalDose": 370e6,
    "RadionuclideHalfLife": 6586.2,
}
PET = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["ATTN", "DECY"],
    "PatientWeight": 70,
    "SeriesDate": "20240102",
    "SeriesTime": "100000",
    "AcquisitionDate": "20240102",
    "AcquisitionTime": "100500",
}


@dataclass(frozen=True)
class Base:
    """A way to write a source.

    Args:
        make: writes it into an empty folder.
        source: what is read, below that folder.
        labels: whether it is an annotation.
    """

    make: Callable[[Path], None]
    source: str = "."
    labels: bool = False


def grid(shape: tuple[int, int, int] = SHAPE) -> Geometry:
    """Anisotropic, oblique, off the origin."""
    return Geometry.from_spacing(
        shape, (2.5, 0.75, 0.5), origin=(-31.25, 5.5, 100.75), directions=rotation(3)[:, [2, 1, 0]]
    )


def image(geometry: Geometry | None = None) -> Volume:
    """Hardly two voxels alike."""
    own = grid() if geometry is None else geometry
    numbers = np.arange(int(np.prod(own.shape)), dtype=np.int16).reshape(1, *own.shape)
    return Volume(numbers * 3 % 2999 - 300, own)


def _series(folder: Path, volume: Volume | None = None, **tags: Any) -> list[Path]:
    """Write a CT series whose UIDs do not depend on the folder."""
    own = {"SeriesInstanceUID": SERIES, "SOPInstanceUID": lambda n: f"{SERIES}.{n}"}
    own |= {"PatientName": "A^B", "StudyDate": "20240102", "SeriesDescription": "small", **tags}
    files = write_series(folder, image() if volume is None else volume, **own)
    for file in files:
        _edit(file, lambda data: None)
    return files


def _edit(file: Path, change: Callable[[pydicom.Dataset], None], syntax: UID | None = None) -> None:
    """Change a file, and store it in a transfer syntax that compresses no pixels."""
    data = pydicom.dcmread(file)
    change(data)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    if syntax is None:
        data.save_as(file, enforce_file_format=True)
        return
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    plain = pydicom.Dataset(data)
    plain.file_meta = data.file_meta
    plain.save_as(file, enforce_file_format=True)


def _in_syntax(folder: Path, syntax: UID) -> None:
    for file in _series(folder):
        _edit(file, lambda data: None, syntax)


def _compressed(folder: Path, syntax: UID) -> None:
    def compress(data: pydicom.Dataset) -> None:
        data.compress(syntax, generate_instance_uid=False)

    wide = image(grid(WIDE)) if syntax == JPEG2000Lossless else None
    for file in _series(folder, wide):
        _edit(file, compress)


def _jpeg_lossless(folder: Path) -> None:
    """Encode by GDCM, which pydicom has no encoder beside."""

    def encode(data: pydicom.Dataset) -> None:
        path = folder / "by_gdcm.dcm"
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(SimpleITK.GetImageFromArray(data.pixel_array))
        made = pydicom.dcmread(path)
        path.unlink()
        assert made.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        data.PixelData = encapsulate(list(generate_frames(made.PixelData, number_of_frames=1)))
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = JPEGLosslessSV1

    for file in _series(folder):
        _edit(file, encode)


def _bare(folder: Path) -> None:
    for file in _series(folder):
        file.write_bytes(file.read_bytes()[132:])


def _tilted(folder: Path) -> None:
    geometry = grid()

    def move(data: pydicom.Dataset) -> None:
        position = np.array([float(v) for v in data.ImagePositionPatient])
        depth = (position - geometry.origin) @ geometry.directions[:, 0]
        moved = position + 0.25 * depth * geometry.directions[:, 1]
        data.ImagePositionPatient = [f"{v:.10g}" for v in moved]

    for file in _series(folder):
        _edit(file, move)


def _padded(folder: Path) -> None:
    _series(folder, PixelPaddingValue=727)


def _pet(folder: Path) -> None:
    tags = PET | {"RadiopharmaceuticalInformationSequence": items(**DRUG)}
    _series(folder, image().with_array(image().array + 300), slope=1, intercept=0, **tags)


def _mr(folder: Path) -> None:
    tags = {"Modality": "MR", "EchoTime": 4.9, "EchoNumbers": 1, "AcquisitionNumber": 1}
    volume = image().with_array(image().array + 300)
    _series(folder, volume, intercept=0, SOPClassUID="1.2.840.10008.5.1.4.1.1.4", **tags)


def _enhanced(folder: Path, *, compressed: UID | None = None, syntax: UID | None = None) -> None:
    wide = image(grid(WIDE)) if compressed == JPEG2000Lossless else None
    files = _series(folder / "slices", wide)
    path = write_enhanced(folder / "enhanced.dcm", files, SeriesInstanceUID=SERIES)
    for file in files:
        file.unlink()
    (folder / "slices").rmdir()
    if compressed is not None:
        data = pydicom.dcmread(path)
        data.compress(compressed, generate_instance_uid=False)
        data.save_as(path)
    if syntax is not None:
        _edit(path, lambda data: None, syntax)


def _ultrasound(folder: Path) -> None:
    def colour(data: pydicom.Dataset) -> None:
        data.Modality, data.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"
        del data.ImagePositionPatient, data.ImageOrientationPatient
        data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
        data.PlanarConfiguration, data.BitsAllocated, data.BitsStored, data.HighBit = 0, 8, 8, 7
        data.PixelData = bytes(range(8 * 6 * 3))

    (file,) = _series(folder, image(grid((1, 8, 6))))
    _edit(file, colour)


def _x_ray(folder: Path) -> None:
    def invert(data: pydicom.Dataset) -> None:
        data.Modality, data.SOPClassUID = "DX", "1.2.840.10008.5.1.4.1.1.1.1"
        del data.ImagePositionPatient, data.ImageOrientationPatient
        data.RescaleIntercept = 0
        data.ImagerPixelSpacing = data.PixelSpacing
        del data.PixelSpacing
        data.PhotometricInterpretation = "MONOCHROME1"

    (file,) = _series(folder, image(grid((1, 8, 6))))
    _edit(file, invert)


def drawn(kind: str) -> list[tuple[int | None, float, np.ndarray]]:
    """Frames of two structures, which do not overlap, on three slices."""
    frames: list[tuple[int | None, float, np.ndarray]] = []
    for z in (1, 2, 3):
        masks = np.zeros((2, 8, 6), np.uint8)
        masks[0, 1:4, 1:4], masks[1, 4:7, 2 : 2 + z] = 1, 1
        if kind == "LABELMAP":
            frames.append((None, z, masks[0] + 2 * masks[1]))
        else:
            frames += [(n + 1, z, masks[n] * (200 if kind == "FRACTIONAL" else 1)) for n in (0, 1)]
    return frames


def _segmentation(folder: Path, kind: str, syntax: UID | None = None) -> None:
    _series(folder / "ct")
    path = write_seg(
        folder / "annotation.dcm",
        grid(),
        drawn(kind),
        [segment(1, "liver"), segment(2, "tumour")],
        series=SERIES,
        kind=kind,
        SOPInstanceUID="1.2.9.1",
        SeriesInstanceUID="1.2.9",
    )

    def compress(data: pydicom.Dataset) -> None:
        if syntax is not None and syntax.is_encapsulated:
            data.compress(syntax, generate_instance_uid=False)

    _edit(path, compress, None if syntax is None or syntax.is_encapsulated else syntax)


def _structures(folder: Path, syntax: UID | None = None) -> None:
    _series(folder / "ct")
    place = grid()
    liver, tumour = (
        [contour(on_slice(place, z, points)) for z in (1, 2, 3)]
        for points in (
            [(0.5, 0.5), (0.5, 3.5), (3.5, 3.5), (3.5, 0.5)],
            [(4.5, 1.5), (4.5, 4.5), (6.5, 4.5), (6.5, 1.5)],
        )
    )
    path = write_rtstruct(
        folder / "annotation.dcm",
        [structure(1, "liver", liver), structure(2, "tumour", tumour, colour=(255, 0, 0))],
        series=SERIES,
        SOPInstanceUID="1.2.9.1",
        SeriesInstanceUID="1.2.9",
    )
    _edit(path, lambda data: None, syntax)


BASES = {
    "ct": Base(lambda f: _series(f) and None),
    "ct_implicit": Base(lambda f: _in_syntax(f, ImplicitVRLittleEndian)),
    "ct_big_endian": Base(lambda f: _in_syntax(f, ExplicitVRBigEndian)),
    "ct_deflated": Base(lambda f: _in_syntax(f, DeflatedExplicitVRLittleEndian)),
    "ct_rle": Base(lambda f: _compressed(f, RLELossless)),
    "ct_jpeg_ls": Base(lambda f: _compressed(f, JPEGLSLossless)),
    "ct_jpeg_2000": Base(lambda f: _compressed(f, JPEG2000Lossless)),
    "ct_jpeg_lossless": Base(_jpeg_lossless),
    "ct_bare": Base(_bare),
    "ct_tilted": Base(_tilted),
    "ct_padded": Base(_padded),
    "mr": Base(_mr),
    "pet": Base(_pet),
    "enhanced": Base(_enhanced),
    "enhanced_implicit": Base(lambda f: _enhanced(f, syntax=ImplicitVRLittleEndian)),
    "enhanced_rle": Base(lambda f: _enhanced(f, compressed=RLELossless)),
    "enhanced_jpeg_2000": Base(lambda f: _enhanced(f, compressed=JPEG2000Lossless)),
    "ultrasound": Base(_ultrasound),
    "x_ray": Base(_x_ray),
    "seg_binary": Base(lambda f: _segmentation(f, "BINARY"), "annotation.dcm", labels=True),
    "seg_fractional": Base(lambda f: _segmentation(f, "FRACTIONAL"), "annotation.dcm", labels=True),
    "seg_labelmap": Base(lambda f: _segmentation(f, "LABELMAP"), "annotation.dcm", labels=True),
    "seg_rle": Base(
        lambda f: _segmentation(f, "LABELMAP", RLELossless), "annotation.dcm", labels=True
    ),
    "rtstruct": Base(_structures, "annotation.dcm", labels=True),
    "rtstruct_implicit": Base(
        lambda f: _structures(f, ImplicitVRLittleEndian), "annotation.dcm", labels=True
    ),
}
