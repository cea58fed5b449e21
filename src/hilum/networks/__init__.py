"""U-Nets and classifiers: images (B, C, Z, Y, X) in, logits (B, K, Z, Y, X) or (B, K') out."""

from hilum.networks.build import CLASSIFIERS as CLASSIFIERS
from hilum.networks.build import NETWORKS as NETWORKS
from hilum.networks.build import blank_network as blank_network
from hilum.networks.build import build_network as build_network
from hilum.networks.build import initialise as initialise
from hilum.networks.build import textbook_spec as textbook_spec
from hilum.networks.classifier import ClassifierNetwork as ClassifierNetwork
from hilum.networks.encoder import Encoder as Encoder
from hilum.networks.network import Network as Network
from hilum.networks.plain_unet import PlainUNet as PlainUNet
from hilum.networks.residual_unet import ResidualUNet as ResidualUNet
from hilum.networks.resnet3d import ResNet3d as ResNet3d
from hilum.networks.slice_classifier import SliceClassifier as SliceClassifier
from hilum.networks.textbook_classifier import Classifier as Classifier
from hilum.networks.timm_classifier import TimmClassifier as TimmClassifier
from hilum.networks.timm_classifier import VolumeClassifier as VolumeClassifier
from hilum.networks.unet import UNet as UNet
from hilum.networks.weights import Adoption as Adoption
from hilum.networks.weights import Weights as Weights
from hilum.networks.weights import adopt as adopt
from hilum.networks.weights import find_weights as find_weights
