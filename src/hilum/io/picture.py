"""Pictures: PNG, JPEG and BMP.

A picture is a volume with Z = 1 on the canonical axes, as nothing is known of the patient. Its
spacing comes from the file's resolution where one is stored; 72 and 96 dots per inch are what
programs write that know none, and do not count. The slice is 1 mm thick.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError, counted, readable
from hilum.files.atomic import atomic_path
from hilum.files.names import plain_path
from hilum.files.record import (
    NO_SPACING,
    Decoded,
    FileFacts,
    Format,
    as_grey,
    plain_array,
    refuse_size,
)
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

MM_PER_INCH = 25.4
SCREEN_DPI = (72.0, 96.0)

_LOGGER = logging.getLogger("hilum")
_GREY_DTYPES = {"1": np.uint8, "L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16}
_TURNED = {5, 6, 7, 8}  # EXIF orientations that exchange rows and columns
_BACKWARDS = 2 * ((1, 1), (1, -1), (-1, -1), (-1, 1))
"""Steps in (Y, X) then, of the orientations 1 to 8."""
_GREY_AND_ALPHA, _RGBA = 4, 6  # colour types of a PNG
_LIMIT = threading.Lock()  # Pillow's limit belongs to the process, not to the thread


def read(path: Path) -> Decoded:
    """Read a picture; colours become three channels, a palette's too.

    Colours that are all grey become one channel.

    Raises:
        FormatError: damaged, CMYK, animated, or with real transparency.
    """
    with _open_picture(path) as image:
        geometry, notes, _ = _frame(path, image)
        array, grey = _colours(path, image)
    return Decoded(Volume(array, geometry), notes + grey)


def read_indices(path: Path) -> Decoded:
    """Read a picture as labels: the stored numbers, or the indices of a palette."""
    with _open_picture(path) as image:
        if image.mode not in {"P", "L", "1"}:
            return read(path)
        geometry, notes, _ = _frame(path, image)
        array = _read_stored(path, image)[np.newaxis, np.newaxis]
    return Decoded(Volume(array, geometry), notes)


def palette_of(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Read the colours of a picture's palette, by number; () where it has none."""
    with _open_picture(path) as image:
        numbers = (image.getpalette("RGB") if image.mode == "P" else None) or []
    return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def inspect(path: Path) -> FileFacts:
    """Read the header of a picture.

    One with colours, a palette or transparency is decoded, as it may be grey.
    """
    with _open_picture(path) as image:
        geometry, notes, turn = _frame(path, image)
        dtype = _GREY_DTYPES.get(image.mode)
        if dtype is not None and "transparency" not in image.info and not _is_deep(path, image):
            return FileFacts(geometry, 1, np.dtype(dtype), notes, turn)
    decoded = read(path)
    volume = decoded.volume
    return FileFacts(volume.geometry, volume.channels, volume.array.dtype, decoded.notes, turn)


def write_png(volume: Volume, path: Path) -> None:
    """Write a PNG: one slice; grey of 8 or 16 bits, or RGB of 8 bits.

    Spacing is kept to 1 / 1000 of a pixel for each metre.

    What a PNG cannot hold of the geometry (origin, directions) is logged.

    Raises:
        FormatError: several slices, or numbers that a PNG cannot hold.
    """
    _save_png(volume, picture_array(volume, path), path)


def _save_png(
    volume: Volume, pixels: NDArray[np.generic], path: Path, palette: bytes = b""
) -> None:
    """Write pixels with the volume's spacing, and a palette of 256 colours where one is given."""
    import PIL.Image

    _, row_mm, column_mm = volume.geometry.spacing
    image = PIL.Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", dpi=(MM_PER_INCH / column_mm, MM_PER_INCH / row_mm))
        kept = inspect(temporary).geometry
    warn_of_loss(volume.geometry, kept, path)


def write_palette_png(
    volume: Volume, path: Path, colours: Mapping[int, tuple[int, int, int]]
) -> None:
    """Write labels as a PNG with a palette: viewers show colours, `read_labels` reads the ids.

    Ids above 255 are written as grey.

    Args:
        volume: labels (1, 1, Y, X).
        path: of the file.
        colours: of labels; the others are black.

    Raises:
        FormatError: several slices, or numbers that a PNG cannot hold.
    """
    if volume.array.max(initial=0) > 255 or max(colours, default=0) > 255:
        write_png(volume, path)
        return
    palette = np.zeros((256, 3), dtype=np.uint8)
    for label, colour in colours.items():
        palette[label] = colour
    narrow = volume.with_array(volume.array.astype(np.uint8))
    _save_png(volume, picture_array(narrow, path), path, palette.tobytes())


PNG = Format(name="PNG", read=read, inspect=inspect, write=write_png, read_indices=read_indices)
JPEG = Format(name="JPEG", read=read, inspect=inspect)
BMP = Format(name="BMP", read=read, inspect=inspect, read_indices=read_indices)


def picture_array(volume: Volume, path: Path) -> NDArray[np.generic]:
    """Return the pixels (Y, X) or (Y, X, 3) of a single slice, of 8 or 16 bits.

    Raises:
        FormatError: several slices, two or more than three channels, or numbers that do not fit.
    """
    array = plain_array(path, volume.array)
    if volume.geometry.shape[0] != 1 or volume.channels not in {1, 3}:
        raise FormatError(
            f"{path} would hold {volume.geometry.shape[0]} slices of"
            f" {counted(volume.channels, 'channel')}",
            needed="one slice, grey or RGB, for a picture",
            cure="write .nii.gz, which holds every volume",
        )
    if (
        array.dtype.kind not in "iu"
        or array.min() < 0
        or array.max() > 65535
        or (volume.channels == 3 and array.max() > 255)
    ):
        raise FormatError(
            f"{path} would hold {array.dtype} numbers from {array.min()} to {array.max()}",
            needed="whole numbers of 0 to 65535 (grey) or 0 to 255 (RGB) for a picture",
            cure="write .nii.gz, which holds every volume",
        )
    narrow = array.astype(
        np.uint8 if array.max() <= 255 and array.dtype.itemsize == 1 else np.uint16
    )
    if volume.channels == 3:
        return np.ascontiguousarray(np.moveaxis(narrow[:, 0].astype(np.uint8), 0, -1))  # (Y, X, 3)
    return np.ascontiguousarray(narrow[0, 0])


def warn_of_loss(wanted: Geometry, kept: Geometry, path: Path) -> None:
    """Log where the grid that a picture can hold is not the one that was to be written."""
    if not wanted.is_close(kept):
        _LOGGER.warning(
            "%s: a picture holds no origin and directions, and its spacing is rounded; it will be"
            " read back with spacing %s mm at the world's origin. Write .nii.gz to keep the place.",
            readable(path),
            tuple(round(v, 6) for v in kept.spacing),
        )


def spacing_of_resolution(
    dots: tuple[float, float] | None, *, trusted: bool = False
) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Compute the spacing (Z, Y, X) in mm from a resolution in dots per inch.

    Args:
        dots: along (Y, X), or None where the file has none.
        trusted: whether a program of science wrote it, so that 72 and 96 count too.

    Returns:
        The spacing, and a note where none is known and 1 mm is assumed.
    """
    if dots is None or not np.isfinite(dots).all() or min(dots) <= 0:
        return (1.0, 1.0, 1.0), (NO_SPACING,)
    if not trusted and dots[0] == dots[1] and round(dots[0], 1) in SCREEN_DPI:
        return (1.0, 1.0, 1.0), (
            f"{NO_SPACING} ({dots[0]:.0f} dots per inch is a program's default)",
        )
    return (1.0, MM_PER_INCH / dots[0], MM_PER_INCH / dots[1]), ()


@contextmanager
def no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels; `refuse_size` knows the file's size and the memory."""
    import PIL.Image

    with _LIMIT:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _open_picture(path: Path) -> Iterator[Image]:
    """Open a picture, without its pixels."""
    import PIL.Image

    with no_pixel_limit():
        image = PIL.Image.open(path)
    with image:
        yield image


def _frame(path: Path, image: Image) -> tuple[Geometry, tuple[str, ...], int]:
    """Read the grid of a picture as it stands upright, its notes, and its EXIF orientation.

    Raises:
        FormatError: animated, or with more pixels than its file can hold.
        ResourceError: more pixels than this machine's memory can hold.
    """
    bands = len(image.getbands()) * (2 if image.mode.startswith("I;16") else 1)
    refuse_size(
        path, image.width * image.height * bands, stored=path if image.format == "PNG" else None
    )
    if getattr(image, "n_frames", 1) > 1:
        raise FormatError(
            f"{path} is an animated picture",
            needed="a single picture",
            cure="save its frames as a multi-page TIFF",
        )
    columns, rows = image.size
    turn = int(image.getexif().get(0x0112, 1))
    turn = turn if 1 <= turn <= 8 else 1
    per_column, per_row = image.info.get("dpi") or (0.0, 0.0)
    dots = [float(per_row), float(per_column)]
    if image.format == "PNG":  # stored as whole pixels a metre: undo the rounding of the conversion
        dots = [round(value * 1000 / MM_PER_INCH) * MM_PER_INCH / 1000 for value in dots]
    spacing, notes = spacing_of_resolution((dots[0], dots[1]))
    if turn in _TURNED:
        rows, columns, spacing = columns, rows, (spacing[0], spacing[2], spacing[1])
    geometry = Geometry.from_spacing((1, rows, columns), spacing)
    return geometry, notes + upright_note(turn, "EXIF"), turn


def upright_note(turn: int, kind: str) -> tuple[str, ...]:
    """Note the orientation of EXIF or TIFF by which a picture was turned, if it was."""
    note = f"the picture was turned upright as its {kind} orientation ({turn}) says"
    return () if turn == 1 else (note,)


def turn_upright(array: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """Turn stored pixels (..., Y, X) upright, from an orientation of 1 to 8 of EXIF or TIFF."""
    if turn in _TURNED:
        array = array.swapaxes(-1, -2)
    rows, columns = _BACKWARDS[turn - 1]
    return array[..., ::rows, ::columns]


def _upright(image: Image) -> NDArray[np.generic]:
    """Read the stored pixels, turned upright: (Y, X) or (Y, X, bands)."""
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(image))


def _depth(path: Path, image: Image) -> tuple[int, int]:
    """Return the bits of a sample and the colour type that a PNG states.

    (8, -1) of other pictures.
    """
    if image.format != "PNG":
        return 8, -1
    with path.open("rb") as stream:
        header = stream.read(26)  # signature 8, length and "IHDR" 8, size 8, bit depth, colour type
    return header[24], header[25]


def _is_deep(path: Path, image: Image) -> bool:
    """Tell whether this is a PNG of 16 bits a colour, which Pillow would silently cut to 8."""
    bits, colour_type = _depth(path, image)
    return bits == 16 and colour_type in {2, _GREY_AND_ALPHA, _RGBA}


def _read_stored(path: Path, image: Image) -> NDArray[np.generic]:
    """Return a grey picture's or a palette's numbers as stored.

    Pillow spreads grey of 2 and 4 bits over 0 to 255.
    """
    bits, colour_type = _depth(path, image)
    array = plain_array(path, _upright(image))
    spread = colour_type == 0 and bits in {2, 4}
    return np.floor_divide(array, 255 // ((1 << bits) - 1)) if spread else array


def _colours(path: Path, image: Image) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return the picture as (C, 1, Y, X), C of 1 or 3; opaque alpha is dropped."""
    if image.mode in {"CMYK", "YCbCr", "LAB", "HSV", "F"}:
        raise FormatError(
            f"{path} is a picture in {image.mode}", needed="grey or RGB", cure="convert it to RGB"
        )
    if _is_deep(path, image):
        pixels = _deep_colours(path)
        alpha = pixels.shape[-1] in {2, 4}
    elif _depth(path, image)[1] == 0:  # a grey PNG; its transparency is one grey value
        pixels, alpha = _read_stored(path, image), False
        _refuse_transparent(path, (pixels == image.info.get("transparency", -1)).any())
    elif image.mode == "P" or "transparency" in image.info:
        alpha = "transparency" in image.info
        pixels = _upright(image.convert("RGBA" if alpha else "RGB"))
    else:
        pixels, alpha = _read_stored(path, image), image.mode in {"LA", "RGBA", "PA", "La", "RGBa"}
    return as_grey(colours_first(path, pixels, alpha=alpha))


def _deep_colours(path: Path) -> NDArray[np.generic]:
    """Read a PNG of 16 bits a colour: grey with alpha by Pillow as RGBA of 8 bits, others by ITK.

    Raises:
        FormatError: fewer bits came out than the file states.
    """
    import PIL.Image
    import SimpleITK

    data = path.read_bytes()
    if data[25] == _GREY_AND_ALPHA:
        header = data[12:24] + bytes((8, _RGBA)) + data[26:29]
        data = data[:12] + header + struct.pack(">L", zlib.crc32(header)) + data[33:]
        with no_pixel_limit(), PIL.Image.open(io.BytesIO(data)) as image:
            return np.asarray(image).view(">u2").astype(np.uint16)
    with plain_path(path) as plain:
        pixels = np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(plain))))
    if pixels.dtype != np.uint16:
        raise FormatError(
            f"{path} is a picture of 16 bits with {pixels.dtype} numbers",
            needed="uint16",
            cure="write it as TIFF",
        )
    return pixels


def colours_first(path: Path, pixels: NDArray[np.generic], *, alpha: bool) -> NDArray[np.generic]:
    """Bring (Y, X), (Y, X, bands) or (Z, Y, X, bands) to (C, Z, Y, X).

    Args:
        path: the file, for errors.
        pixels: as decoded.
        alpha: whether the last band says how opaque the pixels are; it is dropped where all are.

    Raises:
        FormatError: pixels that are not opaque.
    """
    if pixels.ndim == 2:
        return pixels[np.newaxis, np.newaxis]
    stack = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    bands = np.moveaxis(stack, -1, 0)  # (bands, Z, Y, X)
    if not alpha:
        return np.ascontiguousarray(bands)
    opaque = np.iinfo(bands.dtype.name).max if bands.dtype.kind in "iu" else 1.0
    _refuse_transparent(path, (bands[-1] != opaque).any())
    return np.ascontiguousarray(bands[:-1])


def _refuse_transparent(path: Path, found: bool | np.bool_) -> None:
    """Raise where transparent pixels were found."""
    if found:
        raise FormatError(
            f"{path} is a picture with transparency",
            needed="an opaque picture",
            cure="flatten it, then save it as grey or RGB",
        )
