"""Images for tests: not cubic, anisotropic, oblique, off the origin, asymmetric."""

import numpy as np
import pytest
from io_support import rotation

from hilum.io import dispatch
from hilum.volume import Geometry, Volume


@pytest.fixture(autouse=True)
def _say_everything_anew():
    """Each test hears every remark."""
    dispatch._SAID.clear()


@pytest.fixture
def oblique() -> Geometry:
    """4 x 5 x 7 voxels of 2.5 x 0.7 x 0.9 mm, turned about all axes."""
    return Geometry.from_spacing(
        (4, 5, 7),
        (2.5, 0.7, 0.9),
        origin=(-31.25, 5.5, 100.75),
        directions=rotation(3)[:, [2, 1, 0]],
    )


@pytest.fixture
def volume(oblique: Geometry) -> Volume:
    """int16, one channel, no two voxels alike."""
    return Volume(np.arange(140, dtype=np.int16).reshape(1, 4, 5, 7) * 7 - 500, oblique)
