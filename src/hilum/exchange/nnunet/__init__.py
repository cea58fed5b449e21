"""nnU-Net's models, read without nnU-Net and without running anything of them."""

from hilum.exchange.nnunet.read import read_nnunet as read_nnunet
