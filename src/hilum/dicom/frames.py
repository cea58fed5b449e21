"""The image frames of DICOM files: headers only, of single-frame and multi-frame files alike."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from hilum.dicom.functional_groups import FrameHeader, frame_headers
from hilum.dicom.header import number_of, numbers_of, read_to_pixels, text_of, texts_of, whole_of
from hilum.dicom.picture import PICTURE_TAGS, header_is_coloured, picture_spacing
from hilum.dicom.suv import SUV_TAGS
from hilum.errors import FormatError, counted
from hilum.files.record import damage_refused

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

COMPANIONS = frozenset(
    ("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "DOC", "PLAN")
)
"""Modalities of objects that are about images and are none."""

_VOLUMES = frozenset(("CT", "MR", "PT"))
_PICTURES = frozenset(
    ("US", "IVUS", "CR", "DX", "MG", "XA", "RF", "RG", "IO", "PX", "XC", "OP", "ES", "GM")
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_B_VALUES = (0x0018_9087, 0x0019_100C, 0x0043_1039, 0x2001_1003)  # standard, Siemens, GE, Philips
_GE_B_VALUE_STEP = 1_000_000_000  # GE adds it to b values of several directions
_MOST_MM = 1e5  # no patient lies 100 m from the origin, no pixel is so large
_OFF_UNIT = 0.01  # how far directions may be off length 1 and off perpendicular
_CURE_OF_FRAMES = (
    "export single images, or the one frame that is wanted (DCMTK's dcmj2pnm writes it as PNG)"
)
_TAGS: tuple[str | int, ...] = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber", "ImageType", "Manufacturer"),
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "ContentTime"),
    *("TemporalPositionIdentifier", "TriggerTime", "EchoTime", "EchoNumbers", "ConvolutionKernel"),
    *(
        "ContrastBolusAgent",
        "ContrastBolusStartTime",
        "BodyPartExamined",
        "ProtocolName",
        "StudyDescription",
        "PatientID",
        "PatientSex",
        "PatientAge",
        "ManufacturerModelName",
    ),
    *("StudyDate", "InversionTime", "DiffusionGradientOrientation", "KVP"),
    *("NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "FrameOfReferenceUID"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "HighBit", "PhotometricInterpretation", "PresentationLUTShape"),
    "PlanarConfiguration",
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "LossyImageCompression"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *_B_VALUES,
    *PICTURE_TAGS,
    *SUV_TAGS,
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
        pixels_at: the byte at which the element of its pixels begins; None where the file has to be
            read whole to come to it.
        frames: how many it holds.
        padding: the lowest and the highest stored number that stand for no measurement; None where
            there are none.
        inverted: whether low numbers are to be shown white (MONOCHROME1).
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
    pixels_at: int | None = None
    frames: int = 1
    padding: tuple[int, int] | None = None
    inverted: bool = False


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
        placed: whether it has a place in the patient: False for a picture (ultrasound, X-ray),
            whose position and orientation stand for nothing.
        notes: what had to be assumed, one sentence each.
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
    placed: bool = True
    notes: tuple[str, ...] = ()

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
    with damage_refused(path, "DICOM"):
        header, pixels_at = read_to_pixels(path, _TAGS)
        modality = text_of(header, "Modality")
        if "Rows" not in header:
            _refuse_rest(path, header, modality)
        if "Rows" not in header or modality in COMPANIONS:
            return None
        signed = number_of(header, "PixelRepresentation") == 1
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
            bits=whole_of(header, "BitsStored") or 0,
            signed=signed,
            pixels_at=pixels_at,
            frames=whole_of(header, "NumberOfFrames") or 1,
            padding=_padding(header, signed=signed),
            inverted=text_of(header, "PhotometricInterpretation") == "MONOCHROME1"
            or text_of(header, "PresentationLUTShape") == "INVERSE",
        )


def _refuse_rest(path: Path, header: Dataset, modality: str) -> None:
    """Raise at what is left of an image that lost its end, or of a file that nothing is known of.

    DICOMDIR and objects that belong to no series are no images and state no modality.
    """
    from pydicom.uid import UID

    kind = UID(
        str(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or "")
    )
    unknown = kind.name == kind and not modality and path.name.upper() != "DICOMDIR"
    if unknown or "Image Storage" in kind.name:
        found = "a file without its data" if unknown else "an image without size"
        raise FormatError(f"{path}: {found}", needed="a complete file", cure="export it again")


def frames_of(file: ImageFile) -> tuple[Frame, ...]:
    """Make the frames of a file from its header.

    Raises:
        FormatError: they are no images that hilum reads; every reason is given.
    """
    cure = "export the series again from the source"
    with damage_refused(file.path, "a DICOM image", cure=cure):
        headers = frame_headers(file.header, file.path)
        placed = _has_place(file, headers[0])
        _refuse_unread(file, headers[0], placed=placed)
        if not placed:
            return (_picture(file),)
        return tuple(_slice(file, index, header) for index, header in enumerate(headers))


def _has_place(file: ImageFile, header: FrameHeader) -> bool:
    """Return True for an image that is a slice of a volume, False for a picture."""
    stated = "ImagePositionPatient" in header and "ImageOrientationPatient" in header
    if file.sop_class.startswith(_SECONDARY_CAPTURE) or file.modality not in _VOLUMES:
        several = "PerFrameFunctionalGroupsSequence" in file.header
        return stated and (file.modality in _VOLUMES or several)
    return True


def _slice(file: ImageFile, index: int, header: FrameHeader) -> Frame:
    """Make a frame that has a place in the patient."""
    position = _finite(file, header, "ImagePositionPatient", 3)
    spacing = _finite(file, header, "PixelSpacing", 2)
    orientation = _finite(file, header, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > _OFF_UNIT or abs(orientation[0] @ orientation[1]) > _OFF_UNIT:
        _refuse_value(file, "ImageOrientationPatient", "two perpendicular directions of length 1")
    if spacing.min() <= 0:
        _refuse_value(file, "PixelSpacing", "distances above 0 mm")
    thickness = number_of(header, "SliceThickness") or 0.0
    return Frame(
        file=file,
        index=index,
        shape=(int(file.header.Rows), int(file.header.Columns)),
        position=position,
        orientation=orientation,
        pixel_spacing=(float(spacing[0]), float(spacing[1])),
        thickness=thickness if thickness > 0 else None,
        frame_of_reference=text_of(header, "FrameOfReferenceUID") or None,
        slope=_rescaling(file, header, "RescaleSlope"),
        intercept=_rescaling(file, header, "RescaleIntercept"),
        acquisition=_acquisition(header, index if file.frames > 1 else None),
    )


def _picture(file: ImageFile) -> Frame:
    """Make the frame of a picture, which has no place in the patient."""
    spacing, notes = picture_spacing(file.header)
    slope, intercept = (
        _rescaling(file, FrameHeader(file.header), f"Rescale{word}")
        for word in ("Slope", "Intercept")
    )
    if file.inverted:  # stored numbers are counted from the other end
        last = -1 if file.signed else (1 << file.bits) - 1
        steepness = 1.0 if slope is None else slope
        slope, intercept = -steepness, steepness * last + (intercept or 0.0)
        shown = "low numbers are to be shown white (MONOCHROME1)"
        notes += (f"{shown}; they were inverted, as an export to PNG does",)
    return Frame(
        file=file,
        index=0,
        shape=(int(file.header.Rows), int(file.header.Columns)),
        position=np.zeros(3),
        orientation=np.eye(3)[:2],
        pixel_spacing=spacing,
        thickness=None,
        frame_of_reference=None,
        slope=slope,
        intercept=intercept,
        acquisition=_acquisition(FrameHeader(file.header), None),
        placed=False,
        notes=notes,
    )


def _finite(file: ImageFile, header: FrameHeader, keyword: str, count: int) -> NDArray[np.float64]:
    """Read numbers of a header that has to have so many."""
    values = np.array(numbers_of(header, keyword))
    if len(values) != count or not np.isfinite(values).all():
        _refuse_value(file, keyword, counted(count, "number"))
    if np.abs(values).max() > _MOST_MM:
        _refuse_value(file, keyword, f"numbers of at most {_MOST_MM:g} mm")
    return values


def _rescaling(file: ImageFile, header: FrameHeader, keyword: str) -> float | None:
    """Read a slope or intercept; None where the file has none."""
    numbers = numbers_of(header, keyword)
    if len(numbers) > 1 or not np.isfinite(numbers).all():
        _refuse_value(file, keyword, "one number")
    return numbers[0] if numbers else None


def _refuse_value(file: ImageFile, keyword: str, needed: str) -> NoReturn:
    """Raise at a value by which a slice would lie nowhere, or its numbers mean nothing."""
    raise FormatError(
        f"{file.path}: {keyword} is missing or is no such value",
        needed=needed,
        cure="export the series again from the source",
    )


def _padding(header: Dataset, *, signed: bool) -> tuple[int, int] | None:
    """Read which stored numbers stand for no measurement.

    None also where lossy compression has mixed them with their neighbours.
    """
    value = whole_of(header, "PixelPaddingValue")
    if value is None or text_of(header, "LossyImageCompression") == "01":
        return None
    limit = whole_of(header, "PixelPaddingRangeLimit")
    allocated = whole_of(header, "BitsAllocated") or 16
    ends = [value, value if limit is None else limit]
    span = 1 << allocated  # often stated as if the pixels were unsigned, or were signed
    if signed:
        ends = [end - span if end >= span // 2 else end for end in ends]
    else:
        ends = [end + span if end < 0 else end for end in ends]
    return min(ends), max(ends)


def _acquisition(header: FrameHeader, index: int | None) -> Acquisition:
    """Read the facts by which the frames of a series are told apart."""
    kinds = texts_of(header, "FrameType") or texts_of(header, "ImageType")
    component = texts_of(header, "ComplexImageComponent")
    return Acquisition(
        number=text_of(header, "FrameAcquisitionNumber") or text_of(header, "AcquisitionNumber"),
        image_type=tuple(dict.fromkeys((*kinds, *component))),
        instance_number=whole_of(header, "InstanceNumber") if index is None else index + 1,
        temporal_position=whole_of(header, "TemporalPositionIndex", "TemporalPositionIdentifier"),
        trigger_time=number_of(header, "NominalCardiacTriggerDelayTime", "TriggerTime"),
        echo_number=whole_of(header, "EchoNumbers"),
        echo_time=number_of(header, "EffectiveEchoTime", "EchoTime"),
        b_value=_b_value(header),
        kernel="\\".join(texts_of(header, "ConvolutionKernel")),
        contrast=text_of(header, "ContrastBolusAgent"),
        acquisition_time=text_of(header, "AcquisitionTime"),
        content_time=text_of(header, "ContentTime"),
        samples=whole_of(header, "SamplesPerPixel") or 1,
        stack=text_of(header, "StackID"),
        inversion_time=number_of(header, "InversionTime"),
        gradient=numbers_of(header, "DiffusionGradientOrientation"),
        kvp=number_of(header, "KVP"),
    )


def _b_value(header: FrameHeader) -> float | None:
    """Read a b value, from the private elements of makers too; None where there is none."""
    for tag in _B_VALUES:
        with suppress(ValueError):  # the makers keep other things there too
            value = number_of(header, tag)
            if value is not None:
                return value % _GE_B_VALUE_STEP
    return None


def _refuse_unread(file: ImageFile, header: FrameHeader, *, placed: bool) -> None:
    """Raise at images that are not read, with every reason."""
    several = file.frames > 1
    described = "PerFrameFunctionalGroupsSequence" in file.header
    known = placed or file.modality in _PICTURES or file.sop_class == _SECONDARY_CAPTURE
    high, coloured = whole_of(file.header, "HighBit"), header_is_coloured(file.header)
    reasons = {
        f"modality {file.modality or 'not stated'}": not known,
        f"{file.frames} frames in one file without the place of each": several
        and not (placed and described),
        "a mosaic: many slices side by side in one picture": "MOSAIC"
        in texts_of(header, "ImageType"),
        "a slice with colours": placed and coloured,
        "numbers that are mapped by a table (Modality LUT)": "ModalityLUTSequence" in file.header,
        "a rescale slope of 0, which makes all pixels alike": number_of(header, "RescaleSlope")
        == 0,
        "no BitsStored": file.bits < 1,
        f"pixels of {file.bits} bits up to bit {high}, not {file.bits - 1}": high is not None
        and high != file.bits - 1 >= 0,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise FormatError(
            f"{file.path}: {'; '.join(found)}",
            needed="slices of CT, MR or PET, each with its place, or one picture (US, CR, DX, MG)",
            cure=_CURE_OF_FRAMES if several and not described else "convert it to NIfTI or PNG",
        )
