"""The region of a case that is classified: its mask, read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import read_label_map
from hilum.dataset.grids import UNLIKE, compare_grids, grid_words
from hilum.errors import DataError, GeometryError
from hilum.io import read_geometry
from hilum.volume import Volume

if TYPE_CHECKING:
    from hilum.dataset.case import Case


def read_region(case: Case) -> Volume:
    """Read a case's mask that says where to look: (1, Z, Y, X) uint8, on the image's grid.

    Raises:
        DataError: the case has none, or it is empty.
        FormatError: the file cannot be read.
        GeometryError: it lies on another grid than the image.
    """
    if case.region is None:
        raise DataError(
            f"case {case.id} has no mask",
            needed="a mask that says where to look, as the model was trained with one",
            cure="give it one (column mask of the table), or leave the case out",
        )
    labels = read_label_map(case.region)
    if case.fault is not None:
        raise case.fault
    grid = read_geometry(next(iter(case.images.values())))
    if compare_grids(grid, labels.geometry) in UNLIKE:
        raise GeometryError(
            f"case {case.id}: the mask lies on {grid_words(labels.geometry)}, the image on"
            f" {grid_words(grid)}",
            needed="one grid for both",
            cure="resample the mask onto the image",
        )
    mask = (labels.array != 0).astype(np.uint8)
    if not mask.any():
        raise DataError(
            f"case {case.id}: the mask {case.region} is empty",
            needed="a mask that says where to look",
        )
    return Volume(mask, grid)
