"""The sliding window against itself (identity, mirror, shift), MONAI, and nnU-Net's steps."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.engines.memory import RowStorage
from hilum.errors import ModelError, ResourceError, UsageError
from hilum.inference.running_mean import buffer_bytes
from hilum.inference.sliding_window import Sweep, Tally, Watch, slabs, sliding_window
from hilum.inference.windows import count_windows, gaussian_weights, window_starts

sizes = st.tuples(st.integers(1, 13), st.integers(1, 17), st.integers(1, 11))
patches = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 8))
overlaps = st.floats(0, 0.95)


def identity(x):
    return x


def numpy_in_and_out(network):
    return lambda x: network(torch.from_numpy(x)).detach().numpy()


def volume(shape, channels=2, seed=0):
    return np.random.default_rng(seed).normal(0, 300, (channels, *shape)).astype(np.float32)


@given(
    shape=sizes,
    patch=patches,
    overlap=overlaps,
    batch=st.integers(1, 5),
    mirror=st.sets(st.integers(0, 2)),
)
@settings(deadline=None, max_examples=80, derandomize=True)
def test_identity_network_gives_the_volume_back_bit_for_bit(shape, patch, overlap, batch, mirror):
    image = volume(shape)
    out = sliding_window(image, identity, Sweep(patch, overlap, 2, batch, tuple(mirror)))
    assert out.dtype == np.float32
    assert np.array_equal(out, image)


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


def test_windows_are_counted_without_a_list_of_them():
    assert count_windows((17, 8, 30), (4, 8, 6), 0.5) == len(window_starts(17, 4, 0.5)) * len(
        window_starts(30, 6, 0.5)
    )
    assert count_windows((10**12, 8, 6), (4, 8, 6), 0.5) == 5 * 10**11 - 1


def test_weights_are_symmetric_and_highest_in_the_middle():
    weights = gaussian_weights((5, 8, 1))
    assert weights.shape == (5, 8, 1)
    assert np.array_equal(weights, np.flip(weights))
    assert weights[2, 3, 0] == weights.max()
    assert weights.min() >= 0.001
    # one sigma is an eighth of the patch: 2.5 voxels off the centre of 8 are exp(-0.5 * 2.5 ** 2)
    assert weights[2, 6, 0].item() / weights[2, 3, 0].item() == pytest.approx(
        np.exp(-0.5 * (2.5**2 - 0.5**2)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((12, 24, 9), (8, 12, 6)),
        ((5, 24, 9), (8, 12, 6)),
        ((1, 24, 30), (1, 16, 20)),
        ((8, 18, 6), (8, 12, 6)),
    ],
)
def test_monai_is_the_oracle(shape, patch):
    from monai.inferers import sliding_window_inference

    torch.manual_seed(0)
    network = torch.nn.Conv3d(
        2, 3, 3, padding=1
    )  # sees zeros beyond the patch, so the answer depends on where it lies
    image = volume(shape) / 300
    ours = torch.from_numpy(
        sliding_window(image, numpy_in_and_out(network), Sweep(patch, 0.5, 3, 2))
    )
    theirs = sliding_window_inference(
        torch.from_numpy(image)[None],
        patch,
        2,
        network,
        overlap=0.5,
        mode="gaussian",
        sigma_scale=0.125,
    )
    torch.testing.assert_close(ours, theirs[0].detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_mirroring_averages_over_every_combination_of_axes(batch):
    image = volume((4, 5, 6), channels=1)
    ramp = np.arange(6, dtype=np.float32)
    seen = []

    def network(x):
        seen.extend(x)
        return x * ramp

    out = sliding_window(image, network, Sweep((4, 5, 6), 0, 1, batch, (0, 2)))
    assert len(seen) == 4
    np.testing.assert_allclose(
        out, image * 2.5, rtol=1e-6
    )  # the ramp and its mirror image average to its middle


def test_result_does_not_depend_on_the_batch():
    image = volume((9, 11, 7)) / 300
    weights = np.random.default_rng(1).normal(size=(4, 6, 4)).astype(np.float32)

    def network(x):
        return x * weights + np.roll(x, 1, -1)

    sweeps = [Sweep((4, 6, 4), 0.5, 2, batch, (2,)) for batch in (1, 7, 64)]
    one, *many = (sliding_window(image, network, sweep) for sweep in sweeps)
    for other in many:
        assert np.array_equal(one, other)


def test_small_volume_is_padded_with_zeros_on_both_sides():
    def network(x):
        assert x.shape == (1, 1, 4, 4, 4)
        assert x[0, 0, 1:3, :3, 1].sum() == 6
        assert x.sum() == 6
        return x

    out = sliding_window(np.ones((1, 2, 3, 1), np.float32), network, Sweep((4, 4, 4), 0, 1))
    assert np.array_equal(out, np.ones((1, 2, 3, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, r"overlap=1 is out of range"),
        ({"overlap": -0.1}, r"overlap=-0\.1"),
        ({"batch": 0}, "at least 1"),
        ({"volume": np.zeros((3, 3, 3), np.float32)}, "C, Z, Y, X"),
    ],
)
def test_impossible_options_are_refused(options, message):
    call = {"patch": (2, 2, 2), "overlap": 0.5, "outputs": 1} | options
    image = call.pop("volume", np.zeros((1, 3, 3, 3), np.float32))
    with pytest.raises(UsageError, match=message):
        sliding_window(image, identity, Sweep(**call))


@pytest.mark.parametrize("network", [lambda x: x[:, :1], lambda x: x[..., :1]])
def test_network_of_another_shape_is_refused(network):
    with pytest.raises(ModelError, match="the network gives"):
        sliding_window(volume((4, 4, 4)), network, Sweep((2, 2, 2), 0, 2))


def test_read_only_and_flipped_arrays_are_taken():
    image = volume((4, 5, 6))
    image.setflags(write=False)
    for view in (image, image[:, ::-1], image.astype(np.float64)):
        out = sliding_window(view, identity, Sweep((3, 3, 3), 0.5, 2))
        assert np.array_equal(out, np.asarray(view, dtype=np.float32))


def largest_column(sweep, shape):
    """Bytes of the rows of the largest part of a plane that no window cuts."""
    sides = []
    for size, patch in zip(sweep.padded(shape)[1:], sweep.patch[1:], strict=True):
        starts = np.array(window_starts(size, patch, sweep.overlap))
        sides.append(int(np.diff(np.unique([starts, starts + patch])).max()))
    return 4 * (sweep.outputs + 1) * sweep.patch[0] * sides[0] * sides[1]


@given(shape=sizes, patch=patches, overlap=overlaps, share=st.floats(0.05, 2.5))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_rows_in_memory_and_in_a_file_have_the_same_bits(shape, patch, overlap, share):
    image = volume(shape)
    weights = np.random.default_rng(2).normal(size=patch).astype(np.float32)
    sweep = Sweep(patch, overlap, 2)

    def network(x):
        return x * weights + x.mean()

    expected = sliding_window(image, network, sweep)
    allowed = int(share * buffer_bytes(2, sweep.padded(shape), patch))
    tally, out, next_row = Tally(), np.empty_like(expected), 0
    try:
        with mock.patch("hilum.inference.sliding_window.resident", return_value=0):
            watch = Watch(rows=RowStorage(allowed), tally=tally)
            for rows, logits in slabs(image, network, sweep, watch):
                assert rows.start == next_row
                next_row = rows.stop
                out[:, rows] = logits
    except ResourceError as error:  # not even a column of windows fits
        assert "memory are left for the logits" in error.found  # noqa: PT017
        assert allowed < largest_column(sweep, shape)
        return
    assert share >= 1 or allowed >= largest_column(sweep, shape)
    assert next_row == shape[0]
    assert tally.on_disk == (share < 1)
    assert np.array_equal(out, expected)


def test_rows_come_while_the_network_still_runs():
    """The last patch waits for the first rows to be taken: else this would never end."""
    taken = threading.Event()
    left = [3]

    def network(x):
        left[0] -= 1
        assert left[0] > 0 or taken.wait(timeout=200)
        return x

    parts = slabs(volume((8, 4, 4)), network, Sweep((4, 4, 4), 0.5, 2))
    rows, _ = next(parts)
    assert rows == slice(0, 2)
    taken.set()
    assert [rows.stop for rows, _ in parts][-1] == 8
    assert left == [0]


def test_only_as_many_rows_as_a_patch_is_deep_exist(monkeypatch):
    """Four of 40 rows are kept, whatever the number of outputs."""
    made = []
    zeros = np.zeros
    monkeypatch.setattr(
        np, "zeros", lambda shape, *a, **k: (made.append(shape), zeros(shape, *a, **k))[1]
    )
    for _ in slabs(volume((40, 6, 6), channels=3), identity, Sweep((4, 4, 4), 0.5, 3)):
        pass
    assert max(int(np.prod(shape)) for shape in made) == (3 + 1) * 4 * 6 * 6


def test_temporary_file_has_no_name_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.inference.sliding_window.resident", lambda: 0)
    watch = Watch(rows=RowStorage(2000, tmp_path))
    parts = slabs(volume((12, 8, 8)), identity, Sweep((4, 4, 4), 0.5, 2), watch)
    next(parts)
    assert watch.tally.on_disk
    assert list(tmp_path.iterdir()) == []
    parts.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("hilum-network")]


def test_rows_from_a_file_are_put_together_in_small_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.inference.sliding_window.resident", lambda: 0)
    watch = Watch(rows=RowStorage(2000, tmp_path, at_once=1024))
    parts = slabs(volume((12, 8, 8)), identity, Sweep((4, 4, 4), 0.5, 2), watch)
    assert {logits.nbytes for _, logits in parts} == {1024}
    assert watch.tally.on_disk


def test_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.inference.sliding_window.resident", lambda: 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(ResourceError, match="for a temporary file"):
        list(
            slabs(
                volume((12, 8, 8)),
                identity,
                Sweep((4, 4, 4), 0.5, 2),
                Watch(rows=RowStorage(2000, tmp_path)),
            )
        )


def test_errors_of_the_network_reach_the_caller():
    def network(x):
        raise MemoryError("here")

    with pytest.raises(MemoryError, match="here"):
        sliding_window(volume((4, 4, 4)), network, Sweep((2, 2, 2), 0, 2))


def test_constant_patches_are_run_once():
    image = np.full((2, 12, 8, 8), 3, np.float32)
    image[:, 5, 4, 4] = 9
    seen = []

    def network(x):
        seen.extend(x)
        return x * np.arange(4, dtype=np.float32)

    tallies, answers = [], []
    for reuse in (False, True):
        tally = Tally()
        parts = slabs(image, network, Sweep((4, 4, 4), 0, 2, 2, reuse=reuse), Watch(tally=tally))
        answers.append(np.concatenate([logits.copy() for _, logits in parts], axis=1))
        tallies.append(tally.counts)
    assert np.array_equal(*answers)
    assert tallies == [
        {"run": 12, "constant": 0, "outside": 0},
        {"run": 2, "constant": 10, "outside": 0},
    ]
    assert len(seen) == 14


def test_memory_is_measured_at_a_full_batch(monkeypatch):
    """A constant corner comes first: memory is measured after four patches ran at once."""
    image = volume((4, 4, 40))
    image[..., :12] = 0
    seen, at = [], []

    def network(x):
        seen.append(len(x))
        return x

    def resident():
        at.append(max(seen, default=0))
        return 0

    monkeypatch.setattr("hilum.inference.sliding_window.resident", resident)
    watch = Watch(rows=RowStorage(10**9))
    parts = list(slabs(image, network, Sweep((4, 4, 4), 0, 2, 4, reuse=True), watch))
    assert at[-1] == 4
    assert seen == [4, 4]  # the constant, and seven that are not
    assert np.array_equal(np.concatenate([part for _, part in parts], axis=1), image)


def test_progress_counts_every_patch():
    seen = []
    watch = Watch(progress=lambda done, total: seen.append((done, total)))
    list(slabs(volume((4, 4, 8)), identity, Sweep((4, 4, 4), 0, 2), watch))
    assert seen == [(1, 2), (2, 2)]
