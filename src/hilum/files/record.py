"""Records that every format's reader returns, and checks of a stored grid."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil

from hilum.errors import FormatError, GeometryError, HilumError, ResourceError
from hilum.volume import Geometry, Volume
from hilum.volume.orient import snap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

NO_SPACING = "no spacing is stored in the picture; 1 mm is assumed"
_GREY = "red, green and blue are equal in the picture; it is read as one grey channel"

_SNAP_FROM = 1e-6  # voxels; what is below is the rounding of the arithmetic
_MOST_INFLATED = 1032
MOST_SURPLUS = 1 << 20
"""Bytes behind the voxels that are read to come to a checksum."""

_SAY_FROM = 1e-3  # voxels; what is below is the rounding of 32-bit numbers, which most headers have


@dataclass(frozen=True)
class Segment:
    """A named segment of a segmentation file.

    Args:
        name: for people.
        value: what `read_labels` gives for its voxels.
        stored: the number in its layer, or of the segment or structure in DICOM.
        layer: which component of a voxel holds it.
        code: (value, scheme, meaning) of what it is, where the file says; see
            :class:`hilum.volume.Label`.
        colour: sRGB 0..255, where the file says.
    """

    name: str
    value: int
    stored: int
    layer: int
    code: tuple[str, str, str] | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class FileFacts:
    """Facts that a file states about itself, for those who do not need its voxels.

    Args:
        geometry: the grid.
        channels: number of channels C.
        dtype: dtype that `read_volume` gives.
        notes: what had to be assumed or mended, one sentence each.
        turned: the EXIF orientation by which a picture was turned upright, 2..8; 1 for any other
            file.
        segments: named segments, of an NRRD file of 3D Slicer, a DICOM SEG or RTSTRUCT.
    """

    geometry: Geometry
    channels: int
    dtype: np.dtype[np.generic]
    notes: tuple[str, ...] = ()
    turned: int = 1
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A volume as read, and what had to be assumed or mended, one sentence each."""

    volume: Volume
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One file format: its reader, header reader, label reader and writer (None: not written)."""

    name: str
    read: Callable[[Path], Decoded]
    inspect: Callable[[Path], FileFacts]
    write: Callable[[Volume, Path], None] | None = None
    read_indices: Callable[[Path], Decoded] | None = None


def make_geometry(
    path: Path | str,
    shape: tuple[int, ...],
    affine: NDArray[np.generic],
    *,
    frame_of_reference: str | None = None,
) -> tuple[Geometry, tuple[str, ...]]:
    """Build the geometry of a file.

    Axes that are off perpendicular by rounding are made perpendicular.

    Returns:
        The geometry, and a note where the axes were further off than the rounding of 32-bit
        numbers.

    Raises:
        GeometryError: the grid cannot be one, naming the file.
    """
    z, y, x = (int(n) for n in shape)
    try:
        geometry = Geometry((z, y, x), np.asarray(affine, dtype=np.float64), frame_of_reference)
    except GeometryError as error:
        raise GeometryError(
            f"{path}: {error.found}", needed=error.needed, cure=error.cure
        ) from error
    clean, _ = snap(geometry)
    moved = geometry.distance_voxels(clean)
    if moved <= _SNAP_FROM:
        return geometry, ()
    notes = (
        (
            "directions that are rounded in the file were made perpendicular, which moves a corner"
            f" by {moved:.2g} voxels"
        ),
    )
    return clean, notes if moved > _SAY_FROM else ()


@contextmanager
def damage_refused(
    path: Path, kind: str, *, cure: str = "copy or download it again"
) -> Iterator[None]:
    """Refuse a file on which a decoder fails: damaged bytes make libraries raise nearly any error.

    Raises:
        FormatError: the decoder failed.
        ResourceError: it asked for more memory than there is.
    """
    try:
        yield
    except (HilumError, ModuleNotFoundError):
        raise
    except MemoryError as error:
        raise ResourceError(
            f"{path}: there is not enough memory to read it",
            needed="a complete file that fits into memory",
            cure="copy it again if it is a small one; else close other programs, or crop the image",
        ) from error
    except Exception as error:
        words = str(error).strip().rpartition("\n")[2].strip()  # ITK says what is wrong at the end
        raise FormatError(
            f"{path}: the file cannot be read as {kind} ({type(error).__name__}: {words})",
            needed="a complete file",
            cure=cure,
        ) from error


def refuse_size(path: Path, size: int, *, stored: Path | None) -> None:
    """Raise before the memory is asked for, where a header claims more than there can be.

    Args:
        path: of the header.
        size: bytes that it claims.
        stored: the file that holds them, compressed or not; None where that is not known.

    Raises:
        FormatError: the file cannot hold them: deflate makes no more than 1032 bytes of one.
        ResourceError: this machine's memory cannot.
    """
    claimed = f"its header claims {size / 2**30:.3g} GiB of voxels"
    if stored is not None and size > _MOST_INFLATED * stored.stat().st_size:
        raise FormatError(
            f"{path}: the voxels cannot be read ({claimed}, and the file has"
            f" {stored.stat().st_size} bytes)",
            needed="a complete file",
            cure="copy or download it again",
        )
    if size > total_memory():
        raise ResourceError(
            f"{path}: {claimed}",
            needed=f"no more than the {total_memory() / 2**30:.3g} GiB of this machine",
            cure="crop the image",
        )


def surplus_note(surplus: int) -> tuple[str, ...]:
    """Note bytes that a file holds behind its voxels.

    Of those after `MOST_SURPLUS` nothing is read.
    """
    if surplus > MOST_SURPLUS:
        much = f"more than {MOST_SURPLUS >> 20} MiB beyond what its header says"
        return (
            f"the file holds {much}; they were not read, nor the checksum behind them compared",
        )
    note = f"the file holds {surplus} bytes more than its header says; they were left aside"
    return (note,) if surplus else ()


def plain_array(path: Path, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Convert an array to this machine's byte order and a dtype that hilum works with.

    bool becomes uint8, float16 becomes float32, a long double becomes float64.

    Raises:
        FormatError: complex numbers or other things that are no image.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return array.astype(np.uint8)
    if kind == "f" and size not in {4, 8}:
        return array.astype(np.float32 if size < 4 else np.float64)
    if kind not in "iuf":
        raise FormatError(
            f"{path} has voxels of type {array.dtype}",
            needed="integers or real numbers",
            cure="store the magnitude as float32",
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def shortest(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the shortest decimals that round to the stored 32-bit numbers.

    64-bit numbers (NIfTI-2) as they are.
    """
    if values.dtype.itemsize > 4:
        return values.astype(np.float64)
    return np.array([float(str(v)) for v in values.astype(np.float32).ravel()]).reshape(
        values.shape
    )


def as_grey(array: NDArray[np.generic]) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Reduce three colours (3, Z, Y, X) that are equal to one channel, with a note.

    Anything else is returned as it is.
    """
    if len(array) == 3 and (array == array[:1]).all():
        return np.ascontiguousarray(array[:1]), (_GREY,)
    return array, ()


def total_memory() -> int:
    """Return this machine's memory in bytes, free or not: no image can exceed it."""
    return int(psutil.virtual_memory().total)
