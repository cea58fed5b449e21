"""Probabilities restored at once, as the oracle of the streams."""

import numpy as np

from hilum.preprocess import ProbabilityStream


def restore_probabilities(logits, activate, restore, *, outside):
    """Bring logits (K, Z, Y, X) to the source's grid as probabilities in one slab."""
    out = np.empty((len(logits), *restore.source.shape), dtype=np.float32)
    stream = ProbabilityStream(restore, len(logits), activate, out, outside=outside)
    stream.feed(logits)
    return stream.finish()
