"""An image and where it lies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import GeometryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.volume.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """A multi-channel image on a grid.

    Args:
        array: (C, Z, Y, X), any numeric dtype; a 2D picture has Z = 1, labels have C = 1.
        geometry: the grid; its shape is the array's last three sizes.

    Raises:
        GeometryError: array and geometry disagree.
    """

    array: NDArray[Any] = field(repr=False)
    geometry: Geometry

    def __post_init__(self) -> None:
        """Refuse an array that does not lie on the grid."""
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise GeometryError(
                f"the array has shape {self.array.shape}, its grid {self.geometry.shape}",
                needed="an array (C, Z, Y, X) whose last three sizes are the grid's",
            )

    def __eq__(self, other: object) -> bool:
        """Same dtype, same voxels (NaN equals NaN), same geometry."""
        if not isinstance(other, Volume):
            return NotImplemented
        floating = np.issubdtype(self.array.dtype, np.inexact)
        return (
            self.geometry == other.geometry
            and self.array.dtype == other.array.dtype
            and np.array_equal(self.array, other.array, equal_nan=floating)
        )

    __hash__ = None  # type: ignore[assignment]  # an image is too large to be a key

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.array.shape[0])

    def with_array(self, array: NDArray[np.generic]) -> Volume:
        """Put another array (C', Z, Y, X) on the same grid."""
        return replace(self, array=array)
