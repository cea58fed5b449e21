"""Pretrained weights: found, read without executing anything, and adopted by a network."""

from hilum.networks.weights.adopt import Adoption, adopt
from hilum.networks.weights.files import read_weights
from hilum.networks.weights.find import Weights, find_weights

__all__ = ["Adoption", "Weights", "adopt", "find_weights", "read_weights"]
