"""TIFF: grey, RGB or palette, any bit depth; several pages are the slices Z.

Spacing comes from the resolution tags; where ImageJ or hilum wrote the file, its own unit and
distance of slices count.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError, counted
from hilum.files.atomic import atomic_path
from hilum.files.record import Decoded, FileFacts, Format, as_grey, plain_array, refuse_size
from hilum.io.picture import (
    MM_PER_INCH,
    colours_first,
    no_pixel_limit,
    spacing_of_resolution,
    turn_upright,
    upright_note,
    warn_of_loss,
)
from hilum.io.tiff_segments import decode_pages, refuse_incomplete
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "inch": MM_PER_INCH}
_MM_PER_UNIT |= {"m": 1000.0, "nm": 1e-6}
_MM_PER_UNIT |= dict.fromkeys(("um", "micron", "microns", "\u00b5m", "\u03bcm", "\\u00b5m"), 1e-3)
_MM_PER_TAG = {2: MM_PER_INCH, 3: 10.0}  # ResolutionUnit: inch, centimetre
_NONE, _FAXES, _LZW, _JPEG, _ADOBE_DEFLATE = 1, {2, 3, 4}, 5, 7, 8  # Compression
_PACKBITS, _DEFLATE, _LZMA, _ZSTD = 32773, 32946, 34925, 50000
_BOUNDED = {_NONE, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS}
"""Compressions that expand a byte to at most so many as `refuse_size` knows."""
_SEPARATE = 2  # PlanarConfiguration
_FLOATING_POINT = 3  # Predictor
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # PhotometricInterpretation
_ALPHA = {1, 2}  # ExtraSamples
_UNTURN = {6: 8, 8: 6}  # the orientation that undoes another; the rest undo themselves
_INVERTED = ("zero is white in this file; its grey values are inverted",)
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")  # of OME-XML


@dataclass(frozen=True)
class _Image:
    """The one image of an opened file, in one or several of tifffile's series.

    Args:
        path: of the file.
        file: opened.
        series: of one shape and type; several are slices.
        turn: the orientation of 1 to 8 in which the pixels are stored.
        spacing: mm (Z, Y, X), upright.
        notes: what had to be assumed or mended.
    """

    path: Path
    file: TiffFile
    series: list[TiffPageSeries]
    turn: int
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]

    @property
    def page(self) -> TiffPage:
        """Return the page whose tags count for all."""
        return self.series[0].keyframe

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `axes`."""
        return ((len(self.series),) if len(self.series) > 1 else ()) + tuple(self.series[0].shape)

    @property
    def axes(self) -> str:
        """Return a letter for each axis; S and C are colours."""
        return ("Q" if len(self.series) > 1 else "") + self.series[0].axes

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return the dtype that the tags state."""
        return np.dtype(self.series[0].dtype)


def read(path: Path) -> Decoded:
    """Read a TIFF.

    Colours become three channels (those of a palette too, unless they are grey), pages slices.

    Raises:
        FormatError: damaged, with transparency, several images, or axes that are neither slices nor
            colours.
    """
    with _open_image(path) as image:
        _refuse_unknown_white(image)
        array, notes, page = _channels_first(image), image.notes, image.page
        if page.photometric == _PALETTE and page.colormap is not None:
            colours = np.asarray(page.colormap, dtype=np.uint16)[:, np.asarray(array[0], np.intp)]
            high = colours >> 8  # some writers use 8 of 16 bits; (3, Z, Y, X)
            array = (high if high.any() else colours).astype(np.uint8)
        elif page.photometric == _WHITE_IS_ZERO:
            array = np.subtract((1 << page.bitspersample) - 1, array).astype(image.dtype)
            notes += _INVERTED
        if page.photometric in {_RGB, _PALETTE, _YCBCR} and "C" not in image.axes:
            array, grey = as_grey(array)
            notes += grey
        return _place_pixels(image, array, notes)


def read_indices(path: Path) -> Decoded:
    """Read a TIFF as labels: the stored numbers, those of a palette too."""
    with _open_image(path) as image:
        return _place_pixels(image, _channels_first(image), image.notes)


def inspect(path: Path) -> FileFacts:
    """Read the tags only, except of colour images, whose transparency is checked."""
    with _open_image(path) as image:
        turn = image.turn
        grey = len(image.shape) <= 3 and not set(image.axes) & set("SC")
        if grey and image.page.photometric != _PALETTE:
            _refuse_unknown_white(image)
            notes = image.notes
            if image.page.photometric == _WHITE_IS_ZERO:
                notes += _INVERTED
            z, y, x = (1, *image.shape)[-3:]
            rows, columns = (x, y) if turn > 4 else (y, x)
            geometry = Geometry.from_spacing((z, rows, columns), image.spacing)
            dtype = plain_array(path, np.empty(0, image.dtype)).dtype
            return FileFacts(geometry, 1, dtype, notes, turn)
    decoded = read(path)
    volume = decoded.volume
    return FileFacts(volume.geometry, volume.channels, volume.array.dtype, decoded.notes, turn)


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
            f"{path} would have {counted(volume.channels, 'channel')}",
            needed="1 (grey) or 3 (RGB) for a TIFF",
            cure="write .nii.gz",
        )
    colour = volume.channels == 3
    pages = np.moveaxis(array, 0, -1) if colour else array[0]  # (Z, Y, X, 3) or (Z, Y, X)
    z_mm, y_mm, x_mm = volume.geometry.spacing
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.ascontiguousarray(pages),
            photometric="rgb" if colour else "minisblack",
            compression="zlib",
            resolution=(10.0 / x_mm, 10.0 / y_mm),
            resolutionunit="CENTIMETER",
            metadata={"axes": "ZYXS" if colour else "ZYX", "spacing": z_mm, "unit": "mm"},
        )
        kept = inspect(temporary).geometry
    warn_of_loss(volume.geometry, kept, path)


FORMAT = Format(name="TIFF", read=read, inspect=inspect, write=write, read_indices=read_indices)


@contextmanager
def _open_image(path: Path) -> Iterator[_Image]:
    """Open a file and find its one image; reduced copies and masks of transparency do not count."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        refuse_incomplete(file)
        series = [
            one for one in file.series if not (one.keyframe.is_reduced or one.keyframe.is_mask)
        ] or list(file.series)
        kinds = {f"{one.dtype} of axes {one.axes} and shape {one.shape}" for one in series}
        if len(kinds) != 1:
            raise FormatError(
                f"{path} holds {len(series)} images of different size or type"
                f" ({', '.join(sorted(kinds)) or 'none'})",
                needed="one image, or pages of one size",
                cure="save each image as a file of its own",
            )
        if any(page is None for one in series for page in one.pages):
            raise FormatError(
                f"{path} lacks pages",
                needed="all pages that the description names",
                cure="save it again",
            )
        page = series[0].keyframe
        known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE}
        if page.photometric not in known | ({_YCBCR} if page.compression == _JPEG else set()):
            raise FormatError(
                f"{path} is a TIFF in the colour space"
                f" {tifffile.PHOTOMETRIC(page.photometric).name}",
                needed="grey or RGB",
                cure="convert it to RGB",
            )
        spacing, notes = _spacing(file)
        turn = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
        turn = turn if 1 <= turn <= 8 else 1
        if turn > 4:  # rows and columns are exchanged
            spacing = (spacing[0], spacing[2], spacing[1])
        notes += upright_note(turn, "TIFF")
        if aside := len(file.series) - len(series):
            notes += (f"{aside} reduced copies or masks of transparency were left aside",)
        yield _Image(path, file, series, turn, spacing, notes)


def _refuse_unknown_white(image: _Image) -> None:
    """Raise where zero is white in numbers without a largest one (TIFF 6.0, section 3)."""
    if image.page.photometric == _WHITE_IS_ZERO and image.dtype.kind not in "bu":
        raise FormatError(
            f"{image.path} has {image.dtype} numbers of which zero is white (WhiteIsZero)",
            needed=(
                "unsigned numbers, or zero as black (BlackIsZero): no other number is known to be"
                " black"
            ),
            cure=(
                "save it again with zero as black; if its numbers are meant as they stand, set tag"
                " 262 of a copy to 1"
            ),
        )


def _pixels(image: _Image) -> NDArray[np.generic]:
    """Decode the stored pixels, in the image's shape.

    Raises:
        FormatError: the compression or the layout is not known, or what came out has another size
            or type than the tags say.
    """
    import tifffile

    page, path = image.page, image.path
    bounded = page.compression in _BOUNDED
    refuse_size(
        path, math.prod(image.shape) * image.dtype.itemsize, stored=path if bounded else None
    )
    pages = [page.aspage() for one in image.series for page in one.pages if page is not None]
    if (
        page.compression in {_LZW, _ZSTD}
        or page.predictor == _FLOATING_POINT
        or page.bitspersample not in {1, 8, 16, 32, 64}
    ):
        _refuse_reversed(path, pages)
        pixels = decode_pages(image.file, pages)
    elif bounded or page.compression == _LZMA:
        pixels = np.stack([one.asarray() for one in image.series])
    elif page.compression in {_JPEG, *_FAXES}:
        pixels = _by_pillow(image, pages)
    else:
        raise FormatError(
            f"{path} is a TIFF compressed by"
            f" {tifffile.COMPRESSION(page.compression).name}, which is not decoded",
            needed="no compression, or deflate, LZW, PackBits, LZMA, zstd, JPEG or fax",
            cure="save it again without compression, or by deflate (zip)",
        )
    if pixels.size != math.prod(image.shape) or pixels.dtype.newbyteorder(
        "="
    ) != image.dtype.newbyteorder("="):
        raise FormatError(
            f"{path}: decoding gives {pixels.dtype} numbers of shape {pixels.shape}, the header"
            f" says {image.dtype} and {image.shape}",
            needed="an encoding that keeps the stored numbers",
            cure="save it again without compression, or by deflate (zip)",
        )
    return pixels.reshape(image.shape)


def _refuse_reversed(path: Path, pages: list[TiffPage]) -> None:
    """Raise where the bits of a page are reversed, or a page has a depth."""
    if any(page.fillorder != 1 or page.imagedepth != 1 for page in pages):
        raise FormatError(
            f"{path} is a TIFF with reversed bits (FillOrder 2) or three-dimensional pages"
            " (ImageDepth)",
            needed="bits in order and flat pages",
            cure="save it again without compression, or by deflate (zip)",
        )


def _by_pillow(image: _Image, pages: list[TiffPage]) -> NDArray[np.generic]:
    """Decode the pages of a JPEG or fax TIFF, in the order that is stored."""
    import PIL.Image

    decoded = []
    with no_pixel_limit(), PIL.Image.open(image.path) as picture:
        for page in pages:
            picture.seek(page.index)
            picture.load()  # which turns it upright
            pixels = np.asarray(picture)
            if page.photometric == _WHITE_IS_ZERO:
                pixels = ~pixels  # Pillow gives zero as black
            bands_first = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
            stored = turn_upright(bands_first, _UNTURN.get(image.turn, image.turn))
            planes = page.planarconfig == _SEPARATE or pixels.ndim == 2
            decoded.append(stored if planes else np.moveaxis(stored, 0, -1))
    return np.stack(decoded)


def _place_pixels(image: _Image, array: NDArray[np.generic], notes: tuple[str, ...]) -> Decoded:
    """Put pixels (C, Z, Y, X) on their grid."""
    z, y, x = array.shape[1:]
    geometry = Geometry.from_spacing((z, y, x), image.spacing)
    return Decoded(Volume(plain_array(image.path, array), geometry), notes)


def _channels_first(image: _Image) -> NDArray[np.generic]:
    """Decode the pixels and bring them to (C, Z, Y, X), upright."""
    pixels, path, axes = _pixels(image), image.path, image.axes
    colours = [n for n, axis in enumerate(axes) if axis in "SC"]
    if len(colours) > 1 or "Y" not in axes or "X" not in axes:
        raise FormatError(
            f"{path} is a TIFF with axes {axes}",
            needed="pages of rows and columns",
            cure="save it as plain pages",
        )
    if colours:
        pixels = np.moveaxis(pixels, colours[0], -1)  # (..., Y, X, bands)
    before = pixels.shape[: pixels.ndim - (3 if colours else 2)]
    if sum(n > 1 for n in before) > 1:
        raise FormatError(
            f"{path} is a TIFF of shape {pixels.shape}",
            needed="one stack of pages",
            cure="save each stack as its own file",
        )
    array = pixels.reshape(-1, *pixels.shape[len(before) :])[np.newaxis]
    if colours:
        extra = image.page.extrasamples
        alpha = "S" in axes and bool(extra) and int(extra[-1]) in _ALPHA
        array = colours_first(path, array[0], alpha=alpha)
    return np.ascontiguousarray(turn_upright(array, image.turn))


def _spacing(file: TiffFile) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Read the spacing (Z, Y, X) in mm, with a note where none is stored."""
    ome = _ome_sizes(file)
    if ome is not None:
        return ome, ()
    tags = file.pages[0].aspage().tags

    def ratio(name: str) -> float:
        above, below = tags[name].value if name in tags else (0, 0)
        return float(above) / float(below) if below else 0.0

    stored = dict(file.imagej_metadata or {})  # what ImageJ, or tifffile (and so `write`), wrote
    for entry in file.shaped_metadata or ():
        stored |= entry
    named = _MM_PER_UNIT.get(str(stored.get("unit", "")).lower())
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    mm = (named if file.imagej_metadata else None) or _MM_PER_TAG.get(unit)
    per_y, per_x = ratio("YResolution"), ratio("XResolution")
    known = mm is not None and min(per_y, per_x) > 0
    dots = (per_y * MM_PER_INCH / mm, per_x * MM_PER_INCH / mm) if known and mm else None
    (_, y_mm, x_mm), notes = spacing_of_resolution(dots, trusted=named is not None)
    distance = float(stored.get("spacing") or 0.0) * (named or 0.0)
    return (distance or 1.0, y_mm, x_mm), notes


def _ome_sizes(file: TiffFile) -> tuple[float, float, float] | None:
    """Read the spacing (Z, Y, X) in mm of an OME-TIFF.

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
