"""Resampling over the same block of space.

Scipy as oracle, memory bounded, labels never invented.
"""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from volume_strategies import (
    FAST,
    codes,
    geometries,
    numbered,
    oblique_geometry,
    random_volume,
    shapes,
)

from hilum.errors import GeometryError, UsageError
from hilum.volume import (
    Geometry,
    Volume,
    reorient,
    resample,
    resample_array,
    separable,
)

SIZES = [
    ((5, 7, 9), (8, 7, 4)),
    ((20, 31, 27), (33, 20, 48)),
    ((1, 40, 33), (1, 70, 20)),
    ((3, 1, 2), (7, 4, 2)),
    ((60, 4, 5), (9, 5, 4)),
]


def oracle(channel: np.ndarray, shape, order: int) -> np.ndarray:
    """scipy's interpolation in float64 at block-aligned coordinates, mode "nearest"."""
    axes = [
        ((2 * np.arange(m) + 1) * n - m) / (2 * m)
        for n, m in zip(channel.shape, shape, strict=True)
    ]
    coordinates = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(
        channel.astype(np.float64), coordinates, order=order, mode="nearest"
    )


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equal_to_scipy(source, target, order):
    volume = random_volume(oblique_geometry(source), channels=2)
    made = resample_array(volume.array, target, order=order)
    assert made.shape == (2, *target)
    assert made.dtype == np.float32
    for channel, result in zip(volume.array, made, strict=True):
        assert np.abs(result - oracle(channel, target, order)).max() < (1e-5 if order else 1e-12)


@pytest.mark.parametrize("order", [1, 3])
def test_equal_to_scipy_zoom_in_hounsfield_units(order):
    """scipy.ndimage.zoom(grid_mode=True.

    Mode="nearest") is what skimage.transform.resize and so nnU-Net call.
    """
    hounsfield = (random_volume(oblique_geometry((12, 30, 25))).array * 800).astype(np.int16)
    made = resample_array(hounsfield, (25, 20, 31), order=order)
    zoomed = ndimage.zoom(
        hounsfield[0].astype(np.float64),
        (25 / 12, 20 / 30, 31 / 25),
        order=order,
        mode="nearest",
        grid_mode=True,
    )
    assert np.abs(made[0] - zoomed).max() < 1e-4 * np.ptp(hounsfield)


@FAST
@given(shapes, shapes, st.sampled_from([0, 1, 3]))
def test_equal_to_scipy_for_any_shape(source, target, order):
    array = random_volume(oblique_geometry(source)).array
    assert (
        np.abs(
            resample_array(array, target, order=order)[0] - oracle(array[0], target, order)
        ).max()
        < 1e-5
    )


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    "target", [(40, 60, 70), (50, 45, 70), (50, 60, 40), (40, 45, 70), (40, 60, 40), (30, 60, 70)]
)
def test_axes_that_stay_are_left_alone_in_every_block(monkeypatch, target, order):
    monkeypatch.setattr(separable, "WORKING_BYTES", 2**17)
    array = random_volume(oblique_geometry((40, 60, 70))).array
    assert (
        np.abs(
            resample_array(array, target, order=order)[0] - oracle(array[0], target, order)
        ).max()
        < 1e-5
    )


def test_by_hand():
    line = np.array([0.0, 4.0, 8.0, 0.0], dtype=np.float32).reshape(1, 1, 1, 4)
    assert resample_array(line, (1, 1, 2), order=1).ravel().tolist() == [2.0, 4.0]
    assert resample_array(line, (1, 1, 8), order=1).ravel().tolist() == [
        0.0,
        1.0,
        3.0,
        5.0,
        7.0,
        6.0,
        2.0,
        0.0,
    ]
    assert resample_array(line, (1, 1, 2), order=0).ravel().tolist() == [
        4.0,
        0.0,
    ]  # the tie goes up, as in scipy


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float32, ">f4", np.float64])
def test_same_shape_is_the_identity(order, dtype):
    array = numbered(oblique_geometry(), dtype=np.int32).array.astype(dtype)
    made = resample_array(array, (5, 7, 9), order=order)
    assert np.array_equal(made, array)
    assert made.dtype == (array.dtype if order == 0 else np.float32)
    assert not np.shares_memory(made, array)


@pytest.mark.parametrize("order", [1, 3])
def test_constants_and_voxels_hit_exactly_stay(order):
    flat = np.full((1, 6, 9, 5), -1024.0, dtype=np.float32)
    assert np.abs(resample_array(flat, (9, 4, 13), order=order) + 1024).max() < 1e-3
    array = random_volume(oblique_geometry((6, 9, 15))).array
    assert np.array_equal(resample_array(array, (2, 3, 5), order=order), array[:, 1::3, 1::3, 1::3])


@FAST
@given(geometries(), st.sampled_from([1, 3]), codes)
def test_turning_before_or_after_is_the_same(geometry, order, code):
    spacing = (1.3, 1.9, 0.8)
    volume = random_volume(geometry)
    after = reorient(resample(volume, spacing, order=order), code)
    axes = [after.geometry.world_axes.index(w) for w in geometry.world_axes]
    turned = [0.0, 0.0, 0.0]
    for axis, wanted in zip(axes, spacing, strict=True):
        turned[axis] = wanted
    before = resample(reorient(volume, code), turned, order=order)
    assert before.geometry.is_close(after.geometry, tolerance_voxels=1e-6)
    assert np.allclose(before.array, after.array, atol=1e-5)


def peak_bytes(function) -> int:
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((60, 128, 128), (90, 160, 150)),
        ((200, 60, 64), (30, 64, 60)),
        ((1, 2000, 1500), (1, 1500, 1900)),
    ],
)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_memory_stays_bounded(monkeypatch, source, target, order):
    monkeypatch.setattr(separable, "WORKING_BYTES", 2**22)
    array = np.ones((1, *source), dtype=np.int16)
    result = int(np.prod(target)) * (2 if order == 0 else 4)
    assert peak_bytes(lambda: resample_array(array, target, order=order)) < result + 1.5 * 2**22


@pytest.mark.parametrize("order", [2, -1, 4])
def test_other_orders_are_refused(order):
    with pytest.raises(UsageError, match="one of 0, 1, 3"):
        resample_array(np.zeros((1, 2, 3, 4)), (2, 3, 5), order=order)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        ((2, 3, 4), (2, 3, 5)),
        ((1, 2, 3, 4), (2, 3)),
        ((1, 2, 3, 4), (2, 0, 5)),
        ((0, 2, 3, 4), (2, 3, 5)),
    ],
)
def test_shapes_that_mean_nothing_are_refused(array, shape):
    with pytest.raises(GeometryError, match="three positive sizes"):
        resample_array(np.zeros(array), shape, order=1)


def test_orders_for_two_axes_are_refused():
    with pytest.raises(GeometryError, match=r"(?s)the interpolation orders are.*order=1"):
        resample_array(np.zeros((1, 2, 2, 2)), (2, 2, 2), order=(1, 1))


@pytest.mark.parametrize(
    "spacing",
    [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, np.nan, 1.0), (np.inf, 1.0, 1.0)],
)
def test_spacings_that_mean_nothing_are_refused(spacing):
    with pytest.raises(GeometryError, match="three positive numbers, in mm"):
        resample(Volume(np.zeros((1, 2, 3, 4)), Geometry.from_spacing((2, 3, 4))), spacing)
