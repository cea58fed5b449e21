"""The one seam between tasks: target, loss, decoding.

`hilum.tasks.encoding` needs no torch; this front door loads it late.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

if TYPE_CHECKING:
    from hilum.tasks.classification import ClassificationTask as ClassificationTask
    from hilum.tasks.classification import ClassLoss as ClassLoss
    from hilum.tasks.encoding import IGNORE as IGNORE
    from hilum.tasks.encoding import activate_logits as activate_logits
    from hilum.tasks.encoding import decode_logits as decode_logits
    from hilum.tasks.encoding import decode_regions as decode_regions
    from hilum.tasks.encoding import encode_target as encode_target
    from hilum.tasks.losses import LOSSES as LOSSES
    from hilum.tasks.losses import VoxelLoss as VoxelLoss
    from hilum.tasks.losses import build_loss as build_loss
    from hilum.tasks.losses import deep_supervision_loss as deep_supervision_loss
    from hilum.tasks.postprocess import apply_postprocessing as apply_postprocessing
    from hilum.tasks.segmentation import SegmentationTask as SegmentationTask
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
