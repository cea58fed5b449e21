"""Mending the voxels of one case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import annotation_files, read_label_map
from hilum.dataset.conversion import convert, cutting_rule, foreground_of, is_blurred, whole
from hilum.dataset.grids import Grids, compare_grids, grid_words
from hilum.errors import DataError, LabelError, counted
from hilum.io import read_volume
from hilum.volume import Volume, resample_labels_onto, resample_onto

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.dataset.annotation import Annotation
    from hilum.dataset.case import Case
    from hilum.volume import Geometry, LabelTable

    Mended = tuple[Volume, list[tuple[str, str]]]
    """A volume, and what was done as (kind, sentence)."""

_ON_GRID = {
    Grids.ROUNDING: ("grid-rounding", "took the image's grid"),
    Grids.PICTURES: ("grid-header", "took the image's grid, voxel by voxel"),
    Grids.HEADER_LOST: ("grid-header", "took the image's grid, voxel by voxel"),
    Grids.DIFFERENT: ("grid-mismatch", "was resampled from {} onto the image's grid"),
}


def mend_images(case: Case, kinds: frozenset[str]) -> Mended:
    """Return all channels of a case on the first one's grid, without NaN.

    Args:
        case: whose images to read.
        kinds: which kinds of findings to mend.

    Raises:
        DataError: the channels lie on several grids, and mending that was not asked for.
    """
    done: list[tuple[str, str]] = []
    volumes: list[Volume] = []
    for path in dict.fromkeys(case.images.values()):
        volume = read_volume(path)
        if "not-finite" in kinds:
            array, count = finite(volume.array)
            volume = volume.with_array(array)
            if count:
                what = "were set to the smallest finite value of their channel"
                done.append(("not-finite", f"{counted(count, 'voxel')} of {path.name} {what}"))
        first = (volumes or [volume])[0].geometry
        if not volume.geometry.is_close(first):
            _refuse_unasked("channel-grid", path, kinds)
            volume = resample_onto(volume, first, order=1, fill=float(volume.array.min()))
            sentence = f"{path.name} was resampled (linear) onto {grid_words(first)}"
            done.append(("channel-grid", sentence))
        volumes.append(volume)
    return Volume(np.concatenate([one.array for one in volumes]), volumes[0].geometry), done


def _refuse_unasked(kind: str, path: Path, kinds: frozenset[str]) -> None:
    """Refuse a file with a kind of fault that the user did not ask to mend."""
    if kind not in kinds:
        raise DataError(
            f"{path} needs mending ({kind}) that was not asked for",
            needed=f"a finding {kind} among those to fix",
            cure="give that finding too",
        )


def finite(array: NDArray[np.generic]) -> tuple[NDArray[np.generic], int]:
    """Set NaN and infinite voxels to the smallest finite value of their channel; count them.

    Args:
        array: (C, Z, Y, X). A channel without any finite voxel becomes 0.
    """
    good = np.isfinite(array)
    if good.all():
        return array, 0
    mended = array.copy()
    for channel, known in zip(mended, good, strict=True):
        channel[~known] = channel[known].min() if known.any() else 0.0
    return mended, int(np.count_nonzero(~good))


def mend_annotation(
    source: Annotation, image: Geometry, table: LabelTable, kinds: frozenset[str]
) -> Mended:
    """Return the annotation in whole numbers and, where asked for, on the image's grid.

    Args:
        source: the annotation.
        image: its image's grid.
        table: the data set's labels.
        kinds: which kinds of findings to mend.

    Returns:
        Labels (1, Z, Y, X), and what was done.

    Raises:
        LabelError: the numbers are no labels and nothing safe makes labels of them.
        DataError: the numbers are no labels and mending them was not asked for.
    """
    done: list[tuple[str, str]] = []
    path = annotation_files(source)[0]
    try:
        labels = read_label_map(source)
    except LabelError:
        if not isinstance(source, Path):
            raise
        volume = read_volume(path)
        conversion = convert(volume.array, table)
        if conversion is None:
            raise
        _refuse_unasked(conversion.kind, path, kinds)
        labels = volume.with_array(conversion.array)
        done.append((conversion.kind, f"{path.name}: {conversion.how}"))
    if isinstance(source, Path) and is_blurred(path, labels.array, table):
        _refuse_unasked("fractional-labels", path, kinds)
        done.append(("fractional-labels", f"{path.name}: {cutting_rule(labels.array, table)}"))
        labels = labels.with_array(whole(labels.array, table, cut=True))
    labels, moved = _on_image_grid(labels, path, image, kinds)
    return labels, done + moved


def mend_region(source: Annotation, image: Geometry, kinds: frozenset[str]) -> Mended:
    """The mask of 0 and 1 that says where to look and, where asked for, on the image's grid."""
    done: list[tuple[str, str]] = []
    path = annotation_files(source)[0]
    try:
        labels = read_label_map(source)
        mask = labels.with_array((labels.array != 0).astype(np.uint8))
    except LabelError:
        volume = read_volume(path)
        mask = volume.with_array(foreground_of(volume.array))
        sentence = f"{source.name}: 1 where a channel reaches half the largest number"
        done.append(("fractional-labels", sentence))
    mask, moved = _on_image_grid(mask, path, image, kinds)
    return mask, done + moved


def _on_image_grid(labels: Volume, path: Path, image: Geometry, kinds: frozenset[str]) -> Mended:
    """Return labels on the image's grid where that is asked for."""
    relation = compare_grids(image, labels.geometry)
    kind, sentence = _ON_GRID.get(relation, ("", ""))
    if kind not in kinds:
        return labels, []
    done = [(kind, f"{path.name} {sentence.format(grid_words(labels.geometry))}")]
    if relation is Grids.DIFFERENT:
        return resample_labels_onto(labels, image), done
    return Volume(labels.array, image), done


def renumber_labels(labels: Volume, table: LabelTable) -> Volume:
    """Number labels 0, 1, 2, ... in the table's order, the ignore label last, for nnU-Net.

    Raises:
        LabelError: there are labels that the table does not know, which could meet a new number.
    """
    order = label_order(table)
    if order == list(range(len(order))):
        return labels
    values, places = np.unique(labels.array, return_inverse=True)
    unknown = sorted(set(values.tolist()) - set(order))
    if unknown:
        raise LabelError(
            f"labels {unknown} cannot be numbered anew",
            needed=f"labels among {order}",
            cure=(
                "`hilum check DATA` lists such labels: name them in dataset.json, or correct the"
                " annotation"
            ),
        )
    new = np.array([order.index(value) for value in values.tolist()], dtype=np.int32)
    return labels.with_array(new[places].reshape(labels.array.shape))


def label_order(table: LabelTable) -> list[int]:
    """Ids of the table in the order of their numbers in an nnU-Net data set."""
    return [*table.ids, *([table.ignore] if table.ignore is not None else [])]
