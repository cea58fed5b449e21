"""Helpers of several tests of formats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.io import dispatch
from hilum.volume import Geometry, Volume


def rotation(seed: int) -> np.ndarray:
    """A random rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    return q


def write_series(
    folder: Path,
    volume: Volume,
    *,
    slope: float = 1,
    intercept: float = -1024,
    syntax: Any = None,
    **tags: Any,
) -> list[Path]:
    """Write a volume as a plain CT series the way a scanner does.

    `tags` override those of every slice.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
    from pydicom.valuerep import DSfloat

    folder.mkdir(parents=True, exist_ok=True)
    geometry, files = volume.geometry, []
    order = np.random.default_rng(0).permutation(
        geometry.shape[0]
    )  # names and instance numbers say nothing of the place
    series = generate_uid(entropy_srcs=[str(folder)])
    for name, index in enumerate(order):
        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[str(folder), str(index)]
        )
        data.Modality, data.SeriesInstanceUID, data.FrameOfReferenceUID = "CT", series, "1.2.3"
        data.StudyInstanceUID, data.PatientID, data.InstanceNumber = "1.2.4", "p", name + 1
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient = [
            DSfloat(v, auto_format=True) for v in geometry.index_to_world((index, 0, 0))
        ]
        data.ImageOrientationPatient = [
            DSfloat(v, auto_format=True)
            for v in (*geometry.directions[:, 2], *geometry.directions[:, 1])
        ]
        data.PixelSpacing = [DSfloat(v, auto_format=True) for v in geometry.spacing[1:]]
        data.SliceThickness = DSfloat(geometry.spacing[0], auto_format=True)
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        pixels = np.rint((volume.array[0, index].astype(float) - intercept) / slope).astype(
            np.uint16
        )
        data.Rows, data.Columns = pixels.shape
        data.PixelData = pixels.tobytes()
        if syntax is not None:
            data.compress(syntax)
        for tag, value in tags.items():
            setattr(data, tag, value(int(index)) if callable(value) else value)
        files.append(folder / f"IM{name:03d}")
        data.save_as(files[-1], enforce_file_format=True)
    return files


@pytest.fixture(autouse=True)
def say_everything_anew():
    """Each test hears every remark."""
    dispatch._SAID.clear()


@pytest.fixture
def oblique() -> Geometry:
    """4 x 5 x 7 voxels of 2.5 x 0.7 x 0.9 mm, turned about all axes."""
    return Geometry.from_spacing(
        (4, 5, 7),
        (2.5, 0.7, 0.9),
        origin=(-31.25, 5.5, 100.75),
        directions=rotation(3)[:, [2, 1, 0]],
    )


@pytest.fixture
def volume(oblique: Geometry) -> Volume:
    """int16, one channel, no two voxels alike."""
    return Volume(np.arange(140, dtype=np.int16).reshape(1, 4, 5, 7) * 7 - 500, oblique)
