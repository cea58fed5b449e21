"""Boxes of voxels: cut them out, put them back, pad around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError, UsageError
from hilum.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Three = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A half-open block of voxels from `start` to before `stop`, in (Z, Y, X).

    Raises:
        GeometryError: the box is empty or begins before voxel (0, 0, 0).
    """

    start: Three
    stop: Three

    def __post_init__(self) -> None:
        """Refuse what cuts nothing out."""
        pairs = list(zip(self.start, self.stop, strict=True))
        if len(pairs) != 3 or any(a < 0 or b <= a for a, b in pairs):
            raise GeometryError(
                f"there is no box from {self.start} to {self.stop}",
                needed="three starts of at least 0, each below its stop",
            )
        object.__setattr__(self, "start", tuple(int(a) for a in self.start))
        object.__setattr__(self, "stop", tuple(int(b) for b in self.stop))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """Return the box of every voxel of a (Z, Y, X) shape."""
        z, y, x = (int(n) for n in shape)
        return cls((0, 0, 0), (z, y, x))

    @classmethod
    def around(cls, mask: NDArray[np.generic], margin: int = 0) -> Box | None:
        """Return the smallest box of all true voxels, with a margin inside the array.

        Args:
            mask: (Z, Y, X), true (non-zero) where the box must reach.
            margin: voxels to add on all six sides.

        Returns:
            The box, or None where no voxel is true.
        """
        spans: list[tuple[int, int]] = []
        part = mask
        for axis in range(3):
            hit = np.flatnonzero(part.any(axis=tuple(i for i in range(3) if i != axis)))
            if hit.size == 0:
                return None
            first, last = int(hit[0]), int(hit[-1])
            # what is cut off is not looked at again
            part = part[(slice(None),) * axis + (slice(first, last + 1),)]
            spans.append((max(first - margin, 0), min(last + margin + 1, mask.shape[axis])))
        (z0, z1), (y0, y1), (x0, x1) = spans
        return cls((z0, y0, x0), (z1, y1, x1))

    @property
    def shape(self) -> Three:
        """Voxels along (Z, Y, X)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of a (Z, Y, X) array; `array[(..., *box.slices)]` for more axes in front."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume; its voxels stay where they are in space. The array is a view.

    Raises:
        GeometryError: the box reaches beyond the volume.
    """
    shape = volume.geometry.shape
    if any(stop > size for stop, size in zip(box.stop, shape, strict=True)):
        raise GeometryError(
            f"the box from {box.start} to {box.stop} reaches beyond a volume of shape {shape}",
            needed="a box within the volume",
        )
    return Volume(
        volume.array[(slice(None), *box.slices)], volume.geometry.shifted(box.start, box.shape)
    )


def pad(volume: Volume, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Volume:
    """Add voxels of one value around a volume; the given ones stay where they are in space.

    Args:
        volume: (C, Z, Y, X).
        before: voxels to add in front along (Z, Y, X), at least 0.
        after: voxels to add behind along (Z, Y, X), at least 0.
        value: what the new voxels hold.

    Raises:
        UsageError: the array's dtype cannot hold the value.
        GeometryError: a negative number of voxels (use :func:`crop` to take away).
    """
    front, back = [int(n) for n in before], [int(n) for n in after]
    if len(front) != 3 or len(back) != 3 or min(front + back) < 0:
        raise GeometryError(
            f"the padding is {tuple(before)} before and {tuple(after)} behind",
            needed="three numbers of at least 0",
            cure="use crop to take away",
        )
    widths = [(0, 0), *zip(front, back, strict=True)]
    array = np.pad(volume.array, widths, constant_values=fill_value(value, volume.array.dtype))
    return Volume(array, volume.geometry.shifted([-n for n in front], array.shape[1:]))


def fill_value(value: float, dtype: np.dtype[np.generic]) -> np.generic:
    """Turn a value into a scalar of an array's dtype.

    Raises:
        UsageError: an integer type that cannot hold it (-1 would silently become 255).
    """
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype.name)
        if not (limits.min <= value <= limits.max and float(value).is_integer()):
            raise UsageError(
                f"{value} cannot fill an array of type {dtype}",
                needed=f"a whole number from {limits.min} to {limits.max}",
            )
    return dtype.type(value)
