"""Writing a volume as a DICOM series, one file a slice, as a scanner would send it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.dataset import Dataset
    from pydicom.uid import UID
    from pydicom.valuerep import DSfloat

    from hilum.volume import Volume

_RESCALE_INTERCEPT = -1024


@dataclass(frozen=True)
class SeriesTags:
    """DICOM attributes that the files hold beside the image.

    Args:
        patient_id: (0010,0020).
        patient_name: (0010,0010), "Family^Given".
        study_date: (0008,0020), YYYYMMDD.
        study_description: (0008,1030).
        series_number: (0020,0011).
        series_description: (0008,103E).
        modality: (0008,0060): CT, MR or PT; the last two store numbers from 0 on.
        acquisition: (0020,0012); several write the same series again, with other images.
        attributes: further elements by keyword, the same in each slice: "ConvolutionKernel".
        uid_seed: the UIDs are derived from it: same seed and tags, same UIDs.
    """

    patient_id: str = "SYN-0001"
    patient_name: str = "Synthetic^Patient"
    study_date: str = "20260102"
    study_description: str = "CT abdomen (synthetic)"
    series_number: int = 2
    series_description: str = "Portal venous 5.0"
    modality: str = "CT"
    acquisition: int = 1
    attributes: Mapping[str, object] = field(default_factory=dict)
    uid_seed: str = "hilum"


def write_dicom_series(
    volume: Volume, folder: Path | str, *, tags: SeriesTags | None = None
) -> tuple[Path, ...]:
    """Write a CT, MR or PET volume as single-frame files, one for each slice along Z.

    Stored as scanners do, unsigned 12-bit (16-bit above 3071 HU), intercept -1024 for CT, slope 1,
    Explicit VR Little Endian. The grid is written as it is, oblique or not; a reader sorts slices
    along the normal of row and column direction, so a grid whose Z axis runs against that normal
    comes back with Z reversed. File names and instance numbers rise along Z.

    Args:
        volume: (1, Z, Y, X), HU from -1024 to 64511; fractions are rounded.
        folder: where to.
        tags: patient, study and series; the default synthetic patient if None.

    Returns:
        The files, along Z.

    Raises:
        UsageError: more than one channel, values outside of the range that 16 bits hold, or the
            folder holds DICOM files already.
    """
    if volume.channels != 1:
        raise UsageError(
            f"the volume has {volume.channels} channels",
            needed="one channel",
            cure="write one series for each channel",
        )
    tags = tags or SeriesTags()
    least = _RESCALE_INTERCEPT if tags.modality == "CT" else 0
    stored = np.rint(volume.array[0].astype(np.float64)) - least
    if not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > 65535:
        low, high = volume.array.min(), volume.array.max()
        needed = f"finite HU from {least} to {65535 + least}"
        raise UsageError(f"the values go from {low} to {high}", needed=needed)
    folder = Path(folder)
    paths = [folder / f"{index + 1:04d}.dcm" for index in range(len(stored))]
    refuse_existing(folder, *(path.name for path in paths))
    folder.mkdir(parents=True, exist_ok=True)
    bits = 12 if stored.max() < 4096 else 16
    for index, (path, pixels) in enumerate(zip(paths, stored.astype(np.uint16), strict=True)):
        data = _slice(volume, tags, index)
        data.Rows, data.Columns = pixels.shape
        data.BitsAllocated, data.PixelRepresentation = 16, 0
        data.BitsStored, data.HighBit = bits, bits - 1
        data.PixelData = pixels.tobytes()
        data.save_as(path, enforce_file_format=True)
    return tuple(paths)


def refuse_existing(folder: Path, *names: str) -> None:
    """Refuse a folder that holds what is to be written: nothing is replaced.

    Raises:
        UsageError: naming what is there.
    """
    present = [name for name in names if (folder / name).exists()]
    if present:
        more = f" and {len(present) - 3} more" if len(present) > 3 else ""
        raise UsageError(
            f"{folder} already holds {', '.join(present[:3])}{more}",
            needed="a folder without them: examples replace nothing",
            cure="choose another folder, or remove that one",
        )


def _slice(volume: Volume, tags: SeriesTags, index: int) -> Dataset:
    """Make the data set of one slice, without its pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        CTImageStorage,
        ExplicitVRLittleEndian,
        MRImageStorage,
        PositronEmissionTomographyImageStorage,
    )

    geometry = volume.geometry
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kinds = {"MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
    data.SOPClassUID = kinds.get(tags.modality, CTImageStorage)
    again = "" if tags.acquisition == 1 else f" of acquisition {tags.acquisition}"
    data.SOPInstanceUID = _uid(tags, f"slice {index}{again}")
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    _describe(data, tags, index)
    data.FrameOfReferenceUID = geometry.frame_of_reference or _uid(tags, "frame of reference")
    data.ImagePositionPatient = [_decimal(v) for v in geometry.index_to_world((index, 0, 0))]
    # DICOM PS3.3 C.7.6.2.1.1: first the direction in which columns rise (our X), then that in which
    # rows rise (our Y)
    data.ImageOrientationPatient = [
        _decimal(v) for v in (*geometry.directions[:, 2], *geometry.directions[:, 1])
    ]
    data.PixelSpacing = [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[2])]
    data.SliceThickness = _decimal(geometry.spacing[0])
    if tags.modality == "CT":
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = _RESCALE_INTERCEPT, 1, "HU"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.WindowCenter, data.WindowWidth = 40, 400
    for keyword, value in tags.attributes.items():
        setattr(data, keyword, value)
    return data


def _describe(data: Dataset, tags: SeriesTags, index: int) -> None:
    """Set the attributes of patient, study, series and device."""
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientID, data.PatientName = tags.patient_id, tags.patient_name
    data.PatientBirthDate, data.PatientSex = "", ""
    data.StudyInstanceUID, data.SeriesInstanceUID = _uid(tags, "study"), _uid(tags, "series")
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = tags.study_date
    data.StudyTime = data.SeriesTime = data.ContentTime = "080000"
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "1", "", ""
    data.StudyDescription, data.SeriesDescription = tags.study_description, tags.series_description
    data.Modality, data.Manufacturer = tags.modality, "hilum"
    data.ManufacturerModelName = "synthetic abdomen"
    data.BodyPartExamined, data.PatientPosition = "ABDOMEN", "HFS"
    data.SeriesNumber, data.AcquisitionNumber = tags.series_number, tags.acquisition
    data.InstanceNumber = index + 1
    data.KVP, data.PositionReferenceIndicator = 120, ""


def _uid(tags: SeriesTags, what: str) -> UID:
    """Derive a UID from the tags."""
    from pydicom.uid import generate_uid

    series = f"{tags.series_number}" if what.startswith(("series", "slice")) else ""
    return generate_uid(
        entropy_srcs=[tags.uid_seed, tags.patient_id, tags.study_date, series, what]
    )


def _decimal(value: float) -> DSfloat:
    """Write the most precise Decimal String of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)
