"""U-Nets and how they are built: images (B, C, Z, Y, X) in, logits (B, K, Z, Y, X) out."""

from hilum.networks.build import NETWORKS, build_network, initialise, textbook_spec
from hilum.networks.network import Network
from hilum.networks.plain_unet import PlainUNet
from hilum.networks.residual_unet import ResidualUNet
from hilum.networks.unet import UNet

__all__ = [
    "NETWORKS",
    "Network",
    "PlainUNet",
    "ResidualUNet",
    "UNet",
    "build_network",
    "initialise",
    "textbook_spec",
]
