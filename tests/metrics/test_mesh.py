"""Surfaces as meshes: shapes measured by hand, brute force as oracle, the voxel surface beside."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from hilum.errors import UsageError
from hilum.metrics import mesh, surface_distances
from hilum.metrics.mesh import Mesh

SPACING = (3.0, 0.7, 1.9)
ROTATED = tuple(itertools.permutations(range(3)))


def smooth(seed: int, shape: tuple[int, ...], share: float = 0.5) -> np.ndarray:
    """A random smooth shape."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return field > np.quantile(field, share)


def box(*bounds: tuple[int, int], shape: tuple[int, int, int] = (12, 20, 17)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*one) for one in bounds)] = True
    return mask


def test_one_voxel_is_an_octahedron() -> None:
    mask = box((2, 3), (3, 4), (4, 5), shape=(5, 7, 9))
    measured = surface_distances(mask, mask, (3.0, 0.5, 2.0), surface="mesh")
    area = math.sqrt((0.5 * 2) ** 2 + (3 * 2) ** 2 + (3 * 0.5) ** 2)
    assert len(measured.prediction_area) == 8
    assert measured.prediction_area.sum() == pytest.approx(area)
    assert measured.hausdorff() == pytest.approx(0, abs=1e-9)


def test_one_pixel_is_a_rhombus() -> None:
    first, second = (box((0, 1), (3, 4), (x, x + 1), shape=(1, 7, 9)) for x in (2, 5))
    measured = surface_distances(first, second, (99.0, 0.5, 2.0), surface="mesh")
    assert measured.prediction_area.sum() == pytest.approx(2 * math.hypot(0.5, 2))
    # the rhombi have their near corners at 5 and 9 mm; the middles of the sides lie 0.5 mm behind,
    # and 0.125 mm beside
    near, far = math.hypot(4.5, 0.125), math.hypot(5.5, 0.125)
    assert sorted(measured.prediction_mm) == pytest.approx([near, near, far, far])


@pytest.mark.parametrize(("axis", "shift"), [(0, 1), (1, 3), (2, 2)])
def test_a_shifted_box(axis: int, shift: int) -> None:
    reference = box((3, 8), (5, 14), (4, 12))
    prediction = np.roll(reference, shift, axis)
    measured = surface_distances(prediction, reference, SPACING, surface="mesh")
    assert measured.hausdorff() == pytest.approx(shift * SPACING[axis])
    assert measured.nsd(shift * SPACING[axis] + 1e-6) == 1
    assert 0 < measured.assd() < shift * SPACING[axis]


def test_a_mesh_comes_nearer_to_the_true_distance() -> None:
    spacing, radius, gap = np.array([0.75, 0.5, 0.4]), 8.0, 3.0
    grid = np.stack(
        np.meshgrid(
            *[(np.arange(n) - n // 2) * s for n, s in zip((27, 37, 45), spacing, strict=True)],
            indexing="ij",
        )
    )
    outer, inner = ((grid**2).sum(axis=0) <= r**2 for r in (radius, radius - gap))
    measured = surface_distances(outer, inner, spacing, surface="mesh")
    assert measured.prediction_area.sum() == pytest.approx(4 * math.pi * radius**2, rel=0.12)
    assert surface_distances(outer, inner, spacing).assd() < measured.assd() < gap


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(9, 17, 13), (1, 23, 31)])
def test_areas_are_those_of_the_voxel_surface(seed: int, shape: tuple[int, int, int]) -> None:
    prediction, reference = smooth(seed, shape, 0.6), smooth(seed + 50, shape, 0.7)
    voxel = surface_distances(prediction, reference, SPACING)
    mesh = surface_distances(prediction, reference, SPACING, surface="mesh")
    assert mesh.prediction_area.sum() == pytest.approx(voxel.prediction_area.sum(), rel=0.02)
    assert mesh.reference_area.sum() == pytest.approx(voxel.reference_area.sum(), rel=0.02)
    lattice = math.hypot(*SPACING)
    assert abs(mesh.hausdorff() - voxel.hausdorff()) < lattice


def nearest_by_brute_force(points: np.ndarray, corners: np.ndarray, steps: int = 60) -> np.ndarray:
    """Distances to the nearest of many points spread over each piece."""
    u, v = np.meshgrid(*[np.linspace(0, 1, steps)] * 2, indexing="ij")
    kept = u + v <= 1 + 1e-12
    weights = np.stack([1 - u - v, u, v], axis=-1)[kept]  # (S, 3)
    if corners.shape[1] == 2:
        share = np.linspace(0, 1, steps**2)
        weights = np.stack([1 - share, share], axis=-1)
    spread = np.einsum("sc,ncx->nsx", weights, corners).reshape(-1, 3)
    return np.array([np.linalg.norm(spread - point, axis=1).min() for point in points])


@pytest.mark.parametrize("corners", [2, 3])
def test_distances_are_exact(corners: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_CANDIDATES", 1)
    random = np.random.default_rng(corners)
    pieces = random.normal(size=(40, 1, 3)) * 4 + random.normal(size=(40, corners, 3))
    points = random.normal(size=(25, 1, 3)) * 5
    seen = Mesh(np.repeat(points, corners, axis=1), np.ones(25))
    found = seen.distances_to(Mesh(pieces, np.ones(40)))
    truth = nearest_by_brute_force(points[:, 0], pieces)
    assert (found <= truth + 1e-12).all()  # brute force knows only some of the points
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_far_surfaces_are_exact_too() -> None:
    reference = box((1, 4), (1, 19), (1, 6))
    prediction = box((7, 9), (15, 17), (15, 16)) | box((7, 11), (2, 4), (10, 16))
    measured = surface_distances(prediction, reference, SPACING, surface="mesh")
    of_reference = surface_distances(reference, reference, SPACING, surface="mesh")
    assert len(of_reference.prediction_mm) == len(measured.reference_mm)
    crop = (slice(1, 11), slice(1, 19), slice(1, 16))
    padded = [np.pad(mask[crop], 1) for mask in (prediction, reference)]
    meshes = [mesh.mesh_of(one, np.array(SPACING), None, flat=False) for one in padded]
    truth = nearest_by_brute_force(meshes[0].centres, meshes[1].corners, steps=25)
    np.testing.assert_allclose(measured.prediction_mm, truth, atol=0.02)


@pytest.mark.parametrize("mm", [0.7, 1 / 3, 0.1])
def test_rounding_does_not_decide_what_lies_within_the_tolerance(mm: float) -> None:
    cube = box((5, 11), (5, 11), (5, 11), shape=(20, 20, 20))
    spacing = (mm, mm, mm)
    assert surface_distances(cube, cube, spacing, surface="mesh").nsd(0.0) == 1
    for steps, axis in itertools.product((1, 3), range(3)):
        measured = surface_distances(np.roll(cube, steps, axis), cube, spacing, surface="mesh")
        assert measured.nsd(steps * mm) == 1
        assert measured.nsd(0.99 * steps * mm) < 1


@pytest.mark.parametrize("axes", ROTATED)
def test_orientation_and_scale_do_not_matter(axes: tuple[int, ...]) -> None:
    a, b = smooth(3, (7, 9, 11), 0.7), smooth(4, (7, 9, 11), 0.7)
    plain = surface_distances(a, b, SPACING, surface="mesh")
    turned = surface_distances(
        *(mask.transpose(axes)[:, ::-1] for mask in (b, a)),
        [SPACING[i] * 2 for i in axes],
        surface="mesh",
    )
    assert turned.assd() == pytest.approx(2 * plain.assd(), rel=0.01)
    assert turned.nsd(2.0) == pytest.approx(plain.nsd(1.0), rel=0.02)


@pytest.mark.parametrize("shape", [(5, 6, 9), (1, 6, 9)])
def test_the_table_of_empty_cases(shape: tuple[int, int, int]) -> None:
    some, none = box((0, 1), (3, 4), (2, 4), shape=shape), np.zeros(shape, dtype=bool)
    for prediction, reference, expected in (
        (none, none, math.nan),
        (none, some, 0),
        (some, none, 0),
    ):
        measured = surface_distances(prediction, reference, SPACING, surface="mesh")
        np.testing.assert_equal(measured.nsd(1.0), float(expected))
        assert math.isnan(measured.assd())


@pytest.mark.parametrize("shape", [(6, 10, 20), (1, 10, 20)])
def test_the_edge_of_what_nobody_annotated_is_not_scored(shape: tuple[int, int, int]) -> None:
    planes = (0, 1) if shape[0] == 1 else (1, 5)
    reference = box(planes, (2, 8), (2, 10), shape=shape)
    prediction = box(planes, (2, 8), (2, 18), shape=shape)
    ignore = box((0, shape[0]), (0, 10), (9, 20), shape=shape)
    measured = surface_distances(prediction, reference, SPACING, ignore=ignore, surface="mesh")
    voxel = surface_distances(prediction, reference, SPACING, ignore=ignore)
    assert measured.nsd(1e-9) == 1
    assert measured.prediction_area.sum() == pytest.approx(voxel.prediction_area.sum())


def test_an_unknown_surface_is_refused() -> None:
    mask = box((3, 8), (5, 14), (4, 12))
    with pytest.raises(UsageError, match="surface='cubes'"):
        surface_distances(mask, mask, SPACING, surface="cubes")
