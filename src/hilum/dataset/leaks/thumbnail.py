"""Thumbnails of cases, small enough to hold all of a data set's in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hilum.files import image_suffix
from hilum.volume import CANONICAL, reorient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.volume import Volume

PICTURE, VOLUME = 64, 32
"""Pixels along each side of a picture's thumbnail, voxels along each side of a volume's."""
_FLAT = 1e-6
_LEAST_CONTRAST = 0.3  # of the whole image's: what is fainter is noise, and stays faint


@dataclass(frozen=True)
class Look:
    """Thumbnail and file facts of a case's image.

    Args:
        case: its id.
        digest: hash of shape and values.
        thumbnail: (PICTURE, PICTURE) of a picture or (VOLUME, VOLUME, VOLUME) of a volume, float16,
            mean of the channels, each with mean 0 and standard deviation 1; None where the image is
            constant.
        detail: pixels of the shorter side in plane, so that a small picture is not asked for what
            it cannot show.
        facts: what the file says of itself, as words or numbers: its size, spacing, format.
    """

    case: str
    digest: str
    thumbnail: NDArray[np.float16] | None
    detail: int
    facts: dict[str, str]


def look(case: str, volume: Volume, path: Path) -> Look:
    """Keep what the comparison needs of an image.

    Args:
        case: the case's id.
        volume: (C, Z, Y, X).
        path: the file of its first channel.
    """
    return Look(
        case,
        voxel_digest(volume.array),
        thumbnail(volume),
        min(volume.geometry.shape[1:]),
        facts(volume, path),
    )


def together(looks: Sequence[Look], digest: str) -> Look:
    """Join the looks of a case's channel files: all thumbnails, the facts of the first.

    Args:
        looks: one a file, in the channels' order.
        digest: of all of them.
    """
    first = looks[0]
    known = [one.thumbnail for one in looks if one.thumbnail is not None]
    same = [part for part in known if part.shape == known[0].shape]
    small = np.asarray(np.mean(same, axis=0), np.float16) if same else None
    return Look(first.case, digest, small, first.detail, first.facts)


def voxel_digest(array: NDArray[np.generic]) -> str:
    """Hash of shape and values, alike for the same values in another dtype.

    One slice at a time, so memory stays small.
    """
    digest = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    for channel in array:
        for plane in channel:
            digest.update(np.ascontiguousarray(plane, dtype=np.float64).tobytes())
    return digest.hexdigest()


def thumbnail(volume: Volume) -> NDArray[np.float16] | None:
    """Return the image averaged down to few voxels, axes in the usual order, channels put together.

    None where it is constant.
    """
    planar = volume.geometry.is_2d
    turned = volume if planar else reorient(volume, CANONICAL)
    small = [_shrink(channel, PICTURE if planar else VOLUME) for channel in turned.array]
    scaled = [
        (one - one.mean()) / one.std()
        for one in small
        if one.std() > _FLAT * max(1.0, float(np.abs(one).max()))
    ]
    if not scaled:
        return None
    return np.asarray(np.mean(scaled, axis=0), np.float16)


def _shrink(channel: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    """Average (Z, Y, X) over equal parts: to (size, size) where Z is 1, else (size,) * 3."""
    rows, columns = averaging(channel.shape[1], size), averaging(channel.shape[2], size)
    finite = np.nan_to_num(channel.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    planes = np.stack([rows @ plane @ columns.T for plane in finite])  # (Z, size, size)
    if len(planes) == 1:
        return np.asarray(planes[0])
    return np.asarray(np.einsum("ab,byx->ayx", averaging(len(planes), size), planes), np.float32)


@lru_cache(maxsize=64)
def averaging(length: int, parts: int) -> NDArray[np.float32]:
    """Return the (parts, length) matrix that averages `length` values over equal parts."""
    edges = np.arange(parts + 1) * (length / parts)
    starts = np.arange(length)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(
        edges[:-1, None], starts
    )  # (parts, length)
    weights = np.clip(overlap, 0.0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def without_shades(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return images (N, ...) less a Gaussian blur of themselves."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(
        images - gaussian_filter(images, (0, *([sigma] * (images.ndim - 1))), mode="nearest"),
        np.float32,
    )


def even_contrast(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return images (N, ...) without shades, divided by how much there is around each point.

    Without that, the outline of a body is nearly all that there is, and two bodies of one shape are
    alike.
    """
    from scipy.ndimage import gaussian_filter

    energy = images**2
    around = gaussian_filter(energy, (0, *([sigma] * (images.ndim - 1))), mode="nearest")
    least = _LEAST_CONTRAST**2 * energy.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
    return np.asarray(images / np.sqrt(around + np.maximum(least, _FLAT)), np.float32)


def facts(volume: Volume, path: Path) -> dict[str, str]:
    """Facts of an image file that no table holds but a network can learn."""
    grid = volume.geometry
    slices, height, width = grid.shape
    told = {
        "height of the image": str(height),
        "width of the image": str(width),
        "pixel spacing": f"{grid.spacing[1]:.5g}",
        "format of the file": image_suffix(path) or "DICOM",
        "type of the voxels": str(volume.array.dtype),
    }
    if not grid.is_2d:
        told["number of slices"] = str(slices)
        told["spacing of the slices"] = f"{grid.spacing[0]:.5g}"
    return told
