"""The image frames of DICOM files: headers only, of single-frame and multi-frame files alike."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError
from hilum.io.dicom.header import number_of, numbers_of, read_file, text_of, texts_of
from hilum.io.record import damage_refused

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

COMPANIONS = frozenset(
    ("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "DOC", "PLAN")
)
"""Modalities of objects that are about images and are none."""

_VOLUMES = ("CT", "MR")
_B_VALUES = (0x0018_9087, 0x0019_100C, 0x0043_1039, 0x2001_1003)  # standard, Siemens, GE, Philips
_GE_B_VALUE_STEP = 1_000_000_000  # GE adds it to b values of several directions
_TAGS: tuple[str | int, ...] = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber", "ImageType", "Manufacturer"),
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "ContentTime"),
    *("TemporalPositionIdentifier", "TriggerTime", "EchoTime", "EchoNumbers", "ConvolutionKernel"),
    *("ContrastBolusAgent", "BodyPartExamined", "ProtocolName", "StudyDescription", "PatientID"),
    *("StudyDate", "InversionTime", "DiffusionGradientOrientation", "KVP"),
    *("NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "FrameOfReferenceUID"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "HighBit", "PhotometricInterpretation"),
    *_B_VALUES,
)


@dataclass(frozen=True)
class ImageFile:
    """The header of one file that holds an image.

    Args:
        path: its file.
        header: its data elements without pixels, those that are needed here.
        sop_class: SOPClassUID.
        instance: SOPInstanceUID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        series_number: "" where it is not stated, as every text here.
        description: SeriesDescription.
        modality: "CT", "MR".
        bits: bits stored.
        signed: whether stored numbers are signed.
    """

    path: Path
    header: Dataset = field(repr=False, compare=False)
    sop_class: str
    instance: str
    study: str
    series: str
    series_number: str
    description: str
    modality: str
    bits: int
    signed: bool


@dataclass(frozen=True)
class Acquisition:
    """Facts of a frame by which the frames of one series are told apart.

    Args:
        number: AcquisitionNumber; "" where it is not stated, as every text here.
        image_type: ImageType, or FrameType of a multi-frame file.
        instance_number: InstanceNumber, or the place in a multi-frame file, from 1.
        temporal_position: number of the phase.
        trigger_time: ms.
        echo_number: of a multi-echo sequence.
        echo_time: ms.
        b_value: s/mm2, also from the private elements of Siemens, GE and Philips.
        kernel: convolution kernel.
        contrast: contrast agent.
        acquisition_time: as DICOM writes it, HHMMSS.FFFFFF.
        content_time: likewise.
        samples: SamplesPerPixel; above 1 the pixels have colours.
        stack: StackID of a multi-frame file.
        inversion_time: ms.
        gradient: direction of diffusion weighting; () where it is not stated.
        kvp: kV of the tube.
    """

    number: str
    image_type: tuple[str, ...]
    instance_number: int | None
    temporal_position: int | None
    trigger_time: float | None
    echo_number: int | None
    echo_time: float | None
    b_value: float | None
    kernel: str
    contrast: str
    acquisition_time: str
    content_time: str
    samples: int = 1
    stack: str = ""
    inversion_time: float | None = None
    gradient: tuple[float, ...] = ()
    kvp: float | None = None


@dataclass(frozen=True)
class Frame:
    """One image plane: a single-frame file, or one frame of a multi-frame file.

    Args:
        file: the file that holds it.
        index: of the frame in its file, from 0.
        shape: (rows, columns).
        position: LPS mm of the centre of the first pixel.
        orientation: (2, 3) cosines of the direction in which columns rise, then of that in which
            rows rise.
        pixel_spacing: mm between (rows, columns).
        thickness: mm, None where the file does not say.
        frame_of_reference: UID or None.
        slope: stored numbers are multiplied by it; None where the file does not say.
        intercept: and this is added; None where the file does not say.
        acquisition: facts by which the frames of a series are told apart.
    """

    file: ImageFile
    index: int
    shape: tuple[int, int]
    position: NDArray[np.float64] = field(repr=False)
    orientation: NDArray[np.float64] = field(repr=False)
    pixel_spacing: tuple[float, float]
    thickness: float | None
    frame_of_reference: str | None
    slope: float | None
    intercept: float | None
    acquisition: Acquisition

    @property
    def path(self) -> Path:
        """File that holds it."""
        return self.file.path

    @property
    def instance(self) -> str:
        """SOPInstanceUID of its file."""
        return self.file.instance

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept; 1 and 0 where the file does not say."""
        return 1.0 if self.slope is None else self.slope, self.intercept or 0.0

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal of the plane: along columns x along rows."""
        normal = np.cross(self.orientation[0], self.orientation[1])
        return np.asarray(normal / np.linalg.norm(normal))


def read_image_file(path: Path) -> ImageFile | None:
    """Read the header of a DICOM file; None where it holds no image.

    Raises:
        FormatError: the file is damaged, or holds an image without size.
    """
    from pydicom.uid import UID

    with damage_refused(path, "DICOM"):
        header = read_file(path, tags=_TAGS)
        kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", "")
        if "Rows" not in header and "Image Storage" in UID(str(kind)).name:
            raise FormatError(
                f"{path}: an image without size", needed="a complete file", cure="export it again"
            )
        modality = text_of(header, "Modality")
        if "Rows" not in header or modality in COMPANIONS:
            return None
        return ImageFile(
            path=path,
            header=header,
            sop_class=text_of(header, "SOPClassUID"),
            instance=text_of(header, "SOPInstanceUID"),
            study=text_of(header, "StudyInstanceUID"),
            series=text_of(header, "SeriesInstanceUID"),
            series_number=text_of(header, "SeriesNumber"),
            description=text_of(header, "SeriesDescription"),
            modality=modality,
            bits=int(number_of(header, "BitsStored") or 0),
            signed=number_of(header, "PixelRepresentation") == 1,
        )


def frames_of(file: ImageFile) -> tuple[Frame, ...]:
    """Make the frames of a file from its header.

    Raises:
        FormatError: they are no slices that hilum reads; every reason is given.
    """
    cure = "export the series again from the source"
    with damage_refused(file.path, "a CT or MR image", cure=cure):
        _refuse_unplain(file)
        header = file.header
        spacing = [float(v) for v in header.PixelSpacing]
        thickness = number_of(header, "SliceThickness") or 0.0
        frame = Frame(
            file=file,
            index=0,
            shape=(int(header.Rows), int(header.Columns)),
            position=np.array([float(v) for v in header.ImagePositionPatient]).reshape(3),
            orientation=np.array([float(v) for v in header.ImageOrientationPatient]).reshape(2, 3),
            pixel_spacing=(spacing[0], spacing[1]),
            thickness=thickness if thickness > 0 else None,
            frame_of_reference=text_of(header, "FrameOfReferenceUID") or None,
            slope=number_of(header, "RescaleSlope"),
            intercept=number_of(header, "RescaleIntercept"),
            acquisition=_acquisition(header),
        )
    return (frame,)


def _acquisition(header: Dataset) -> Acquisition:
    """Read the facts by which the frames of a series are told apart."""
    return Acquisition(
        number=text_of(header, "AcquisitionNumber"),
        image_type=texts_of(header, "ImageType"),
        instance_number=_whole(header, "InstanceNumber"),
        temporal_position=_whole(header, "TemporalPositionIdentifier"),
        trigger_time=number_of(header, "TriggerTime"),
        echo_number=_whole(header, "EchoNumbers"),
        echo_time=number_of(header, "EchoTime"),
        b_value=_b_value(header),
        kernel="\\".join(texts_of(header, "ConvolutionKernel")),
        contrast=text_of(header, "ContrastBolusAgent"),
        acquisition_time=text_of(header, "AcquisitionTime"),
        content_time=text_of(header, "ContentTime"),
        samples=_whole(header, "SamplesPerPixel") or 1,
        inversion_time=number_of(header, "InversionTime"),
        gradient=numbers_of(header, "DiffusionGradientOrientation"),
        kvp=number_of(header, "KVP"),
    )


def _whole(header: Dataset, keyword: str) -> int | None:
    """Read a whole number; None where there is none."""
    number = number_of(header, keyword)
    return None if number is None or not np.isfinite(number) else int(number)


def _b_value(header: Dataset) -> float | None:
    """Read a b value, from the private elements of makers too; None where there is none."""
    for tag in _B_VALUES:
        with suppress(ValueError):  # the makers keep other things there too
            value = number_of(header, tag)
            if value is not None:
                return value % _GE_B_VALUE_STEP
    return None


def _refuse_unplain(file: ImageFile) -> None:
    """Raise at images that are no slice of a plain CT or MR series."""
    header, bits = file.header, int(file.header.BitsStored)
    high = int(header.get("HighBit", bits - 1))
    frames = int(header.get("NumberOfFrames") or 1)
    reasons = {
        f"{frames} frames in one file (multi-frame)": frames > 1,
        f"modality {file.modality or 'not stated'}": file.modality not in _VOLUMES,
        "a localizer (scout), which is no slice of the volume": "LOCALIZER"
        in texts_of(header, "ImageType"),
        "a colour image": int(header.get("SamplesPerPixel") or 1) != 1,
        "numbers that are mapped by a table (Modality LUT)": header.get("ModalityLUTSequence"),
        "a rescale slope of 0, which makes all pixels alike": number_of(header, "RescaleSlope")
        == 0,
        "colours by a palette": text_of(header, "PhotometricInterpretation") == "PALETTE COLOR",
        f"pixels of {bits} bits up to bit {high}, not {bits - 1}": high != bits - 1,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise FormatError(
            f"{file.path}: {'; '.join(found)}",
            needed="single-frame grey CT or MR slices",
            cure="convert it to NIfTI first, e.g. with dcm2niix",
        )
