"""Counts of voxels by log odds, summed over rows of logits while they stream by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import GeometryError
from hilum.metrics.log_odds import BINS, LARGEST, LEAST, VoxelCounts, log_odds_bin
from hilum.targets.encoding import activate_logits, decode_logits
from hilum.volume import places_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.preprocess import Restore
    from hilum.volume import LabelTable, Volume

_ROUNDING = 1e-3
_VALUES = 2**19
"""Logits that are looked at a time: 2 MiB, which a processor's cache holds."""


class VoxelCounter:
    """Rows of logits in, counts of voxels out.

    Args:
        table: what the outputs mean; the counts are of its `scored` regions.
        restore: of the case.
        reference: (Z, Y, X) label ids on the network's grid, of a case that was annotated; voxels
            of the table's ignore id are not counted.

    Raises:
        GeometryError: the reference is not on the network's grid.
    """

    def __init__(
        self, table: LabelTable, restore: Restore, reference: NDArray[np.integer] | None = None
    ) -> None:
        if reference is not None:
            restore.check(reference.shape)
        self._table, self._reference, self._shape = table, reference, restore.shape
        self._row = 0  # of the network's grid, which comes next
        self._outputs = slice(1 if table.exclusive else 0, None)  # those of the regions
        regions = len(table.scored)
        # place of a label id in the table to the regions that hold it: (R, K)
        self._inside = np.array(
            [[label in region.labels for label in table.ids] for region in table.scored]
        )
        # outside and inside of the prediction, of the background and of the reference
        self._counts = np.zeros((regions, 2, 2, BINS), dtype=np.int64)
        self._referenced = np.zeros(regions, dtype=np.int64)
        self._voxel_ml = float(restore.geometry.voxel_volume_mm3) / 1000

    def feed(self, logits: NDArray[np.float32]) -> None:
        """Take the next finished rows (K, z, Y, X) of the network's grid, in rising Z; z >= 0.

        They are not kept.
        """
        for row in range(logits.shape[1]):
            columns = logits[:, row].reshape(len(logits), -1)
            truth = None
            if self._reference is not None:
                truth = self._reference[self._row].reshape(-1)
            step = max(1, _VALUES // len(columns))
            for start in range(0, columns.shape[1], step):
                part = slice(start, start + step)
                self._count(columns[:, part], None if truth is None else truth[part])
            self._row += 1

    def finish(self) -> VoxelCounts:
        """Return the counts.

        Raises:
            GeometryError: rows are missing.
        """
        if self._row != self._shape[0]:
            raise GeometryError(
                f"{self._row} rows of logits were given, not all",
                needed=f"{self._shape[0]}, as preprocessing gave",
            )
        voxels, reference = self._counts.sum(axis=2), self._counts[:, :, 1]
        return VoxelCounts(voxels, self._voxel_ml, reference, self._referenced)

    def _count(self, logits: NDArray[np.float32], truth: NDArray[np.integer] | None) -> None:
        """Count the columns (K, N) of some voxels, whose reference (N,) may be known."""
        near = _not_background(logits, exclusive=self._table.exclusive)
        true = None
        if truth is not None:
            counted = truth != (-1 if self._table.ignore is None else self._table.ignore)
            near &= counted
            places = places_of(truth[counted], self._table.ids)
            every = np.bincount(places[places >= 0], minlength=len(self._table.ids))
            self._referenced += self._inside @ every
            true = places_of(truth[near], self._table.ids)
        if not near.any():
            return
        columns = logits.take(np.flatnonzero(near), axis=1)
        chosen = places_of(decode_logits(columns, self._table), self._table.ids)
        probabilities = activate_logits(columns, self._table)[self._outputs]  # (R, N)
        enough = probabilities >= LEAST
        for region in np.flatnonzero(enough.any(axis=1)):
            own = np.flatnonzero(enough[region])
            place = log_odds_bin(probabilities[region, own])
            place += 2 * BINS * self._inside[region, chosen[own]]
            if true is not None:
                place += BINS * self._inside[region, true[own]]
            found = np.bincount(place, minlength=4 * BINS)
            self._counts[region] += found.reshape(2, 2, BINS)


def encode_contours(
    logits: NDArray[np.float32], table: LabelTable, thresholds: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Encode logits (K, ...) as codes (R, ...): 2 within the inner contour, else 1 in the outer.

    Args:
        logits: of some voxels.
        table: what the outputs mean.
        thresholds: (R, 2) least probability of the inner and of the outer contour.
    """
    probabilities = activate_logits(logits, table)[1 if table.exclusive else 0 :]
    inner, outer = thresholds.T.reshape(2, -1, *[1] * (logits.ndim - 1))
    codes: NDArray[np.uint8] = (probabilities >= outer).astype(np.uint8)
    codes[probabilities >= inner] = 2
    return codes


def region_volumes_ml(labels: Volume, table: LabelTable) -> tuple[float, ...]:
    """Measure each scored region of a label map (1, Z, Y, X), plane by plane."""
    counts = np.zeros(len(table.ids), dtype=np.int64)
    for plane in labels.array[0]:
        counts += np.bincount(places_of(plane, table.ids).ravel(), minlength=len(counts))
    by_id = dict(zip(table.ids, counts.tolist(), strict=True))
    voxel_ml = float(labels.geometry.voxel_volume_mm3) / 1000
    return tuple(voxel_ml * sum(by_id[one] for one in region.labels) for region in table.scored)


def _not_background(logits: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.bool_]:
    """Return the voxels (N,) where some foreground may reach `LEAST`: most are plain background.

    Of exclusive labels none reaches it where the background leads all by more than its log odds.
    """
    if not exclusive:
        return np.asarray(logits.max(axis=0) > -LARGEST)
    return np.asarray(logits[0] - logits[1:].max(axis=0) < LARGEST + _ROUNDING)
