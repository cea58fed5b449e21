"""Counts of the voxels of validation cases on disk, beside their label maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.files import atomic_path
from hilum.metrics.log_odds import VoxelCounts

if TYPE_CHECKING:
    from pathlib import Path


def counts_file(folder: Path, case: str) -> Path:
    """Name the file of a case."""
    return folder / f"{case}_voxels.npz"


def save_counts(counts: VoxelCounts, path: Path) -> None:
    """Write the counts of a case whose reference is known, completely or not at all."""
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            voxels=counts.voxels,
            reference=counts.reference,
            referenced=counts.referenced,
            voxel_ml=np.float64(counts.voxel_ml),
        )


def load_counts(path: Path) -> VoxelCounts:
    """Read what `save_counts` wrote."""
    with np.load(path, allow_pickle=False) as held:
        return VoxelCounts(
            held["voxels"], float(held["voxel_ml"]), held["reference"], held["referenced"]
        )
