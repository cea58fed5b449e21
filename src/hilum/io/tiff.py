"""TIFF: grey, RGB or palette, any bit depth; several pages are the slices Z.

Spacing comes from the resolution tags; where ImageJ or hilum wrote the file, its own unit and
distance of slices count.
"""

from __future__ import annotations

import lzma
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import FormatError
from hilum.io.files import atomic_path
from hilum.io.picture import (
    MM_PER_INCH,
    as_grey,
    colours_first,
    no_pixel_limit,
    spacing_of_resolution,
    turned_upright,
    upright_note,
    warn_of_loss,
)
from hilum.io.record import Decoded, FileFacts, Format, plain_array, refuse_size
from hilum.io.tiff_pages import refuse_incomplete
from hilum.io.tiff_segments import assembled
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MM_PER_UNIT = {
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "inch": MM_PER_INCH,
    "m": 1000.0,
    "nm": 1e-6,
}
_MM_PER_UNIT |= dict.fromkeys(("um", "micron", "microns", "\u00b5m", "\u03bcm", "\\u00b5m"), 1e-3)
_MM_PER_TAG = {2: MM_PER_INCH, 3: 10.0}  # ResolutionUnit: inch, centimetre
_COLOUR_AXES = "SC"
_NONE, _LZW, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _LZMA, _JPEG = (
    1,
    5,
    32946,
    8,
    32773,
    34925,
    7,
)  # Compression
_ZSTD, _FAXES = 50000, {2, 3, 4}
_BY_TIFFFILE = {_NONE, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _LZMA}
_SEPARATE = 2  # PlanarConfiguration
_FLOATING_POINT = 3  # Predictor
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # PhotometricInterpretation
_ALPHA = {1, 2}  # ExtraSamples
_UNTURN = {6: 8, 8: 6}  # the orientation that undoes another; the rest undo themselves
_INVERTED = ("zero is white in this file; its grey values are inverted",)
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")  # of OME-XML


@dataclass(frozen=True)
class _Header:
    """Facts that the tags state."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    photometric: int
    compression: int
    predictor: int
    bits: int
    alpha: bool
    turn: int
    palette: NDArray[np.uint16] | None
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]


def read(path: Path) -> Decoded:
    """Read a TIFF.

    Colours become three channels (those of a palette too, unless they are grey), pages slices.

    Raises:
        FormatError: damaged, with transparency, several images, or axes that are neither slices nor
            colours.
    """
    header = _header(path)
    _refuse_unknown_white(path, header)
    array = _channels_first(path, header, _pixels(path, header))
    notes: tuple[str, ...] = ()
    if header.palette is not None:
        array = header.palette[:, array[0]]  # (3, Z, Y, X)
        array = (
            (array >> 8).astype(np.uint8) if (array >> 8).any() else array.astype(np.uint8)
        )  # some writers use 8 of 16 bits
    elif header.photometric == _WHITE_IS_ZERO:
        array, notes = np.asarray(((1 << header.bits) - 1) - array, dtype=array.dtype), _INVERTED
    if header.photometric in {_RGB, _PALETTE, _YCBCR} and "C" not in header.axes:
        array, notes = as_grey(array)
    return _decoded(path, header, array, notes)


def read_indices(path: Path) -> Decoded:
    """Read a TIFF as labels: the stored numbers, those of a palette too."""
    header = _header(path)
    return _decoded(path, header, _channels_first(path, header, _pixels(path, header)), ())


def inspect(path: Path) -> FileFacts:
    """Read the tags only, except of colour images, whose transparency is checked."""
    header = _header(path)
    if len(header.shape) > 3 or set(header.axes) & set(_COLOUR_AXES) or header.palette is not None:
        decoded = read(path)
        volume = decoded.volume
        return FileFacts(
            volume.geometry, volume.channels, volume.array.dtype, decoded.notes, header.turn
        )
    _refuse_unknown_white(path, header)
    notes = header.notes + (_INVERTED if header.photometric == _WHITE_IS_ZERO else ())
    z, y, x = (1, *header.shape)[-3:]
    _, rows, columns = turned_upright(np.empty((1, y, x), np.void), header.turn).shape
    geometry = Geometry.from_spacing((z, rows, columns), header.spacing)
    return FileFacts(
        geometry, 1, plain_array(path, np.empty(0, header.dtype)).dtype, notes, header.turn
    )


def write(volume: Volume, path: Path) -> None:
    """Write a TIFF with one page a slice, spacing in ImageJ's tags.

    Origin and directions, which it cannot hold, are logged.

    Raises:
        FormatError: two or more than three channels.
    """
    import tifffile

    array = plain_array(path, volume.array)
    if volume.channels not in {1, 3}:
        raise FormatError(
            f"{path}: {volume.channels} channels",
            needed="1 (grey) or 3 (RGB) for a TIFF",
            cure="write .nii.gz",
        )
    colour = volume.channels == 3
    pages = np.ascontiguousarray(
        np.moveaxis(array, 0, -1) if colour else array[0]
    )  # (Z, Y, X, 3) or (Z, Y, X)
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
            refuse_incomplete(file)
            return _parse(path, file)
    except (
        OSError,
        ValueError,
        tifffile.TiffFileError,
        RuntimeError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
    ) as error:
        raise _unreadable(path, error) from error


def _images(path: Path, file: Any) -> list[Any]:
    """List the images of an opened file, of one size and type.

    Reduced copies and masks of transparency do not count.
    """
    images = [
        one for one in file.series if not (one.keyframe.is_reduced or one.keyframe.is_mask)
    ] or list(file.series)
    kinds = {f"{one.dtype} of axes {one.axes} and shape {one.shape}" for one in images}
    if len(kinds) != 1:
        raise FormatError(
            f"{path}: {len(images)} images of different size or type in one TIFF"
            f" ({', '.join(sorted(kinds)) or 'none'})",
            needed="one image, or pages of one size",
            cure="save each image as a file of its own",
        )
    if any(page is None for one in images for page in one.pages):
        raise FormatError(
            f"{path}: pages are missing",
            needed="all pages that the description names",
            cure="save it again",
        )
    return images


def _parse(path: Path, file: Any) -> _Header:
    """The header of an opened file."""
    images = _images(path, file)
    first, page = images[0], images[0].keyframe
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE} | (
        {_YCBCR} if int(page.compression) == _JPEG else set()
    )
    if int(page.photometric) not in known:
        raise FormatError(
            f"{path}: a TIFF in the colour space {page.photometric.name}",
            needed="grey or RGB",
            cure="convert it to RGB",
        )
    spacing, notes = _spacing(file)
    turn = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
    turn = turn if 1 <= turn <= 8 else 1
    if turn > 4:  # rows and columns are exchanged
        spacing = (spacing[0], spacing[2], spacing[1])
    aside = len(file.series) - len(images)
    palette = page.colormap if int(page.photometric) == _PALETTE else None
    return _Header(
        shape=((len(images),) if len(images) > 1 else ()) + tuple(first.shape),
        axes=("Q" if len(images) > 1 else "") + first.axes,
        dtype=np.dtype(first.dtype),
        photometric=int(page.photometric),
        compression=int(page.compression),
        predictor=int(page.predictor),
        bits=int(page.bitspersample),
        alpha=bool(page.extrasamples) and int(page.extrasamples[-1]) in _ALPHA,
        turn=turn,
        palette=None if palette is None else np.asarray(palette, dtype=np.uint16),
        spacing=spacing,
        notes=(
            *notes,
            *upright_note(turn, "TIFF"),
            *(
                (f"{aside} reduced copies or masks of transparency in the file were left aside",)
                if aside
                else ()
            ),
        ),
    )


def _refuse_unknown_white(path: Path, header: _Header) -> None:
    """Raise where zero is white in numbers without a largest one (TIFF 6.0, section 3)."""
    if header.photometric == _WHITE_IS_ZERO and header.dtype.kind not in "bu":
        raise FormatError(
            f"{path}: {header.dtype} numbers of which zero is white (WhiteIsZero)",
            needed=(
                "unsigned numbers, or zero as black (BlackIsZero): no other number is known to be"
                " black"
            ),
            cure=(
                "save it again with zero as black; if its numbers are meant as they stand, set tag"
                " 262 of a copy to 1"
            ),
        )


def _pixels(path: Path, header: _Header) -> NDArray[Any]:
    """Decode the stored pixels, in the header's shape.

    Raises:
        FormatError: the file cannot be decoded, or what came out has another size or type than its
            tags say.
    """
    import tifffile

    claimed = math.prod(header.shape) * header.dtype.itemsize
    refuse_size(
        path, claimed, stored=path if header.compression in _BY_TIFFFILE - {_LZMA} else None
    )
    try:
        with tifffile.TiffFile(path) as file:
            images = _images(path, file)
            pages = [page.aspage() for image in images for page in image.pages]
            if (
                header.compression in {_LZW, _ZSTD}
                or header.predictor == _FLOATING_POINT
                or header.bits not in {1, 8, 16, 32, 64}
            ):
                pixels = assembled(file, pages)
            elif header.compression in _BY_TIFFFILE:
                pixels = np.stack([image.asarray() for image in images])
            elif header.compression in {_JPEG, *_FAXES}:
                pixels = _by_pillow(path, pages, header.turn)
            else:
                raise FormatError(
                    f"{path}: a TIFF compressed by {pages[0].compression.name}, which is not"
                    " decoded",
                    needed="no compression, or deflate, LZW, PackBits, LZMA, zstd, JPEG or fax",
                    cure="save it again without compression, or by deflate (zip)",
                )
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
    if pixels.size != math.prod(header.shape) or pixels.dtype.newbyteorder(
        "="
    ) != header.dtype.newbyteorder("="):
        raise FormatError(
            f"{path}: decoding gives {pixels.dtype} numbers of shape {pixels.shape}, the header"
            f" says {header.dtype} and {header.shape}",
            needed="an encoding that keeps the stored numbers",
            cure="save it again without compression, or by deflate (zip)",
        )
    return pixels.reshape(header.shape)


def _by_pillow(path: Path, pages: list[Any], turn: int) -> NDArray[Any]:
    """Decode the pages of a JPEG or fax TIFF, in the order that is stored."""
    import PIL.Image

    decoded = []
    with no_pixel_limit(), PIL.Image.open(path) as image:
        for page in pages:
            image.seek(page.index)
            image.load()  # which turns it upright
            pixels = np.asarray(image)
            if int(page.photometric) == _WHITE_IS_ZERO:
                pixels = ~pixels  # Pillow gives zero as black
            bands_first = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
            stored = turned_upright(bands_first, _UNTURN.get(turn, turn))
            decoded.append(
                stored
                if page.planarconfig == _SEPARATE or pixels.ndim == 2
                else np.moveaxis(stored, 0, -1)
            )
    return np.stack(decoded)


def _decoded(path: Path, header: _Header, array: NDArray[Any], notes: tuple[str, ...]) -> Decoded:
    """Put pixels (C, Z, Y, X) on their grid."""
    geometry = Geometry.from_spacing(array.shape[1:], header.spacing)
    return Decoded(Volume(plain_array(path, array), geometry), header.notes + notes)


def _unreadable(path: Path, error: Exception) -> FormatError:
    """The error for a TIFF that cannot be decoded."""
    return FormatError(
        f"{path}: the TIFF cannot be read ({error})",
        needed="a complete TIFF",
        cure="save it again without compression",
    )


def _channels_first(path: Path, header: _Header, pixels: NDArray[Any]) -> NDArray[Any]:
    """Bring the stored axes to (C, Z, Y, X), upright."""
    axes = header.axes
    colours = [n for n, axis in enumerate(axes) if axis in _COLOUR_AXES]
    if len(colours) > 1 or "Y" not in axes or "X" not in axes:
        raise FormatError(
            f"{path}: a TIFF with axes {axes}",
            needed="pages of rows and columns",
            cure="save it as plain pages",
        )
    if colours:
        pixels = np.moveaxis(pixels, colours[0], -1)  # (..., Y, X, bands)
    before = pixels.shape[: pixels.ndim - (3 if colours else 2)]
    if sum(n > 1 for n in before) > 1:
        raise FormatError(
            f"{path}: a TIFF of shape {pixels.shape}",
            needed="one stack of pages",
            cure="save each stack as its own file",
        )
    stack = pixels.reshape(-1, *pixels.shape[len(before) :])
    array = (
        colours_first(path, stack, alpha=header.alpha and "S" in axes)
        if colours
        else stack[np.newaxis]
    )
    return np.ascontiguousarray(turned_upright(array, header.turn))


def _spacing(file: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Spacing (Z, Y, X) in mm, and a note where none is stored."""
    ome = _ome_sizes(file)
    if ome is not None:
        return ome, ()
    tags = file.pages[0].tags
    stored = _described(file)
    named = _MM_PER_UNIT.get(str(stored.get("unit", "")).lower())
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    mm = (named if file.imagej_metadata else None) or _MM_PER_TAG.get(unit)
    per_y, per_x = _ratio(tags, "YResolution"), _ratio(tags, "XResolution")
    dots = (
        None
        if mm is None or min(per_y, per_x) <= 0
        else (per_y * MM_PER_INCH / mm, per_x * MM_PER_INCH / mm)
    )
    (_, y_mm, x_mm), notes = spacing_of_resolution(dots, trusted=named is not None)
    distance = float(stored.get("spacing") or 0.0) * (named or 0.0)
    return (distance or 1.0, y_mm, x_mm), notes


def _ome_sizes(file: Any) -> tuple[float, float, float] | None:
    """Spacing (Z, Y, X) in mm of an OME-TIFF.

    None where it states none in the plane, or in a unit that is no length.
    """
    pixels = _PIXELS.search(file.ome_metadata or "") if file.is_ome else None
    if pixels is None:
        return None
    stated = dict(re.findall(r'PhysicalSize(\w+)="([^"]*)"', pixels[0]))
    try:
        z, y, x = (
            float(stated.get(axis, "nan")) * _MM_PER_UNIT[stated.get(f"{axis}Unit", "um").lower()]
            for axis in "ZYX"
        )
    except (KeyError, ValueError):
        return None
    if not all(0 < size < math.inf for size in (y, x)):  # one that is not stated is no number
        return None
    return z if 0 < z < math.inf else 1.0, y, x


def _described(file: Any) -> dict[str, Any]:
    """Read the description that ImageJ, or tifffile (and so `write`), wrote."""
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
