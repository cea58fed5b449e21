"""Resampling onto other grids, SimpleITK as oracle."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from volume_strategies import (
    CODES,
    FAST,
    blobs,
    geometries,
    numbered,
    oblique_directions,
    oblique_geometry,
    random_volume,
)

from hilum.errors import LabelError, UsageError
from hilum.volume import (
    Geometry,
    Volume,
    reorient,
    reorient_geometry,
    resample,
    resample_labels,
    resample_labels_onto,
    resample_onto,
)

SOURCE = Geometry.from_spacing(
    (16, 31, 37), (3.5, 1.2, 1.4), origin=(0, -30, 20), directions=oblique_directions((20, -13, 35))
)
ROTATED = Geometry.from_spacing((20, 26, 17), (2.0, 1.3, 0.8), origin=(13, -15, 33))
# axis 0 along the source's Y, axis 1 back along its Z, axis 2 along its X
PARALLEL = Geometry.from_spacing(
    (20, 26, 17),
    (2.0, 1.3, 0.8),
    origin=SOURCE.index_to_world((16.2, -2, 10.3)),
    directions=SOURCE.directions[:, [1, 0, 2]] * (1, -1, 1),
)
FILL = -9.0


def smooth() -> Volume:
    noise = random_volume(SOURCE).array
    return Volume(ndimage.gaussian_filter(noise, (0, 1, 1, 1)).astype(np.float32), SOURCE)


def to_sitk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array[0])
    image.SetSpacing(volume.geometry.spacing[::-1])
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.directions[:, ::-1].ravel())
    return image


def coordinates(source: Geometry, target: Geometry) -> np.ndarray:
    """Source indices (Z, Y, X, 3) of the target's voxels."""
    return source.world_to_index(
        target.index_to_world(np.moveaxis(np.indices(target.shape), 0, -1))
    )


@pytest.mark.parametrize("target", [PARALLEL, ROTATED], ids=["parallel", "rotated"])
@pytest.mark.parametrize(
    ("order", "method", "tolerance"),
    [(0, sitk.sitkNearestNeighbor, 0), (1, sitk.sitkLinear, 1e-5), (3, sitk.sitkBSpline, 2e-3)],
)
def test_equal_to_simpleitk(target, order, method, tolerance):
    volume = smooth()
    made = resample_onto(volume, target, order=order, fill=FILL)
    assert made.geometry == target
    assert made.array.dtype == np.float32
    reference = to_sitk(Volume(np.zeros((1, *target.shape), np.float32), target))
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(to_sitk(volume), reference, sitk.Transform(), method, FILL)
    )
    where = coordinates(SOURCE, target)
    inner = ((where > 3) & (where < np.array(SOURCE.shape) - 4)).all(axis=-1)
    assert inner.mean() > 0.1
    assert np.abs(made.array[0] - theirs)[inner].max() <= tolerance
    assert ((made.array[0] == FILL) != (theirs == FILL)).mean() < 1e-3
    assert 0.02 < (made.array == FILL).mean() < 0.9


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_part_of_a_large_volume_reads_only_its_neighbourhood(order):
    volume = random_volume(
        Geometry.from_spacing((40, 60, 70), (1.5, 1.0, 1.2), directions=oblique_directions())
    )
    target = Geometry.from_spacing((4, 5, 6), origin=volume.geometry.index_to_world((20, 30, 35)))
    where = np.moveaxis(coordinates(volume.geometry, target), -1, 0)
    expected = ndimage.map_coordinates(
        volume.array[0].astype(np.float64), where, order=order, mode="nearest"
    )
    assert np.abs(resample_onto(volume, target, order=order).array[0] - expected).max() < 1e-5


def test_orders_agree_with_scipy_up_to_the_outer_faces():
    volume, where = smooth(), np.moveaxis(coordinates(SOURCE, ROTATED), -1, 0)
    inside = ((where >= -0.5) & (where <= np.array(SOURCE.shape)[:, None, None, None] - 0.5)).all(
        axis=0
    )
    for order in (1, 3):
        expected = ndimage.map_coordinates(
            volume.array[0].astype(np.float64), where, order=order, mode="nearest"
        )
        assert (
            np.abs(resample_onto(volume, ROTATED, order=order).array[0] - expected)[inside].max()
            < 1e-5
        )


@pytest.mark.parametrize("code", CODES[::5])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_onto_another_orientation_of_itself_is_exact(code, order):
    volume = numbered(oblique_geometry(), dtype=np.int16)
    target = reorient_geometry(volume.geometry, code)
    made = resample_onto(volume, target, order=order)
    assert np.array_equal(made.array, reorient(volume, code).array)
    assert made.array.dtype == (np.int16 if order == 0 else np.float32)


@FAST
@given(geometries(), st.sampled_from([0, 1, 3]))
def test_header_rounding_changes_no_value(geometry, order):
    volume = numbered(geometry)
    header = Geometry(geometry.shape, geometry.affine.astype(np.float32))
    assert np.array_equal(resample_onto(volume, header, order=order).array, volume.array)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_onto_its_own_resampled_grid_is_resampling(order):
    volume = smooth()
    made = resample(volume, (1.1, 1.7, 2.0), order=order)
    assert np.allclose(
        resample_onto(volume, made.geometry, order=order).array, made.array, atol=1e-5
    )


def test_a_shift_by_whole_voxels_is_a_crop_with_padding():
    volume = numbered(oblique_geometry(), dtype=np.int16)
    made = resample_onto(volume, volume.geometry.shifted((-1, 2, 3), (4, 7, 6)), order=3, fill=-1)
    expected = np.full((2, 4, 7, 6), -1.0)
    expected[:, 1:, :5, :] = volume.array[:, :3, 2:, 3:]
    assert np.array_equal(made.array, expected)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 20, 30)])
def test_grids_that_do_not_meet_are_filled(order, angles):
    far = Geometry.from_spacing(
        (3, 4, 5), origin=(5000, 0, 0), directions=oblique_directions(angles)
    )
    assert (resample_onto(smooth(), far, order=order, fill=FILL).array == FILL).all()
    assert (
        resample_labels_onto(
            Volume(np.ones((1, *SOURCE.shape), np.uint8), SOURCE), far, fill=4
        ).array
        == 4
    ).all()


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_single_slice_is_one_voxel_thick(order):
    picture = random_volume(Geometry.from_spacing((1, 12, 14), (4.0, 1.0, 1.0)))
    slices = Geometry.from_spacing(
        (6, 12, 14), (1.5, 1.0, 1.0), origin=(0, 0, -4.5)
    )  # z = -4.5, -3, -1.5, 0, 1.5, 3
    made = resample_onto(picture, slices, order=order, fill=FILL).array[0]
    assert [bool((s == FILL).all()) for s in made] == [True, True, False, False, False, True]
    assert np.array_equal(made[2], picture.array[0, 0])
    tilted = Geometry.from_spacing(
        (1, 12, 14), (4.0, 1.0, 1.0), directions=oblique_directions((0, 0, 5))
    )
    assert np.isfinite(resample_onto(picture, tilted, order=order).array).all()


@pytest.mark.parametrize("target", [PARALLEL, ROTATED], ids=["parallel", "rotated"])
def test_labels_take_the_largest_linear_weight(target):
    labels = blobs(SOURCE.shape, labels=(0, 2, 5, 9))
    made = resample_labels_onto(Volume(labels[None], SOURCE), target, fill=77)
    assert made.array.dtype == labels.dtype
    assert set(np.unique(made.array)) <= {0, 2, 5, 9, 77}
    values = np.unique(labels)
    masks = np.stack([(labels == v).astype(np.float32) for v in values])
    weights = resample_onto(Volume(masks, SOURCE), target, order=1, fill=-1.0).array
    outside = weights[0] == -1
    assert np.array_equal(made.array[0] == 77, outside)
    chosen = np.take_along_axis(
        weights, np.searchsorted(values, np.where(outside, 0, made.array[0]))[None], axis=0
    )[0]
    assert np.allclose(chosen, weights.max(axis=0), atol=1e-5)


def test_labels_onto_their_resampled_grid_is_resampling():
    labels = Volume(blobs(SOURCE.shape)[None], SOURCE)
    made = resample_labels(labels, (1.1, 1.7, 2.0))
    assert resample_labels_onto(labels, made.geometry) == made


@pytest.mark.parametrize(
    "array", [np.zeros((2, 16, 31, 37), np.uint8), np.zeros((1, 16, 31, 37), np.float32)]
)
def test_what_are_no_labels_is_refused(array):
    with pytest.raises(LabelError, match=r"integers \(1, Z, Y, X\)"):
        resample_labels_onto(Volume(array, SOURCE), ROTATED)


@pytest.mark.parametrize("target", [PARALLEL, ROTATED], ids=["parallel", "rotated"])
def test_fill_must_fit_the_type(target):
    labels = Volume(blobs(SOURCE.shape, dtype=np.uint8)[None], SOURCE)
    with pytest.raises(UsageError, match="from 0 to 255"):
        resample_labels_onto(labels, target, fill=-1)
    with pytest.raises(UsageError, match="from 0 to 255"):
        resample_onto(labels, target, order=0, fill=-1)


def test_other_orders_are_refused():
    with pytest.raises(UsageError, match="one of 0, 1, 3"):
        resample_onto(smooth(), ROTATED, order=2)
