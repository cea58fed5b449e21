"""Comparison of an annotation's grid with its image's grid."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hilum.volume import Geometry

SAME_VOXELS = 0.001
"""Up to this distance, in voxels, two grids are the same and nothing is said."""
ROUNDING_VOXELS = 0.1
"""Up to this distance, in voxels, two grids of the same shape differ by the rounding of a header,
and are snapped."""


class Grids(Enum):
    """Relation of an annotation's grid to its image's."""

    SAME = "same"
    ROUNDING = "rounding"
    """Same shape, and no voxel is further off than `ROUNDING_VOXELS`: the image's grid is taken."""
    PICTURES = "pictures"
    """A slice, and an annotation of its size that has no place, as pictures have none: pixels
    belong together."""
    HEADER_LOST = "header lost"
    """Same shape, and the annotation's header is an empty one (1 mm, origin 0): some tool wrote it
    without the image's grid."""
    UNPLACED = "unplaced"
    """Different shapes, and the annotation does not say where it lies: a picture, or an empty
    header."""
    DIFFERENT = "different"


UNLIKE = frozenset({Grids.HEADER_LOST, Grids.UNPLACED, Grids.DIFFERENT})
"""Relations that keep an annotation from being used with its image."""


def compare_grids(image: Geometry, annotation: Geometry) -> Grids:
    """Say how an annotation's grid stands to its image's."""
    if image.shape != annotation.shape:
        flat = annotation.is_2d and _is_at_origin(annotation)
        return Grids.UNPLACED if flat or _is_empty_header(annotation) else Grids.DIFFERENT
    distance = image.distance_voxels(annotation)
    if distance <= SAME_VOXELS:
        return Grids.SAME
    if distance <= ROUNDING_VOXELS:
        return Grids.ROUNDING
    if image.is_2d and _is_at_origin(annotation):
        return Grids.PICTURES
    return (
        Grids.HEADER_LOST
        if _is_empty_header(annotation) and not _is_empty_header(image)
        else Grids.DIFFERENT
    )


def cure_of_unplaced(image: Geometry, annotation: Geometry) -> str:
    """Say what to do where two grids of different shapes are `Grids.UNPLACED`."""
    if annotation.shape == (image.shape[0], image.shape[2], image.shape[1]):
        return (
            "turn it by 90 degrees as the image is (a photograph is turned upright as its EXIF"
            " orientation says)"
        )
    return (
        "scale, pad or turn it as the image was, or draw it on this image: the files do not say"
        " where its pixels lie"
    )


def _is_empty_header(geometry: Geometry) -> bool:
    return _is_at_origin(geometry) and np.allclose(geometry.spacing, 1.0)


def _is_at_origin(geometry: Geometry) -> bool:
    axis_aligned = np.allclose(np.abs(geometry.directions).max(axis=0), 1.0, atol=1e-6)
    return bool(axis_aligned and np.allclose(geometry.origin, 0.0))


def grid_words(geometry: Geometry) -> str:
    """Return a grid in words: shape (Z, Y, X), spacing, origin and orientation."""
    spacing = " x ".join(f"{value:.4g}" for value in geometry.spacing)
    origin = ", ".join(f"{value:.4g}" for value in geometry.origin)
    return (
        f"{' x '.join(map(str, geometry.shape))} voxels of {spacing} mm from ({origin}),"
        f" {geometry.orientation}"
    )
