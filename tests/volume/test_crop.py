"""Boxes: cut out, put back, pad; voxels stay where they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from volume_strategies import FAST, geometries, numbered, oblique_geometry

from hilum.errors import GeometryError, UsageError
from hilum.volume import Box, crop, pad


@st.composite
def boxes_in(draw, shape):
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return Box(
        tuple(starts),
        tuple(draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)),
    )


def test_box_around_by_hand():
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[2, 3, 1] = mask[4, 3, 6] = True
    box = Box.around(mask)
    assert box == Box((2, 3, 1), (5, 4, 7))
    assert box.shape == (3, 1, 6)
    assert box.slices == (slice(2, 5), slice(3, 4), slice(1, 7))
    assert Box.around(mask, margin=2) == Box((0, 1, 0), (6, 6, 8))
    assert mask[box.slices].sum() == 2


def test_nothing_to_box():
    assert Box.around(np.zeros((3, 4, 5), dtype=bool)) is None
    assert Box.around(np.zeros((3, 4, 5), dtype=bool), margin=2) is None


def test_box_around_everything_is_the_whole():
    assert Box.around(np.ones((3, 4, 5), dtype=np.uint8), margin=1) == Box.whole((3, 4, 5))


@FAST
@given(geometries(), st.data())
def test_cropped_voxels_stay_and_padding_brings_them_back(geometry, data):
    volume = numbered(geometry)
    box = data.draw(boxes_in(geometry.shape))
    part = crop(volume, box)
    assert np.shares_memory(part.array, volume.array)
    assert np.allclose(
        part.geometry.index_to_world((0, 0, 0)), geometry.index_to_world(box.start), atol=1e-8
    )
    whole = pad(part, box.start, np.subtract(geometry.shape, box.stop), value=-5.0)
    assert whole.geometry.is_close(geometry, tolerance_voxels=1e-9)
    assert np.array_equal(whole.array[(slice(None), *box.slices)], part.array)
    assert (whole.array == -5.0).sum() == volume.array.size - part.array.size


def test_box_sizes_are_plain_integers_whatever_they_came_from():
    box = Box(tuple(np.array([0, 1, 2])), tuple(np.array([3, 4, 5])))
    assert all(type(n) is int for n in box.start + box.stop + box.shape)


@pytest.mark.parametrize(
    ("start", "stop"),
    [((0, 0, 0), (1, 0, 1)), ((-1, 0, 0), (1, 1, 1)), ((2, 0, 0), (1, 1, 1)), ((0, 0), (1, 1))],
)
def test_empty_boxes_are_refused(start, stop):
    with pytest.raises(GeometryError, match="three starts of at least 0"):
        Box(start, stop)


def test_boxes_beyond_the_volume_are_refused():
    with pytest.raises(GeometryError, match="a box within the volume"):
        crop(numbered(oblique_geometry()), Box((0, 0, 0), (5, 8, 9)))


@pytest.mark.parametrize("before", [(-1, 0, 0), (0, 0)])
def test_negative_padding_is_refused(before):
    with pytest.raises(GeometryError, match="use crop to take away"):
        pad(numbered(oblique_geometry()), before, (0, 0, 0))


@pytest.mark.parametrize("value", [-1, 256, 0.5, float("nan")])
def test_values_that_the_type_cannot_hold_are_refused(value):
    volume = numbered(oblique_geometry(shape=(2, 3, 4)), dtype=np.uint8)
    with pytest.raises(UsageError, match="a whole number from 0 to 255"):
        pad(volume, (1, 0, 0), (0, 0, 0), value=value)
