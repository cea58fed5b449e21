"""The way back: from the network's grid to the case's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from hilum.errors import GeometryError
from hilum.volume import (
    Box,
    Geometry,
    Volume,
    reorient,
    reorient_geometry,
    resample_array,
    resample_labels_array,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Restore:
    """Record of how one case was preprocessed, with which it is restored.

    Args:
        source: the case's own grid.
        orientation: the code it was reoriented to, or "source".
        box: what was kept of the reoriented grid.
        shape: (Z, Y, X) on the network's grid, after resampling.
        orders: of the interpolation back, along each axis of the network's grid: 1 linear, 0
            nearest.
    """

    source: Geometry
    orientation: str
    box: Box
    shape: tuple[int, int, int]
    orders: tuple[int, int, int] = (1, 1, 1)

    @property
    def resampled(self) -> bool:
        """True if the network's grid has another number of voxels than the box."""
        return self.shape != self.box.shape

    @property
    def geometry(self) -> Geometry:
        """The network's grid: reoriented, cropped, resampled."""
        return self.reoriented.shifted(self.box.start, self.box.shape).resized(self.shape)

    @property
    def reoriented(self) -> Geometry:
        """The source's grid in the network's orientation, before cropping."""
        return reorient_geometry(self.source, self.orientation)

    def labels(self, array: NDArray[np.integer]) -> Volume:
        """Bring labels (Z, Y, X) from the network's grid to the source's; 0 outside the box.

        Exact where nothing was resampled; else each voxel takes the label with the largest linear
        weight.

        Raises:
            GeometryError: the array has not this restore's shape.
        """
        self.check(array.shape)
        inside = resample_labels_array(array, self.box.shape) if self.resampled else array
        return self._to_source(inside[np.newaxis], fill=np.zeros(1, dtype=array.dtype))

    def array(
        self,
        array: NDArray[np.float32],
        *,
        order: int | None = None,
        fill: Sequence[float] | float = 0.0,
    ) -> Volume:
        """Bring numbers (C, Z, Y, X) to the source's grid; `fill` (one, or C) outside the box.

        Exact where nothing was resampled; else interpolated with `order`, by default this restore's
        own. The whole result is held at once; `restore_stream` restores many channels.

        Raises:
            GeometryError: the array has not this restore's shape.
        """
        self.check(array.shape[1:])
        inside = array
        if self.resampled:
            orders = self.orders if order is None else order
            inside = resample_array(array, self.box.shape, order=orders)
        outside = np.broadcast_to(np.asarray(fill, dtype=array.dtype), (array.shape[0],))
        return self._to_source(inside, fill=outside)

    def to_json(self) -> str:
        """Write one line of JSON.

        `from_json` gives an equal record back (floats are written so that they read back exactly).
        """
        source = {
            "shape": self.source.shape,
            "affine": self.source.affine.tolist(),
            "frame_of_reference": self.source.frame_of_reference,
        }
        return json.dumps(
            {
                "source": source,
                "orientation": self.orientation,
                "box": {"start": self.box.start, "stop": self.box.stop},
                "shape": self.shape,
                "orders": self.orders,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        source = fields["source"]
        return cls(
            source=Geometry(
                tuple(source["shape"]), np.array(source["affine"]), source["frame_of_reference"]
            ),
            orientation=fields["orientation"],
            box=Box(tuple(fields["box"]["start"]), tuple(fields["box"]["stop"])),
            shape=tuple(fields["shape"]),
            orders=tuple(fields.get("orders", (1, 1, 1))),
        )

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse an array (Z, Y, X) that preprocessing cannot have given.

        Raises:
            GeometryError: it has not this restore's shape.
        """
        if tuple(shape) != self.shape:
            raise GeometryError(
                f"the array to restore has shape {tuple(shape)}",
                needed=f"the shape that preprocessing gave, {self.shape}",
            )

    def _to_source(self, inside: NDArray[np.generic], *, fill: NDArray[np.generic]) -> Volume:
        """Put an array of the cropped box back into the source's own grid."""
        out = np.empty((len(fill), *self.reoriented.shape), dtype=fill.dtype)
        out[:] = fill[:, np.newaxis, np.newaxis, np.newaxis]
        out[(slice(None), *self.box.slices)] = inside
        turned = reorient(Volume(out, self.reoriented), self.source.orientation)
        # the very affine of the source, not a product of flips
        return Volume(np.ascontiguousarray(turned.array), self.source)
