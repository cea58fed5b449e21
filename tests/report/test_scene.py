"""Surfaces of masks: closed, in the right place, of the right volume."""

from collections import Counter

import numpy as np
import pytest

from hilum.report.mesh import coarse_shape, linear_weights, mask_mesh


def ball(radius, side):
    z, y, x = np.indices((side,) * 3) - (side - 1) / 2
    return z**2 + y**2 + x**2 <= radius**2


def volume(mesh):
    """Volume within a closed surface by the divergence theorem."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    return abs(float(np.einsum("ij,ij", a, np.cross(b, c)))) / 6


def edges(mesh):
    return Counter(
        (int(one), int(two))
        for face in mesh.triangles
        for one, two in zip(face, np.roll(face, -1), strict=True)
    )


def test_a_ball_is_closed_and_has_its_volume():
    mesh = mask_mesh(ball(14.3, 41), (40, 40, 40))
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 14.3**3, rel=0.03)
    there = edges(mesh)
    assert all(there[two, one] == count for (one, two), count in there.items())
    assert len(mesh.vertices) - len(there) // 2 + len(mesh.triangles) == 2  # Euler: a sphere
    assert mesh.vertices.mean(axis=0) == pytest.approx([20, 20, 20], abs=0.05)


def test_a_torus_has_a_hole():
    z, y, x = np.indices((20, 60, 60)) - np.array([9.5, 29.5, 29.5]).reshape(3, 1, 1, 1)
    mesh = mask_mesh((np.hypot(y, x) - 18) ** 2 + z**2 <= 36, (20, 60, 60))
    assert len(mesh.vertices) - len(edges(mesh)) // 2 + len(mesh.triangles) == 0


def test_a_coarse_grid_keeps_place_and_volume():
    mask = np.zeros((9, 120, 100), np.bool_)
    mask[2:7, 30:90, 20:60] = True
    cells = coarse_shape(mask.shape, (5.0, 1.0, 1.0))
    assert cells == (15, 40, 33)
    mesh = mask_mesh(mask, cells)
    assert len(mesh.vertices) < 65536
    assert volume(mesh) == pytest.approx(5 * 60 * 40, rel=0.08)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    assert low == pytest.approx([1.5, 29.5, 19.5], abs=1)
    assert high == pytest.approx([6.5, 89.5, 59.5], abs=1)


def test_a_mask_at_the_border_is_closed():
    mask = np.ones((4, 5, 6), np.bool_)
    mesh = mask_mesh(mask, (4, 5, 6))
    there = edges(mesh)
    assert all(there[two, one] == count for (one, two), count in there.items())


def test_a_line_thinner_than_a_cell_is_not_lost():
    mask = np.zeros((100, 100, 100), np.bool_)
    mask[50, 50, 10:90] = True
    mesh = mask_mesh(mask, (40, 40, 40))
    assert np.ptp(mesh.vertices[:, 2]) == pytest.approx(80, abs=4)


def test_noise_has_no_more_vertices_than_16_bits_number():
    noise = np.random.default_rng(0).random((80, 80, 80)) < 0.02
    assert 1000 < len(mask_mesh(noise, (40, 40, 40)).vertices) <= 65535


def test_an_empty_mask_has_no_surface():
    assert mask_mesh(np.zeros((3, 4, 5), np.bool_), (3, 4, 5)) is None


@pytest.mark.parametrize(("old", "new"), [(7, 7), (5, 12), (50, 11), (1, 4), (4, 1)])
def test_weights_keep_a_constant_and_a_ramp(old, new):
    weights = linear_weights(old, new)
    assert weights.shape == (new, old)
    assert weights.sum(axis=1) == pytest.approx(1)
    ramp = weights @ np.arange(old)
    assert np.all(np.diff(ramp) >= 0)
    if old == new:
        assert weights == pytest.approx(np.eye(old))
