"""Images inside a MedMNIST archive: "set.npz#train/12" is image 12 of the array `train_images`.

The archives hold, for each of train, val and test, `<part>_images` (N, Y, X), (N, Y, X, 3) or (N,
Z, Y, X), and `<part>_labels` (https://medmnist.com). They know no spacing: 1 mm is assumed. An
archive is decompressed once and kept while it is in use.
"""

from __future__ import annotations

import math
import threading
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError
from hilum.files.names import ARCHIVE_MARK
from hilum.files.record import Decoded, FileFacts, Format, damage_refused, plain_array, refuse_size
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGES, _LABELS = "_images", "_labels"
_NOTES = ("no spacing is stored in the archive; 1 mm is assumed",)
_LOCK = threading.Lock()  # so that two threads do not decompress the same array twice


@dataclass(frozen=True)
class ArchivePart:
    """One part of an archive.

    Args:
        name: "train", "val" or "test".
        labels: (N, ...) integers as stored; None where there are none.
        count: number of images N.
    """

    name: str
    count: int
    labels: NDArray[np.generic] | None


def archive_parts(path: Path | str) -> tuple[ArchivePart, ...]:
    """List the parts of a MedMNIST archive, in the archive's order.

    Raises:
        FormatError: not such an archive.
    """
    archive, found = Path(path), []
    with damage_refused(archive, FORMAT.name):
        names = _arrays_in(archive)
        parts = [name.removesuffix(_IMAGES) for name in names if name.endswith(_IMAGES)]
        if not parts:
            raise FormatError(
                f"{archive} holds the arrays {', '.join(names) or 'none'}",
                needed="a MedMNIST archive with train_images",
                cure="give a MedMNIST archive; write other images to a folder with a cases.csv",
            )
        for part in parts:
            labels = _load(archive, part + _LABELS) if part + _LABELS in names else None
            found.append(
                ArchivePart(part, int(_read_header(archive, part + _IMAGES)[0][0]), labels)
            )
    return tuple(found)


def read(reference: Path) -> Decoded:
    """Read one image; a last axis of three is colour, else a third axis is Z.

    Raises:
        FormatError: no such archive, part or image.
    """
    archive, part, index = _split(reference)
    images = _load(archive, part + _IMAGES)
    if index >= len(images):
        raise FormatError(
            f"{reference} names no image: there is none of index {index}",
            needed=f"an index of 0 to {len(images) - 1}",
        )
    image = plain_array(reference, np.asarray(images[index]))
    colour = image.ndim >= 3 and image.shape[-1] == 3
    array = np.moveaxis(image, -1, 0) if colour else image[np.newaxis]  # (C, [Z,] Y, X)
    if array.ndim == 3:
        array = array[:, np.newaxis]
    if array.ndim != 4:
        raise FormatError(
            f"{reference} is an image of shape {image.shape}",
            needed="(Y, X), (Y, X, 3) or (Z, Y, X)",
        )
    array = np.array(array, order="C")  # a copy, so that nobody writes into the kept archive
    return Decoded(Volume(array, Geometry.from_spacing(array.shape[1:])), _NOTES)


def inspect(reference: Path) -> FileFacts:
    """Read the facts of one image."""
    volume = read(reference).volume
    return FileFacts(volume.geometry, volume.channels, volume.array.dtype, _NOTES)


FORMAT = Format(name="MedMNIST", read=read, inspect=inspect)


def _split(reference: Path) -> tuple[Path, str, int]:
    """Archive, part and index of a reference."""
    text = str(reference)
    place = text.lower().find(ARCHIVE_MARK)
    part, _, index = text[place + len(ARCHIVE_MARK) :].replace("\\", "/").partition("/")
    if place < 0 or not part or not index.isdecimal():
        raise FormatError(
            f"{reference} names no image",
            needed="an image of the archive",
            cure='write e.g. "set.npz#train/12"',
        )
    return Path(text[: place + len(ARCHIVE_MARK) - 1]), part, int(index)


def _arrays_in(archive: Path) -> tuple[str, ...]:
    """List the names of the arrays in an archive."""
    with zipfile.ZipFile(archive) as file:
        return tuple(name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy"))


def _read_header(archive: Path, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read the shape and dtype of an array, by its header alone."""
    with zipfile.ZipFile(archive) as file, file.open(f"{name}.npy") as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        formats = np.lib.format
        header = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
        shape, _, dtype = header(stream)
        return tuple(shape), dtype


def _load(archive: Path, name: str) -> NDArray[np.generic]:
    """Read one array of an archive; at most four are kept."""
    names = _arrays_in(archive)
    if name not in names:
        raise FormatError(
            f"{archive} has no array {name}",
            needed=f"one of {', '.join(names)}",
            cure="check the part's name after #",
        )
    with _LOCK:
        return _load_array(archive, name, archive.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load_array(archive: Path, name: str, _changed: int) -> NDArray[np.generic]:
    """Decompress one array; a file that changed is read anew."""
    shape, dtype = _read_header(archive, name)
    refuse_size(archive, math.prod(shape) * dtype.itemsize, stored=archive)
    with np.load(archive, allow_pickle=False) as file:
        return np.asarray(file[name])
