"""How good an answer is: arrays in, numbers out.

Overlap, surface distance and lesion-wise metrics of two boolean masks (Z, Y, X), and bootstrap intervals over patients. An
undefined value is NaN; a table at the head of each module, and docs/explanation/metrics.md, say when a value is undefined.
"""

from hilum.metrics.bootstrap import Interval, PairedTest, bootstrap_interval, paired_test
from hilum.metrics.lesion import Lesions, lesions
from hilum.metrics.overlap import Overlap, dice, iou, overlap, relative_volume_error, volume_error_ml, volume_ml
from hilum.metrics.surface import SurfaceDistances, assd, hausdorff, hd95, nsd, surface_distances

__all__ = [
    "Interval",
    "Lesions",
    "Overlap",
    "PairedTest",
    "SurfaceDistances",
    "assd",
    "bootstrap_interval",
    "dice",
    "hausdorff",
    "hd95",
    "iou",
    "lesions",
    "nsd",
    "overlap",
    "paired_test",
    "relative_volume_error",
    "surface_distances",
    "volume_error_ml",
    "volume_ml",
]
