"""U-Nets and classifiers: images (B, C, Z, Y, X) in, logits (B, K, Z, Y, X) or (B, K') out."""

from hilum.networks.build import (
    CLASSIFIERS,
    NETWORKS,
    blank_network,
    build_network,
    initialise,
    textbook_spec,
)
from hilum.networks.classifier import ClassifierNetwork
from hilum.networks.encoder import Encoder
from hilum.networks.network import Network
from hilum.networks.plain_unet import PlainUNet
from hilum.networks.residual_unet import ResidualUNet
from hilum.networks.resnet3d import ResNet3d
from hilum.networks.slice_classifier import SliceClassifier
from hilum.networks.textbook_classifier import Classifier
from hilum.networks.timm_classifier import TimmClassifier, VolumeClassifier
from hilum.networks.unet import UNet
from hilum.networks.weights import Adoption, Weights, adopt, find_weights

__all__ = [
    "CLASSIFIERS",
    "NETWORKS",
    "Adoption",
    "Classifier",
    "ClassifierNetwork",
    "Encoder",
    "Network",
    "PlainUNet",
    "ResNet3d",
    "ResidualUNet",
    "SliceClassifier",
    "TimmClassifier",
    "UNet",
    "VolumeClassifier",
    "Weights",
    "adopt",
    "blank_network",
    "build_network",
    "find_weights",
    "initialise",
    "textbook_spec",
]
