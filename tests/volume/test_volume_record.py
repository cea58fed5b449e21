"""Array and grid together."""

import numpy as np
import pytest
from volume_strategies import numbered, oblique_geometry

from hilum.errors import GeometryError
from hilum.volume import Volume


@pytest.mark.parametrize("shape", [(5, 7, 9), (1, 5, 9, 7), (1, 1, 5, 7, 9)])
def test_an_array_that_does_not_lie_on_the_grid_is_refused(shape):
    with pytest.raises(GeometryError, match="its grid \\(5, 7, 9\\)"):
        Volume(np.zeros(shape), oblique_geometry())


def test_equality_compares_type_voxels_and_grid():
    volume = numbered(oblique_geometry())
    changed = volume.array.copy()
    changed[1, 4, 6, 8] += 1
    assert volume == numbered(oblique_geometry())
    assert volume != volume.with_array(changed)
    assert volume != volume.with_array(volume.array.astype(np.float64))
    assert volume != numbered(oblique_geometry(angles=(7.0, -11.0, 4.1)))
    assert volume != 3


def test_nan_equals_nan():
    array = np.full((1, 5, 7, 9), np.nan)
    assert Volume(array, oblique_geometry()) == Volume(array.copy(), oblique_geometry())


def test_channels_are_counted_and_the_grid_kept():
    volume = numbered(oblique_geometry(), channels=3)
    assert volume.channels == 3
    assert volume.with_array(volume.array[:1]).channels == 1
    assert volume.with_array(volume.array[:1]).geometry is volume.geometry


def test_a_volume_is_no_key():
    with pytest.raises(TypeError, match="unhashable"):
        hash(numbered(oblique_geometry()))
