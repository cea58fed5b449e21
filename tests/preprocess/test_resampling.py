"""nnU-Net's rules of preprocessing, by their definitions.

Which axis is resampled by itself, what is cut off, what is inside.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hilum.plan.plan import Normalisation
from hilum.plan.segmentation import ResamplingSpec
from hilum.preprocess.resampling import logits_orders, resample_image, separate_axis
from hilum.preprocess.steps import fill_holes, normalise_case

NNUNET = ResamplingSpec(same=0.0, separate="anisotropic", clip=True)


@pytest.mark.parametrize(
    ("own", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (2.9, 1.0, 1.0), None),
        ((1.0, 1.0, 1.0), (3.1, 1.0, 1.0), 0),
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),  # more than three times, not three times
        ((0.5, 5.0, 0.7), (4.0, 1.0, 1.0), 1),  # where it comes from counts first
        ((5.0, 5.0, 1.0), (4.0, 1.0, 1.0), None),  # two axes share the largest spacing
        ((1.0, 1.0, 1.0), (0.2, 1.0, 1.0), None),
    ],
)
def test_which_axis_is_resampled_by_itself(own, target, axis):
    assert separate_axis(NNUNET, own, target) == axis
    assert separate_axis(NNUNET.model_copy(update={"separate": "never"}), own, target) is None
    orders = logits_orders(NNUNET, own, target)
    assert orders == tuple(0 if n == axis else 1 for n in range(3))


def test_always_takes_the_axis_that_things_come_from():
    always = NNUNET.model_copy(update={"separate": "always"})
    assert separate_axis(always, (1.0, 1.1, 1.0), (9.0, 1.0, 1.0)) == 1
    assert separate_axis(always, (1.0, 1.0, 1.0), (9.0, 1.0, 1.0)) is None


def spline(plane, shape):
    zoom = [m / n for n, m in zip(plane.shape, shape, strict=True)]
    made = ndimage.zoom(plane.astype(np.float64), zoom, order=3, mode="nearest", grid_mode=True)
    return np.clip(made, plane.min(), plane.max())  # scikit-image's resize


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(*[st.integers(2, 9)] * 3),
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    apart=st.sampled_from([None, 0, 1, 2]),
)
def test_images_are_resampled_as_scipy_does(size, shape, apart):
    array = np.random.default_rng(0).choice([-1.0, 0.0, 3.0], (2, *size)).astype(np.float32)
    made = resample_image(array, shape, NNUNET, 3, separate=apart)
    for channel, result in zip(array, made, strict=True):
        if size == shape:
            expected = channel
        elif apart is None:
            expected = spline(channel, shape)
        else:
            flat = [n for axis, n in enumerate(shape) if axis != apart]
            slices = np.stack([spline(plane, flat) for plane in np.moveaxis(channel, apart, 0)])
            at = size[apart] / shape[apart] * (np.arange(shape[apart]) + 0.5) - 0.5
            nearest = np.clip(np.floor(at + 0.5), 0, size[apart] - 1).astype(int)
            expected = np.moveaxis(slices[nearest], 0, apart)
        np.testing.assert_allclose(result, expected, atol=1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.4, 0.7, 0.9, 1.0]),
)
def test_filled_is_what_scipy_fills(shape, seed, share):
    mask = np.random.default_rng(seed).random(shape) < share
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_z_scores_within_the_filled_outline_of_all_channels():
    rng = np.random.default_rng(0)
    array = np.zeros((2, 6, 7, 8), np.float32)
    array[0, 1:5, 1:6, 1:6] = rng.normal(50, 10, (4, 5, 5))
    array[1, 1:5, 1:6, 1:7] = rng.normal(5, 1, (4, 5, 6))
    array[:, 3, 3, 3] = 0  # a hole in both
    inside = ndimage.binary_fill_holes((array != 0).any(axis=0))
    assert inside[3, 3, 3]
    expected = array.copy()
    for channel in expected:
        channel[inside] = (channel[inside] - channel[inside].mean()) / channel[inside].std()
    normalise_case(array, [Normalisation(kind="case_filled")] * 2)
    np.testing.assert_allclose(array, expected, atol=1e-5)
    assert not array[:, ~inside].any()


def test_range_and_none():
    array = np.random.default_rng(0).normal(100, 30, (2, 3, 4, 5)).astype(np.float32)
    before = array.copy()
    normalise_case(array, [Normalisation(kind="range"), Normalisation(kind="none")])
    assert array[0].min() == 0
    assert array[0].max() == pytest.approx(1)
    assert np.array_equal(array[1], before[1])
    flat = np.full((1, 2, 2, 2), 7, np.float32)
    normalise_case(flat, [Normalisation(kind="range")])
    assert not flat.any()
