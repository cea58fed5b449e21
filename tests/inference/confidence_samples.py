"""A calibration of held-out cases that is small enough to follow by hand."""

import numpy as np

from hilum.inference.voxel_calibration import CalibratedRegion, DiceCheck, VoxelCalibration
from hilum.metrics.log_odds import BINS


def region(name="liver", *, patients=9, **changes):
    """Errors of 1 to 9 ml, each with a spread of 1 ml; half of a region is above even odds."""
    errors = np.arange(1, patients + 1, dtype=float)
    falling, rising = np.linspace(0.9, 0, BINS + 1), np.linspace(0, 0.9, BINS + 1)
    return CalibratedRegion(
        region=name,
        temperature=2.0,
        missed=tuple(rising),
        patients_with=patients,
        false=tuple(falling),
        predicted_ml=(0.0,) * patients,
        reference_ml=tuple(errors),
        spread_ml=(1.0,) * patients,
        dice=DiceCheck(
            cases=tuple(range(patients)),
            expected=(0.9,) * patients,
            real=tuple(0.9 - 0.05 * n for n in range(patients)),
        ),
    ).model_copy(update=changes)


def calibration(names=("liver", "tumour"), *, patients=9, notes=()):
    return VoxelCalibration(
        cases=tuple(f"c{n}" for n in range(patients)),
        groups=tuple(range(patients)),
        how="by hand",
        regions=tuple(region(name, patients=patients) for name in names),
        notes=notes,
    )
