"""A plain DICOM series: single-frame CT or MR images, one file a slice, compressed or not."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import FormatError
from hilum.io.dicom_grid import Slice, Stack, stack
from hilum.io.record import Decoded, FileFacts, Format
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC_AT, _MAGIC = 128, b"DICM"
_MODALITIES = ("CT", "MR")
_COMPANIONS = {
    "SEG",
    "SR",
    "PR",
    "KO",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "RTRECORD",
    "REG",
    "DOC",
    "PLAN",
}  # about images, no images
_TAGS = [
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesDescription", "ImageType", "NumberOfFrames", "SamplesPerPixel"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
    *("FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsStored", "PixelRepresentation"),
]
_BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, NotImplementedError)
_LOCK = threading.RLock()  # Python's warning filters belong to the process, not to the thread


@dataclass(frozen=True)
class _Found:
    """The header of one image file."""

    path: Path
    header: Any


def is_dicom_file(path: Path) -> bool:
    """Whether a file has DICOM's magic number, whatever its name."""
    try:
        with path.open("rb") as stream:
            return stream.read(_MAGIC_AT + 4)[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def series_folder(folder: Path) -> Path | None:
    """The folder that holds the DICOM files: this one, or the one below where each level has a single subfolder (as PACS export).

    Returns:
        None where there is none.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if any(entry.is_file() and entry.name != "DICOMDIR" and is_dicom_file(entry) for entry in entries):
        return folder
    below = [entry for entry in entries if entry.is_dir()]
    return series_folder(below[0]) if len(below) == 1 else None


def modality(path: Path) -> str:
    """What made the image, by the first header that says so ("CT", "MR"); "" where none does. Raises nothing: reading will."""
    import pydicom

    with _kept_quiet():
        folder = series_folder(path) if path.is_dir() else None
        for file in [path] if folder is None else sorted(folder.iterdir()):
            try:
                found = str(pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
            except (*_BROKEN, pydicom.errors.InvalidDicomError):
                continue
            if found not in {"", *_COMPANIONS}:
                return found
    return ""


def read(path: Path) -> Decoded:
    """Read a folder that holds one series, or a single file as one slice.

    Numbers are multiplied by RescaleSlope and shifted by RescaleIntercept, slice by slice (CT: Hounsfield units); they stay
    integers where both are whole in every slice, else become float32.

    Raises:
        FormatError: no DICOM image, several series, multi-frame, localizer, another modality, or undecodable pixels.
        GeometryError: the slices form no even, perpendicular grid.
    """
    built, notes = _build(path)
    dtype = _dtype(built.slices)
    array = np.empty((1, *built.geometry.shape), dtype=dtype)
    for index, one in enumerate(built.slices):
        _fill(array[0, index], one)
    return Decoded(Volume(array, built.geometry), notes)


def inspect(path: Path) -> FileFacts:
    """Read the headers only."""
    built, notes = _build(path)
    return FileFacts(built.geometry, 1, _dtype(built.slices), notes)


FORMAT = Format(name="DICOM", read=read, inspect=inspect)


def _build(path: Path) -> tuple[Stack, tuple[str, ...]]:
    """Headers to one grid."""
    with _kept_quiet():
        images, notes = _headers(path)
        _refuse_several_series(images, path)
        slices = [_slice(image) for image in images]
    built = stack(slices, path)
    return built, notes + built.notes


@contextmanager
def _kept_quiet() -> Iterator[None]:
    """Hide pydicom's remarks on values that break the standard's letter; what matters is checked here."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _headers(path: Path) -> tuple[list[_Found], tuple[str, ...]]:
    """The headers of all images, and a note on what was left aside."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    if path.is_dir():
        folder = series_folder(path) or path
        files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    else:
        files = [path]
    images, aside = [], 0
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        except InvalidDicomError:
            aside += 1
            continue
        except _BROKEN as error:
            raise FormatError(
                f"{file}: not readable as DICOM ({error})", needed="a complete file", cure="export it again"
            ) from error
        is_image = "Rows" in header and str(header.get("Modality", "")) not in _COMPANIONS
        if is_image:
            images.append(_Found(file, header))
        elif _is_cut(header):
            raise FormatError(f"{file}: an image without size", needed="a complete file", cure="export it again")
        else:
            aside += 1
    if not images:
        raise FormatError(
            f"{path}: no DICOM image among {len(files)} files",
            needed="a folder of one CT or MR series",
            cure="name the series' own folder",
        )
    notes = (f"{aside} files that are no DICOM images were left aside",) if aside else ()
    return images, notes


def _is_cut(header: Any) -> bool:
    """Whether a file begins as an image and ends before its size is said."""
    from pydicom.uid import UID

    kind = UID(str(header.file_meta.get("MediaStorageSOPClassUID", "")))
    return "Rows" not in header and "Image Storage" in kind.name


def _refuse_several_series(images: Sequence[_Found], path: Path) -> None:
    """Raise where images belong to more than one series, naming each."""
    series: dict[str, list[_Found]] = {}
    for image in images:
        series.setdefault(str(image.header.get("SeriesInstanceUID", "")), []).append(image)
    if len(series) == 1:
        return
    listed = "\n".join(f"  {_described(members)} (series {uid})" for uid, members in series.items())
    raise FormatError(
        f"{path}: {len(series)} series in one folder\n{listed}",
        needed="one series",
        cure="put each series into a folder of its own",
    )


def _described(members: Sequence[_Found]) -> str:
    """One series for people."""
    first = members[0]
    words = str(first.header.get("SeriesDescription", "")) or "without description"
    return f"{first.header.get('Modality', '?')} {words}: {len(members)} files, e.g. {first.path.name}"


def _slice(image: _Found) -> Slice:
    """The checked header of a single-frame CT or MR image."""
    header, path = image.header, image.path
    try:
        _refuse_unplain(header, path)
        spacing = [float(v) for v in header.PixelSpacing]
        thickness = float(header.get("SliceThickness") or 0.0)
        return Slice(
            path=path,
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
    except _BROKEN as error:
        raise FormatError(
            f"{path}: a header without valid position, orientation, spacing or pixel format ({error})",
            needed="what DICOM asks of every CT and MR image",
            cure="export the series again from the source",
        ) from error


def _number(value: Any, otherwise: float) -> float:
    """A number of a header, where it has one."""
    return otherwise if value in {None, ""} else float(value)


def _refuse_unplain(header: Any, path: Path) -> None:
    """Raise at images that are no slice of a plain CT or MR series."""
    modality = str(header.get("Modality", ""))
    reasons = {
        f"{header.get('NumberOfFrames')} frames in one file (multi-frame)": int(header.get("NumberOfFrames") or 1) > 1,
        f"modality {modality or 'not stated'}": modality not in _MODALITIES,
        "a localizer (scout), which is no slice of the volume": "LOCALIZER" in [str(v) for v in header.get("ImageType") or ()],
        "a colour image": int(header.get("SamplesPerPixel") or 1) != 1,
        "numbers that are mapped by a table (Modality LUT)": bool(header.get("ModalityLUTSequence")),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise FormatError(
            f"{path}: {'; '.join(found)}",
            needed="single-frame grey CT or MR slices",
            cure="convert it to NIfTI first, e.g. with dcm2niix",
        )


def _dtype(slices: Sequence[Slice]) -> np.dtype[Any]:
    """The dtype after rescaling: as stored where nothing is rescaled, int16 or int32 where all stays whole, else float32."""
    bits, signed = max(s.bits for s in slices), any(s.signed for s in slices)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if all(s.slope == 1 and s.intercept == 0 for s in slices):
        return np.min_scalar_type(low if signed else high)
    if not all(s.slope.is_integer() and s.intercept.is_integer() for s in slices):
        return np.dtype(np.float32)
    ends = [s.slope * end + s.intercept for s in slices for end in (low, high)]
    fitting = [dtype for dtype in (np.int16, np.int32) if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max]
    return np.dtype(fitting[0] if fitting else np.float32)


def _fill(target: NDArray[Any], one: Slice) -> None:
    """Decode one slice's pixels into (Y, X) and rescale them."""
    import pydicom

    syntax = "?"
    try:
        with _kept_quiet():
            data = pydicom.dcmread(one.path)
            syntax = data.file_meta.TransferSyntaxUID.name
            pixels = np.asarray(data.pixel_array)
    except _BROKEN as error:
        raise FormatError(
            f"{one.path}: the pixels cannot be decoded ({syntax}: {error})",
            needed="complete pixel data in a syntax that pydicom and pylibjpeg read",
            cure="export the series uncompressed, or run `gdcmconv --raw` on it",
        ) from error
    if pixels.shape != target.shape:
        raise FormatError(f"{one.path}: pixels of shape {pixels.shape}", needed=f"{target.shape}, as the header says")
    exact = pixels if one.slope == 1 and one.intercept == 0 else pixels.astype(np.float64) * one.slope + one.intercept
    if target.dtype.kind in "iu" and (exact.min() < np.iinfo(target.dtype).min or exact.max() > np.iinfo(target.dtype).max):
        raise FormatError(
            f"{one.path}: pixels beyond the {one.bits} bits that the header states",
            needed="a true BitsStored",
            cure="export the series again from the source",
        )
    target[...] = exact
