"""TIFF: grey, RGB or palette, any bit depth; several pages are the slices Z.

Spacing comes from the resolution tags; where ImageJ or hilum wrote the file, its own unit and distance of slices count.
"""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import FormatError
from hilum.io.files import atomic_path
from hilum.io.picture import MM_PER_INCH, as_grey, colours_first, spacing_of_resolution, warn_of_loss
from hilum.io.record import Decoded, FileFacts, Format, plain_array, refuse_size
from hilum.io.tiff_segments import assembled
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "inch": MM_PER_INCH, "m": 1000.0, "nm": 1e-6}
_MM_PER_UNIT |= dict.fromkeys(("um", "micron", "microns", "µm", "\\u00b5m"), 1e-3)
_MM_PER_TAG = {2: MM_PER_INCH, 3: 10.0}  # ResolutionUnit: inch, centimetre
_COLOUR_AXES = "SC"
_NONE, _LZW, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _LZMA, _JPEG = 1, 5, 32946, 8, 32773, 34925, 7  # Compression
_BY_TIFFFILE = {_NONE, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _LZMA}
_FLOATING_POINT = 3  # Predictor
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # PhotometricInterpretation
_ALPHA = {1, 2}  # ExtraSamples


@dataclass(frozen=True)
class _Header:
    """What the tags say."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    photometric: int
    compression: int
    predictor: int
    bits: int
    alpha: bool
    palette: NDArray[np.uint16] | None
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]


def read(path: Path) -> Decoded:
    """Read a TIFF; colours become three channels (those of a palette too, unless they are grey), pages slices.

    Raises:
        FormatError: damaged, with transparency, several images, or axes that are neither slices nor colours.
    """
    header = _header(path)
    array = _channels_first(path, header, *_pixels(path, header))
    notes: tuple[str, ...] = ()
    if header.palette is not None:
        array = header.palette[:, array[0]]  # (3, Z, Y, X)
        array = (array >> 8).astype(np.uint8) if (array >> 8).any() else array.astype(np.uint8)  # some writers use 8 of 16 bits
    elif _is_inverted(header):
        array = np.asarray(((1 << header.bits) - 1) - array, dtype=array.dtype)
    if header.photometric in {_RGB, _PALETTE, _YCBCR} and "C" not in header.axes:
        array, notes = as_grey(array)
    return _decoded(path, header, array, notes)


def read_indices(path: Path) -> Decoded:
    """Read a TIFF as labels: the stored numbers, those of a palette too."""
    header = _header(path)
    return _decoded(path, header, _channels_first(path, header, *_pixels(path, header)), ())


def inspect(path: Path) -> FileFacts:
    """Read the tags only, except of colour images, whose transparency is checked."""
    header = _header(path)
    if len(header.shape) > 3 or set(header.axes) & set(_COLOUR_AXES) or header.palette is not None:
        decoded = read(path)
        return FileFacts(decoded.volume.geometry, decoded.volume.channels, decoded.volume.array.dtype, decoded.notes)
    z, y, x = (1, *header.shape)[-3:]
    geometry = Geometry.from_spacing((z, y, x), header.spacing)
    return FileFacts(geometry, 1, plain_array(path, np.empty(0, header.dtype)).dtype, header.notes)


def write(volume: Volume, path: Path) -> None:
    """Write a TIFF with one page a slice, spacing in ImageJ's tags. Origin and directions, which it cannot hold, are logged.

    Raises:
        FormatError: two or more than three channels.
    """
    import tifffile

    array = plain_array(path, volume.array)
    if volume.channels not in {1, 3}:
        raise FormatError(f"{path}: {volume.channels} channels", needed="1 (grey) or 3 (RGB) for a TIFF", cure="write .nii.gz")
    colour = volume.channels == 3
    pages = np.ascontiguousarray(np.moveaxis(array, 0, -1) if colour else array[0])  # (Z, Y, X, 3) or (Z, Y, X)
    z_mm, y_mm, x_mm = volume.geometry.spacing
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages,
            photometric="rgb" if colour else "minisblack",
            compression="zlib",
            resolution=(10.0 / x_mm, 10.0 / y_mm),
            resolutionunit="CENTIMETER",
            metadata={"axes": "ZYXS" if colour else "ZYX", "spacing": z_mm, "unit": "mm"},
        )
        kept = inspect(temporary).geometry
    warn_of_loss(volume.geometry, kept, path)


FORMAT = Format(name="TIFF", read=read, inspect=inspect, write=write, read_indices=read_indices)


def _header(path: Path) -> _Header:
    """Read the tags of the one image of a file."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return _parse(path, file)
    except (OSError, ValueError, tifffile.TiffFileError, RuntimeError, KeyError, IndexError, TypeError, struct.error) as error:
        raise _unreadable(path, error) from error


def _parse(path: Path, file: Any) -> _Header:
    """The header of an opened file; reduced copies of its image (pyramid levels) do not count."""
    if len(file.series) != 1:
        raise FormatError(
            f"{path}: {len(file.series)} images of different size or type in one TIFF",
            needed="one image, or pages of one size",
            cure="save each image as a file of its own",
        )
    series, page = file.series[0], file.pages[0]
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE} | ({_YCBCR} if int(page.compression) == _JPEG else set())
    if int(page.photometric) not in known:
        raise FormatError(
            f"{path}: a TIFF in the colour space {page.photometric.name}", needed="grey or RGB", cure="convert it to RGB"
        )
    spacing, notes = _spacing(file)
    palette = page.colormap if int(page.photometric) == _PALETTE else None
    header = _Header(
        shape=tuple(series.shape),
        axes=series.axes,
        dtype=np.dtype(series.dtype),
        photometric=int(page.photometric),
        compression=int(page.compression),
        predictor=int(page.predictor),
        bits=int(page.bitspersample),
        alpha=bool(page.extrasamples) and int(page.extrasamples[-1]) in _ALPHA,
        palette=None if palette is None else np.asarray(palette, dtype=np.uint16),
        spacing=spacing,
        notes=notes,
    )
    inverted = ("zero is white in this file; its grey values are inverted",) if _is_inverted(header) else ()
    return replace(header, notes=notes + inverted)


def _is_inverted(header: _Header) -> bool:
    """Tell whether zero is white in the decoded numbers."""
    return header.photometric == _WHITE_IS_ZERO and header.dtype.kind in "bu"


def _pixels(path: Path, header: _Header) -> tuple[NDArray[Any], str]:
    """Decode the stored pixels; their axes have one letter each.

    Raises:
        FormatError: the file cannot be decoded, or what came out has another size or type than its tags say.
    """
    import tifffile

    refuse_size(path, math.prod(header.shape) * header.dtype.itemsize, stored=None)
    try:
        if header.compression == _LZW or header.predictor == _FLOATING_POINT or header.bits not in {1, 8, 16, 32, 64}:
            pixels, axes = assembled(path), header.axes
        elif header.compression in _BY_TIFFFILE:
            pixels, axes = np.asarray(tifffile.imread(path)), header.axes
        else:
            pixels, axes = _by_pillow(path), header.axes
    except (
        OSError,
        ValueError,
        tifffile.TiffFileError,
        RuntimeError,
        SyntaxError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        KeyError,
    ) as error:
        raise _unreadable(path, error) from error
    if pixels.size != np.prod(header.shape) or pixels.dtype.newbyteorder("=") != header.dtype.newbyteorder("="):
        raise FormatError(
            f"{path}: decoding gives {pixels.dtype} numbers of shape {pixels.shape}, the header says {header.dtype} and "
            f"{header.shape}",
            needed="an encoding that keeps the stored numbers",
            cure="save it again without compression, or by deflate (zip)",
        )
    return pixels.reshape(header.shape), axes


def _by_pillow(path: Path) -> NDArray[Any]:
    """Decode the pages (Z, Y, X) or (Z, Y, X, S) of a TIFF that is compressed by JPEG or as a fax."""
    import PIL.Image
    from PIL import ImageSequence

    with PIL.Image.open(path) as image:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])


def _decoded(path: Path, header: _Header, array: NDArray[Any], notes: tuple[str, ...]) -> Decoded:
    """Put pixels (C, Z, Y, X) on their grid."""
    geometry = Geometry.from_spacing(array.shape[1:], header.spacing)
    return Decoded(Volume(plain_array(path, array), geometry), header.notes + notes)


def _unreadable(path: Path, error: Exception) -> FormatError:
    """The error for a TIFF that cannot be decoded."""
    return FormatError(
        f"{path}: the TIFF cannot be read ({error})", needed="a complete TIFF", cure="save it again without compression"
    )


def _channels_first(path: Path, header: _Header, pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring the stored axes to (C, Z, Y, X)."""
    colours = [n for n, axis in enumerate(axes) if axis in _COLOUR_AXES]
    if len(colours) > 1 or "Y" not in axes or "X" not in axes:
        raise FormatError(f"{path}: a TIFF with axes {axes}", needed="pages of rows and columns", cure="save it as plain pages")
    if colours:
        pixels = np.moveaxis(pixels, colours[0], -1)  # (..., Y, X, bands)
    before = pixels.shape[: pixels.ndim - (3 if colours else 2)]
    if sum(n > 1 for n in before) > 1:
        raise FormatError(
            f"{path}: a TIFF of shape {pixels.shape}", needed="one stack of pages", cure="save each stack as its own file"
        )
    stack = pixels.reshape(-1, *pixels.shape[len(before) :])
    return colours_first(path, stack, alpha=header.alpha and "S" in axes) if colours else stack[np.newaxis]


def _spacing(file: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Spacing (Z, Y, X) in mm, and a note where none is stored."""
    tags = file.pages[0].tags
    stored = _described(file)
    named = _MM_PER_UNIT.get(str(stored.get("unit", "")).lower())
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    mm = (named if file.imagej_metadata else None) or _MM_PER_TAG.get(unit)
    per_y, per_x = _ratio(tags, "YResolution"), _ratio(tags, "XResolution")
    dots = None if mm is None or min(per_y, per_x) <= 0 else (per_y * MM_PER_INCH / mm, per_x * MM_PER_INCH / mm)
    (_, y_mm, x_mm), notes = spacing_of_resolution(dots, trusted=named is not None)
    distance = float(stored.get("spacing") or 0.0) * (named or 0.0)
    return (distance or 1.0, y_mm, x_mm), notes


def _described(file: Any) -> dict[str, Any]:
    """What ImageJ, or tifffile (and so `write`), put into the description."""
    described: dict[str, Any] = dict(file.imagej_metadata or {})
    for entry in file.shaped_metadata or ():
        described |= entry
    return described


def _ratio(tags: Any, name: str) -> float:
    """A rational tag as a number; 0 where it is missing or not valid."""
    if name not in tags:
        return 0.0
    above, below = tags[name].value
    return float(above) / float(below) if below else 0.0
