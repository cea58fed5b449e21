"""Decisions about the grid: 2D or 3D, orientation, crop, spacing, patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.plan.plan import SAME_SPACING, Decision, Three, decide, in_mm, resampled_size
from hilum.plan.planner.topology import make_topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.planner.sizing import Sizing
    from hilum.plan.planner.topology import Topology

Spacing = tuple[float, float, float]
Crop = Literal["none", "nonzero"]

FEW_SLICES = 8
COARSE = 3.0
"""An axis is coarse when its spacing is this many times the next one's (nnU-Net)."""
CROP_GAIN = 0.75
"""Cropping is worth it when the box around what is not zero holds at most this share of the voxels.
"""
MAX_STAGES = {2: 7, 3: 6}
MIN_COVERAGE = 0.06
"""A patch should hold at least this share of the median case: a network that sees less takes organs
for one another."""
OBJECT_VOXELS = 6.0
"""The smallest kind of object keeps this many voxels across."""
MAX_COARSENING = 4.0
SCANNED = {"ct", "mr", "pet"}
"""Kinds of image whose spacing is physical even in single slices."""


@dataclass(frozen=True)
class Grid:
    """A typical case on the network's grid, array order (Z, Y, X) of `orientation`."""

    orientation: str
    dimensions: Literal[2, 3]
    spacing: Spacing
    median_shape: Three
    """Shape of the median case; in a 2D plan of one slice of it."""
    cases: int
    slices: int = 1
    """Slices of the median case that a 2D network sees one at a time; 1 in 3D and for pictures."""

    @property
    def case_voxels(self) -> int:
        """Voxels of the median case, all its slices."""
        return self.slices * int(np.prod(self.median_shape))


def decide_dimensions(fingerprint: Fingerprint) -> Decision[Literal[2, 3]]:
    """Decide for 2D with single pictures and stacks of very few slices, else for 3D."""
    thinnest = [min(case.shape) for case in fingerprint.cases]
    median = float(np.median(thinnest))
    text = f"the median case has {median:g} voxels along its shortest axis"
    if max(thinnest) == 1:
        return decide(2, f"all {len(thinnest)} cases are single pictures")
    if median < FEW_SLICES:
        return decide(2, f"{text}, fewer than {FEW_SLICES}")
    return decide(3, f"{text}, at least {FEW_SLICES}")


def decide_orientation(fingerprint: Fingerprint, dimensions: int) -> Decision[str]:
    """Decide for the canonical axes; for 2D in volumes the axes that put the slices first.

    For pictures none.
    """
    if all(case.shape[0] == 1 for case in fingerprint.cases):
        return decide("source", "single pictures are used as they are stored")
    stored = f"(stored: {', '.join(sorted({case.orientation for case in fingerprint.cases})[:4])})"
    if dimensions == 3:
        return decide("SPL", f"every case gets the same anatomical axes, z first {stored}")
    sizes = np.median([case.shape for case in fingerprint.cases], axis=0)
    coarsest = int(np.argmax(np.median([case.spacing for case in fingerprint.cases], axis=0)))
    code = ("SPL", "PSL", "LSP")[int(sizes.argmin()) if sizes.min() < FEW_SLICES else coarsest]
    return decide(code, f"the slices are stacked along {code[0]}, which comes first {stored}")


def decide_crop(fingerprint: Fingerprint) -> Decision[Crop]:
    """Decide to crop to what is not zero where that leaves out a good part."""
    shares = [np.prod(case.nonzero_shape) / np.prod(case.shape) for case in fingerprint.cases]
    share = float(np.median(shares))
    text = f"the box around all voxels that are not 0 holds {share:.0%} of the median case"
    if share <= CROP_GAIN:
        return decide("nonzero", f"{text}, so a good part is empty border")
    return decide("none", f"{text}, so there is little to cut off")


def decide_spacing(
    fingerprint: Fingerprint, orientation: str, dimensions: int
) -> Decision[Spacing | None]:
    """Decide for the median spacing; the fine 10th percentile along a coarse axis (nnU-Net).

    Nothing for pictures without a sure scale.

    A picture's scale is its file's dots per inch, which say how it was scanned or exported. Where
    pictures of one data set differ in it, that says little of the size of what they show. Slices of
    a scanner (CT, MR, PET) are measured in mm, and are trusted.
    """
    spacings = np.array([_turn(case.spacing, orientation) for case in fingerprint.cases])
    shapes = np.array([_turn(case.shape, orientation) for case in fingerprint.cases])
    in_plane = spacings[:, 1:] if dimensions == 2 else spacings
    pictures = shapes[:, 0].max() == 1
    if pictures and np.all(in_plane == 1.0):
        return decide(
            None,
            "the pictures carry no physical scale (or 1 mm each), so each keeps its own pixels",
        )
    target = np.median(spacings, axis=0)
    if np.all(np.abs(in_plane / np.median(in_plane, axis=0) - 1) < SAME_SPACING):
        why = f"every case ({len(spacings)}) has {in_mm(target)}, so nothing is resampled"
        return decide(_spacing(target), why)
    spread = f"spacings run from {in_mm(spacings.min(axis=0))} to {in_mm(spacings.max(axis=0))}"
    if pictures and not {channel.kind for channel in fingerprint.channels} <= SCANNED:
        why = (
            f"the pictures' resolutions differ ({spread}): no sure scale, each keeps its own pixels"
        )
        return decide(None, why)
    size = np.median(shapes, axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    finest = float(target[others].max())
    because = "median of the cases"
    if (
        dimensions == 3
        and target[worst] > COARSE * finest
        and size[worst] * COARSE < size[others].min()
    ):
        target[worst] = max(float(np.percentile(spacings[:, worst], 10)), finest)
        because += (
            f"; along the coarse axis {'ZYX'[worst]} the 10th percentile, so that thin slices"
        )
        because += " keep their detail"
    return decide(_spacing(target), f"{because} ({spread})")


def make_grid(
    fingerprint: Fingerprint,
    orientation: str,
    spacing: Spacing | None,
    dimensions: Literal[2, 3],
    *,
    crop: Crop,
) -> Grid:
    """Put what was decided together with what the median case looks like under it."""
    spacings = [_turn(case.spacing, orientation) for case in fingerprint.cases]
    kept = [case.shape if crop == "none" else case.nonzero_shape for case in fingerprint.cases]
    shapes = [_turn(shape, orientation) for shape in kept]
    depth = round(float(np.median([shape[0] for shape in shapes])))
    if spacing is not None:
        shapes = [
            [resampled_size(*one) for one in zip(shape, own, spacing, strict=True)]
            for shape, own in zip(shapes, spacings, strict=True)
        ]
    z, y, x = (round(float(n)) for n in np.median(shapes, axis=0))
    return Grid(
        orientation=orientation,
        dimensions=dimensions,
        spacing=_spacing(np.median(spacings, axis=0)) if spacing is None else spacing,
        median_shape=(1 if dimensions == 2 else z, y, x),
        cases=len(fingerprint.cases),
        slices=depth if dimensions == 2 else 1,
    )


def fit_patch(grid: Grid, voxels: int, *, max_stages: int | None = None) -> Topology:
    """Fit the largest patch of at most `voxels` voxels to the median case, near a cube in mm.

    Starts from the median shape rounded up to what the network halves, and takes one step at a time
    off the axis that is longest in mm. An axis is never cut below 16 voxels, so that a very small
    budget may be exceeded.
    """
    stages = max_stages or MAX_STAGES[grid.dimensions]
    wanted = list(grid.median_shape)
    while True:
        topology = make_topology(
            wanted, grid.spacing, dimensions=grid.dimensions, max_stages=stages
        )
        if int(np.prod(topology.patch)) <= voxels:
            return topology
        extent = [n * s if n > 16 else 0.0 for n, s in zip(wanted, grid.spacing, strict=True)]
        axis = int(np.argmax(extent))
        if extent[axis] == 0.0:
            return topology
        wanted[axis] = max(16, wanted[axis] - max(4, wanted[axis] // 12))


def explain_patch(topology: Topology, grid: Grid, voxels: int) -> str:
    """Say why the patch is what it is."""
    multiples = " x ".join(str(int(n)) for n in np.prod(topology.strides, axis=0))
    shape = " x ".join(map(str, grid.median_shape))
    within = np.minimum(topology.patch, grid.median_shape)
    if tuple(within) == grid.median_shape:
        return (
            f"holds the whole median case ({shape}), rounded up to multiples of {multiples} for"
            f" {topology.stages} stages"
        )
    share = float(np.prod(within) / np.prod(grid.median_shape))
    return (
        f"the median case ({shape}) is larger than the {voxels:,} voxels that this device and time"
        f" allow; this part of it ({share:.0%}) is nearly cubic in mm and a multiple of {multiples}"
        f" for {topology.stages} stages"
    )


def coarser_grid(fingerprint: Fingerprint, grid: Grid, sizing: Sizing) -> tuple[Grid, str] | None:
    """Find a coarser grid on which the patch holds MIN_COVERAGE of the median case, and why.

    None where none is needed.

    The finest axes are coarsened first, up to the spacing of the coarser ones; no axis by more than
    MAX_COARSENING, and not beyond a sixth of the diameter of the smallest kind of object (sphere of
    a label's typical volume a piece).
    """
    patch = float(np.prod(sizing.topology.patch))
    if grid.dimensions == 2 or patch >= MIN_COVERAGE * grid.case_voxels:
        return None
    own = np.array(grid.spacing)
    wanted = patch / MIN_COVERAGE
    name, diameter = smallest_object(fingerprint)
    most = min(float(own.min()) * MAX_COARSENING, diameter / OBJECT_VOXELS)
    low, high = float(own.min()), max(float(own.min()), most)
    for _ in range(40):  # bisection: voxels fall as the floor of the spacing rises
        middle = (low + high) / 2
        if grid.case_voxels * float(np.prod(own / np.maximum(own, middle))) > wanted:
            low = middle
        else:
            high = middle
    spacing = np.maximum(own, round(high, 2))
    if np.prod(spacing) < 1.2 * np.prod(own):
        return None
    shape = np.maximum(1, np.rint(np.array(grid.median_shape) * own / spacing)).astype(int)
    because = (
        f"at the cases' own {in_mm(grid.spacing)} a patch of what this device and time allow would"
        f" hold {patch / grid.case_voxels:.1%} of a case, less than {MIN_COVERAGE:.0%}, which tell"
        f" organs apart; so coarser, with the smallest object ({name}, about {diameter:.3g} mm"
        f" across) still at least {OBJECT_VOXELS:g} voxels wide"
    )
    z, y, x = (float(mm) for mm in spacing)
    depth, height, width = (int(n) for n in shape)
    return replace(grid, spacing=(z, y, x), median_shape=(depth, height, width)), because


def smallest_object(fingerprint: Fingerprint) -> tuple[str, float]:
    """Find the label with the smallest pieces and the diameter of a sphere of that volume in mm.

    Without any annotated voxel the object is as large as the image: ("nothing", infinity).
    """
    smallest = ("nothing", float("inf"))
    for label in fingerprint.labels.foreground:
        volumes = [
            1000.0 * one.piece_ml
            for case in fingerprint.cases
            for one in case.labels
            if one.id == label.id
        ]
        if volumes:
            diameter = float((6.0 * np.median(volumes) / np.pi) ** (1 / 3))
            smallest = min(smallest, (label.name, diameter), key=lambda pair: pair[1])
    return smallest


def _turn(values: Sequence[float] | Sequence[int], orientation: str) -> list[float]:
    """Bring facts, which are in the order SPL, to the code's; "source", of pictures, is SPL's."""
    if orientation == "source":
        return list(values)
    world = {"L": 2, "R": 2, "P": 1, "A": 1, "S": 0, "I": 0}
    return [values[world[letter]] for letter in orientation]


def _spacing(values: Iterable[float]) -> Spacing:
    z, y, x = (round(float(v), 6) for v in values)
    return z, y, x
