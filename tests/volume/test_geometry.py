"""Places of voxels: hand-computed positions, refusals, equality of one field at a time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from volume_strategies import FAST, geometries, oblique_geometry, shapes

from hilum.errors import DataError, GeometryError
from hilum.volume import Geometry


def test_positions_by_hand():
    geometry = Geometry.from_spacing((4, 3, 2), (5.0, 2.0, 1.0), origin=(10.0, 20.0, 30.0))
    assert geometry.orientation == "SPL"
    assert geometry.spacing == (5.0, 2.0, 1.0)
    assert geometry.origin == (10.0, 20.0, 30.0)
    assert geometry.index_to_world((1, 2, 1)).tolist() == [
        11.0,
        24.0,
        35.0,
    ]  # x by axis 2, y by axis 1, z by axis 0
    assert geometry.world_to_index((11.0, 24.0, 35.0)).tolist() == [1.0, 2.0, 1.0]
    assert geometry.voxel_volume_mm3 == pytest.approx(10.0)
    assert not geometry.is_2d
    assert Geometry.from_spacing((1, 3, 2)).is_2d


def test_orientation_letters_by_hand():
    # a radiologist's sagittal stack: slices to the right, rows to inferior, columns to posterior
    directions = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert Geometry.from_spacing((3, 4, 5), directions=directions).orientation == "RIP"


def test_orientation_of_a_strongly_oblique_grid_is_still_a_permutation():
    geometry = oblique_geometry(angles=(44.0, 44.0, 44.0))
    assert sorted(geometry.world_axes) == [0, 1, 2]


@FAST
@given(geometries())
def test_world_and_index_are_inverse(geometry):
    points = np.array([(0, 0, 0), (1.5, -2, 7), (3, 4, 5)])
    assert np.allclose(geometry.world_to_index(geometry.index_to_world(points)), points, atol=1e-8)


@FAST
@given(geometries(), shapes)
def test_resizing_keeps_the_outer_faces(geometry, shape):
    resized = geometry.resized(shape)
    for corner in ((0.0, 0.0, 0.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)):
        before = geometry.index_to_world(np.asarray(corner) * geometry.shape - 0.5)
        after = resized.index_to_world(np.asarray(corner) * shape - 0.5)
        assert np.allclose(before, after, atol=1e-8)
    assert np.allclose(
        resized.voxel_volume_mm3 * np.prod(shape),
        geometry.voxel_volume_mm3 * np.prod(geometry.shape),
    )


def test_a_shifted_grid_shares_its_voxels():
    geometry = oblique_geometry()
    part = geometry.shifted((1, 2, 3), (2, 3, 4))
    assert np.allclose(part.index_to_world((1, 1, 1)), geometry.index_to_world((2, 3, 4)))
    assert part.frame_of_reference == geometry.frame_of_reference


def test_one_field_at_a_time_is_unequal():
    geometry = oblique_geometry()
    moved = geometry.affine.copy()
    moved[0, 3] += 1e-9
    others = [
        replace(geometry, shape=(5, 7, 8)),
        replace(geometry, affine=moved),
        replace(geometry, frame_of_reference=None),
    ]
    twin = oblique_geometry()
    assert geometry == twin
    assert hash(geometry) == hash(twin)
    for other in others:
        assert geometry != other
    assert geometry != "a geometry"


def test_minus_zero_is_zero_also_for_the_hash():
    minus = -np.zeros((4, 4)) + np.diag([1.0, 1, 1, 1])
    minus[0, 3] = -0.0
    assert hash(Geometry((2, 2, 2), minus)) == hash(Geometry((2, 2, 2), np.eye(4)))


def test_closeness_is_in_voxels():
    geometry = Geometry.from_spacing((4, 3, 2), (5.0, 2.0, 1.0))
    near = Geometry.from_spacing(
        (4, 3, 2), (5.0, 2.0, 1.0), origin=(0.005, 0, 0), frame_of_reference="1.2"
    )
    far = Geometry.from_spacing((4, 3, 2), (5.0, 2.0, 1.0), origin=(0.02, 0, 0))
    assert geometry.is_close(near)
    assert not geometry.is_close(far)
    assert geometry.is_close(far, tolerance_voxels=0.1)
    assert not geometry.is_close(replace(geometry, shape=(4, 3, 3)))
    assert geometry.distance_voxels(far) == pytest.approx(0.02)


def test_the_affine_is_a_frozen_copy():
    affine = np.eye(4)
    geometry = Geometry((2, 3, 4), affine)
    affine[0, 0] = 9.0
    assert geometry.affine[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 9.0


@pytest.mark.parametrize(
    ("shape", "affine", "match"),
    [
        ((2, 3), np.eye(4), r"three positive sizes"),
        ((2, 0, 3), np.eye(4), r"shape \(2, 0, 3\)"),
        ((2, 3, 4), np.eye(3), "finite 4 x 4"),
        ((2, 3, 4), np.diag([1, np.nan, 1, 1]), "finite 4 x 4"),
        ((2, 3, 4), np.diag([1.0, 0, 1, 1]), "more than 0 mm along every axis"),
        (
            (2, 3, 4),
            np.array([[1, 0.02, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
            "not perpendicular",
        ),
    ],
)
def test_what_no_grid_can_be_is_refused(shape, affine, match):
    with pytest.raises(GeometryError, match=match) as caught:
        Geometry(shape, affine)
    assert isinstance(caught.value, DataError)


def test_the_shear_error_names_a_cure():
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(GeometryError, match="Cure: resample") as caught:
        Geometry((2, 3, 4), sheared)
    assert caught.value.exit_code == 3
