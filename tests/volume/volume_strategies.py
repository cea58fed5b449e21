"""Grids and images that hide no mistake.

Non-cubic, anisotropic, oblique, left- and right-handed, far from the origin.
"""

from itertools import permutations, product

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hilum.volume import Geometry, Volume

CODES = [
    "".join(letters) for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)
]
FAST = settings(deadline=None, max_examples=25, derandomize=True)


def oblique_directions(angles=(7.0, -11.0, 4.0)) -> np.ndarray:
    """Near-canonical directions (column n = array axis n), turned by angles in degrees."""
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[:, ::-1]


def oblique_geometry(
    shape=(5, 7, 9), angles=(7.0, -11.0, 4.0), spacing=(2.5, 0.7, 1.1)
) -> Geometry:
    return Geometry.from_spacing(
        shape,
        spacing,
        origin=(-31.5, 112.25, 40.0),
        directions=oblique_directions(angles),
        frame_of_reference="1.2.826.0.1",
    )


def numbered(geometry: Geometry, channels: int = 2, dtype=np.float32) -> Volume:
    """Every voxel has a value of its own."""
    count = channels * int(np.prod(geometry.shape))
    return Volume(np.arange(count, dtype=dtype).reshape(channels, *geometry.shape), geometry)


def random_volume(geometry: Geometry, channels: int = 1, seed: int = 0) -> Volume:
    return Volume(
        np.random.default_rng(seed).normal(size=(channels, *geometry.shape)).astype(np.float32),
        geometry,
    )


def blobs(shape, labels=(0, 3, 7), seed: int = 0, dtype=np.int16) -> np.ndarray:
    """Smooth regions of the given labels, (Z, Y, X)."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=(len(labels), *shape))
    smooth = [ndimage.gaussian_filter(n, 1.5) for n in noise]
    return np.asarray(labels, dtype=dtype)[np.argmax(smooth, axis=0)]


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
codes = st.sampled_from(CODES)


@st.composite
def geometries(draw, shape=shapes):
    angles = draw(st.tuples(*[st.floats(-20, 20)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 6)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    directions = oblique_directions(angles)[:, list(draw(st.permutations(range(3))))]
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    return Geometry.from_spacing(draw(shape), spacing, origin=origin, directions=directions * signs)
