"""Explanation maps of a classifier in the network's own space.

A map is (Z, Y, X) float32 between 0 and 1: 0 where nothing speaks for the class, 1 where most does.
It is scaled to its own largest value, so it compares places in one image, never two images; a map
of zeros says that nothing speaks for the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hilum.explain.cam import grad_cam as grad_cam
from hilum.explain.cam import hires_cam as hires_cam
from hilum.explain.occlusion import FILLS as FILLS
from hilum.explain.occlusion import occlusion as occlusion
from hilum.explain.occlusion import occlusion_passes as occlusion_passes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.explain.score import Networks


class Explainer(Protocol):
    """Signature of an explainer."""

    def __call__(
        self, network: Networks, image: Tensor, index: int, *, kind: ClassKind = "exclusive"
    ) -> NDArray[np.float32]:
        """Make the map (Z, Y, X) of one class from networks and an image (C, Z, Y, X)."""
        ...


EXPLAINERS: dict[str, Explainer] = {
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
    "occlusion": occlusion,
}
