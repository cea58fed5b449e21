"""Mending the voxels of one case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.conversion import convert, cutting_rule, is_blurred, whole
from hilum.dataset.grids import Grids, compare_grids, grid_words
from hilum.errors import DataError, LabelError
from hilum.io import read_labels, read_volume
from hilum.volume import Volume, resample_labels_onto, resample_onto

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dataset.case import Case
    from hilum.volume import Geometry, LabelTable

_KIND_OF = {
    Grids.ROUNDING: "grid-rounding",
    Grids.PICTURES: "grid-header",
    Grids.HEADER_LOST: "grid-header",
    Grids.DIFFERENT: "grid-mismatch",
}


def mended_images(case: Case, kinds: frozenset[str]) -> tuple[Volume, list[tuple[str, str]]]:
    """All channels of a case on the first one's grid, without NaN.

    Args:
        case: whose images to read.
        kinds: which kinds of findings to mend.

    Returns:
        The volume (C, Z, Y, X), and what was done as (kind, sentence).
    """
    done: list[tuple[str, str]] = []
    volumes: dict[Path, Volume] = {}
    for path in dict.fromkeys(case.images.values()):
        volume = read_volume(path)
        if "not-finite" in kinds:
            array, count = finite(volume.array)
            volume = volume.with_array(array)
            if count:
                done.append(
                    (
                        "not-finite",
                        (
                            f"{count} voxels of {path.name} were set to the smallest finite value"
                            " of their channel"
                        ),
                    )
                )
        first = next(iter(volumes.values()), volume).geometry
        if not volume.geometry.is_close(first):
            _refuse_unasked("channel-grid", path, kinds)
            low = float(volume.array.min())
            volume = resample_onto(volume, first, order=1, fill=low)
            done.append(
                ("channel-grid", f"{path.name} was resampled (linear) onto {grid_words(first)}")
            )
        volumes[path] = volume
    array = np.concatenate([volume.array for volume in volumes.values()])
    return Volume(array, next(iter(volumes.values())).geometry), done


def _refuse_unasked(kind: str, path: Path, kinds: frozenset[str]) -> None:
    if kind not in kinds:
        raise DataError(
            f"{path} needs mending ({kind}) that was not asked for",
            needed=f"a finding {kind} among those to fix",
        )


def finite(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Set NaN and infinite voxels to the smallest finite value of their channel; count them.

    Args:
        array: (C, Z, Y, X). A channel without any finite voxel becomes 0.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array, 0
    mended = array.copy()
    for channel in mended:
        good = np.isfinite(channel)
        channel[~good] = channel[good].min() if good.any() else 0.0
    return mended, int(array.size - np.count_nonzero(np.isfinite(array)))


def mended_annotation(
    path: Path, image: Geometry, table: LabelTable, kinds: frozenset[str]
) -> tuple[Volume, list[tuple[str, str]]]:
    """The annotation in whole numbers and, where asked for, on the image's grid.

    Args:
        path: the annotation.
        image: its image's grid.
        table: the data set's labels.
        kinds: which kinds of findings to mend.

    Returns:
        Labels (1, Z, Y, X), and what was done as (kind, sentence).

    Raises:
        LabelError: the numbers are no labels and nothing safe makes labels of them.
        DataError: the numbers are no labels and mending them was not asked for.
    """
    done: list[tuple[str, str]] = []
    try:
        labels = read_labels(path)
    except LabelError:
        volume = read_volume(path)
        conversion = convert(volume.array, table)
        if conversion is None:
            raise
        _refuse_unasked(conversion.kind, path, kinds)
        labels = volume.with_array(conversion.array)
        done.append((conversion.kind, f"{path.name}: {conversion.how}"))
    if is_blurred(path, labels.array, table):
        _refuse_unasked("fractional-labels", path, kinds)
        done.append(("fractional-labels", f"{path.name}: {cutting_rule(labels.array, table)}"))
        labels = labels.with_array(whole(labels.array, table, cut=True))
    labels, moved = on_image_grid(labels, path, image, kinds)
    return labels, done + moved


def on_image_grid(
    labels: Volume, path: Path, image: Geometry, kinds: frozenset[str]
) -> tuple[Volume, list[tuple[str, str]]]:
    """Labels on the image's grid where that is asked for, and what was done as (kind, sentence).

    Args:
        labels: (1, Z, Y, X).
        path: their file, for messages.
        image: the grid.
        kinds: which kinds of findings to mend.
    """
    relation = compare_grids(image, labels.geometry)
    if _KIND_OF.get(relation) not in kinds:
        return labels, []
    if relation is Grids.DIFFERENT:
        done = (
            "grid-mismatch",
            f"{path.name} was resampled from {grid_words(labels.geometry)} onto the image's grid",
        )
        return resample_labels_onto(labels, image), [done]
    if relation is Grids.ROUNDING:
        return Volume(labels.array, image), [
            ("grid-rounding", f"{path.name} took the image's grid")
        ]
    return Volume(labels.array, image), [
        ("grid-header", f"{path.name} took the image's grid, voxel by voxel")
    ]


def renumbered(labels: Volume, table: LabelTable) -> Volume:
    """Number labels 0, 1, 2, ... in the table's order, the ignore label last, for nnU-Net.

    Raises:
        LabelError: there are labels that the table does not know, which could meet a new number.
    """
    order = label_order(table)
    if order == list(range(len(order))):
        return labels
    array = labels.array.astype(np.int32)
    unknown = sorted(set(np.unique(array).tolist()) - set(order))
    if unknown:
        raise LabelError(
            f"labels {unknown} cannot be numbered anew", needed=f"labels among {order}"
        )
    mended = array.copy()
    for new, old in enumerate(order):
        mended[array == old] = new
    return labels.with_array(mended)


def label_order(table: LabelTable) -> list[int]:
    """Ids of the table in the order of their numbers in an nnU-Net data set."""
    return [*table.ids, *([table.ignore] if table.ignore is not None else [])]
