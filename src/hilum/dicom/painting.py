"""One label map of masks of named structures, which may overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SHOWN = 5


@dataclass
class Layer:
    """The mask of one label, a bit a voxel, slices that hold nothing left out.

    Args:
        name: for people.
        label: its id.
        shape: (rows, columns).
    """

    name: str
    label: int
    shape: tuple[int, int]
    _planes: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def add(self, index: int, mask: NDArray[np.bool_]) -> None:
        """Add the voxels of a slice to those it has."""
        if mask.any():
            packed = np.packbits(mask)
            self._planes[index] = packed | self._planes.get(index, np.uint8(0))

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices that hold a voxel of it, in order."""
        return tuple(sorted(self._planes))

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Unpack a slice, (rows, columns)."""
        bits = np.unpackbits(self._planes[index], count=self.shape[0] * self.shape[1])
        return bits.astype(np.bool_).reshape(self.shape)

    @property
    def voxels(self) -> int:
        """Number of its voxels."""
        return sum(int(np.unpackbits(plane).sum()) for plane in self._planes.values())


def paint(layers: Sequence[Layer], count: int) -> tuple[NDArray[np.integer], tuple[str, ...]]:
    """Make one label map; a voxel of several layers belongs to the one of the fewest voxels.

    So a tumour inside a liver stays a tumour, and an organ inside the outline of a body an organ.

    Args:
        layers: of one shape, at least one.
        count: number of slices.

    Returns:
        (slices, rows, columns) in the smallest of uint8, int16, int32; and a note where layers
        overlap.
    """
    highest = max(layer.label for layer in layers)
    dtype = np.uint8 if highest < 256 else np.int16 if highest < 1 << 15 else np.int32
    labels = np.zeros((count, *layers[0].shape), dtype=dtype)
    names = {layer.label: layer.name for layer in layers}
    shared: dict[tuple[str, str], int] = {}
    for layer in sorted(layers, key=lambda one: -one.voxels):
        for index in layer.slices:
            mask = layer.mask(index)
            held = labels[index][mask]
            values, counts = np.unique(held[held != 0], return_counts=True)
            for value, voxels in zip(values.tolist(), counts.tolist(), strict=True):
                if value != layer.label:
                    pair = names[value], layer.name
                    shared[pair] = shared.get(pair, 0) + voxels
            labels[index][mask] = layer.label
    pairs = sorted(shared.items(), key=lambda item: -item[1])
    listed = some((f"{a} and {b} ({count} voxels)" for (a, b), count in pairs), shown=_SHOWN)
    note = f"structures overlap: {listed}; such voxels belong to the smaller structure"
    return labels, (note,) if shared else ()
