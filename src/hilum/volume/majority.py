"""Resample label maps by majority: the label with the largest linear weight at each point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume.separable import Axis

POINTS = 2**18
"""Points looked at together: 8 neighbours of 8 + 8 bytes each, about 60 MiB with all in between."""
_TIE = 1e-9  # what the nearest voxel's label gets on top, so that ties are its


def majority_labels(
    labels: NDArray[np.integer], axes: Sequence[Axis], nearest: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Replace in `nearest`, in place, the labels that another label outweighs.

    Args:
        labels: (Z, Y, X) integers.
        axes: three axes from `make_linear_axis`.
        nearest: (Z', Y', X') the nearest neighbours' labels; changed and returned.
    """
    z, y, x = axes
    for i, (low, high) in enumerate(z.positions):
        mixed = _find_mixed(labels[low], labels[high])[np.ix_(y.positions[:, 0], x.positions[:, 0])]
        rows, columns = np.nonzero(mixed)  # of (Y', X')
        for part in range(0, len(rows), POINTS):
            j, k = rows[part : part + POINTS], columns[part : part + POINTS]
            corners = np.empty((8, len(j)), dtype=labels.dtype)
            weights = np.empty((8, len(j)))
            for n in range(8):
                a, b, c = n >> 2, n >> 1 & 1, n & 1
                corners[n] = labels[z.positions[i, a], y.positions[j, b], x.positions[k, c]]
                weights[n] = z.weights[i, a] * y.weights[j, b] * x.weights[k, c]
            nearest[i, j, k] = heaviest(corners, weights, nearest[i, j, k])
    return nearest


def heaviest(
    corners: NDArray[np.integer], weights: NDArray[np.float64], nearest: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Choose of the labels (8, N) with weights (8, N) the one that weighs most, (N,).

    Ties go to `nearest` (N,).
    """
    best, most = nearest.copy(), np.full(len(nearest), _TIE)
    for n in range(8):
        most += np.where(corners[n] == nearest, weights[n], 0.0)
    for n in range(8):
        total = np.zeros(len(nearest))
        for other in range(8):
            total += np.where(corners[other] == corners[n], weights[other], 0.0)
        better = total > most
        best[better], most[better] = corners[n][better], total[better]
    return best


def _find_mixed(low: NDArray[np.integer], high: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask the cells between two slices (Y, X) whose corners have different labels.

    Cell (j, k) reaches to j + 1 and k + 1.
    """
    mixed: NDArray[np.bool_] = low != high
    for image in (low, high):
        mixed[:-1] |= image[:-1] != image[1:]
        mixed[:, :-1] |= image[:, :-1] != image[:, 1:]
    # an edge of the cell is missing above: those from (j + 1, k) and (j, k + 1); they belong to the
    # next cells
    wide = mixed.copy()
    wide[:-1] |= mixed[1:]
    wide[:, :-1] |= mixed[:, 1:]
    return wide
