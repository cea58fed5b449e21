"""Resample a volume onto any other grid: shifted, rotated, of any spacing and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError
from hilum.volume.crop import Box, fill_value
from hilum.volume.majority import POINTS, heaviest, majority_labels
from hilum.volume.separable import check_order, gather, interpolate, make_axis, make_linear_axis
from hilum.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hilum.volume.geometry import Geometry

# voxels: what header rounding may shift; below it a grid is taken for parallel, and a position for
# a voxel's own
_SAME = 1e-3
# voxels around an array before the spline's inverse filter, as scipy.ndimage does for mode
# "nearest"
_PAD = 12
# voxels kept around what is read: what lies further away weighs less than float32 can hold
_MARGIN = 2 * _PAD


def resample_onto(
    volume: Volume, geometry: Geometry, *, order: int = 3, fill: float = 0.0
) -> Volume:
    """Resample a volume onto another grid, through the millimetres both share.

    Parallel grids (any of the 48 orientations, any spacing and shift) are done axis by axis and
    give a voxel's very value where both grids have a voxel; others point by point.

    Args:
        volume: (C, Z, Y, X), any real dtype.
        geometry: the grid wanted. The frames of reference are not compared.
        order: 0 nearest, 1 linear, 3 cubic B-spline.
        fill: for points that lie in no voxel of `volume`.

    Returns:
        (C, *geometry.shape) on `geometry`: the given dtype at order 0, else float32. Beyond its
        input and result it needs
        about 100 MiB, and at order 3 on a grid that is not parallel a float32 copy of one channel
        with a rim of 12 voxels.

    Raises:
        UsageError: another order, or a `fill` that the result's dtype cannot hold.
    """
    check_order(order)
    mapping = Mapping.between(volume.geometry, geometry)
    aligned = mapping.aligned()
    if aligned is not None:
        return Volume(_separable(volume.array, aligned, order, fill), geometry)
    if order == 0:
        out = np.full((volume.channels, *geometry.shape), fill_value(fill, volume.array.dtype))
        for points, coordinates in mapping.inside():
            z, y, x = mapping.nearest(coordinates)
            out.reshape(volume.channels, -1)[:, points] = volume.array[:, z, y, x]
        return Volume(out, geometry)
    return Volume(_pointwise(volume.array, mapping, order, fill), geometry)


def resample_labels_onto(volume: Volume, geometry: Geometry, *, fill: int = 0) -> Volume:
    """Resample labels onto another grid by the largest linear weight (ties: the nearest label).

    Args:
        volume: (1, Z, Y, X) integers.
        geometry: the grid wanted.
        fill: the label of points that lie in no voxel of `volume`.

    Returns:
        (1, *geometry.shape) of the same dtype on `geometry`.

    Raises:
        LabelError: more than one channel, or not integers.
        UsageError: a `fill` that the dtype cannot hold.
    """
    if volume.channels != 1 or not (
        np.issubdtype(volume.array.dtype, np.integer) or volume.array.dtype == bool
    ):
        raise LabelError(
            f"the labels have shape {volume.array.shape} and type {volume.array.dtype}",
            needed="integers (1, Z, Y, X)",
        )
    mapping = Mapping.between(volume.geometry, geometry)
    aligned = mapping.aligned()
    if aligned is not None:
        labels = volume.array[0].transpose(aligned.order)
        sizes = list(zip(aligned.coordinates, labels.shape, strict=True))
        nearest = gather(labels[None], [make_axis(c, n, 0) for c, n in sizes])[0]
        out = majority_labels(labels, [make_linear_axis(c, n) for c, n in sizes], nearest)
        _fill_outside(out[None], aligned, labels.shape, fill)
        return Volume(out[None], geometry)
    return Volume(_majority_pointwise(volume.array[0], mapping, fill)[None], geometry)


@dataclass(frozen=True)
class Aligned:
    """A mapping without rotation: target axis *j* runs along source axis `order[j]`."""

    order: tuple[int, int, int]
    coordinates: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Mapping:
    """Mapping of indices: source = matrix @ target + offset, both in (z, y, x) voxels."""

    source_shape: tuple[int, int, int]
    target_shape: tuple[int, int, int]
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def between(cls, source: Geometry, target: Geometry) -> Mapping:
        """Find the mapping from target indices to source indices of two grids.

        What differs from whole numbers by header rounding only becomes whole.
        """
        full = np.linalg.solve(source.affine, target.affine)
        matrix, offset = full[:3, :3], full[:3, 3]
        reach = np.maximum(np.asarray(target.shape) - 1.0, 1.0)
        whole = np.round(matrix)
        matrix = np.where(np.abs(matrix - whole) * reach < _SAME, whole, matrix)
        offset = np.where(np.abs(offset - np.round(offset)) < _SAME, np.round(offset), offset)
        return cls(source.shape, target.shape, matrix.astype(np.float64), offset.astype(np.float64))

    def aligned(self) -> Aligned | None:
        """Return the mapping axis by axis, or None where the grids are not parallel."""
        used = self.matrix != 0
        if not (used.sum(axis=0) == 1).all() or not (used.sum(axis=1) == 1).all():
            return None
        z, y, x = (int(i) for i in used.argmax(axis=0))
        coordinates = [
            np.round(self.matrix[i, j] * np.arange(n) + self.offset[i], 9)  # so that ties are ties
            for j, (i, n) in enumerate(zip((z, y, x), self.target_shape, strict=True))
        ]
        return Aligned((z, y, x), tuple(coordinates))

    def inside(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield target points inside the source: (N,) flat index, (3, N) source coordinates."""
        limits = np.asarray(self.source_shape)[:, None] - 0.5
        total = int(np.prod(self.target_shape))
        for start in range(0, total, POINTS):
            flat = np.arange(start, min(start + POINTS, total))
            coordinates = self.matrix @ np.asarray(
                np.unravel_index(flat, self.target_shape), dtype=np.float64
            )
            coordinates += self.offset[:, None]
            within = ((coordinates >= -0.5 - _SAME) & (coordinates <= limits + _SAME)).all(axis=0)
            yield flat[within], coordinates[:, within]

    def nearest(self, coordinates: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the nearest source voxels (3, N) of coordinates (3, N)."""
        last = np.asarray(self.source_shape)[:, None] - 1
        return np.clip(np.floor(coordinates + (0.5 + 1e-9)), 0, last).astype(np.intp)

    def read_box(self) -> Box | None:
        """Return the part of the source that the target can see, or None where they do not meet."""
        ends = np.meshgrid(*[(0.0, n - 1.0) for n in self.target_shape], indexing="ij")
        seen = self.matrix @ np.reshape(ends, (3, 8)) + self.offset[:, None]
        low = np.maximum(np.floor(seen.min(axis=1)).astype(int) - _MARGIN, 0)
        high = np.minimum(np.ceil(seen.max(axis=1)).astype(int) + _MARGIN + 1, self.source_shape)
        if (low >= high).any():
            return None
        (z0, y0, x0), (z1, y1, x1) = low.tolist(), high.tolist()
        return Box((z0, y0, x0), (z1, y1, x1))


def _separable(
    array: NDArray[np.generic], aligned: Aligned, order: int, fill: float
) -> NDArray[np.generic]:
    """Resample axis by axis, where the axes of both grids are parallel."""
    turned = array.transpose(0, *(i + 1 for i in aligned.order))
    axes = [
        make_axis(c, n, order) for c, n in zip(aligned.coordinates, turned.shape[1:], strict=True)
    ]
    out: NDArray[np.generic] = gather(turned, axes) if order == 0 else interpolate(turned, axes)
    _fill_outside(out, aligned, turned.shape[1:], fill)
    return out


def _fill_outside(
    out: NDArray[np.generic], aligned: Aligned, shape: tuple[int, ...], fill: float
) -> None:
    """Fill what lies outside of the source image."""
    value = fill_value(fill, out.dtype)
    for axis, (coordinates, n) in enumerate(zip(aligned.coordinates, shape, strict=True)):
        outside = np.flatnonzero((coordinates < -0.5 - _SAME) | (coordinates > n - 0.5 + _SAME))
        out[(slice(None),) * (axis + 1) + (outside,)] = value


def _pointwise(
    array: NDArray[np.generic], mapping: Mapping, order: int, fill: float
) -> NDArray[np.float32]:
    """Interpolate at each target voxel, where the axes of both grids are not parallel."""
    from scipy import ndimage

    out = np.full((len(array), *mapping.target_shape), fill, dtype=np.float32)
    box = mapping.read_box()
    if box is None:
        return out
    rim = [_PAD if order == 3 and n > 1 else 0 for n in box.shape]
    shift = np.asarray(rim) - np.asarray(box.start)
    for channel, target in zip(array, out, strict=True):
        source = np.ascontiguousarray(channel[box.slices], dtype=np.float32)
        if order == 3:
            padded = np.pad(source, [(n, n) for n in rim], mode="edge")
            source = ndimage.spline_filter(padded, output=np.float32, mode="nearest")
        for points, coordinates in mapping.inside():
            at = coordinates + shift[:, None]
            target.reshape(-1)[points] = ndimage.map_coordinates(
                source, at, order=3 if order == 3 else 1, mode="nearest", prefilter=False
            )
    return out


def _majority_pointwise(
    labels: NDArray[np.integer], mapping: Mapping, fill: int
) -> NDArray[np.integer]:
    """Take the heaviest label around each target voxel, the nearest one where weights tie."""
    out = np.full(mapping.target_shape, fill_value(fill, labels.dtype))
    last = np.asarray(labels.shape)[:, None] - 1
    for points, coordinates in mapping.inside():
        z, y, x = mapping.nearest(coordinates)
        nearest = labels[z, y, x]
        within = np.clip(coordinates, 0, last)
        low = np.floor(within).astype(np.intp)
        high, share = np.minimum(low + 1, last), within - low
        corners = np.empty((8, len(points)), dtype=labels.dtype)
        weights = np.ones((8, len(points)))
        for n in range(8):
            upper = np.array([[n >> 2 & 1], [n >> 1 & 1], [n & 1]], dtype=bool)
            z, y, x = np.where(upper, high, low)
            corners[n] = labels[z, y, x]
            weights[n] = np.where(upper, share, 1 - share).prod(axis=0)
        mixed = np.flatnonzero((corners != corners[0]).any(axis=0))
        nearest[mixed] = heaviest(corners[:, mixed], weights[:, mixed], nearest[mixed])
        out.reshape(-1)[points] = nearest
    return out
