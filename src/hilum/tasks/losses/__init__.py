"""Segmentation losses from logits, one file a member and one dictionary of them all."""

from hilum.tasks.losses.base import VoxelLoss as VoxelLoss
from hilum.tasks.losses.build import LOSSES as LOSSES
from hilum.tasks.losses.build import build_loss as build_loss
from hilum.tasks.losses.build import deep_supervision_loss as deep_supervision_loss
