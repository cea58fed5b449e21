"""The one seam between tasks: target, loss, decoding.

`hilum.targets.encoding` needs no torch; this front door loads it late.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

if TYPE_CHECKING:
    from hilum.targets.classification import ClassificationTask as ClassificationTask
    from hilum.targets.classification import ClassLoss as ClassLoss
    from hilum.targets.encoding import IGNORE as IGNORE
    from hilum.targets.encoding import activate_logits as activate_logits
    from hilum.targets.encoding import decode_logits as decode_logits
    from hilum.targets.encoding import decode_regions as decode_regions
    from hilum.targets.encoding import encode_target as encode_target
    from hilum.targets.losses import LOSSES as LOSSES
    from hilum.targets.losses import VoxelLoss as VoxelLoss
    from hilum.targets.losses import build_loss as build_loss
    from hilum.targets.losses import deep_supervision_loss as deep_supervision_loss
    from hilum.targets.postprocess import apply_postprocessing as apply_postprocessing
    from hilum.targets.segmentation import SegmentationTask as SegmentationTask
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
