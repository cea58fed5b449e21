"""Coverage of pixels by contours, and contours along pixels: by hand, and there and back."""

import numpy as np
import pytest
from scipy import ndimage

from hilum.dicom.rtstruct.fill import coverage
from hilum.dicom_results.trace import trace


def box(top, left, bottom, right):
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], dtype=float)


def test_square_along_pixel_borders_covers_them_wholly():
    covered = coverage([box(0.5, 0.5, 3.5, 4.5)], (6, 7))
    expected = np.zeros((6, 7))
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(covered, expected)


def test_square_through_pixel_centres_covers_borders_by_half():
    covered = coverage([box(1, 1, 3, 4)], (5, 6))
    assert covered[2].tolist() == [0, 0.5, 1, 1, 0.5, 0]
    assert covered[:, 2].tolist() == [0, 0.5, 1, 0.5, 0]
    assert covered[1, 1] == covered[3, 4] == 0.25


def test_inner_contour_is_a_hole_and_one_in_it_an_island():
    rings = [box(-0.5, -0.5, 6.5, 6.5), box(0.5, 0.5, 5.5, 5.5), box(2.5, 2.5, 3.5, 3.5)]
    covered = coverage(rings, (7, 7))
    assert covered.sum() == 49 - 25 + 1
    assert (covered[1, 1], covered[3, 3], covered[0, 0]) == (0, 1, 1)


@pytest.mark.parametrize("turn", [1, -1])
def test_keyhole_contour_keeps_its_hole(turn):
    outer, hole = box(0.5, 0.5, 5.5, 5.5), box(2.5, 2.5, 3.5, 3.5)[::turn]
    keyhole = np.concatenate([outer, outer[:1], hole, hole[:1], outer[:1]])
    covered = coverage([keyhole], (7, 7))
    assert covered[3, 3] == pytest.approx(0, abs=1e-12)
    assert covered.sum() == pytest.approx(25 - 1)


def test_area_of_slanted_shapes_is_exact_or_nearly_so():
    triangle = np.array([(0, 0), (0, 4), (4, 0)], dtype=float) - 0.5
    assert coverage([triangle], (5, 5)).sum() == pytest.approx(8)
    angles = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    ellipse = np.stack([40 + 30.3 * np.sin(angles), 50 + 20.7 * np.cos(angles)], axis=1)
    area = coverage([ellipse], (90, 100)).sum()
    assert area == pytest.approx(np.pi * 30.3 * 20.7, rel=1e-4)


def test_contour_below_a_pixel_covers_its_area():
    covered = coverage([box(1.75, 2.0, 2.25, 2.5)], (4, 5))
    assert covered[2, 2] == pytest.approx(0.25)
    assert covered.sum() == pytest.approx(0.25)


def test_parts_outside_of_the_image_are_cut_off():
    assert coverage([box(-9, -9, 20, 20)], (3, 4)).tolist() == np.ones((3, 4)).tolist()
    assert coverage([box(-9, 1.5, 1, 90)], (3, 4)).sum() == pytest.approx(2 * 1.5)
    assert not coverage([box(-9, -9, -5, -5), box(10, 10, 20, 20)], (3, 4)).any()
    assert not coverage([], (3, 4)).any()


def test_line_and_two_points_cover_nothing():
    assert not coverage([np.array([(1.0, 1.0), (2.0, 3.0)])], (4, 5)).any()


@pytest.mark.parametrize("density", [0.3, 0.5, 0.8, 0.95])
def test_traced_contours_give_the_mask_back(density):
    rng = np.random.default_rng(int(100 * density))
    for _ in range(150):
        mask = rng.random(rng.integers(1, 14, 2)) < density
        polygons = trace(mask)
        np.testing.assert_array_equal(coverage(polygons, mask.shape), mask)
        assert len(polygons) == ndimage.label(mask)[1]


def test_each_traced_contour_keeps_its_holes_by_itself():
    """Some readers fill contours one by one."""
    rng = np.random.default_rng(5)
    for _ in range(100):
        mask = rng.random((9, 12)) < 0.85
        filled = [coverage([one], mask.shape) for one in trace(mask)]
        np.testing.assert_array_equal(np.sum(filled, axis=0), mask)


def test_traced_square_has_four_corners():
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:4, 2:5] = True
    (corners,) = trace(mask)
    assert {tuple(one) for one in corners.tolist()} == {
        (0.5, 1.5),
        (0.5, 4.5),
        (3.5, 4.5),
        (3.5, 1.5),
    }
    assert len(corners) == 4
    assert trace(np.zeros((3, 3), dtype=bool)) == []
