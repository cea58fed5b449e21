"""Painting tissue onto a grid: later strokes cover earlier ones, edges are partial volumes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import ndimage

from hilum.examples.shapes import occupancy
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume import Geometry

    Field = NDArray[np.float32]

AIR_HU = -1000.0


@dataclass(frozen=True)
class Warp:
    """A smooth displacement of space, as a sum of plane waves, that makes organs irregular.

    Args:
        amplitudes: (waves, 3) mm.
        frequencies: (waves, 3) radians a mm.
        phases: (waves, 3) radians.
    """

    amplitudes: NDArray[np.float32]
    frequencies: NDArray[np.float32]
    phases: NDArray[np.float32]

    @classmethod
    def sample(
        cls,
        rng: np.random.Generator,
        *,
        waves: int = 3,
        amplitude_mm: float = 2.6,
        length_mm: float = 120.0,
    ) -> Self:
        """Sample a warp whose waves are about `length_mm` long."""
        amplitudes = rng.normal(0, amplitude_mm / np.sqrt(waves), (waves, 3)).astype(np.float32)
        directions = rng.normal(size=(waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = length_mm * rng.uniform(0.7, 1.6, (waves, 1))
        frequencies = (2 * np.pi * directions / lengths).astype(np.float32)
        return cls(
            amplitudes, frequencies, rng.uniform(0, 2 * np.pi, (waves, 3)).astype(np.float32)
        )

    def __call__(self, points: Field) -> Field:
        """Displace points, (3, ...) to (3, ...)."""
        moved = points.copy()
        for amplitude, frequency, phase in zip(
            self.amplitudes, self.frequencies, self.phases, strict=True
        ):
            wave = np.einsum("i,i...->...", frequency, points)
            for axis in range(3):
                moved[axis] += amplitude[axis] * np.sin(wave + phase[axis])
        return moved


@dataclass(frozen=True, eq=False)
class Canvas:
    """HU and labels being painted on a grid; a window of a canvas paints into the canvas itself.

    Args:
        geometry: the grid.
        hu: (Z, Y, X) float32.
        labels: (Z, Y, X) uint8.
        points: (3, Z, Y, X) float32, the warped LPS mm of every voxel.
        warp_mm: no voxel was moved further than this.
        blur_mm: width of an edge, the partial volume of a voxel.
    """

    geometry: Geometry
    hu: Field
    labels: NDArray[np.uint8]
    points: Field
    warp_mm: float
    blur_mm: float

    @classmethod
    def blank(
        cls, geometry: Geometry, *, warp: Warp | None = None, fill_hu: float = AIR_HU
    ) -> Self:
        """Make a canvas of air (or of `fill_hu`) on a grid."""
        steps, start = geometry.affine[:3, :3], geometry.origin
        z, y, x = (np.arange(n, dtype=np.float64) for n in geometry.shape)
        planes = [
            (steps[i, 0] * z)[:, None, None]
            + (steps[i, 1] * y)[None, :, None]
            + (steps[i, 2] * x)[None, None, :]
            + start[i]
            for i in range(3)
        ]
        points = np.stack(planes).astype(np.float32)  # (3, Z, Y, X)
        return cls(
            geometry=geometry,
            hu=np.full(geometry.shape, fill_hu, dtype=np.float32),
            labels=np.zeros(geometry.shape, dtype=np.uint8),
            points=points if warp is None else warp(points),
            warp_mm=0.0 if warp is None else float(np.abs(warp.amplitudes).sum(axis=0).max()),
            blur_mm=float(np.mean(geometry.spacing)),
        )

    def near(self, centre: Sequence[float], reach_mm: float) -> Canvas:
        """Return the window of voxels that a ball around `centre` (x, y, z) may touch.

        One voxel, untouched, where it touches none.
        """
        index = self.geometry.world_to_index(centre)
        starts, stops = [], []
        for middle, spacing, size in zip(
            index, self.geometry.spacing, self.geometry.shape, strict=True
        ):
            half = (reach_mm + self.warp_mm) / spacing + 2
            start = int(np.clip(middle - half, 0, size - 1))
            starts.append(start)
            stops.append(int(np.clip(middle + half + 1, start + 1, size)))
        block = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        hu = self.hu[block]
        return replace(
            self,
            geometry=self.geometry.shifted(starts, hu.shape),
            hu=hu,
            labels=self.labels[block],
            points=self.points[:, *block],
        )

    def paint(self, distance: Field, hu: Field | float, *, label: int | None = None) -> None:
        """Cover the inside of a solid, given by its distance (Z, Y, X), with tissue.

        Args:
            distance: mm, negative inside.
            hu: one value or (Z, Y, X).
            label: written where at least half of the voxel is inside; None leaves the labels as
                they are.
        """
        share = occupancy(distance, self.blur_mm)
        np.add(self.hu, share * (np.asarray(hu, dtype=np.float32) - self.hu), out=self.hu)
        if label is not None:
            self.labels[share > 0.5] = label

    def finish(self, rng: np.random.Generator, *, noise_hu: float) -> tuple[Volume, Volume]:
        """Add noise and return image (int16 HU, at least -1024) and labels (uint8).

        The noise is correlated over neighbouring voxels of a slice, as filtered back-projection
        leaves it.
        """
        white = rng.standard_normal(self.hu.shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(white, (0.0, 0.6, 0.6))
        noise *= noise_hu / max(float(noise.std()), 1e-6)
        hu = np.clip(np.rint(self.hu + noise), -1024, 3071).astype(np.int16)
        return Volume(hu[None], self.geometry), Volume(self.labels[None], self.geometry)
