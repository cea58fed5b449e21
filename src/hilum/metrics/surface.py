"""Distances between two surfaces in millimetres, each surface element weighted by its area.

The surface runs between voxels: a marching-cubes surface element (surfel) lies in the middle of
each 2 x 2 x 2 neighbourhood that is neither all inside nor all outside, and has the area that the
spacing gives it. A picture (Z = 1) has a contour with lengths instead. What lies outside the image
counts as background, so a structure cut by the image's edge has a surface there. Definitions and
numbers are those of DeepMind's surface-distance package (Nikolov et al., JMIR 23, 2021,
doi:10.2196/26151), which the tests hold them to. On request the elements are the triangles of
marching cubes instead, see `hilum.metrics.mesh`.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

==================  ==========  =========
metric              both empty  one empty
==================  ==========  =========
NSD                 undefined   0
HD, HD95, ASSD,     undefined   undefined
MASD
==================  ==========  =========

A missed structure has no distance here; an evaluation scores it by the image's diagonal, see
`hilum.evaluation.Score`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.masks import around, bounding_box, check_masks, check_picture, check_spacing
from hilum.metrics.mesh import ROUNDING_MM, mesh_of
from hilum.metrics.overlap import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask

    Numbers = NDArray[np.float64]

Surface = Literal["voxel", "mesh"]
"""Elements of a surface: one in the middle of each neighbourhood of voxels, or the triangles of
marching cubes."""

_VOXELS_A_QUERY = 128
"""Above this many places of the lattice for each element that is left, a tree is cheaper than the
rows."""

_PLACES = 30
"""About so many places of the lattice around an element are looked at before its rows are."""

_ROWS = 400
"""About so many rows around an element are looked at before a tree is."""

_BASE_SURFELS: dict[int, tuple[tuple[int, int, int], ...]] = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((4, 4, 0),),
    0b00000110: ((2, 2, 2),),
    0b00000111: ((4, 0, 0), (3, 3, 3)),
    0b00001111: ((8, 0, 0),),
    0b00010110: ((3, 3, 3),),
    0b00010111: ((6, 6, 6),),
    0b00011000: ((2, 2, 2),),
    0b00011001: ((0, 4, 4), (1, 1, 1)),
    0b00011011: ((4, 4, 4), (0, 2, 2), (2, 0, 2)),
    0b00011110: ((4, 0, 0), (4, 4, 4)),
    0b00111100: ((8, 8, 0),),
    0b01101001: ((4, 4, 4),),
}
"""Absolute normals, in eighths, of the surface in each base case of marching cubes; their length is
the area at spacing 1.

Every other neighbourhood is one of these rotated, mirrored or inverted. The bits run from corner
(0, 0, 0), worth 128, to corner (1, 1, 1), worth 1, x fastest. Derived from surface-distance's
lookup table (Copyright 2018 Google Inc., Apache-2.0).
"""


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance of each surface element to the other surface, and its area.

    Args:
        prediction_mm: (P,) distance of each element of the prediction's surface to the reference's;
            inf where that is empty.
        prediction_area: (P,) mm2 of each element (mm of contour in a 2D picture).
        reference_mm: (R,) the same from the reference's surface to the prediction's.
        reference_area: (R,)
        rounding_mm: how far rounding may put a distance beyond a tolerance that it equals.
    """

    prediction_mm: Numbers = field(repr=False)
    prediction_area: Numbers = field(repr=False)
    reference_mm: Numbers = field(repr=False)
    reference_area: Numbers = field(repr=False)
    rounding_mm: float = 0.0

    @property
    def _comparable(self) -> bool:
        return bool(self.prediction_area.sum() > 0 and self.reference_area.sum() > 0)

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface distance, 0..1: share of both surfaces within the tolerance.

        NaN where both surfaces are empty, 0 where one is.

        Raises:
            UsageError: the tolerance is negative or not a number.
        """
        if not tolerance_mm >= 0:
            raise UsageError(
                f"tolerance_mm is {tolerance_mm}", needed="a tolerance of 0 mm or more"
            )
        most = tolerance_mm + self.rounding_mm
        near = self.prediction_area[self.prediction_mm <= most].sum()
        near += self.reference_area[self.reference_mm <= most].sum()
        return ratio(float(near), float(self.prediction_area.sum() + self.reference_area.sum()))

    def hausdorff(self, percentile: float = 100.0) -> float:
        """Return the larger of both directions' percentile of distance, by area, in mm.

        NaN where a surface is empty.

        Raises:
            UsageError: the percentile is not in 0..100.
        """
        if not 0 <= percentile <= 100:
            raise UsageError(f"percentile is {percentile}", needed="a percentile between 0 and 100")
        if not self._comparable:
            return math.nan
        return max(
            _weighted_percentile(self.prediction_mm, self.prediction_area, percentile),
            _weighted_percentile(self.reference_mm, self.reference_area, percentile),
        )

    def assd(self) -> float:
        """Average symmetric surface distance in mm: the mean over both surfaces, by area.

        NaN where a surface is empty.
        """
        if not self._comparable:
            return math.nan
        total = (self.prediction_mm * self.prediction_area).sum() + (
            self.reference_mm * self.reference_area
        ).sum()
        return float(total / (self.prediction_area.sum() + self.reference_area.sum()))

    def masd(self) -> float:
        """Mean average surface distance in mm: the mean of both directions' means by area.

        NaN where a surface is empty. Source: Metrics Reloaded, Nature Methods 21, 2024.
        """
        if not self._comparable:
            return math.nan
        means = (
            (distances * areas).sum() / areas.sum()
            for distances, areas in (
                (self.prediction_mm, self.prediction_area),
                (self.reference_mm, self.reference_area),
            )
        )
        return float(sum(means) / 2)


def surface_distances(
    prediction: Mask,
    reference: Mask,
    spacing: Sequence[float],
    *,
    ignore: Mask | None = None,
    picture: bool | None = None,
    surface: Surface = "voxel",
) -> SurfaceDistances:
    """Measure every surface element's distance to the other surface.

    Time and memory follow the box around both masks and the size of the surfaces, not the image.

    Args:
        prediction: mask (Z, Y, X).
        reference: mask (Z, Y, X).
        spacing: mm along (Z, Y, X).
        ignore: mask (Z, Y, X) of voxels that nobody annotated. Both masks are cleared there, and
            surface elements that touch such a voxel, where the cut makes an edge that nobody drew,
            count with area 0.
        picture: measure contours in the plane (True) or surfaces in space (False); None: contours
            where Z = 1.
        surface: "voxel" is the definition of surface-distance; of a "mesh" the distance of each
            triangle's centre to the nearest point of any triangle counts.

    Raises:
        UsageError: the masks, the spacing or the choice of `picture` do not fit each other, or an
            unknown surface.
    """
    check_masks(prediction, reference)
    if surface not in get_args(Surface):
        raise UsageError(
            f"surface={surface!r} is no kind of surface",
            needed="surface='voxel' or 'mesh'",
            cure="surface='voxel'",
        )
    millimetres = check_spacing(spacing)
    flat = check_picture(picture, reference)
    if ignore is not None:
        check_masks(ignore, reference)
        prediction, reference = prediction & ~ignore, reference & ~ignore
    box = bounding_box(prediction, reference)
    if box is None:
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    left_out = None if ignore is None else _neighbourhoods(ignore, box, flat=flat)
    if surface == "mesh":
        masks = (around(mask, box, flat=flat) for mask in (prediction, reference))
        of_mesh, other = (mesh_of(mask, millimetres, left_out, flat=flat) for mask in masks)
        return SurfaceDistances(
            of_mesh.distances_to(other),
            of_mesh.areas,
            other.distances_to(of_mesh),
            other.areas,
            ROUNDING_MM,
        )
    areas = _contour_lengths(millimetres) if flat else _surfel_areas(millimetres)
    predicted = _surface(_neighbourhoods(prediction, box, flat=flat), areas, left_out)
    referenced = _surface(_neighbourhoods(reference, box, flat=flat), areas, left_out)
    return SurfaceDistances(
        predicted.distances_to(referenced, millimetres),
        predicted.areas,
        referenced.distances_to(predicted, millimetres),
        referenced.areas,
    )


def nsd(
    prediction: Mask, reference: Mask, spacing: Sequence[float], *, tolerance_mm: float
) -> float:
    """Normalised surface distance (surface Dice) of masks (Z, Y, X), 0..1.

    NaN where both are empty, 0 where one is.
    """
    return surface_distances(prediction, reference, spacing).nsd(tolerance_mm)


def hd95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance of masks (Z, Y, X), in mm.

    NaN where one is empty.
    """
    return surface_distances(prediction, reference, spacing).hausdorff(95.0)


def hausdorff(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """Hausdorff distance of masks (Z, Y, X), in mm; NaN where one is empty."""
    return surface_distances(prediction, reference, spacing).hausdorff()


def assd(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """Average symmetric surface distance of masks (Z, Y, X), in mm; NaN where one is empty."""
    return surface_distances(prediction, reference, spacing).assd()


@dataclass(frozen=True)
class LatticeSurface:
    """Surface elements between the voxels.

    Args:
        places: (N,) their flat indices in the lattice.
        areas: (N,) mm2.
        shape: of the lattice.
    """

    places: NDArray[np.int64]
    areas: Numbers
    shape: tuple[int, ...]

    @property
    def indices(self) -> NDArray[np.int64]:
        """(N, 3) indices in the lattice."""
        return np.stack(np.unravel_index(self.places, self.shape), axis=-1)

    def distances_to(self, other: LatticeSurface, spacing: Numbers) -> Numbers:
        """(N,) mm from each element to the nearest of the other surface; inf where that has none.

        Exact. The nearest places of the lattice are looked at first, which finds nearly all
        elements of a good prediction; then the rows around; then, for the few that are far from
        everything, or in a wide empty lattice, a tree.
        """
        from scipy.spatial import cKDTree

        if not len(other.places):
            return np.full(len(self.places), np.inf)
        lattice = np.zeros(self.shape, dtype=bool)
        lattice.reshape(-1)[other.places] = True
        distances = _in_places(self.indices, lattice, spacing)
        left = np.flatnonzero(np.isinf(distances))
        if lattice.size < _VOXELS_A_QUERY * left.size:
            distances[left] = _along_rows(self.indices[left], lattice, spacing)
            left = left[np.isinf(distances[left])]
        if left.size:
            tree = cKDTree(other.indices * spacing, balanced_tree=False, compact_nodes=False)
            distances[left] = tree.query(self.indices[left] * spacing)[0]
        return distances


def _in_places(indices: NDArray[np.int64], lattice: Mask, spacing: Numbers) -> Numbers:
    """(N,) mm from places (N, 3) to the nearest set one of a lattice; inf where none is near."""
    offsets = _near_offsets(lattice.shape, spacing, _PLACES)
    margin = np.abs(offsets).max(axis=0)
    near = np.pad(lattice, [(n, n) for n in margin])
    stride = np.array([near.shape[1] * near.shape[2], near.shape[2], 1])
    left, here, flat = np.arange(len(indices)), (indices + margin) @ stride, near.ravel()
    distances = np.full(len(indices), np.inf)
    lengths = np.linalg.norm(offsets * spacing, axis=1)
    for step, length in zip(offsets @ stride, lengths, strict=True):
        found = flat[here + step]
        distances[left[found]] = length
        left, here = left[~found], here[~found]
        if not left.size:
            break
    return distances


def _along_rows(indices: NDArray[np.int64], lattice: Mask, spacing: Numbers) -> Numbers:
    """(N,) mm from places (N, 3) to the nearest set one of a lattice; inf where it is far away.

    Rows run along Y. Of the rows around a place the nearest set place is known by a table, so that
    it is found when the next row is further away than the best of those before.
    """
    across = spacing[[0, 2]]
    offsets = _near_offsets((lattice.shape[0], lattice.shape[2]), across, _ROWS)
    squares = ((offsets * across) ** 2).sum(axis=1)
    z, x = np.abs(offsets).max(axis=0)
    steps = np.pad(_steps_in_rows(lattice), [(z, z), (0, 0), (x, x)], constant_values=-1)
    of_steps = np.append((np.arange(lattice.shape[1]) * spacing[1]) ** 2, np.inf)  # -1: empty row
    stride = np.array([steps.shape[1] * steps.shape[2], steps.shape[2], 1])
    left, here, flat = (
        np.arange(len(indices)),
        (indices + np.array([z, 0, x])) @ stride,
        steps.ravel(),
    )
    found, best = np.full(len(indices), np.inf), np.full(len(indices), np.inf)
    for number, (step, square) in enumerate(zip(offsets @ stride[[0, 2]], squares, strict=True)):
        if number % 4 == 0:  # a further row changes nothing that is done
            done = best <= square
            found[left[done]] = best[done]
            left, here, best = left[~done], here[~done], best[~done]
        np.minimum(best, of_steps[flat[here + step]] + square, out=best)
    done = best <= squares[-1]
    found[left[done]] = best[done]
    return np.asarray(np.sqrt(found))


def _steps_in_rows(lattice: Mask) -> NDArray[np.integer]:
    """Steps along Y from each place (Z, Y, X) to the nearest set one; -1 where there is none.

    The last one before it and the first one behind it are found by running extremes.
    """
    length = lattice.shape[1]
    y = np.arange(length, dtype=np.int16 if length < 2**13 else np.int32)[:, np.newaxis]
    before, behind = np.where(lattice, y, -2 * length), np.where(lattice, y, 4 * length)
    np.maximum.accumulate(before, axis=1, out=before)
    np.minimum.accumulate(behind[:, ::-1], axis=1, out=behind[:, ::-1])
    np.subtract(y, before, out=before)
    np.subtract(behind, y, out=behind)
    np.minimum(before, behind, out=before)
    before[before >= length] = -1
    return before


def _near_offsets(shape: tuple[int, ...], spacing: Numbers, count: int) -> NDArray[np.int64]:
    """(about count, axes) all offsets of a lattice within some distance, the shortest first."""
    long = [mm for mm, n in zip(spacing, shape, strict=True) if n > 1]
    ball = {0: 1.0, 1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}[len(long)]
    reach = (count * math.prod(long) / ball) ** (1 / max(len(long), 1))
    counts = [min(int(reach / mm), n - 1) for mm, n in zip(spacing, shape, strict=True)]
    axes = np.meshgrid(*[np.arange(-n, n + 1) for n in counts], indexing="ij")
    offsets = np.stack(axes, axis=-1).reshape(-1, len(shape))
    lengths = np.linalg.norm(offsets * spacing, axis=1)
    return offsets[np.argsort(lengths, kind="stable")][: np.count_nonzero(lengths <= reach)]


def _surface(
    codes: NDArray[np.uint8], areas: Numbers, left_out: NDArray[np.uint8] | None
) -> LatticeSurface:
    """Return the elements of the surface whose neighbourhood codes are given.

    `areas` holds the area of each code.
    """
    full = np.uint8(areas.size - 1)
    flat = codes.ravel()
    places = np.flatnonzero(flat - np.uint8(1) < full - np.uint8(1))  # 0 - 1 is 255
    sizes = areas[flat[places]]
    if left_out is not None:
        sizes = np.where(left_out.ravel()[places] != 0, 0.0, sizes)
    return LatticeSurface(places, sizes, codes.shape)


def _neighbourhoods(
    mask: Mask, box: tuple[slice, slice, slice], *, flat: bool
) -> NDArray[np.uint8]:
    """Code of each neighbourhood that touches the box.

    2 x 2 x 2 (Z + 1, Y + 1, X + 1), in a picture 2 x 2 (1, Y + 1, X + 1).
    """
    padded = around(mask, box, flat=flat).view(np.uint8)
    codes = (padded[:, :, :-1] << np.uint8(1)) | padded[:, :, 1:]
    codes = (codes[:, :-1] << np.uint8(2)) | codes[:, 1:]
    if not flat:
        codes = (codes[:-1] << np.uint8(4)) | codes[1:]
    return np.asarray(codes, dtype=np.uint8)


def _surfel_areas(spacing: Numbers) -> Numbers:
    """Return (256,) area in mm2 of the surface in each 2 x 2 x 2 neighbourhood."""
    z, y, x = spacing
    scaled = _surfel_normals() * np.array([y * x, z * x, z * y])  # (256, 3, 3)
    return np.asarray(np.linalg.norm(scaled, axis=-1).sum(axis=-1))


def _contour_lengths(spacing: Numbers) -> Numbers:
    """Return (16,) length in mm of the contour in each 2 x 2 neighbourhood (Y, X)."""
    _, y, x = spacing
    corner = 0.5 * math.hypot(y, x)
    lengths = np.full(16, corner)
    lengths[[0b0000, 0b1111]] = 0.0
    lengths[[0b0011, 0b1100]] = x
    lengths[[0b0101, 0b1010]] = y
    lengths[[0b0110, 0b1001]] = 2 * corner
    return lengths


@cache
def _surfel_normals() -> Numbers:
    """Return (256, 3, 3) up to three absolute normals (Z, Y, X) a neighbourhood.

    They follow from the base cases and the symmetries of the cube.
    """
    normals = np.zeros((256, 3, 3))
    for code, base in _BASE_SURFELS.items():
        corners = np.array([code >> bit & 1 for bit in range(7, -1, -1)]).reshape(2, 2, 2)
        full = np.zeros((3, 3))
        full[: len(base)] = np.array(base) / 8
        for axes in itertools.permutations(range(3)):
            for mirrored in itertools.product((slice(None), slice(None, None, -1)), repeat=3):
                turned = int("".join(map(str, corners.transpose(axes)[mirrored].ravel())), 2)
                normals[[turned, 255 - turned]] = full[:, axes]
    return normals


def _weighted_percentile(values: Numbers, weights: Numbers, percentile: float) -> float:
    """Return the smallest value that at least this share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    order = order[weights[order] > 0]
    shares = np.cumsum(weights[order])
    at = int(np.searchsorted(shares / shares[-1], percentile / 100.0))
    return float(values[order[min(at, order.size - 1)]])
