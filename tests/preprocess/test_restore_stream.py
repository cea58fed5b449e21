"""Slabs in, answers out.

The same as for the whole array, however it is cut, on every grid, in little memory.
"""

import itertools
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from restored import restore_probabilities

from hilum.errors import GeometryError, UsageError
from hilum.preprocess import (
    LabelStream,
    ProbabilityStream,
    Restore,
    restore_logits_to_labels,
)
from hilum.volume import Box, Geometry, Volume, reorient, resample_array

CODES = sorted(
    {
        "".join(p)
        for axes in itertools.permutations(("SI", "PA", "LR"))
        for p in itertools.product(*axes)
    }
)
OUTPUTS = 4


def decode(logits):
    assert logits.flags.c_contiguous
    return logits.argmax(axis=0).astype(np.uint8)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=0))
    return (powers / powers.sum(axis=0)).astype(np.float32)


@st.composite
def restores(draw):
    """A case on an oblique grid, any orientation on both sides, any box, any network grid."""
    box_shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    before = draw(st.tuples(*[st.integers(0, 3)] * 3))
    after = draw(st.tuples(*[st.integers(0, 3)] * 3))
    turned = tuple(a + n + b for a, n, b in zip(before, box_shape, after, strict=True))
    box = Box(before, tuple(a + n for a, n in zip(before, box_shape, strict=True)))
    a = np.deg2rad(draw(st.floats(-20, 20)))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    grid = Geometry.from_spacing(
        turned,
        (2.5, 0.9, 0.7),
        origin=(-31.0, 55.5, 1200.25),
        directions=about_z @ np.eye(3)[:, ::-1],
    )
    code = draw(st.sampled_from(["source", *CODES]))
    if code != "source":
        network = reorient(Volume(np.zeros((1, *turned)), grid), "SPL").geometry
        source = reorient(
            Volume(np.zeros((1, *turned)), network), draw(st.sampled_from(CODES))
        ).geometry
        # the box lies on the grid in the network's orientation: take the source that has this shape
        # once it is turned
        turned_source = reorient(Volume(np.zeros((1, *source.shape)), source), code).geometry
        size = turned_source.shape
        start = tuple(min(b, n - 1) for b, n in zip(before, size, strict=True))
        stop = tuple(
            max(s + 1, min(s + n, m)) for s, n, m in zip(start, box_shape, size, strict=True)
        )
        box, grid = Box(start, stop), source
    shape = draw(st.one_of(st.just(box.shape), st.tuples(*[st.integers(1, 12)] * 3)))
    return Restore(grid, code, box, shape, draw(st.tuples(*[st.integers(0, 1)] * 3)))


@st.composite
def slabs_of(draw, depth):
    cuts = sorted(draw(st.sets(st.integers(1, depth - 1)))) if depth > 1 else []
    return [slice(a, b) for a, b in itertools.pairwise((0, *cuts, depth))]


def whole(logits, restore, fill):
    """The way back by hand: resample everything, put it into its box, turn it."""
    inside = resample_array(logits, restore.box.shape, order=restore.orders)
    canvas = np.broadcast_to(
        np.asarray(fill, np.float32)[:, None, None, None], (len(logits), *restore.reoriented.shape)
    ).copy()
    canvas[(slice(None), *restore.box.slices)] = inside
    return reorient(Volume(canvas, restore.reoriented), restore.source.orientation).array


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    data=st.data(),
    restore=restores(),
    working=st.sampled_from([1, 900, 5000, 2**26]),
    threads=st.sampled_from([1, 2, 3]),
)
def test_any_cut_gives_the_same_labels_and_probabilities(data, restore, working, threads):
    logits = (
        np.random.default_rng(len(CODES)).normal(size=(OUTPUTS, *restore.shape)).astype(np.float32)
    )
    cuts = data.draw(slabs_of(restore.shape[0]))
    out = np.full((OUTPUTS, *restore.source.shape), np.nan, np.float32)
    labels = LabelStream(restore, OUTPUTS, decode, np.uint8, working_bytes=working, threads=threads)
    chances = ProbabilityStream(
        restore,
        OUTPUTS,
        softmax,
        out,
        outside=(1.0, 0.0, 0.0, 0.0),
        working_bytes=working,
        threads=threads,
    )
    for rows in cuts:
        slab = logits[:, rows].copy()
        labels.feed(slab)
        chances.feed(slab)
        slab[...] = np.nan  # the caller may use its memory again
    answer = labels.finish()
    assert answer == restore_logits_to_labels(logits, decode, restore)
    assert answer.geometry == restore.source
    background = np.array([9.0, 0, 0, 0])
    oracle = whole(logits, restore, background)
    margin = np.sort(oracle, axis=0)
    clear = margin[-1] - margin[-2] > 1e-4  # elsewhere rounding decides
    assert np.array_equal(answer.array[0][clear], oracle.argmax(axis=0)[clear])
    probabilities = chances.finish()
    assert probabilities.array is out
    np.testing.assert_allclose(
        out,
        restore_probabilities(logits, softmax, restore, outside=(1.0, 0.0, 0.0, 0.0)).array,
        atol=1e-6,
    )
    expected = np.where(oracle[:1] == 9.0, np.eye(OUTPUTS)[0][:, None, None, None], softmax(oracle))
    np.testing.assert_allclose(out, expected, atol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), restore=restores())
def test_the_cut_changes_no_bit_of_the_probabilities(data, restore):
    logits = np.random.default_rng(1).normal(size=(OUTPUTS, *restore.shape)).astype(np.float32)
    out = np.empty((OUTPUTS, *restore.source.shape), np.float32)
    stream = ProbabilityStream(restore, OUTPUTS, softmax, out, outside=(0.0,) * OUTPUTS)
    for rows in data.draw(slabs_of(restore.shape[0])):
        stream.feed(logits[:, rows])
    expected = restore_probabilities(logits, softmax, restore, outside=(0.0,) * OUTPUTS)
    assert stream.finish().array.tobytes() == expected.array.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 40), m=st.integers(1, 40))
@example(n=3, m=40)
def test_no_more_rows_are_kept_than_interpolation_needs(n, m):
    restore = Restore(Geometry.from_spacing((m, 2, 2)), "source", Box.whole((m, 2, 2)), (n, 2, 2))
    stream = LabelStream(restore, 2, decode, np.uint8)
    for row in range(n):
        stream.feed(np.zeros((2, 1, 2, 2), np.float32))
        assert stream._kept.shape[1] <= 1, row
    stream.finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_memory_stays_bounded_with_118_labels(threads):
    shape, outputs, working = (
        (3, 128, 128),
        118,
        2 * 2**20,
    )  # a row of all planes on the source's grid takes 30 MiB
    restore = Restore(
        Geometry.from_spacing((6, 256, 256)), "source", Box.whole((6, 256, 256)), shape
    )
    logits = np.random.default_rng(0).normal(size=(outputs, *shape)).astype(np.float32)
    expected = restore_logits_to_labels(logits, decode, restore)
    stream = LabelStream(restore, outputs, decode, np.uint8, working_bytes=working, threads=threads)
    tracemalloc.start()
    for row in range(shape[0]):
        stream.feed(logits[:, row : row + 1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(stream.finish().array, expected.array)
    row_bytes = logits[:, :1].nbytes
    assert (
        peak <= working + 2 * row_bytes
    )  # the row that is still needed, and its copy while it is made


def test_threads_share_the_rows():
    restore = Restore(
        Geometry.from_spacing((9, 150, 40)), "source", Box.whole((9, 150, 40)), (6, 130, 45)
    )
    logits = np.random.default_rng(0).normal(size=(OUTPUTS, *restore.shape)).astype(np.float32)
    who, outs = {}, []
    for threads in (1, 3):
        who[threads] = set()
        meet = threading.Barrier(threads, timeout=60)  # nobody goes on before all are there

        def untouched(values, threads=threads, meet=meet):
            if threading.get_ident() not in who[threads]:
                who[threads].add(threading.get_ident())
                meet.wait()
            return values

        outs.append(np.empty((OUTPUTS, 9, 150, 40), np.float32))
        stream = ProbabilityStream(
            restore, OUTPUTS, untouched, outs[-1], outside=(1.0, 0, 0, 0), threads=threads
        )
        stream.feed(logits)
        stream.finish()
    assert {threads: len(seen) for threads, seen in who.items()} == {1: 1, 3: 3}
    np.testing.assert_allclose(
        outs[0], outs[1], atol=1e-6
    )  # products of matrices of other sizes: rounded otherwise


def test_what_a_thread_raises_is_raised():
    restore = Restore(Geometry.from_spacing((5, 6, 7)), "source", Box.whole((5, 6, 7)), (4, 6, 9))

    def decode_badly(_):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        LabelStream(restore, 2, decode_badly, np.uint8, threads=2).feed(
            np.zeros((2, 4, 6, 9), np.float32)
        )


def test_into_a_file(tmp_path):
    restore = Restore(Geometry.from_spacing((5, 6, 7)), "RAS", Box.whole((7, 6, 5)), (4, 6, 9))
    logits = np.random.default_rng(0).normal(size=(OUTPUTS, *restore.shape)).astype(np.float32)
    out = np.memmap(tmp_path / "probabilities", np.float32, "w+", shape=(OUTPUTS, 5, 6, 7))
    stream = ProbabilityStream(restore, OUTPUTS, softmax, out, outside=(1.0, 0, 0, 0))
    stream.feed(logits)
    expected = restore_probabilities(logits, softmax, restore, outside=(1.0, 0, 0, 0))
    assert np.array_equal(stream.finish().array, expected.array)


def test_what_is_refused():
    restore = Restore(Geometry.from_spacing((5, 6, 7)), "source", Box.whole((5, 6, 7)), (4, 6, 9))
    stream = LabelStream(restore, 2, decode, np.uint8)
    with pytest.raises(GeometryError, match="a slab of logits has shape"):
        stream.feed(np.zeros((3, 1, 6, 9), np.float32))
    with pytest.raises(GeometryError, match="after 0 rows of 4"):
        stream.feed(np.zeros((2, 5, 6, 9), np.float32))
    stream.feed(np.zeros((2, 3, 6, 9), np.float32))
    with pytest.raises(GeometryError, match="3 rows of logits"):
        stream.finish()
    with pytest.raises(GeometryError, match="out has shape"):
        ProbabilityStream(
            restore, 2, softmax, np.zeros((2, 5, 6, 9), np.float32), outside=(1.0, 0.0)
        )
    with pytest.raises(
        GeometryError, match="3 probabilities were given for what lies outside the box"
    ):
        ProbabilityStream(
            restore, 2, softmax, np.zeros((2, 5, 6, 7), np.float32), outside=(1.0, 0.0, 0.0)
        )
    with pytest.raises(UsageError, match="0 outputs"):
        LabelStream(restore, 0, decode, np.uint8)
    splines = Restore(restore.source, "source", restore.box, restore.shape, (1, 3, 3))
    with pytest.raises(UsageError, match="interpolation orders"):
        LabelStream(splines, 2, decode, np.uint8)
