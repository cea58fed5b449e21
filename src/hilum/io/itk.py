"""NRRD (.nrrd) and MetaImage (.mha, .mhd), by ITK, whose world is LPS as ours is."""

from __future__ import annotations

import math
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hilum.errors import FormatError, ResourceError
from hilum.files.atomic import atomic_path
from hilum.files.names import image_suffix, plain_path
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
from hilum.io.itk_header import data_files, grid_notes
from hilum.io.labels import merge_layers, segments_of
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES = {  # SimpleITK's words for its pixel types
    **{f"{bits}-bit unsigned integer": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"{bits}-bit signed integer": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"{bits}-bit float": f"float{bits}" for bits in (32, 64)},
}
_COMPRESSED = re.compile(
    rb"^(?:CompressedData *= *True|encoding: *(?:gz|gzip))\s*$", re.MULTILINE | re.IGNORECASE
)
_NRRD_ENDS = re.compile(rb"\r?\n\r?\n")
_META_ENDS = re.compile(rb"ElementDataFile *= *LOCAL\r?\n", re.IGNORECASE)
_BLOCK = 1 << 20  # bytes read at a time; no header is longer
_ANATOMICAL = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior")
"""The spaces that ITK turns."""


def read(path: Path) -> Decoded:
    """Read an NRRD or MetaImage file.

    Components of a voxel, or a fourth dimension, are the channels.

    Raises:
        FormatError: damaged, complex, or with both components and a fourth dimension.
        GeometryError: sheared or degenerate axes.
    """
    itk = _itk()

    facts = inspect(path)
    size = facts.channels * math.prod(facts.geometry.shape) * facts.dtype.itemsize
    refuse_size(path, size, stored=path if image_suffix(path) in {".nrrd", ".mha"} else None)
    notes = facts.notes + surplus_note(_refuse_damaged(path, size))
    with plain_path(path) as plain:
        image = itk.ReadImage(str(plain))
    array = np.asarray(itk.GetArrayFromImage(image))
    z, y, x = facts.geometry.shape
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    return Decoded(
        Volume(plain_array(path, array.reshape(facts.channels, z, y, x)), facts.geometry), notes
    )


def read_indices(path: Path) -> Decoded:
    """Read labels; the layers of named segments are merged into one label map.

    Raises:
        LabelError: the layers do not fit the segments' names.
    """
    segments = inspect(path).segments
    decoded = read(path)
    if decoded.volume.channels == 1 or not segments:
        return decoded
    labels, notes = merge_layers(decoded.volume.array, segments, str(path))
    return Decoded(decoded.volume.with_array(labels), decoded.notes + notes)


def inspect(path: Path) -> FileFacts:
    """Read the header only."""
    itk = _itk()

    reader = itk.ImageFileReader()
    with plain_path(path) as plain:
        reader.SetFileName(str(plain))
        reader.ReadImageInformation()
    dimensions, components = reader.GetDimension(), reader.GetNumberOfComponents()
    size = (*reader.GetSize(), 1)
    extra = size[3] if dimensions == 4 else 1
    if dimensions not in {2, 3, 4} or (extra > 1 and components > 1):
        raise FormatError(
            f"{path} has {dimensions} dimensions with {components} components",
            needed=(
                "at most 3 axes in space, and channels as a fourth axis or as components, not both"
            ),
            cure="write each channel, or time, to a file of its own",
        )
    x, y, z = size[:3]
    keys = [key for key in reader.GetMetaDataKeys() if key.startswith(("Segment", "NRRD_space"))]
    fields = {key: reader.GetMetaData(key) for key in keys}
    factor, missing = grid_notes(path)
    steps = np.reshape(reader.GetDirection(), (dimensions, dimensions)) * reader.GetSpacing()
    affine, used = np.eye(4), min(dimensions, 3)  # a 2D image gets a third axis of 1 mm
    affine[:used, :used] = steps[:used, :used]
    affine[:used, 3] = reader.GetOrigin()[:used]
    affine[:3] *= factor
    geometry, notes = make_geometry(path, (z, y, x), affine[:, [2, 1, 0, 3]])
    notes = missing + notes
    if image_suffix(path).endswith((".nrrd", ".nhdr")):
        space = fields.get("NRRD_space", "no space")
        if not space.startswith(_ANATOMICAL):
            unsure = "which does not say where left is; LPS is assumed"
            notes += (f"the file names {space} for its axes, {unsure}",)
    words = itk.GetPixelIDValueAsString(reader.GetPixelID()).removeprefix("vector of ")
    if words not in _DTYPES:
        raise FormatError(
            f"{path} has voxels of type {words}",
            needed="integers or real numbers",
            cure="store the magnitude as float32",
        )
    channels, dtype = max(components, extra), np.dtype(_DTYPES[words])
    return FileFacts(geometry, channels, dtype, notes, segments=segments_of(fields))


def write(volume: Volume, path: Path) -> None:
    """Write a compressed file; several channels become the components of each voxel."""
    itk = _itk()

    array = plain_array(path, volume.array)
    several = volume.channels > 1
    # components last, or none
    data = np.ascontiguousarray(np.moveaxis(array, 0, -1)) if several else array[0]
    image = itk.GetImageFromArray(data, isVector=several)
    geometry: Geometry = volume.geometry
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.directions[:, ::-1].ravel().tolist())
    with atomic_path(path) as temporary, plain_path(temporary) as plain:
        try:
            itk.WriteImage(image, str(plain), True)  # compressed
        except RuntimeError as error:
            raise ResourceError(
                f"{path} cannot be written: {str(error).strip().splitlines()[-1].strip()}",
                cure="free some space on the disk, or choose another output folder",
            ) from error


NRRD = Format(name="NRRD", read=read, inspect=inspect, write=write, read_indices=read_indices)
NRRD_HEADER = Format(name="NRRD header", read=read, inspect=inspect, read_indices=read_indices)
META = Format(name="MetaImage", read=read, inspect=inspect, write=write)
META_HEADER = Format(name="MetaImage header", read=read, inspect=inspect)


def _refuse_damaged(path: Path, size: int) -> int:
    """Refuse a damaged compressed stream, where ITK gives zeros or noise for what is lost.

    Returns:
        Bytes that the stream holds beyond `size`, which the header claims; it is not unpacked
        further than `MOST_SURPLUS`.

    Raises:
        zlib.error: the stream breaks off, cannot be decompressed, or its checksum is another.
    """
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
    end = (_NRRD_ENDS if head.startswith(b"NRRD") else _META_ENDS).search(head)
    detached = data_files(path)
    if not _COMPRESSED.search(head[: end.end()] if end else head):
        return 0
    if (not detached and end is None) or not all(file.is_file() for file in detached):
        return 0  # ITK says what is missing
    surplus = -size
    for file in detached or (path,):
        with file.open("rb") as stream:
            stream.seek(0 if detached or end is None else end.end())
            surplus += _count_unpacked(stream, MOST_SURPLUS - surplus)
    return max(0, surplus)


def _count_unpacked(stream: BinaryIO, most: int) -> int:
    """Count the bytes that a compressed stream unpacks to.

    It is left where they are more than `most`.

    Raises:
        zlib.error: the stream breaks off, cannot be decompressed, or its checksum is another.
    """
    data, count = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32), 0  # zlib's or gzip's header
    while not data.eof and (block := stream.read(_BLOCK)):
        while block and not data.eof:
            count += len(data.decompress(block, _BLOCK))
            block = data.unconsumed_tail
            if count > most:
                return count
    if not data.eof:
        raise zlib.error("the compressed voxels break off")
    return count


def _itk() -> Any:
    """SimpleITK, imported where it is first needed; it has no annotations."""
    import SimpleITK

    return SimpleITK
