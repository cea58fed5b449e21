"""Numbers that other tools print for the same masks, by their documented conventions.

Their numbers differ from each other, and from hilum's, on the same files: the surface lies on the
border voxels' centres (MONAI, medpy) or between voxels (surface-distance), every voxel counts alike
or by its area, the percentile is taken of both directions together (medpy) or of each (the
others), and a structure that one side lacks is NaN, infinite, 0 or an error. The tests hold each
value to the tool itself. Versions: MONAI 1.6, medpy 0.5, surface-distance 0.1 (with NumPy 1; with
NumPy 2 it raises an error where a mask is empty), nnU-Net 2.6.

Empty-case rules; NaN is left out of means by MONAI and nnU-Net:

======================  ==========  ===================  ===================
tool and metric         both empty  only the prediction  only the reference
                                    is empty             is empty
======================  ==========  ===================  ===================
MONAI Dice              NaN         0                    NaN
MONAI NSD               NaN         0                    0
MONAI HD, ASD, ASSD     NaN         inf                  inf
MONAI HD95              NaN         NaN                  NaN
medpy Dice              NaN         0                    0
medpy IoU               1           0                    0
medpy HD, HD95, ASD,    error       error                error
ASSD
surface-distance Dice,  NaN         0                    0
NSD
surface-distance HD,    inf         inf                  inf
HD95
surface-distance ASD    NaN         NaN                  inf
nnU-Net Dice, IoU       NaN         0                    0
======================  ==========  ===================  ===================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from hilum.metrics.masks import around, bounding_box, check_masks, check_spacing
from hilum.metrics.overlap import overlap
from hilum.metrics.surface import LatticeSurface, surface_distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask
    from hilum.metrics.overlap import Overlap
    from hilum.metrics.surface import SurfaceDistances

    Numbers = NDArray[np.float64]

Tool = Literal["MONAI", "medpy", "surface-distance", "nnU-Net"]


class PeerValue(NamedTuple):
    """Number that a tool prints of one structure of one case.

    Args:
        tool: its name.
        metric: "dice", "iou", "nsd", "hd", "hd95", "asd" (mean distance from the prediction to the
            reference) or "assd".
        value: NaN and infinity as the tool has them; None where it raises an error.
    """

    tool: Tool
    metric: str
    value: float | None


def peer_values(
    prediction: Mask,
    reference: Mask,
    spacing: Sequence[float],
    *,
    tolerance_mm: float,
    picture: bool | None = None,
) -> tuple[PeerValue, ...]:
    """Return what other tools print for two masks (Z, Y, X).

    Args:
        prediction: mask (Z, Y, X).
        reference: mask (Z, Y, X).
        spacing: mm along (Z, Y, X).
        tolerance_mm: of the normalised surface distance.
        picture: the tools are given the plane (Y, X) alone; None: where Z = 1.

    Raises:
        UsageError: the masks or the spacing do not fit each other.
    """
    check_masks(prediction, reference)
    flat = prediction.shape[0] == 1 if picture is None else picture
    counts = overlap(prediction, reference)
    distances = _between_borders(prediction, reference, check_spacing(spacing), flat=flat)
    surfaces = surface_distances(prediction, reference, spacing, picture=flat)
    tables: dict[Tool, dict[str, float | None]] = {
        "MONAI": _monai(counts, *distances, tolerance_mm),
        "medpy": _medpy(counts, *distances),
        "surface-distance": _surface_distance(counts, surfaces, tolerance_mm),
        "nnU-Net": {"dice": counts.dice, "iou": counts.iou},
    }
    return tuple(
        PeerValue(tool, metric, value)
        for tool, values in tables.items()
        for metric, value in values.items()
    )


def _between_borders(
    prediction: Mask, reference: Mask, spacing: Numbers, *, flat: bool
) -> tuple[Numbers, Numbers]:
    """Return each border voxel's distance in mm to the other border, from both sides.

    A border voxel shares a face with the outside, which begins where the image ends. Infinity where
    the other side is empty.
    """
    from scipy import ndimage

    box = bounding_box(prediction, reference)
    if box is None:
        return np.zeros(0), np.zeros(0)
    faces = ndimage.generate_binary_structure(3, 1)
    if flat:
        faces[[0, 2]] = False
    borders = []
    for mask in (prediction, reference):
        inner = around(mask, box, flat=flat)
        places = np.flatnonzero(inner & ~ndimage.binary_erosion(inner, faces))
        borders.append(LatticeSurface(places, np.ones(len(places)), inner.shape))
    first, second = borders
    return first.distances_to(second, spacing), second.distances_to(first, spacing)


def _monai(
    counts: Overlap, there: Numbers, back: Numbers, tolerance_mm: float
) -> dict[str, float | None]:
    """Return the values of MONAI's metric classes with `include_background` and `spacing`."""
    both = np.concatenate([there, back])
    if there.size and back.size:
        hd95 = max(float(np.percentile(one, 95)) for one in (there, back))
    else:
        hd95 = math.nan  # the percentile of infinite distances
    return {
        "dice": counts.dice if counts.referenced else math.nan,
        "nsd": float(np.mean(both <= tolerance_mm)) if both.size else math.nan,
        "hd": float(both.max()) if both.size else math.nan,
        "hd95": hd95,
        "asd": _mean(there if there.size else back),
        "assd": _mean(both),
    }


def _medpy(counts: Overlap, there: Numbers, back: Numbers) -> dict[str, float | None]:
    """Return the values of medpy.metric.binary with `voxelspacing`."""
    empty = not counts.predicted and not counts.referenced
    values: dict[str, float | None] = {
        "dice": counts.dice,
        "iou": 1.0 if empty else counts.iou,
    }
    if not there.size or not back.size:
        return values | dict.fromkeys(("hd", "hd95", "asd", "assd"))
    both = np.concatenate([there, back])
    return values | {
        "hd": float(both.max()),
        "hd95": float(np.percentile(both, 95)),
        "asd": _mean(there),
        "assd": _mean(both),
    }


def _surface_distance(
    counts: Overlap, surfaces: SurfaceDistances, tolerance_mm: float
) -> dict[str, float | None]:
    """Return the values of DeepMind's surface-distance."""
    missing = not counts.predicted or not counts.referenced
    area = surfaces.prediction_area.sum()
    return {
        "dice": counts.dice,
        "nsd": surfaces.nsd(tolerance_mm),
        "hd": math.inf if missing else surfaces.hausdorff(),
        "hd95": math.inf if missing else surfaces.hausdorff(95.0),
        "asd": float((surfaces.prediction_mm * surfaces.prediction_area).sum() / area)
        if area
        else math.nan,
    }


def _mean(distances: Numbers) -> float:
    return float(distances.mean()) if distances.size else math.nan
