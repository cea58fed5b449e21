"""The way back: from the network's grid to the case's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hilum.errors import GeometryError
from hilum.volume import Box, Geometry, Volume, reorient, reorient_geometry, resample_array, resample_labels_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

SLAB_BYTES = 64 * 2**20
"""Bytes of float32 logits on the source's grid that exist at a time while a case is restored."""


@dataclass(frozen=True)
class Restore:
    """How one case was preprocessed, and so how to come back.

    Args:
        source: the case's own grid.
        orientation: the code it was reoriented to, or "source".
        box: what was kept of the reoriented grid.
        shape: (Z, Y, X) on the network's grid, after resampling.
    """

    source: Geometry
    orientation: str
    box: Box
    shape: tuple[int, int, int]

    @property
    def resampled(self) -> bool:
        """Whether the network's grid has another number of voxels than the box."""
        return self.shape != self.box.shape

    @property
    def geometry(self) -> Geometry:
        """The network's grid: reoriented, cropped, resampled."""
        turned = self.reoriented
        return turned.shifted(self.box.start, self.box.shape).resized(self.shape)

    @property
    def reoriented(self) -> Geometry:
        """The source's grid in the network's orientation, before cropping."""
        return self.source if self.orientation == "source" else reorient_geometry(self.source, self.orientation)

    def labels(self, array: NDArray[Any]) -> Volume:
        """Bring labels (Z, Y, X) from the network's grid to the source's: a Volume of C = 1, background (0) outside the box.

        Exact where nothing was resampled; else each voxel takes the label with the largest linear weight.

        Raises:
            GeometryError: the array has not this restore's shape.
        """
        self.check(array.shape)
        inside = resample_labels_array(array, self.box.shape) if self.resampled else array
        return self._to_source(inside[np.newaxis], fill=np.zeros(1, dtype=array.dtype))

    def array(self, array: NDArray[np.float32], *, order: int = 1, fill: Sequence[float] | float = 0.0) -> Volume:
        """Bring (C, Z, Y, X) numbers to the source's grid, `fill` (one value, or one a channel) outside the box.

        Exact where nothing was resampled. The whole result is held at once; for many channels see `restore_logits_to_labels`.

        Raises:
            GeometryError: the array has not this restore's shape.
        """
        self.check(array.shape[1:])
        inside = resample_array(array, self.box.shape, order=order) if self.resampled else array
        outside = np.broadcast_to(np.asarray(fill, dtype=array.dtype), (array.shape[0],))
        return self._to_source(inside, fill=outside)

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal record back (floats are written so that they read back exactly)."""
        return json.dumps(
            {
                "source": {
                    "shape": self.source.shape,
                    "affine": self.source.affine.tolist(),
                    "frame_of_reference": self.source.frame_of_reference,
                },
                "orientation": self.orientation,
                "box": {"start": self.box.start, "stop": self.box.stop},
                "shape": self.shape,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        source = fields["source"]
        return cls(
            source=Geometry(tuple(source["shape"]), np.array(source["affine"]), source["frame_of_reference"]),
            orientation=fields["orientation"],
            box=Box(tuple(fields["box"]["start"]), tuple(fields["box"]["stop"])),
            shape=tuple(fields["shape"]),
        )

    def slabs(self, channels: int, *, slab_bytes: int = SLAB_BYTES) -> Iterator[slice]:
        """Cut the box along its first axis so that `channels` float32 values a voxel fit into `slab_bytes`, at least one row."""
        depth, *plane = self.box.shape
        rows = max(1, slab_bytes // max(1, channels * int(np.prod(plane)) * 4))
        for start in range(0, depth, rows):
            yield slice(start, min(start + rows, depth))

    def slab(self, array: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        """The rows of the box, linearly resampled from (K, Z, Y, X) on the network's grid: (K, rows, Y, X).

        Equals the same rows of the whole resampled array, of which nothing else is computed.
        """
        if not self.resampled:
            return array[:, rows]
        depth, source_depth = self.box.shape[0], self.shape[0]
        at = np.clip((np.arange(rows.start, rows.stop) + 0.5) * (source_depth / depth) - 0.5, 0, source_depth - 1)
        low = np.minimum(np.floor(at).astype(np.int64), source_depth - 1)
        high = np.minimum(low + 1, source_depth - 1)
        weight = (at - low).astype(np.float32)[:, np.newaxis, np.newaxis]
        first, last = int(low[0]), int(high[-1]) + 1
        part = array[:, first:last]
        plane = resample_array(part, (last - first, *self.box.shape[1:]), order=1)  # (K, last - first, Y, X)
        lower = plane[:, low - first]
        lower += weight * (plane[:, high - first] - lower)
        return np.asarray(lower)

    def place(self, slabs: Callable[[slice], NDArray[Any]], *, fill: NDArray[Any], slab_channels: int) -> Volume:
        """Fill the source's grid slab by slab: `slabs(rows)` gives (C, rows, Y, X) of the box, `fill` (C,) what lies outside."""
        out = self._canvas(fill)
        inside = out[(slice(None), *self.box.slices)]
        for rows in self.slabs(slab_channels):
            inside[:, rows] = slabs(rows)
        return self._turn_back(out)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse an array (Z, Y, X) that preprocessing cannot have given.

        Raises:
            GeometryError: it has not this restore's shape.
        """
        if tuple(shape) != self.shape:
            raise GeometryError(
                f"an array of shape {tuple(shape)} to restore", needed=f"the shape that preprocessing gave, {self.shape}"
            )

    def _canvas(self, fill: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(fill), *self.reoriented.shape), dtype=fill.dtype)
        out[:] = fill[:, np.newaxis, np.newaxis, np.newaxis]
        return out

    def _to_source(self, inside: NDArray[Any], *, fill: NDArray[Any]) -> Volume:
        out = self._canvas(fill)
        out[(slice(None), *self.box.slices)] = inside
        return self._turn_back(out)

    def _turn_back(self, array: NDArray[Any]) -> Volume:
        if self.orientation == "source":
            return Volume(array, self.source)
        turned = reorient(Volume(array, self.reoriented), self.source.orientation)
        return Volume(np.ascontiguousarray(turned.array), self.source)  # the very affine of the source, not a product of flips


def restore_logits_to_labels(
    logits: NDArray[np.float32],
    decode: Callable[[NDArray[np.float32]], NDArray[Any]],
    restore: Restore,
) -> Volume:
    """Bring logits to the source's grid and decode them there, slab by slab: K full-size arrays never exist.

    Args:
        logits: (K, Z, Y, X) on the network's grid.
        decode: maps logits (K, z, Y, X) of a slab to label ids (z, Y, X), always of one integer dtype.
        restore: the case's way back.

    Returns:
        labels (1, Z, Y, X) on the source's grid; background (0) outside the box.

    Raises:
        GeometryError: the logits have not the shape that preprocessing gave.
    """
    restore.check(logits.shape[1:])
    dtype = decode(logits[:, :1, :1, :1]).dtype
    return restore.place(
        lambda rows: decode(restore.slab(logits, rows))[np.newaxis],
        fill=np.zeros(1, dtype=dtype),
        slab_channels=logits.shape[0],
    )


def restore_probabilities(
    logits: NDArray[np.float32],
    activate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    restore: Restore,
    *,
    outside: Sequence[float],
) -> Volume:
    """Bring logits to the source's grid as probabilities, (K, Z, Y, X) float32.

    Args:
        logits: (K, Z, Y, X) on the network's grid.
        activate: maps logits (K, z, Y, X) to probabilities of the same shape.
        restore: the case's way back.
        outside: K probabilities outside the box: (1, 0, ...) for exclusive labels, zeros for regions.

    Raises:
        GeometryError: the logits have not the shape that preprocessing gave, or `outside` has not K entries.
    """
    restore.check(logits.shape[1:])
    if len(outside) != logits.shape[0]:
        raise GeometryError(f"{len(outside)} probabilities outside the box", needed=f"one for each of {logits.shape[0]} outputs")
    return restore.place(
        lambda rows: activate(restore.slab(logits, rows)),
        fill=np.asarray(outside, dtype=np.float32),
        slab_channels=logits.shape[0],
    )
