"""Segmentation losses from logits, one file a member and one dictionary of them all."""

from hilum.tasks.losses.base import VoxelLoss
from hilum.tasks.losses.build import LOSSES, build_loss, deep_supervision_loss

__all__ = ["LOSSES", "VoxelLoss", "build_loss", "deep_supervision_loss"]
