"""Explanation maps of a classifier in the network's own space, and checks of the maps.

A map is (Z, Y, X) float32 between 0 and 1: 0 where nothing speaks for the class, 1 where most does.
It is scaled to its own largest value, so it compares places in one image, never two images; a map
of zeros says that nothing speaks for the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hilum.inference.explain.cam import grad_cam as grad_cam
from hilum.inference.explain.cam import hires_cam as hires_cam
from hilum.inference.explain.check import MapCheck as MapCheck
from hilum.inference.explain.check import check_map as check_map
from hilum.inference.explain.occlusion import FILLS as FILLS
from hilum.inference.explain.occlusion import occlusion as occlusion
from hilum.inference.explain.occlusion import occlusion_passes as occlusion_passes
from hilum.inference.explain.sanity import Sanity as Sanity
from hilum.inference.explain.sanity import agreement as agreement
from hilum.inference.explain.sanity import randomised as randomised
from hilum.inference.explain.sanity import sanity_check as sanity_check

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.inference.explain.score import Networks


class Explainer(Protocol):
    """Signature of an explainer."""

    def __call__(
        self, network: Networks, image: Tensor, index: int, *, kind: ClassKind = "exclusive"
    ) -> NDArray[np.float32]:
        """Networks, an image (C, Z, Y, X) and the class in question to a map (Z, Y, X)."""
        ...


EXPLAINERS: dict[str, Explainer] = {
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
    "occlusion": occlusion,
}
