"""Reading of one case: its images, its annotation, its region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import read_label_map
from hilum.dataset.grids import UNLIKE, Grids, compare_grids, cure_of_unplaced, grid_words
from hilum.dataset.labels import relabel
from hilum.errors import DataError, GeometryError, LabelError
from hilum.io import read_channels, read_geometry
from hilum.volume import Volume

if TYPE_CHECKING:
    from hilum.dataset.case import Case

_FIX = "hilum check DATA --fix FOLDER writes a copy with"


def read_case(case: Case) -> Volume:
    """Read all images of a case as one volume (C, Z, Y, X), in the stored dtype.

    Raises:
        DataError: the fault of the case.
        FormatError: a file cannot be read.
        GeometryError: the channels lie on different grids.
    """
    if case.fault is not None:
        raise case.fault
    return read_channels(case.images, case.positions)


def read_annotation(case: Case) -> Volume:
    """Read the label map of a case, on its image's own grid: integers, (1, Z, Y, X).

    Where the headers differ by rounding, or two pictures of the same size state different
    resolutions, the image's grid is taken.

    Raises:
        DataError: the case has none.
        FormatError: the file cannot be read.
        LabelError: it holds fractions.
        GeometryError: it lies on another grid than the image.
    """
    if case.fault is not None:
        raise case.fault
    if case.annotation is None:
        raise DataError(
            f"case {case.id} has no annotation",
            needed="an annotated case",
            cure="annotate it, or leave the case out",
        )
    try:
        labels = relabel(read_label_map(case.annotation), case.label_ids)
    except LabelError as error:
        cure = f"{_FIX} labels where that is safe"
        raise LabelError(error.found, needed=error.needed, cure=cure) from error
    return _on_image_grid(case, labels, "annotation")


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
            needed="a mask of every case: the model's input is cut out around it",
            cure="give it one (column mask of the table), or leave the case out",
        )
    if case.fault is not None:
        raise case.fault
    labels = _on_image_grid(case, read_label_map(case.region), "mask")
    mask = (labels.array != 0).astype(np.uint8)
    if not mask.any():
        raise DataError(
            f"case {case.id}: the mask {case.region} is empty",
            needed="a mask that says where to look",
            cure="draw the mask, or leave the case out",
        )
    return labels.with_array(mask)


def _on_image_grid(case: Case, labels: Volume, name: str) -> Volume:
    """Return the labels on their image's grid, where both differ by rounding only."""
    grid = read_geometry(next(iter(case.images.values())))
    relation = compare_grids(grid, labels.geometry)
    if relation in UNLIKE:
        cure = f"{_FIX} the {name} on the image's grid"
        raise GeometryError(
            f"case {case.id}: the {name} lies on {grid_words(labels.geometry)}, the image on"
            f" {grid_words(grid)}",
            needed="one grid for both",
            cure=cure_of_unplaced(grid, labels.geometry) if relation is Grids.UNPLACED else cure,
        )
    return Volume(labels.array, grid)
