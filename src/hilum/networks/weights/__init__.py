"""Pretrained weights: found, read without executing anything, and adopted by a network."""

from hilum.networks.weights.adopt import Adoption as Adoption
from hilum.networks.weights.adopt import adopt as adopt
from hilum.networks.weights.files import read_weights as read_weights
from hilum.networks.weights.find import Weights as Weights
from hilum.networks.weights.find import find_weights as find_weights
