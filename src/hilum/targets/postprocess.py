"""Post-processing of a label map on the case's own grid: remove pieces, fill holes.

**What is removed** becomes what lies around it: the label that most of the piece's face neighbours
have, the smaller id of equal ones, so that a speck of tumour inside the liver becomes liver and one
outside becomes background. Neighbours outside the image do not count; a piece without neighbours
becomes background. **A hole** is a piece of background (voxels that share a face) that does not
touch the border of the image and has no neighbour outside the region: a gap that another label
shares stays as it is. It gets the label of the region that most of its face neighbours have. No
voxel of a label outside the region ever changes.

**Memory**: one copy of the label map, and at most `BYTES_A_VOXEL` bytes for each voxel of the box
around the region at hand.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from hilum.errors import LabelError, ResourceError
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.plan.segmentation import PostprocessingStep
    from hilum.volume import LabelTable, Volume

    Integers = NDArray[np.integer]
    Mask = NDArray[np.bool_]
    Box = tuple[slice, slice, slice]

BYTES_A_VOXEL = 16
"""Bytes a voxel of the box around a region, one voxel wider on every side; beyond the label map."""
_INNER = (slice(1, -1),) * 3


def apply_postprocessing(
    labels: Volume,
    steps: Sequence[PostprocessingStep],
    table: LabelTable,
    *,
    limit_bytes: int | None = None,
) -> Volume:
    """Apply steps one after the other.

    Args:
        labels: (1, Z, Y, X) integers, ids of `table`.
        steps: of the plan; none gives the very same volume.
        table: what the integers mean.
        limit_bytes: bytes of memory that it may take; None: as many as it needs.

    Returns:
        Labels of the same dtype on the same grid; the given array is not changed.

    Raises:
        LabelError: not one channel of integers, or a step for a label that the table does not know.
        ResourceError: a step takes more memory than the limit allows.
    """
    if not steps:
        return labels
    array = labels.array[0] if labels.channels == 1 else labels.array
    voxel_mm3 = labels.geometry.voxel_volume_mm3
    changed = postprocess(array, steps, table, voxel_mm3, limit_bytes=limit_bytes)
    return labels.with_array(changed[None])


def postprocess(
    labels: Integers,
    steps: Sequence[PostprocessingStep],
    table: LabelTable,
    voxel_mm3: float,
    *,
    limit_bytes: int | None = None,
) -> Integers:
    """Apply steps one after the other to an array (Z, Y, X) of known voxel volume; a new array.

    Raises:
        LabelError, ResourceError: see `apply_postprocessing`.
    """
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"the labels have type {labels.dtype} and shape {labels.shape}",
            needed="one channel of integers",
        )
    unknown = sorted({label for step in steps for label in step.labels} - set(table.ids))
    if unknown:
        raise LabelError(
            f"the post-processing names labels {unknown}, which the model does not have",
            needed=f"labels of the table: {list(table.ids)}",
            cure="learn it again for this model: hilum tune",
        )
    changed = np.array(labels, order="C")  # (Z, Y, X), our own
    boxes = label_boxes(changed)
    for step in steps:
        box = _box_around(boxes, step, changed.shape)
        if box is None:
            continue
        sides = [side.stop - side.start for side in box]
        needed, left = BYTES_A_VOXEL * math.prod(sides), (limit_bytes or 0) - changed.nbytes
        if limit_bytes is not None and needed > left:
            raise ResourceError(
                f"post-processing ({step.title}) does not fit into {max(0, left) / 2**30:.2f} GiB",
                needed=f"{needed / 2**30:.2f} GiB for a region that with its margin extends over"
                f" {' x '.join(map(str, sides))} voxels",
                cure="a higher memory limit, e.g. memory='8GB'",
            )
        numbered, going = _find_pieces(changed[box], step, voxel_mm3)
        if not going.any():
            continue
        becomes = _majority(
            numbered, changed[box], going, only=step.labels if step.kind == "fill_holes" else None
        )
        for plane, pieces in zip(changed[box], numbered[_INNER], strict=True):
            chosen = going[pieces]  # plane by plane, as an index takes 8 bytes a voxel
            plane[chosen] = becomes[pieces[chosen]]
        for label in np.unique(becomes[going]):
            if label:
                boxes[int(label)] = _union([boxes.get(int(label), box), box])
    return changed


def _find_pieces(
    labels: Integers, step: PostprocessingStep, voxel_mm3: float
) -> tuple[Integers, Mask]:
    """Number the pieces of a region or its background, and choose those that change.

    Args:
        labels: (Z, Y, X) around the region, one voxel of margin where the image has it.
        step: what to do with the region.
        voxel_mm3: volume of a voxel.

    Returns:
        The numbers, (Z + 2, Y + 2, X + 2), 0 where there is no piece; (pieces + 1,) which change.
    """
    region = np.asarray(labels == step.labels[0])
    for label in step.labels[1:]:
        region |= labels == label
    if step.kind == "fill_holes":
        numbered, count = _pieces(np.asarray(labels == 0), 6)
        going = np.ones(count + 1, dtype=np.bool_)
        faces = ndimage.generate_binary_structure(3, 1)
        if len(labels) == 1:  # a picture has no inside along Z
            faces[[0, 2]] = False
        # what touches the border of the box goes on, or ends the image
        stranger = ~(region | (labels == 0))
        touched = ndimage.binary_dilation(stranger, faces, border_value=1)
        going[numbered[_INNER][touched]] = False
    else:
        numbered, count = _pieces(region, step.connectivity)
        sizes = np.zeros(count + 1, dtype=np.int64)
        for plane in numbered:  # plane by plane, as bincount takes 8 bytes a voxel
            sizes += np.bincount(plane.ravel(), minlength=count + 1)
        if step.kind == "minimum_volume":
            smallest = step.minimum
            if step.unit == "ml":
                smallest = smallest * 1000.0 / voxel_mm3
            going = np.asarray(sizes < smallest * (1 - 1e-9), dtype=np.bool_)
        else:  # all but the largest, the first in the order of the array of equal ones
            going = np.ones(count + 1, dtype=np.bool_)
            going[1 + int(sizes[1:].argmax()) if count else 0] = False
    going[0] = False
    return numbered, going


def _pieces(mask: Mask, connectivity: Literal[6, 18, 26]) -> tuple[Integers, int]:
    """Number the pieces of a mask (Z, Y, X), from 1.

    With a margin of one voxel, (Z + 2, Y + 2, X + 2).

    The margin is for the neighbours of what lies at the border, and for cc3d 4.1, which reserves
    one number too few for scattered voxels on grids of odd size.
    """
    import cc3d

    numbered, count = cc3d.connected_components(
        np.pad(mask, 1), connectivity=connectivity, return_N=True, binary_image=True
    )
    return numbered, int(count)


def _majority(
    numbered: Integers, labels: Integers, going: Mask, *, only: tuple[int, ...] | None
) -> Integers:
    """Find the label that most face neighbours of each piece have; 0 where it has none.

    Args:
        numbered: (Z + 2, Y + 2, X + 2) numbers of the pieces, nothing in its outermost layer.
        labels: (Z, Y, X) of the same voxels; what lies around them is outside the image.
        going: (pieces + 1,) the pieces that change.
        only: the labels that count; None counts all.

    Returns:
        (pieces + 1,) labels.
    """
    pieces = numbered[_INNER]
    changing = going[pieces]
    span = int(labels.max()) + 1
    keys: list[NDArray[np.int64]] = []
    times: list[NDArray[np.int64]] = []
    for axis, step in product(range(3), (-1, 1)):
        # each voxel, and its neighbour one step along the axis
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = (
            (slice(1, None), slice(None, -1)) if step < 0 else (slice(None, -1), slice(1, None))
        )
        own = pieces[tuple(here)]
        border = changing[tuple(here)] & (pieces[tuple(there)] != own)
        label = labels[tuple(there)][border]
        counted = np.ones(label.shape, dtype=np.bool_) if only is None else np.isin(label, only)
        key, n = np.unique(
            own[border][counted].astype(np.int64) * span + label[counted], return_counts=True
        )
        keys.append(key)
        times.append(n)
    becomes = np.zeros(len(going), dtype=labels.dtype)
    pairs, places = np.unique(np.concatenate(keys), return_inverse=True)
    weights = np.bincount(places, weights=np.concatenate(times), minlength=len(pairs))
    # the last of a piece: most neighbours, the smallest id
    best = np.lexsort((-(pairs % span), weights, pairs // span))
    becomes[pairs[best] // span] = pairs[best] % span
    return becomes


def _box_around(
    boxes: Mapping[int, Box], step: PostprocessingStep, shape: tuple[int, ...]
) -> Box | None:
    """Return the box around a step's region and one voxel more in the image; None without it."""
    known = [boxes[label] for label in step.labels if label in boxes]
    if not known:
        return None
    z, y, x = (
        slice(max(side.start - 1, 0), min(side.stop + 1, n))
        for side, n in zip(_union(known), shape, strict=True)
    )
    return z, y, x


def _union(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around several."""
    z, y, x = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return z, y, x
