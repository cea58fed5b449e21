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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum.errors import LabelError, ResourceError
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.plan.segmentation import PostprocessingStep
    from hilum.volume import LabelTable, Volume

    Labels = NDArray[np.integer[Any]]
    Mask = NDArray[np.bool_]
    Box = tuple[slice, slice, slice]

BYTES_A_VOXEL = 16
"""Of the box around a region, one voxel wider on every side, beyond the copy of the label map."""
_CHUNK = 2**20  # voxels whose neighbours are looked at at a time


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
    array = postprocess(
        array, steps, table, labels.geometry.voxel_volume_mm3, limit_bytes=limit_bytes
    )
    return labels.with_array(array[None])


def postprocess(
    labels: Labels,
    steps: Sequence[PostprocessingStep],
    table: LabelTable,
    voxel_mm3: float,
    *,
    limit_bytes: int | None = None,
) -> Labels:
    """The same for an array (Z, Y, X) of voxels of so many cubic millimetres; a new array.

    Raises:
        LabelError: see `apply_postprocessing`.
    """
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"{labels.dtype} labels of shape {labels.shape}", needed="one channel of integers"
        )
    unknown = sorted({label for step in steps for label in step.labels} - set(table.ids))
    if unknown:
        raise LabelError(
            f"post-processing of labels {unknown}",
            needed=f"labels of the table: {list(table.ids)}",
            cure="learn it again for this model: hilum tune",
        )
    changed = np.array(labels, order="C")  # (Z, Y, X), our own
    boxes = label_boxes(changed)
    for step in steps:
        around = _Around(changed, boxes, step)
        if limit_bytes is not None:
            _refuse_too_large(around.box(), step, limit_bytes - changed.nbytes)
        _STEPS[step.kind](around, voxel_mm3)
    return changed


def _refuse_too_large(box: Box | None, step: PostprocessingStep, limit_bytes: int) -> None:
    """Refuse before the memory is gone.

    Raises:
        ResourceError: the box around the step's region is too large for the memory that is left.
    """
    sides = [side.stop - side.start for side in box or ()]
    needed = BYTES_A_VOXEL * math.prod(side + 2 for side in sides) if sides else 0
    if needed > limit_bytes:
        raise ResourceError(
            f"post-processing ({step.title}) within {max(0, limit_bytes) / 2**30:.2f} GiB",
            needed=(
                f"{needed / 2**30:.2f} GiB for a region that extends over"
                f" {' x '.join(map(str, sides))} voxels"
            ),
            cure="a higher memory limit, e.g. memory='8GB'",
        )


def piece_sizes(labels: Labels, step: PostprocessingStep) -> NDArray[np.int64]:
    """Count the voxels of each piece of a step's region in labels (Z, Y, X), ascending."""
    around = _Around(labels, label_boxes(labels), step)
    box = around.box()
    if box is None:
        return np.zeros(0, dtype=np.int64)
    numbered, count = _pieces(around.region_of(labels[box]), step.connectivity)
    return np.sort(_sizes(numbered, count)[1:])


def pieces_removed(
    sizes: NDArray[np.int64], step: PostprocessingStep, voxel_mm3: float
) -> int | None:
    """Count the pieces of these sizes (rising) that the step removes, the smallest ones.

    None for a step that fills holes.
    """
    if step.kind == "largest_component":
        return max(0, len(sizes) - 1)
    return (
        int(np.count_nonzero(_too_small(sizes, step, voxel_mm3)))
        if step.kind == "minimum_volume"
        else None
    )


@dataclass
class _Around:
    """A label map (Z, Y, X) and the box of one step's region in it, with a margin of 1 voxel."""

    labels: Labels
    boxes: dict[int, Box]
    step: PostprocessingStep

    def box(self) -> Box | None:
        """The box around the region; None where there is none of it."""
        boxes = [self.boxes[label] for label in self.step.labels if label in self.boxes]
        if not boxes:
            return None
        z, y, x = (
            slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes))
            for axis in range(3)
        )
        return z, y, x

    def region_of(self, labels: Labels) -> Mask:
        """Mask the voxels of the region."""
        mask = labels == self.step.labels[0]
        for label in self.step.labels[1:]:
            mask |= labels == label
        return np.asarray(mask, dtype=np.bool_)

    def change(
        self, box: Box, numbered: NDArray[np.integer[Any]], going: Mask, *, inside: bool
    ) -> None:
        """Give every piece whose number is `going` the label that most of its neighbours have.

        Args:
            box: where the pieces are.
            numbered: their numbers, (Z, Y, X) of the box and one voxel more on every side; 0 is no
                piece.
            going: (pieces + 1,) which are changed.
            inside: only labels of the region count as neighbours; else only those outside it.
        """
        around = np.zeros(
            numbered.shape, dtype=self.labels.dtype
        )  # with what lies one voxel beyond the box
        wide, shift = _grown(box, self.labels.shape)
        image = tuple(slice(s, s + w.stop - w.start) for s, w in zip(shift, wide, strict=True))
        around[image] = self.labels[wide]
        outside = np.ones(numbered.shape, dtype=np.bool_)
        outside[image] = False
        becomes = _majority(
            numbered, around, outside, going, only=self.step.labels if inside else None
        )
        for plane, pieces in zip(
            self.labels[box], numbered[1:-1, 1:-1, 1:-1], strict=True
        ):  # an index takes 8 bytes a voxel
            chosen = going[pieces]
            plane[chosen] = becomes[pieces[chosen]]
        for label in np.unique(becomes[going]):
            if label:
                held = self.boxes.get(int(label))
                self.boxes[int(label)] = box if held is None else _union(held, box)


def _remove(around: _Around, chosen: Callable[[NDArray[np.int64]], Mask]) -> None:
    """Remove the pieces that `chosen` picks by their sizes (pieces + 1,), background first."""
    box = around.box()
    if box is None:
        return
    numbered, count = _pieces(around.region_of(around.labels[box]), around.step.connectivity)
    if count == 0:
        return
    going = chosen(_sizes(numbered, count))
    going[0] = False
    if going.any():
        around.change(box, numbered, going, inside=False)


# what every step is given
def _largest_component(around: _Around, voxel_mm3: float) -> None:  # noqa: ARG001
    """Keep the largest piece, the first in the order of the array of equal ones."""

    def smaller(sizes: NDArray[np.int64]) -> Mask:
        going = np.ones(len(sizes), dtype=np.bool_)
        going[1 + int(sizes[1:].argmax())] = False
        return going

    _remove(around, smaller)


def _too_small(sizes: NDArray[np.int64], step: PostprocessingStep, voxel_mm3: float) -> Mask:
    voxels = step.minimum if step.unit == "voxels" else step.minimum * 1000.0 / voxel_mm3
    return np.asarray(sizes < voxels * (1 - 1e-9), dtype=np.bool_)


# what every step is given
def _fill_holes(around: _Around, voxel_mm3: float) -> None:  # noqa: ARG001
    """Fill the background that the region encloses."""
    box = around.box()
    if box is None:
        return
    numbered, count = _pieces(np.asarray(around.labels[box] == 0), 6)
    holes = np.ones(count + 1, dtype=np.bool_)
    place = numbered[1:-1, 1:-1, 1:-1]
    for face in _faces(place, picture=around.labels.shape[0] == 1):
        holes[face] = (
            # beyond the box of the region there is none of it, so that this piece goes on, or ends
            # the image
            False
        )
    labels = around.labels[box]
    stranger = ~(around.region_of(labels) | (labels == 0))
    if stranger.any():
        for axis in range(3):
            for one, other in (
                (slice(1, None), slice(None, -1)),
                (slice(None, -1), slice(1, None)),
            ):
                here = tuple(one if a == axis else slice(None) for a in range(3))
                there = tuple(other if a == axis else slice(None) for a in range(3))
                holes[place[here][stranger[there]]] = False
    holes[0] = False
    if holes.any():
        around.change(box, numbered, holes, inside=True)


_STEPS: dict[str, Callable[[_Around, float], None]] = {
    "largest_component": _largest_component,
    "minimum_volume": lambda around, mm3: _remove(
        around, lambda sizes: _too_small(sizes, around.step, mm3)
    ),
    "fill_holes": _fill_holes,
}
"""By the kind of the step: called as step(around, mm3 of a voxel), changes the labels in place."""


def _pieces(mask: Mask, connectivity: Literal[6, 18, 26]) -> tuple[NDArray[np.integer[Any]], int]:
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


def _sizes(numbered: NDArray[np.integer[Any]], count: int) -> NDArray[np.int64]:
    """Count the voxels of each number plane by plane: bincount takes 8 bytes a voxel."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    for plane in numbered:
        sizes += np.bincount(plane.ravel(), minlength=count + 1)
    return sizes


def _majority(
    numbered: NDArray[np.integer[Any]],
    labels: Labels,
    outside: Mask,
    going: Mask,
    *,
    only: tuple[int, ...] | None,
) -> Labels:
    """(pieces + 1,) the label that most face neighbours of each piece have; 0 where it has none.

    Args:
        numbered: (Z, Y, X) numbers of the pieces, nothing in its outermost layer.
        labels: of the same voxels.
        outside: which of them lie outside the image.
        going: (pieces + 1,) the pieces that change.
        only: the labels that count; None counts all.
    """
    pieces, labels_flat, outside_flat = numbered.ravel(), labels.ravel(), outside.ravel()
    y, x = numbered.shape[1:]
    span = int(labels.max()) + 1
    keys: list[NDArray[np.int64]] = []
    times: list[NDArray[np.int64]] = []
    for voxels in _chunks(pieces, going):
        piece = pieces[voxels].astype(np.int64)
        for step in (-y * x, y * x, -x, x, -1, 1):
            there = voxels + step
            border = (pieces[there] != piece) & ~outside_flat[there]
            label = labels_flat[there[border]]
            counted = np.ones(label.shape, dtype=np.bool_) if only is None else np.isin(label, only)
            key, n = np.unique(piece[border][counted] * span + label[counted], return_counts=True)
            keys.append(key)
            times.append(n)
    becomes = np.zeros(len(going), dtype=labels.dtype)
    if keys:
        pairs, places = np.unique(np.concatenate(keys), return_inverse=True)
        weights = np.bincount(places, weights=np.concatenate(times))
        best = np.lexsort(
            (-(pairs % span), weights, pairs // span)
        )  # the last of a piece: most neighbours, the smallest id
        becomes[pairs[best] // span] = pairs[best] % span
    return becomes


def _chunks(pieces: NDArray[np.integer[Any]], going: Mask) -> Iterator[NDArray[np.int64]]:
    """Flat indices of the voxels of the pieces that change, some at a time."""
    for start in range(0, pieces.size, _CHUNK):
        found = np.flatnonzero(going[pieces[start : start + _CHUNK]])
        if found.size:
            yield found + start


def _faces(place: NDArray[Any], *, picture: bool) -> Iterator[NDArray[Any]]:
    """The outermost layers of an array (Z, Y, X).

    Along Z none of a picture, which has no inside there.
    """
    for axis in range(3):
        if axis > 0 or not picture:
            yield np.take(place, 0, axis=axis)
            yield np.take(place, -1, axis=axis)


def _grown(box: Box, shape: tuple[int, ...]) -> tuple[Box, tuple[int, int, int]]:
    """Return the box with a margin of 1 voxel in the image, and its start in the padded array."""
    z, y, x = (
        slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, shape, strict=True)
    )
    a, b, c = (new.start - old.start + 1 for new, old in zip((z, y, x), box, strict=True))
    return (z, y, x), (a, b, c)


def _union(a: Box, b: Box) -> Box:
    z, y, x = (slice(min(s.start, t.start), max(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return z, y, x
