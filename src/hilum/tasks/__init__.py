"""The one seam between tasks: target, loss, decoding.

`hilum.tasks.encoding` needs no torch; this front door loads it late.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.tasks.classification import ClassificationTask, ClassLoss
    from hilum.tasks.encoding import (
        IGNORE,
        activate_logits,
        decode_logits,
        decode_regions,
        encode_target,
    )
    from hilum.tasks.losses import LOSSES, VoxelLoss, build_loss, deep_supervision_loss
    from hilum.tasks.postprocess import apply_postprocessing
    from hilum.tasks.segmentation import SegmentationTask

_HOMES = {
    "IGNORE": "hilum.tasks.encoding",
    "LOSSES": "hilum.tasks.losses",
    "SegmentationTask": "hilum.tasks.segmentation",
    "ClassLoss": "hilum.tasks.classification",
    "ClassificationTask": "hilum.tasks.classification",
    "activate_logits": "hilum.tasks.encoding",
    "apply_postprocessing": "hilum.tasks.postprocess",
    "VoxelLoss": "hilum.tasks.losses",
    "build_loss": "hilum.tasks.losses",
    "decode_logits": "hilum.tasks.encoding",
    "decode_regions": "hilum.tasks.encoding",
    "deep_supervision_loss": "hilum.tasks.losses",
    "encode_target": "hilum.tasks.encoding",
}

__all__ = [
    "IGNORE",
    "LOSSES",
    "ClassLoss",
    "ClassificationTask",
    "SegmentationTask",
    "VoxelLoss",
    "activate_logits",
    "apply_postprocessing",
    "build_loss",
    "decode_logits",
    "decode_regions",
    "deep_supervision_loss",
    "encode_target",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
