"""The sliding window against itself (identity, mirror, shift), MONAI, and nnU-Net's rule for the steps."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import ModelError, UsageError
from hilum.inference.sliding_window import gaussian_weights, sliding_window, window_starts

window_module = sys.modules[sliding_window.__module__]  # the package's attribute of that name is the function
sizes = st.tuples(st.integers(1, 13), st.integers(1, 17), st.integers(1, 11))
patches = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 8))
overlaps = st.floats(0, 0.95)


def identity(x):
    return x


def volume(shape, channels=2, seed=0):
    return np.random.default_rng(seed).normal(0, 300, (channels, *shape)).astype(np.float32)


@given(shape=sizes, patch=patches, overlap=overlaps, batch=st.integers(1, 5), mirror=st.sets(st.integers(0, 2)))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_identity_network_gives_the_volume_back_bit_for_bit(shape, patch, overlap, batch, mirror):
    image = volume(shape)
    out = sliding_window(image, identity, patch=patch, overlap=overlap, outputs=2, batch=batch, mirror_axes=tuple(mirror))
    assert out.dtype == torch.float32
    assert np.array_equal(out.numpy(), image)


@given(size=st.integers(1, 400), patch=st.integers(1, 130), overlap=st.floats(0, 0.99))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_windows_cover_the_axis_with_the_stated_overlap(size, patch, overlap):
    starts = window_starts(size, patch, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - patch)
    gaps = np.diff(starts)
    assert (gaps >= 1).all()
    assert (gaps <= np.ceil(max(1, patch * (1 - overlap)) - 1e-9)).all()


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "starts"),
    [
        (10, 4, 0.5, (0, 2, 4, 6)),
        (11, 4, 0.5, (0, 2, 4, 5, 7)),
        (110, 64, 0.5, (0, 23, 46)),
        (4, 9, 0.5, (0,)),
        (9, 9, 0.5, (0,)),
        (8, 4, 0.0, (0, 4)),
    ],
)
def test_windows_by_hand(size, patch, overlap, starts):
    assert window_starts(size, patch, overlap) == starts


def test_weights_are_symmetric_and_highest_in_the_middle():
    weights = gaussian_weights((5, 8, 1))
    assert weights.shape == (5, 8, 1)
    assert torch.equal(weights, weights.flip((0, 1, 2)))
    assert weights[2, 3, 0] == weights.max()
    assert weights.min() >= 0.001
    # one sigma is an eighth of the patch: 2.5 voxels off the centre of 8 are exp(-0.5 * 2.5 ** 2)
    assert weights[2, 6, 0].item() / weights[2, 3, 0].item() == pytest.approx(np.exp(-0.5 * (2.5**2 - 0.5**2)), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((12, 24, 9), (8, 12, 6)), ((5, 24, 9), (8, 12, 6)), ((1, 24, 30), (1, 16, 20)), ((8, 18, 6), (8, 12, 6))],
)
def test_monai_is_the_oracle(shape, patch):
    from monai.inferers import sliding_window_inference

    torch.manual_seed(0)
    network = torch.nn.Conv3d(2, 3, 3, padding=1)  # sees zeros beyond the patch, so the answer depends on where it lies
    image = volume(shape) / 300
    ours = sliding_window(image, network, patch=patch, overlap=0.5, outputs=3, batch=2)
    theirs = sliding_window_inference(
        torch.from_numpy(image)[None], patch, 2, network, overlap=0.5, mode="gaussian", sigma_scale=0.125
    )
    torch.testing.assert_close(ours, theirs[0].detach(), atol=1e-5, rtol=1e-5)


def test_mirroring_averages_over_every_combination_of_axes():
    image = torch.from_numpy(volume((4, 5, 6), channels=1))
    ramp = torch.arange(6.0)
    seen = []

    def network(x):
        seen.append(x)
        return x * ramp

    out = sliding_window(image, network, patch=(4, 5, 6), overlap=0, outputs=1, mirror_axes=(0, 2))
    assert len(seen) == 4
    torch.testing.assert_close(out, image * 2.5)  # the ramp and its mirror image average to its middle


def test_result_does_not_depend_on_the_batch():
    network = torch.nn.Conv3d(2, 2, 3, padding=1)
    image = volume((9, 11, 7)) / 300
    one, many = (sliding_window(image, network, patch=(4, 6, 4), overlap=0.5, outputs=2, batch=b) for b in (1, 7))
    torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-5)


def test_small_volume_is_padded_with_zeros_on_both_sides():
    def network(x):
        assert x.shape == (1, 1, 4, 4, 4)
        assert x[0, 0, 1:3, :3, 0].sum() == 6
        assert x.sum() == 6
        return x

    out = sliding_window(
        torch.ones(1, 2, 3, 1), lambda x: network(x.roll(-1, -1)).roll(1, -1), patch=(4, 4, 4), overlap=0, outputs=1
    )
    assert torch.equal(out, torch.ones(1, 2, 3, 1))


def test_bfloat16_answers_are_averaged_in_float32():
    out = sliding_window(volume((5, 5, 5)), lambda x: x.bfloat16(), patch=(3, 3, 3), overlap=0.5, outputs=2)
    assert out.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, r"overlap 1\.0"),
        ({"overlap": -0.1}, r"overlap -0\.1"),
        ({"patch": (0, 2, 2)}, "three positive sizes"),
        ({"patch": (2, 2)}, "three positive sizes"),
        ({"batch": 0}, "at least 1"),
        ({"outputs": 0}, "at least 1"),
        ({"mirror_axes": (3,)}, "distinct axes"),
        ({"mirror_axes": (1, 1)}, "distinct axes"),
        ({"volume": np.zeros((3, 3, 3), np.float32)}, "C, Z, Y, X"),
    ],
)
def test_impossible_options_are_refused(options, message):
    call = {"volume": np.zeros((1, 3, 3, 3), np.float32), "patch": (2, 2, 2), "overlap": 0.5, "outputs": 1} | options
    with pytest.raises(UsageError, match=message):
        sliding_window(call.pop("volume"), identity, **call)


@pytest.mark.parametrize("network", [lambda x: x[:, :1], lambda x: x[..., :1]])
def test_network_of_another_shape_is_refused(network):
    with pytest.raises(ModelError, match="a network that answers"):
        sliding_window(volume((4, 4, 4)), network, patch=(2, 2, 2), overlap=0, outputs=2)


def test_read_only_and_flipped_arrays_are_taken():
    image = volume((4, 5, 6))
    image.setflags(write=False)
    for view in (image, image[:, ::-1], image.astype(np.float64), torch.from_numpy(image.copy())):
        out = sliding_window(view, identity, patch=(3, 3, 3), overlap=0.5, outputs=2)
        assert np.array_equal(out.numpy(), np.asarray(view, dtype=np.float32))


@pytest.mark.parametrize(("free", "place"), [(10**9, "cuda"), (100, "cpu")])
def test_logits_stay_on_the_gpu_only_where_they_fit(monkeypatch, free, place):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert window_module._place(torch.device("cuda"), 1000).type == place


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_answers_as_the_cpu():
    network = torch.nn.Conv3d(2, 3, 3, padding=1)
    image = volume((12, 24, 9)) / 300
    options = {"patch": (8, 12, 6), "overlap": 0.5, "outputs": 3, "batch": 4, "mirror_axes": (0, 2)}
    cpu = sliding_window(image, network, **options)
    gpu = sliding_window(image, network.cuda(), device="cuda", **options)
    assert gpu.device.type == "cuda"
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-2, rtol=1e-2)  # TF32
    assert np.array_equal(sliding_window(image, identity, device="cuda", **(options | {"outputs": 2})).cpu().numpy(), image)
