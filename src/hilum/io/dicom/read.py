"""A plain DICOM series: single-frame CT or MR images, one file a slice, compressed or not."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError, counted
from hilum.io.dicom.grid import Frame, Stack, stack
from hilum.io.dicom.start import (
    PREAMBLE,
    UNUSUAL_STARTS,
    USUAL_START,
    data_start,
    is_dicom_file,
)
from hilum.io.files import SERIES_MARK, image_suffix
from hilum.io.placeholder import is_unfetched, refuse_placeholder
from hilum.io.record import Decoded, FileFacts, Format, damage_refused, refuse_size
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset, FileDataset

_MODALITIES = ("CT", "MR")
_COMPANIONS = {  # about images, no images
    *("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "DOC", "PLAN"),
}
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesDescription", "ImageType"),
    *("NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "FrameOfReferenceUID"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsStored"),
    *("PixelRepresentation", "HighBit", "PhotometricInterpretation"),
]
_SERIES_TAGS = ["SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"]
_LAST_SERIES_TAG = 0x0020_0011  # SeriesNumber
_LOCK = threading.RLock()  # Python's warning filters belong to the process, not to the thread


@dataclass(frozen=True)
class _Found:
    """The header of one image file."""

    path: Path
    header: Dataset


@dataclass(frozen=True)
class SeriesHeader:
    """Facts that a file states about its series; `image` is True for a series of images."""

    uid: str
    number: str
    description: str
    modality: str
    image: bool


def series_header(path: Path) -> SeriesHeader | None:
    """Read what a file says of its series.

    None where it is no readable DICOM file, or lists others (DICOMDIR).
    """
    from pydicom.filereader import read_partial
    from pydicom.uid import MediaStorageDirectoryStorage

    start = data_start(path)
    if start is None or path.name.upper() == "DICOMDIR":
        return None
    with suppress(Exception), _keep_quiet():  # reading the series says what is wrong with it
        if start == USUAL_START:
            with path.open("rb") as stream:
                data = read_partial(stream, stop_when=lambda tag, _, __: tag > _LAST_SERIES_TAG)
        else:
            data = _read(path, tags=_SERIES_TAGS)
        uid, number, words, modality = (str(data.get(tag) or "") for tag in _SERIES_TAGS)
        if data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return SeriesHeader(uid, number, words, "a list of files, as DICOMDIR", image=False)
        return SeriesHeader(uid, number, words, modality, modality not in _COMPANIONS)
    return None


def _read(path: Path, *, tags: list[str] | None = None) -> FileDataset:
    """Read a file by pydicom: its header, or with `tags` None all of it.

    Raises:
        InvalidDicomError: the file is no DICOM.
    """
    import pydicom

    start = data_start(path)
    odd = start in UNUSUAL_STARTS
    source = io.BytesIO(PREAMBLE + path.read_bytes()[start:]) if odd else path
    data = pydicom.dcmread(source, stop_before_pixels=tags is not None, specific_tags=tags)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, _ = data.original_encoding
        data.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
    return data


def _is_named_like_an_image(path: Path) -> bool:
    """Recognise a slice's name: .dcm, or a number and no other suffix."""
    suffix = path.suffix.lower()
    return suffix in {".dcm", ".ima"} or (
        (not suffix or suffix[1:].isdigit()) and any(c.isdigit() for c in path.name)
    )


def series_folder(folder: Path) -> Path | None:
    """Find the folder of the DICOM files: this one, or down a chain of single subfolders.

    Returns:
        None where there is none.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if any(_counts(entry) for entry in entries):
        return folder
    below = [entry for entry in entries if entry.is_dir()]
    return series_folder(below[0]) if len(below) == 1 else None


def _counts(path: Path) -> bool:
    """Recognise a file of a DICOM folder by content, or by name where it has none."""
    if path.name == "DICOMDIR" or path.is_dir():
        return False
    return (
        image_suffix(path) == ".dcm"
        or is_dicom_file(path)
        or (is_unfetched(path) and _is_named_like_an_image(path))
    )


def modality(path: Path) -> str:
    """Return the modality ("CT", "MR") of the first header that states one; "" where none does.

    Raises nothing.
    """
    with _keep_quiet():
        for file in _files_of(path)[0]:
            found = ""
            with suppress(Exception):  # the next file may say it
                found = str(_read(file, tags=["Modality"]).get("Modality", ""))
            if found not in {"", *_COMPANIONS}:
                return found
    return ""


def read(path: Path) -> Decoded:
    """Read a folder that holds one series, or a single file as one slice.

    Numbers are multiplied by RescaleSlope and shifted by RescaleIntercept, slice by slice (CT:
    Hounsfield units); they stay integers where both are whole in every slice, else become float32.

    Raises:
        FormatError: no DICOM image, several series, multi-frame, localizer, another modality, or
            undecodable pixels.
        GeometryError: the slices form no even, perpendicular grid.
    """
    built, notes = _build(path)
    dtype = _dtype(built.frames)
    refuse_size(path, math.prod(built.geometry.shape) * dtype.itemsize, stored=None)
    array = np.empty((1, *built.geometry.shape), dtype=dtype)
    for index, one in enumerate(built.frames):
        _fill(array[0, index], one)
    return Decoded(Volume(array, built.geometry), notes)


def inspect(path: Path) -> FileFacts:
    """Read the headers only."""
    built, notes = _build(path)
    return FileFacts(built.geometry, 1, _dtype(built.frames), notes)


FORMAT = Format(name="DICOM", read=read, inspect=inspect)


def _build(path: Path) -> tuple[Stack, tuple[str, ...]]:
    """Read the headers and build their grid."""
    with _keep_quiet():
        images, notes = _headers(path)
        _refuse_several_series(images, path)
        _refuse_partial_rescaling(images, path)
        slices = [_slice(image) for image in images]
        if any(image.header.get("PhotometricInterpretation") == "MONOCHROME1" for image in images):
            shown = "low numbers are to be shown white (MONOCHROME1), which concerns display only"
            notes += (f"{shown}; they are read as stored",)
    built = stack(slices, path)
    return built, notes + built.notes


@contextmanager
def _keep_quiet() -> Iterator[None]:
    """Hide pydicom's remarks on values that break the standard's letter.

    What matters is checked here.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _headers(path: Path) -> tuple[list[_Found], tuple[str, ...]]:
    """Read the headers of all images, with notes on files that were left aside."""
    from pydicom.uid import UID

    files, uid = _files_of(path)
    images, aside, bare = [], 0, 0
    for file in files:
        start = data_start(file)
        if start is None:
            if _is_named_like_an_image(file):  # a slice would be missing
                refuse_placeholder(file)
                raise FormatError(
                    f"{file}: not readable as DICOM, in a folder of slices",
                    needed="a complete file",
                    cure="copy it again; if it belongs to something else, move it elsewhere",
                )
            aside += 1
            continue
        with damage_refused(file, FORMAT.name):
            header = _read(file, tags=_TAGS)
        if uid and str(header.get("SeriesInstanceUID", "")) != uid:
            continue
        kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", "")
        if "Rows" not in header and "Image Storage" in UID(str(kind)).name:
            raise FormatError(
                f"{file}: an image without size", needed="a complete file", cure="export it again"
            )
        if "Rows" in header and str(header.get("Modality", "")) not in _COMPANIONS:
            images.append(_Found(file, header))
            bare += start != USUAL_START
        else:
            aside += 1
    if not images:
        raise FormatError(
            f"{path}: no DICOM image among {counted(len(files), 'file')}",
            needed="a folder of one CT or MR series",
            cure="name the series' own folder",
        )
    notes = [f"{aside} files that are no DICOM images were left aside"] if aside else []
    if bare:
        known = "were recognised by their first data elements"
        notes.append(f"{bare} files without DICOM's preamble or prefix {known}")
    return images, tuple(notes)


def _files_of(path: Path) -> tuple[list[Path], str]:
    """List the slices' files of a file, folder or "folder#series/UID", and the UID if given."""
    text, _, uid = str(path).partition(SERIES_MARK)
    place = Path(text)
    if not place.is_dir():
        return [place], uid
    entries = (series_folder(place) or place).iterdir()
    return sorted(one for one in entries if not one.is_dir() and one.name[0] != "."), uid


def _refuse_several_series(images: Sequence[_Found], path: Path) -> None:
    """Raise where images belong to more than one series, naming each."""
    series: dict[str, list[_Found]] = {}
    for image in images:
        series.setdefault(str(image.header.get("SeriesInstanceUID", "")), []).append(image)
    if len(series) == 1:
        return
    listed = "\n".join(
        f"  {files[0].header.get('Modality', '?')}"
        f" {files[0].header.get('SeriesDescription', '') or 'without description'}:"
        f" {counted(len(files), 'file')}, e.g. {files[0].path.name} (series {uid})"
        for uid, files in series.items()
    )
    raise FormatError(
        f"{path}: {len(series)} series in one folder\n{listed}",
        needed="one series",
        cure="put each series into a folder of its own",
    )


def _refuse_partial_rescaling(images: Sequence[_Found], path: Path) -> None:
    """Raise where only some slices are rescaled: the others would be off by the intercept."""
    slopes = [_number(image.header.get("RescaleSlope"), 1.0) for image in images]
    intercepts = [_number(image.header.get("RescaleIntercept"), 0.0) for image in images]
    silent = [image for image in images if image.header.get("RescaleIntercept") in {None, ""}]
    if silent and (set(slopes), set(intercepts)) != ({1.0}, {0.0}) and len(silent) < len(images):
        raise FormatError(
            f"{path}: {len(silent)} of {len(images)} slices without RescaleIntercept, the first"
            f" {silent[0].path.name}",
            needed="RescaleSlope and RescaleIntercept in every slice, or in none",
            cure="export the series again from the source",
        )


def _slice(image: _Found) -> Frame:
    """Check and convert the header of a single-frame CT or MR image."""
    header, path = image.header, image.path
    with damage_refused(path, "a CT or MR image", cure="export the series again from the source"):
        _refuse_unplain(header, path)
        spacing = [float(v) for v in header.PixelSpacing]
        thickness = float(header.get("SliceThickness") or 0.0)
        return Frame(
            path=path,
            index=0,
            instance=str(header.get("SOPInstanceUID") or ""),
            shape=(int(header.Rows), int(header.Columns)),
            position=np.array([float(v) for v in header.ImagePositionPatient]).reshape(3),
            orientation=np.array([float(v) for v in header.ImageOrientationPatient]).reshape(2, 3),
            pixel_spacing=(spacing[0], spacing[1]),
            thickness=thickness if thickness > 0 else None,
            frame_of_reference=str(header.get("FrameOfReferenceUID") or "") or None,
            slope=_number(header.get("RescaleSlope"), 1.0),
            intercept=_number(header.get("RescaleIntercept"), 0.0),
            bits=int(header.BitsStored),
            signed=int(header.PixelRepresentation) == 1,
        )


def _number(value: object, otherwise: float) -> float:
    """Read a number of a header; `otherwise` where it has none."""
    return otherwise if value is None or value == "" else float(str(value))


def _refuse_unplain(header: Dataset, path: Path) -> None:
    """Raise at images that are no slice of a plain CT or MR series."""
    modality, bits = str(header.get("Modality", "")), int(header.BitsStored)
    high = int(header.get("HighBit", bits - 1))
    frames, slope = int(header.get("NumberOfFrames") or 1), header.get("RescaleSlope")
    kinds = [str(value) for value in header.get("ImageType") or ()]
    reasons = {
        f"{frames} frames in one file (multi-frame)": frames > 1,
        f"modality {modality or 'not stated'}": modality not in _MODALITIES,
        "a localizer (scout), which is no slice of the volume": "LOCALIZER" in kinds,
        "a colour image": int(header.get("SamplesPerPixel") or 1) != 1,
        "numbers that are mapped by a table (Modality LUT)": header.get("ModalityLUTSequence"),
        "a rescale slope of 0, which makes all pixels alike": _number(slope, 1.0) == 0,
        "colours by a palette": str(header.get("PhotometricInterpretation", "")) == "PALETTE COLOR",
        f"pixels of {bits} bits up to bit {high}, not {bits - 1}": high != bits - 1,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise FormatError(
            f"{path}: {'; '.join(found)}",
            needed="single-frame grey CT or MR slices",
            cure="convert it to NIfTI first, e.g. with dcm2niix",
        )


def _dtype(slices: Sequence[Frame]) -> np.dtype[np.generic]:
    """Return the dtype after rescaling: as stored, int16 or int32 if whole, else float32."""
    bits, signed = max(s.bits for s in slices), any(s.signed for s in slices)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if all(s.slope == 1 and s.intercept == 0 for s in slices):
        return np.min_scalar_type(low if signed else high)
    if not all(s.slope.is_integer() and s.intercept.is_integer() for s in slices):
        return np.dtype(np.float32)
    ends = [s.slope * end + s.intercept for s in slices for end in (low, high)]
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def _fill(target: NDArray[np.generic], one: Frame) -> None:
    """Decode one slice's pixels into (Y, X) and rescale them."""
    from pydicom.uid import RLETransferSyntaxes

    with _keep_quiet(), damage_refused(one.path, FORMAT.name):
        data = _read(one.path)
        encoding = data.file_meta.TransferSyntaxUID
        free = encoding.is_encapsulated and encoding not in RLETransferSyntaxes  # JPEG: no bound
        refuse_size(one.path, 2 * target.size, stored=None if free else one.path)
        with damage_refused(
            one.path,
            f"DICOM pixels in {encoding.name}",
            cure="export the series uncompressed, or run `gdcmconv --raw` on it",
        ):
            pixels = np.asarray(data.pixel_array)
    if pixels.shape != target.shape:
        raise FormatError(
            f"{one.path}: pixels of shape {pixels.shape}",
            needed=f"{target.shape}, as the header says",
            cure="export the series again from the source",
        )
    exact = pixels
    if (one.slope, one.intercept) != (1, 0):
        exact = pixels.astype(np.float64) * one.slope + one.intercept
    limits = np.iinfo(target.dtype.name) if target.dtype.kind in "iu" else None
    if limits and (exact.min() < limits.min or exact.max() > limits.max):
        raise FormatError(
            f"{one.path}: pixels beyond the {one.bits} bits that the header states",
            needed="a true BitsStored",
            cure="export the series again from the source",
        )
    target[...] = exact
