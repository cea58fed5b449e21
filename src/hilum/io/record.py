"""What a format's reader hands over, and what every reader does to a stored grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import FormatError, GeometryError
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_SNAP_FROM = 1e-6  # what is below is the rounding of a float32, which every header has
_SAY_FROM = 1e-5  # what is above moves the far corner of a 500 mm image by 0.005 mm or more


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself, for those who do not need its voxels.

    Args:
        geometry: the grid.
        channels: number of channels C.
        dtype: dtype that `read_volume` gives.
        notes: what had to be assumed or mended, one sentence each.
    """

    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A volume as read, and what had to be assumed or mended, one sentence each."""

    volume: Volume
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """One file format: how to read it, its header only, and it as labels, and how to write it (None: it is not written)."""

    name: str
    read: Callable[[Path], Decoded]
    inspect: Callable[[Path], FileFacts]
    write: Callable[[Volume, Path], None] | None = None
    read_indices: Callable[[Path], Decoded] | None = None


def make_geometry(
    path: Path, shape: tuple[int, ...], affine: NDArray[Any], *, frame_of_reference: str | None = None
) -> tuple[Geometry, tuple[str, ...]]:
    """Build the geometry of a file; axes that are off perpendicular by rounding are made perpendicular.

    Returns:
        The geometry, and a note where the axes were further off than the rounding of a 32-bit number.

    Raises:
        GeometryError: the grid cannot be one, naming the file.
    """
    z, y, x = (int(n) for n in shape)
    try:
        geometry = Geometry((z, y, x), np.asarray(affine, dtype=np.float64), frame_of_reference)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.found}", needed=error.needed, cure=error.cure) from error
    directions = geometry.directions
    off = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if off <= _SNAP_FROM:
        return geometry, ()
    left, _, right = np.linalg.svd(directions)
    snapped = geometry.affine.copy()
    snapped[:3, :3] = (left @ right) * np.asarray(geometry.spacing)
    notes = (f"the axes are off perpendicular by {off:.1e} (rounding) and were made perpendicular",) if off > _SAY_FROM else ()
    return Geometry(geometry.shape, snapped, frame_of_reference), notes


def plain_array(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """The array in this machine's byte order and in a dtype that is worked with.

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
            f"{path}: voxels of type {array.dtype}", needed="integers or real numbers", cure="store the magnitude as float32"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
