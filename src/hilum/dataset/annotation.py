"""Annotations as they are stored: one label map, a file for each label, or a DICOM annotation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError
from hilum.io import read_dicom_annotation, read_geometry, read_labels
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping


OVERLAPS = (
    "where masks overlap, a voxel belongs to the smaller one of them; `hilum check` counts such"
    " voxels"
)
"""Note about annotations of one mask a label."""


@dataclass(frozen=True)
class MaskFiles:
    """An annotation of one mask a label. A label without a file is not in the case.

    Where masks overlap, the voxel belongs to the one of fewer voxels: a tumour inside a liver stays
    a tumour.

    Args:
        masks: label id to mask file.
    """

    masks: Mapping[int, Path]

    @property
    def name(self) -> str:
        """The folder of the files, for people."""
        return next(iter(self.masks.values())).parent.name


@dataclass(frozen=True)
class DicomSegments:
    """An annotation in a DICOM SEG or RTSTRUCT.

    Where structures overlap, a voxel belongs to the one of fewer voxels.

    Args:
        file: the file.
        ids: number of a segment or structure to its label id; the others are not the data set's.
        source: the series that it was drawn on.
    """

    file: Path
    ids: Mapping[int, int]
    source: Path

    @property
    def name(self) -> str:
        """The name of the file, for people."""
        return self.file.name


Annotation = Path | MaskFiles | DicomSegments
"""A label map, one mask a label, or a DICOM annotation."""


def annotation_files(annotation: Annotation | None) -> tuple[Path, ...]:
    """Return the files of an annotation; () where there is none."""
    if annotation is None:
        return ()
    if isinstance(annotation, DicomSegments):
        return (annotation.file,)
    return (annotation,) if isinstance(annotation, Path) else tuple(annotation.masks.values())


def read_label_map(annotation: Annotation) -> Volume:
    """Read an annotation as one label map, (1, Z, Y, X), on the grid of its files.

    Raises:
        FormatError: a file cannot be read.
        LabelError: it holds fractions.
        GeometryError: the masks of a case lie on different grids.
    """
    if isinstance(annotation, DicomSegments):
        ids, source = annotation.ids, annotation.source
        return read_dicom_annotation(annotation.file, ids=ids, source=source)
    return read_labels(annotation) if isinstance(annotation, Path) else compose_masks(annotation)[0]


def compose_masks(annotation: MaskFiles) -> tuple[Volume, int]:
    """Make one label map of the masks of a case; where masks overlap, the smaller one wins.

    Returns:
        The label map, and how many voxels more than one mask holds.

    Raises:
        FormatError, LabelError, GeometryError: as `read_label_map`.
    """
    first = next(iter(annotation.masks.values()))
    grid = read_geometry(first)
    sizes = np.zeros(max(annotation.masks) + 1, dtype=np.int64)
    labels = np.zeros((1, *grid.shape), dtype=np.uint8 if len(sizes) <= 256 else np.int16)
    several = np.zeros(labels.shape, dtype=bool)
    for label, file in sorted(annotation.masks.items()):  # one mask in memory at a time
        mask = read_labels(file)
        if not mask.geometry.is_close(grid):
            raise GeometryError(
                f"the mask {file} lies on another grid than {first}",
                needed="all masks of a case on one grid",
                cure="resample the mask, or leave the case out",
            )
        inside = mask.array != 0
        sizes[label] = np.count_nonzero(inside)
        held = inside & (labels != 0)
        several |= held
        labels[inside & ~(held & (sizes[labels] <= sizes[label]))] = label
    return Volume(labels, grid), int(np.count_nonzero(several))
