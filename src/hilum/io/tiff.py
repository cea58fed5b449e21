"""TIFF: grey or RGB, any bit depth; several pages are the slices Z.

Spacing comes from the resolution tags (their unit, or the "unit" and "spacing" of ImageJ, which also knows the distance of the slices).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import FormatError
from hilum.io.files import atomic_path
from hilum.io.picture import MM_PER_INCH, colours_first, spacing_of_resolution, warn_of_loss
from hilum.io.record import Decoded, FileFacts, Format, plain_array
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "inch": MM_PER_INCH, "um": 1e-3, "micron": 1e-3}
_MM_PER_UNIT |= {"µm": 1e-3, "\\u00B5m": 1e-3, "nm": 1e-6, "m": 1000.0}
_COLOUR_AXES = "SC"


def read(path: Path) -> Decoded:
    """Read a TIFF; colours become three channels, pages slices.

    Raises:
        FormatError: damaged, with transparency, several images, or axes that are neither slices nor colours.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = _only_series(path, file)
            pixels, axes = series.asarray(), series.axes
            spacing, notes = _spacing(file)
    except (OSError, ValueError, tifffile.TiffFileError, RuntimeError, KeyError, IndexError) as error:
        raise _unreadable(path, error) from error
    array, colour_notes = _channels_first(path, pixels, axes)
    geometry = Geometry.from_spacing(array.shape[1:], spacing)
    return Decoded(Volume(plain_array(path, array), geometry), notes + colour_notes)


def inspect(path: Path) -> FileFacts:
    """Read the tags only, except of colour images, whose transparency is checked."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = _only_series(path, file)
            shape, axes, dtype = series.shape, series.axes, series.dtype
            spacing, notes = _spacing(file)
    except (OSError, ValueError, tifffile.TiffFileError, RuntimeError, KeyError, IndexError) as error:
        raise _unreadable(path, error) from error
    if len(shape) > 3 or set(axes) & set(_COLOUR_AXES):
        decoded = read(path)
        return FileFacts(decoded.volume.geometry, decoded.volume.channels, decoded.volume.array.dtype, decoded.notes)
    z, y, x = (1, *shape)[-3:]
    geometry = Geometry.from_spacing((z, y, x), spacing)
    return FileFacts(geometry, 1, plain_array(path, np.empty(0, dtype)).dtype, notes)


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


FORMAT = Format(name="TIFF", read=read, inspect=inspect, write=write)


def _unreadable(path: Path, error: Exception) -> FormatError:
    """The error for a TIFF that cannot be decoded."""
    if isinstance(error, FormatError):
        return error
    return FormatError(
        f"{path}: the TIFF cannot be read ({error})", needed="a complete TIFF", cure="save it again without compression"
    )


def _only_series(path: Path, file: Any) -> Any:
    """The one image of a file; reduced copies of it do not count."""
    if len(file.series) != 1:
        raise FormatError(
            f"{path}: {len(file.series)} images of different size or type in one TIFF",
            needed="one image, or pages of one size",
            cure="save each image as a file of its own",
        )
    return file.series[0]


def _channels_first(path: Path, pixels: NDArray[Any], axes: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Bring the stored axes to (C, Z, Y, X)."""
    colours = [n for n, axis in enumerate(axes) if axis in _COLOUR_AXES]
    if len(colours) > 1 or "Y" not in axes or "X" not in axes:
        raise FormatError(f"{path}: a TIFF with axes {axes}", needed="pages of rows and columns", cure="save it as plain pages")
    if colours:
        pixels = np.moveaxis(pixels, colours[0], -1)  # (..., Y, X, bands)
    rows = pixels.ndim - (3 if colours else 2)
    stack = pixels.reshape(-1, *pixels.shape[rows:]) if np.count_nonzero(np.array(pixels.shape[:rows]) > 1) <= 1 else None
    if stack is None:
        raise FormatError(
            f"{path}: a TIFF of shape {pixels.shape}", needed="one stack of pages", cure="save each stack as its own file"
        )
    return colours_first(path, stack) if colours else (stack[np.newaxis], ())


def _spacing(file: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Spacing (Z, Y, X) in mm, and a note where none is stored."""
    tags = file.pages[0].tags
    stored = _described(file)
    per_unit = tuple(_ratio(tags, name) for name in ("YResolution", "XResolution"))
    unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
    mm = _MM_PER_UNIT.get(str(stored.get("unit", "")).lower()) if file.imagej_metadata else None
    mm = mm or {2: MM_PER_INCH, 3: 10.0}.get(int(unit))
    known = mm is not None and min(per_unit) > 0
    dots = (per_unit[0] * MM_PER_INCH / (mm or 1.0), per_unit[1] * MM_PER_INCH / (mm or 1.0)) if known else None
    (_, y_mm, x_mm), notes = spacing_of_resolution(dots)
    thickness = float(stored.get("spacing", 0.0) or 0.0)
    scale = (_MM_PER_UNIT.get(str(stored.get("unit", "")).lower(), 1.0)) if thickness > 0 else 1.0
    return ((thickness * scale) if thickness > 0 else 1.0, y_mm, x_mm), notes


def _described(file: Any) -> dict[str, Any]:
    """What ImageJ or tifffile (and so `write`) put into the description."""
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
