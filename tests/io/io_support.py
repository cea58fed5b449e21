"""Helpers of several tests of formats."""

from pathlib import Path
from typing import Any

import numpy as np

from hilum.volume import Volume


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
