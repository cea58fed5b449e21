"""Surfaces: shapes measured by hand, DeepMind's package as oracle, metamorphic properties."""

import math
import warnings

import numpy as np
import pytest
import surface_distance as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from surface_distance import lookup_tables

from hilum.errors import UsageError
from hilum.metrics import assd, hausdorff, hd95, nsd, surface, surface_distances

SPACING = (3.0, 0.7, 1.9)


def smooth(seed: int, shape: tuple[int, ...], share: float = 0.5) -> np.ndarray:
    """A random smooth shape."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return field > np.quantile(field, share)


def of_oracle(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by names of old
        return oracle.compute_surface_distances(reference, prediction, spacing)


def voxel(z: int, y: int, x: int, shape: tuple[int, int, int] = (5, 6, 9)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[z, y, x] = True
    return mask


def test_two_voxels_by_hand() -> None:
    # each voxel has eight surfels, at its corners; half a voxel towards the other is 2 voxels (4
    # mm) away, the far half 3 (6 mm)
    distances = surface_distances(voxel(2, 3, 2), voxel(2, 3, 5), (3.0, 0.5, 2.0))
    area = math.sqrt((0.5 * 2) ** 2 + (3 * 2) ** 2 + (3 * 0.5) ** 2)  # an octahedron
    assert distances.prediction_area.sum() == pytest.approx(area)
    assert sorted(distances.prediction_mm) == pytest.approx([4] * 4 + [6] * 4)
    assert distances.hausdorff() == pytest.approx(6)
    assert distances.hausdorff(95) == pytest.approx(6)
    assert distances.hausdorff(50) == pytest.approx(4)
    assert distances.assd() == pytest.approx(5)
    assert [distances.nsd(t) for t in (3.99, 4.0, 6.0)] == pytest.approx([0, 0.5, 1])


def test_two_pixels_by_hand() -> None:
    shape = (1, 6, 9)
    distances = surface_distances(voxel(0, 3, 2, shape), voxel(0, 3, 5, shape), (99.0, 0.5, 2.0))
    assert distances.prediction_area.sum() == pytest.approx(2 * math.hypot(0.5, 2))  # a rhombus
    assert sorted(distances.reference_mm) == pytest.approx([4, 4, 6, 6])


@pytest.mark.parametrize(("axis", "shift"), [(0, 1), (1, 3), (2, 2)])
def test_a_shifted_box(axis: int, shift: int) -> None:
    reference = np.zeros((12, 20, 17), dtype=bool)
    reference[3:8, 5:14, 4:12] = True
    prediction = np.roll(reference, shift, axis)
    assert hausdorff(prediction, reference, SPACING) == pytest.approx(shift * SPACING[axis])
    assert nsd(prediction, reference, SPACING, tolerance_mm=shift * SPACING[axis] + 1e-9) == 1
    assert (
        0
        < assd(prediction, reference, SPACING)
        < hd95(prediction, reference, SPACING)
        <= shift * SPACING[axis] + 1e-9
    )


def test_balls_one_in_the_other() -> None:
    spacing, radius, gap = np.array([0.75, 0.5, 0.4]), 8.0, 3.0
    grid = np.stack(
        np.meshgrid(
            *[(np.arange(n) - n // 2) * s for n, s in zip((27, 37, 45), spacing, strict=True)],
            indexing="ij",
        )
    )
    outer, inner = ((grid**2).sum(axis=0) <= r**2 for r in (radius, radius - gap))
    measured = surface_distances(outer, inner, spacing)
    # a surface of voxels has steps: its area is somewhat too large, and it lies anywhere within a
    # voxel, so distances are a
    # little too short, as those of every method on the voxel lattice
    assert measured.prediction_area.sum() == pytest.approx(4 * math.pi * radius**2, rel=0.12)
    assert gap - spacing.max() / 2 < measured.assd() < gap
    voxel_diagonal = float(np.linalg.norm(spacing))
    assert measured.nsd(gap + voxel_diagonal) == 1
    assert measured.nsd(gap - voxel_diagonal) == 0


def test_every_neighbourhood_has_the_oracles_area() -> None:
    np.testing.assert_allclose(
        surface._surfel_areas(np.array(SPACING)),
        lookup_tables.create_table_neighbour_code_to_surface_area(SPACING),
    )
    np.testing.assert_allclose(
        surface._contour_lengths(np.array(SPACING)),
        lookup_tables.create_table_neighbour_code_to_contour_length(SPACING[1:]),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(9, 17, 13), (1, 23, 31)])
def test_the_oracle_agrees(seed: int, shape: tuple[int, int, int]) -> None:
    prediction, reference = smooth(seed, shape, 0.6), smooth(seed + 50, shape, 0.7)
    squeeze = (lambda a: a[0]) if shape[0] == 1 else (lambda a: a)
    truth = of_oracle(
        squeeze(prediction), squeeze(reference), SPACING[1:] if shape[0] == 1 else SPACING
    )
    ours = surface_distances(prediction, reference, SPACING)
    np.testing.assert_allclose(np.sort(ours.prediction_mm), np.sort(truth["distances_pred_to_gt"]))
    np.testing.assert_allclose(np.sort(ours.reference_area), np.sort(truth["surfel_areas_gt"]))
    for percentile in (50, 95, 100):
        assert ours.hausdorff(percentile) == pytest.approx(
            oracle.compute_robust_hausdorff(truth, percentile)
        )
    for tolerance in (0.0, 0.7, 2.0):
        assert ours.nsd(tolerance) == pytest.approx(
            oracle.compute_surface_dice_at_tolerance(truth, tolerance)
        )
    to_prediction, to_reference = oracle.compute_average_surface_distance(truth)
    areas = truth["surfel_areas_gt"].sum(), truth["surfel_areas_pred"].sum()
    assert ours.assd() == pytest.approx(
        (to_prediction * areas[0] + to_reference * areas[1]) / sum(areas)
    )
    assert ours.masd() == pytest.approx((to_prediction + to_reference) / 2)


@pytest.mark.parametrize("spacing", [SPACING, (9.0, 0.5, 0.5), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("shape", [(8, 15, 19), (1, 25, 30)])
def test_places_rows_and_tree_are_one(
    spacing: tuple[float, ...], shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, reference = smooth(7, shape, 0.8), smooth(8, shape, 0.9)
    results = []
    ways = ((0, 0, 1), (0, 30, 1), (0, 10**5, 1), *((10**9, 0, rows) for rows in (1, 20, 10**6)))
    for voxels, places, rows in ways:
        monkeypatch.setattr(surface, "_VOXELS_A_QUERY", voxels)
        monkeypatch.setattr(surface, "_PLACES", places)
        monkeypatch.setattr(surface, "_ROWS", rows)
        results.append(surface_distances(prediction, reference, spacing))
    for result in results[1:]:
        np.testing.assert_allclose(result.prediction_mm, results[0].prediction_mm)
        np.testing.assert_allclose(result.reference_mm, results[0].reference_mm)


@pytest.mark.parametrize("shape", [(5, 6, 9), (1, 6, 9)])
def test_the_table_of_empty_cases(shape: tuple[int, int, int]) -> None:
    some, none = voxel(0, 3, 2, shape), np.zeros(shape, dtype=bool)
    for prediction, reference, expected in (
        (none, none, math.nan),
        (none, some, 0.0),
        (some, none, 0.0),
    ):
        distances = surface_distances(prediction, reference, SPACING)
        np.testing.assert_equal(distances.nsd(1.0), expected)
        np.testing.assert_equal(nsd(prediction, reference, SPACING, tolerance_mm=1e9), expected)
        assert math.isnan(distances.hausdorff())
        assert math.isnan(distances.assd())
        assert math.isnan(distances.masd())
        assert math.isnan(hd95(prediction, reference, SPACING))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    arrays(bool, (3, 4, 5)),
    arrays(bool, (3, 4, 5)),
    st.permutations(range(3)),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(0, 3),
)
def test_orientation_padding_scale_and_order_do_not_matter(
    a: np.ndarray, b: np.ndarray, axes: list[int], mirrored: list[bool], margin: int
) -> None:
    plain = surface_distances(a, b, SPACING)
    swapped = surface_distances(b, a, SPACING)
    flips = tuple(slice(None, None, -1) if m else slice(None) for m in mirrored)
    turned = surface_distances(
        *(np.pad(mask, margin).transpose(axes)[flips] for mask in (a, b)),
        [SPACING[i] * 2 for i in axes],
        picture=False,
    )
    np.testing.assert_allclose(swapped.assd(), plain.assd())
    np.testing.assert_allclose(turned.hausdorff(), 2 * plain.hausdorff())
    np.testing.assert_allclose(turned.assd(), 2 * plain.assd())
    np.testing.assert_allclose(turned.nsd(2.0), plain.nsd(1.0))
    if a.any():
        assert surface_distances(a, a, SPACING).nsd(0.0) == 1
        assert surface_distances(a, a, SPACING).hausdorff() == 0


def test_one_slice_of_a_volume_is_no_picture() -> None:
    slab = np.zeros((1, 6, 9), dtype=bool)
    slab[0, 2:4, 3:7] = True
    flat, solid = (
        surface_distances(slab, slab, SPACING),
        surface_distances(slab, slab, SPACING, picture=False),
    )
    assert (
        flat.prediction_area.sum() < solid.prediction_area.sum()
    )  # a contour against a closed surface
    inside = np.pad(slab, ((2, 2), (0, 0), (0, 0)))
    assert surface_distances(inside, inside, SPACING).prediction_area.sum() == pytest.approx(
        solid.prediction_area.sum()
    )


def test_the_edge_of_what_nobody_annotated_is_not_scored() -> None:
    shape = (6, 10, 20)
    reference, prediction, ignore = np.zeros((3, *shape), dtype=bool)
    reference[1:5, 2:8, 2:10] = True
    prediction[1:5, 2:8, 2:18] = True
    ignore[:, :, 9:] = True
    measured = surface_distances(prediction, reference, SPACING, ignore=ignore)
    assert measured.nsd(0.0) == 1
    assert measured.hausdorff() == 0
    closed = surface_distances(reference & ~ignore, reference & ~ignore, SPACING)
    cap = 5 * SPACING[0] * 7 * SPACING[1]  # the largest that the cut face, with its rim, can be
    assert (
        closed.prediction_area.sum() - cap
        <= measured.prediction_area.sum()
        < closed.prediction_area.sum()
    )
    everywhere = surface_distances(
        prediction, reference, SPACING, ignore=np.ones(shape, dtype=bool)
    )
    assert math.isnan(everywhere.nsd(1.0))
    nowhere = surface_distances(prediction, reference, SPACING, ignore=np.zeros(shape, dtype=bool))
    assert nowhere.assd() == surface_distances(prediction, reference, SPACING).assd()


def test_an_ignored_neighbour_outside_the_box_counts() -> None:
    mask, ignore = voxel(2, 3, 4), voxel(2, 3, 5)
    measured = surface_distances(mask, mask, (1.0, 1.0, 1.0), ignore=ignore)
    assert (
        np.count_nonzero(measured.prediction_area) == 4
    )  # of eight corners, those on the far side
    assert measured.nsd(0.0) == 1
    surrounded = ndimage.binary_dilation(mask, np.ones((3, 3, 3))) & ~mask
    assert math.isnan(surface_distances(mask, mask, (1.0, 1.0, 1.0), ignore=surrounded).hausdorff())


def test_impossible_questions_are_refused() -> None:
    mask = voxel(2, 3, 4)
    distances = surface_distances(mask, mask, SPACING)
    for tolerance in (-0.1, math.nan):
        with pytest.raises(UsageError, match="tolerance of 0 mm or more"):
            distances.nsd(tolerance)
    with pytest.raises(UsageError, match="percentile between 0 and 100"):
        distances.hausdorff(101)
    with pytest.raises(UsageError, match=r"masks of one plane"):
        surface_distances(mask, mask, SPACING, picture=True)
    with pytest.raises(UsageError, match="three positive numbers"):
        surface_distances(mask, mask, (1.0, -1.0, 1.0))
