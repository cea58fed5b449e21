"""Choose a coarser grid where the patch covers too little of a case at full resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.plan.plan import in_mm

if TYPE_CHECKING:
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.planner.grid import Grid
    from hilum.plan.planner.sizing import Sizing

MIN_COVERAGE = 0.06
"""A patch should hold at least this share of the median case: a network that sees less takes organs
for one another."""
OBJECT_VOXELS = 6.0
"""The smallest kind of object keeps this many voxels across."""
MAX_COARSENING = 4.0


def coarser_grid(fingerprint: Fingerprint, grid: Grid, sizing: Sizing) -> tuple[Grid, str] | None:
    """A coarser grid on which the patch holds MIN_COVERAGE of the median case, with the reason.

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
