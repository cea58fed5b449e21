"""Diameters of a lesion: hand-computed shapes, an independent search, properties."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.errors import UsageError
from hilum.metrics import diameters, widest_slice


def drawn(*rows: str) -> np.ndarray:
    """A mask (Y, X) drawn with #."""
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "spacing", "long", "short"),
    [
        (drawn("...", ".#.", "..."), (1.0, 1.0), 1.0, 1.0),  # the outline of a pixel is a rhombus
        (drawn("#"), (2.0, 0.5), 2.0, 0.5),
        (drawn("####"), (1.0, 1.0), 4.0, 1.0),
        (drawn("####"), (3.0, 1.0), math.hypot(3, 3), 3 * math.sqrt(2)),
        # of a block of n x m pixels without its corners: from edge to edge over m - 1
        (drawn("####", "####", "####"), (1.0, 1.0), math.hypot(4, 2), 1.5 * math.sqrt(5)),
        # three pixels down a diagonal: corners (-.5, 0) and (2.5, 2)
        (drawn("#..", ".#.", "..#"), (1.0, 1.0), math.hypot(3, 2), None),
        # a bent lesion: callipers do not see the dent
        (drawn("#....", "#....", "#####"), (1.0, 1.0), math.hypot(5, 2), None),
    ],
)
def test_hand_computed_shapes(mask, spacing, long, short):
    found = diameters(mask, spacing)
    assert found.long.length_mm == pytest.approx(long, abs=1e-12)
    if short is not None:
        assert found.short.length_mm == pytest.approx(short, abs=1e-9)


def test_ends_are_in_index_coordinates():
    """A row of four pixels from column 2 of row 5: edge to edge, and across a pixel."""
    mask = np.zeros((9, 9), dtype=bool)
    mask[5, 2:6] = True
    found = diameters(mask, (0.7, 2.0))
    assert sorted((found.long.start, found.long.end)) == [(5.0, 1.5), (5.0, 5.5)]
    assert found.long.length_mm == pytest.approx(8.0)
    ends = sorted((found.short.start, found.short.end))
    assert [row for row, _ in ends] == pytest.approx([4.5, 5.5])
    assert ends[0][1] == pytest.approx(ends[1][1])
    assert found.short.length_mm == pytest.approx(0.7)


def test_a_disc_has_its_diameter_both_ways():
    y, x = np.mgrid[:121, :121]
    found = diameters((y - 60.0) ** 2 + (x - 60.0) ** 2 <= 50**2, (0.5, 0.5))
    assert found.long.length_mm == pytest.approx(50.5, abs=0.3)
    assert found.short.length_mm == pytest.approx(50.5, abs=0.6)


def test_an_oblique_ellipse_has_its_axes():
    y, x = np.mgrid[:201, :201] - 100.0
    turn = math.radians(30)
    u, v = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
    found = diameters((u / 80) ** 2 + (v / 30) ** 2 <= 1, (1.0, 1.0))
    assert found.long.length_mm == pytest.approx(161, abs=1)
    assert found.short.length_mm == pytest.approx(61, abs=1.5)
    (y0, x0), (y1, x1) = found.long.start, found.long.end
    assert math.degrees(math.atan2(y1 - y0, x1 - x0)) % 180 == pytest.approx(30, abs=2)


masks = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))
spacings = st.tuples(*[st.sampled_from((0.25, 0.7, 1.0, 1.25, 3.0))] * 2)


@settings(max_examples=150, deadline=None)
@given(masks, spacings)
def test_equal_to_a_search_of_all_pairs(mask, spacing):
    """Against the outline's every point, and 2,000 lines across it."""
    assume(mask.any())
    found = diameters(mask, spacing)
    pixels = np.argwhere(mask)
    sides = np.array([(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])
    points = (pixels[:, None] + sides).reshape(-1, 2) * spacing
    pairs = np.linalg.norm(points[:, None] - points, axis=-1)
    assert found.long.length_mm == pytest.approx(pairs.max())
    along = (np.subtract(found.long.end, found.long.start)) * spacing / found.long.length_mm
    line = (np.subtract(found.short.end, found.short.start)) * spacing
    assert line @ along == pytest.approx(0, abs=1e-9)
    across = np.array([-along[1], along[0]])
    assert found.short.length_mm <= np.ptp(points @ across) + 1e-9
    # the width at a place is the largest of lines between two points, as of a convex hull
    t, s = points @ along, points @ across
    widest = max(_width(t, s, place) for place in np.unique(t))
    assert found.short.length_mm == pytest.approx(widest, abs=1e-6)


def _width(t, s, place):
    """Width of the hull of points (t, s) at a place along t, from all pairs of points."""
    left, right = t <= place + 1e-10, t >= place - 1e-10
    t0, s0, t1, s1 = t[left][:, None], s[left][:, None], t[right], s[right]
    gap = np.where(t1 - t0 < 1e-10, 1.0, t1 - t0)
    at = np.where(t1 - t0 < 1e-10, s0, s0 + (s1 - s0) * (place - t0) / gap)
    return np.ptp(at)


@settings(max_examples=50, deadline=None)
@given(masks, spacings)
def test_turned_and_mirrored_masks_measure_the_same(mask, spacing):
    assume(mask.any())
    lengths = diameters(mask, spacing).long.length_mm
    assert diameters(mask[::-1], spacing).long.length_mm == pytest.approx(lengths)
    assert diameters(mask.T, spacing[::-1]).long.length_mm == pytest.approx(lengths)


def test_the_widest_slice_is_found():
    mask = np.zeros((4, 6, 6), dtype=bool)
    mask[1, 2, 2:4] = True
    mask[2, 1, 1:5] = mask[3, 4, 1:5] = True  # equally wide: the first counts
    z, found = widest_slice(mask, (1.0, 1.0))
    assert z == 2
    assert found.long.length_mm == pytest.approx(4)


def test_what_is_no_mask_is_refused():
    with pytest.raises(UsageError, match="with 0 pixels"):
        diameters(np.zeros((3, 3), dtype=bool), (1, 1))
    with pytest.raises(UsageError, match="a mask of int64"):
        diameters(np.ones((3, 3), dtype=np.int64), (1, 1))
    with pytest.raises(UsageError, match="mm along"):
        diameters(np.ones((3, 3), dtype=bool), (1, 0))
    with pytest.raises(UsageError, match="with 0 voxels"):
        widest_slice(np.zeros((2, 3, 3), dtype=bool), (1, 1))
