"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr with .img).

The voxels of Analyze pairs and of MGH too. Their world is RAS; ours is LPS.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hilum.errors import FormatError
from hilum.files.atomic import atomic_path
from hilum.files.record import (
    MOST_SURPLUS,
    Decoded,
    FileFacts,
    Format,
    make_geometry,
    plain_array,
    refuse_size,
    surplus_note,
)
from hilum.io.affine import affine_of
from hilum.io.opened import open_image
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_BLOCK = 1 << 16  # bytes read at a time


def read(path: Path) -> Decoded:
    """Read a NIfTI file.

    A fourth (or, as ITK writes it, fifth) dimension is the channels, RGB24 gives three.

    Raises:
        FormatError: not a NIfTI file, truncated, or of a type that is no image.
        GeometryError: sheared or degenerate axes.
    """
    import nibabel

    image, opened = open_image(path)
    geometry, channels, notes = _parse(path, image)
    stored = image.file_map["image"].filename  # None where the file was unpacked in memory
    size = math.prod(image.shape) * _proxy(image).dtype.itemsize
    refuse_size(path, size, stored=None if stored is None else Path(stored))
    raw, surplus = _voxels(image)
    array, dropped = _channels_first(path, raw, (channels, *geometry.shape))
    notes = opened + notes + dropped
    # FreeSurfer's tags lie behind the voxels
    if not isinstance(image, nibabel.MGHImage) or surplus > MOST_SURPLUS:
        notes += surplus_note(surplus)
    return Decoded(Volume(plain_array(path, array), geometry), notes)


def inspect(path: Path) -> FileFacts:
    """Read the header only.

    Whether an alpha channel is opaque is not known from it: RGBA counts as three channels.
    """
    image, opened = open_image(path)
    geometry, channels, notes = _parse(path, image)
    dtype = image.header.get_data_dtype()
    if dtype.names:
        return FileFacts(geometry, 3, np.dtype(np.uint8), opened + notes)
    if _is_scaled(image):
        dtype = np.dtype(np.float32)
    return FileFacts(
        geometry, channels, plain_array(path, np.empty(0, dtype)).dtype, opened + notes
    )


def write(volume: Volume, path: Path) -> None:
    """Write NIfTI-1 (NIfTI-2 beyond 32767 voxels) with sform and qform (code 1).

    Channels become the fourth dimension.
    """
    import nibabel

    array = plain_array(path, volume.array)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        narrow = np.min_scalar_type(array.max(initial=0)), np.min_scalar_type(array.min(initial=0))
        fits = np.can_cast(np.result_type(*narrow), np.int32)
        array = array.astype(np.int32) if fits else array
    data = array.transpose(3, 2, 1, 0)  # (X, Y, Z, C)
    if volume.channels == 1:
        data = data[..., 0]
    affine = _RAS_TO_LPS @ volume.geometry.affine[:, [2, 1, 0, 3]]
    create: Any = nibabel.Nifti1Image if max(data.shape) < 32768 else nibabel.Nifti2Image
    image = create(data, None, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


FORMAT = Format(name="NIfTI", read=read, inspect=inspect, write=write)
PAIR = Format(name="NIfTI or Analyze pair", read=read, inspect=inspect)
MGH = Format(name="MGH", read=read, inspect=inspect)


def _proxy(image: SpatialImage) -> ArrayProxy:
    """Give nibabel's access to the voxels on disk."""
    return cast("ArrayProxy", image.dataobj)


def _is_scaled(image: SpatialImage) -> bool:
    """Return True if stored numbers must be scaled or shifted.

    A slope of 0 or NaN means no scaling (NIfTI-1).
    """
    return (_proxy(image).slope, _proxy(image).inter) != (1, 0)


def _voxels(image: SpatialImage) -> tuple[NDArray[np.generic], int]:
    """Read stored numbers, or float32 where the header scales them, in on-disk shape.

    Count the bytes behind them.

    A compressed file is read to its end, where its checksum stands: nibabel stops at the last voxel
    and never compares it. One that has far more bytes than its header says is not: a few of its MB
    may unpack to many GB.
    """
    from nibabel.arrayproxy import ArrayProxy

    make: Any = ArrayProxy  # nibabel's annotations are partial
    place = _proxy(image)
    with image.file_map["image"].get_prepare_fileobj("rb") as stream:
        stored = make(
            stream, (place.shape, place.dtype, place.offset, place.slope, place.inter), mmap=False
        )
        scaled = _is_scaled(image)
        raw = np.asarray(stored, np.float32) if scaled else np.asanyarray(stored.get_unscaled())
        surplus = 0
        while surplus <= MOST_SURPLUS and (block := stream.read(_BLOCK)):
            surplus += len(block)
    return raw, surplus


def _parse(path: Path, image: SpatialImage) -> tuple[Geometry, int, tuple[str, ...]]:
    """Work out the grid, the number of channels, and notes."""
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(
            f"{path} holds an array of shape {shape}",
            needed="two, three or four dimensions, none of size 0",
            cure="save it as one image in space",
        )
    x, y, z, *rest = (*shape, 1) if len(shape) == 2 else shape
    channels = [n for n in rest if n > 1]
    if len(channels) > 1:
        raise FormatError(
            f"{path} holds an array of shape {shape}, with both a time and a channel dimension",
            needed="at most one dimension beyond space",
            cure="write one file for each point in time",
        )
    ras, notes = affine_of(path, image)
    geometry, snapped = make_geometry(path, (z, y, x), (_RAS_TO_LPS @ ras)[:, [2, 1, 0, 3]])
    return geometry, channels[0] if channels else 1, notes + snapped


def _channels_first(
    path: Path, raw: NDArray[np.generic], layout: tuple[int, int, int, int]
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Bring the stored (X, Y, Z, ...) to (C, Z, Y, X); colours become channels."""
    channels, z, y, x = layout
    if not raw.dtype.names:
        return raw.reshape(x, y, z, channels, order="F").transpose(3, 2, 1, 0), ()
    if channels > 1:
        raise FormatError(
            f"{path} holds {channels} colour images",
            needed="one colour image, or grey channels",
            cure="write one file for each",
        )
    colours = cast("NDArray[np.void]", raw)
    bands = [colours[name].reshape(x, y, z, order="F").T for name in raw.dtype.names]
    planes = np.stack(bands)  # (3 or 4, Z, Y, X)
    if len(planes) == 3:
        return planes, ()
    if (planes[3] == planes[3].flat[0]).all():
        return planes[:3], ("a uniform alpha channel was dropped",)
    raise FormatError(
        f"{path} is a colour image with transparency",
        needed="opaque colours",
        cure="flatten the image, then save it as RGB",
    )
