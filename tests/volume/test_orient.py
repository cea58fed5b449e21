"""The 48 orientations move voxels in the array, never in space."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from volume_strategies import (
    CODES,
    FAST,
    codes,
    geometries,
    numbered,
    oblique_directions,
    oblique_geometry,
)

from hilum.errors import UsageError
from hilum.volume import Geometry, Volume, reorient, reorient_geometry, snap


def positions(volume: Volume) -> dict[float, tuple[float, ...]]:
    """The place in space of each value (every voxel of a numbered volume has its own)."""
    index = np.moveaxis(np.indices(volume.geometry.shape), 0, -1).reshape(-1, 3)
    world = np.round(volume.geometry.index_to_world(index), 6) + 0.0
    return dict(zip(volume.array[0].ravel().tolist(), map(tuple, world), strict=True))


def test_there_are_48():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("code", CODES)
def test_every_voxel_stays_where_it_is(code):
    volume = numbered(oblique_geometry())
    turned = reorient(volume, code)
    assert turned.geometry.orientation == code
    assert turned.geometry.frame_of_reference == volume.geometry.frame_of_reference
    assert positions(turned) == positions(volume)
    assert np.array_equal(
        turned.array[1] - turned.array[0], np.full(turned.geometry.shape, 5 * 7 * 9)
    )
    assert reorient_geometry(volume.geometry, code) == turned.geometry


def test_by_hand():
    volume = Volume(
        np.array([[[[1, 2, 3]], [[4, 5, 6]]]]),
        Geometry.from_spacing((2, 1, 3), (5.0, 2.0, 1.0), origin=(10, 20, 30)),
    )
    turned = reorient(
        volume, "RSA"
    )  # axis 0 to the right (x backwards), axis 1 up (z), axis 2 to anterior (y backwards)
    assert turned.array.tolist() == [[[[3], [6]], [[2], [5]], [[1], [4]]]]
    assert turned.geometry.origin == (12.0, 20.0, 30.0)
    assert turned.geometry.spacing == (1.0, 5.0, 2.0)


@FAST
@given(geometries(), codes, codes)
def test_there_and_back_is_exact_and_roads_meet(geometry, first, second):
    volume = numbered(geometry)
    by_detour, direct = reorient(reorient(volume, first), second), reorient(volume, second)
    assert np.array_equal(by_detour.array, direct.array)
    assert by_detour.geometry.is_close(direct.geometry, tolerance_voxels=1e-9)
    back = reorient(by_detour, geometry.orientation)
    assert np.array_equal(back.array, volume.array)
    assert back.geometry.is_close(geometry, tolerance_voxels=1e-9)


def test_nothing_is_copied_and_source_is_no_operation():
    volume = numbered(oblique_geometry())
    assert np.shares_memory(reorient(volume, "RIA").array, volume.array)
    assert reorient(volume, "source") is volume
    assert reorient(volume, volume.geometry.orientation) is volume
    assert reorient_geometry(volume.geometry, "source") is volume.geometry
    assert reorient_geometry(volume.geometry, "SPL") is volume.geometry


@pytest.mark.parametrize("code", ["", "SP", "SPLL", "SPS", "LRS", "spl", "XYZ", "Source"])
def test_other_codes_are_refused(code):
    with pytest.raises(UsageError, match="three letters, one each"):
        reorient(numbered(oblique_geometry()), code)
    with pytest.raises(UsageError, match=r"(?s)is no orientation.*code='SPL'"):
        reorient_geometry(oblique_geometry(), code)


def rounded(geometry: Geometry, decimals: int) -> Geometry:
    directions = np.round(geometry.directions, decimals)
    return Geometry.from_spacing(
        geometry.shape, geometry.spacing, origin=geometry.origin, directions=directions
    )


@pytest.mark.parametrize(
    ("decimals", "angles"), list(product((4, 5), ((7.0, -11.0, 4.0), (30.0, 12.0, -40.0))))
)
def test_rounded_directions_become_orthonormal(decimals, angles):
    exact = oblique_geometry(shape=(60, 70, 90), angles=angles)
    header = rounded(exact, decimals)
    clean, changed = snap(header)
    assert changed
    assert np.abs(clean.directions.T @ clean.directions - np.eye(3)).max() < 1e-12
    assert np.allclose(clean.spacing, header.spacing, rtol=1e-12)
    middle = (np.asarray(header.shape) - 1) / 2
    assert np.allclose(clean.index_to_world(middle), header.index_to_world(middle))
    assert clean.distance_voxels(header) < 10.0**-decimals * 100


def test_exact_and_float32_directions_are_not_told():
    exact = oblique_geometry()
    assert snap(exact) == (exact, False)
    clean, changed = snap(Geometry(exact.shape, exact.affine.astype(np.float32)))
    assert not changed
    assert np.abs(clean.directions.T @ clean.directions - np.eye(3)).max() < 1e-12


@pytest.mark.parametrize("signs", list(product((-1.0, 1.0), repeat=3)))
def test_nearly_aligned_directions_become_exactly_aligned_of_either_hand(signs):
    tilted = oblique_directions((2e-4, -1e-4, 3e-4)) * signs  # degrees: 5e-6 radians
    geometry = Geometry.from_spacing(
        (5, 7, 9), (2.0, 1.0, 3.0), origin=(1, 2, 3), directions=tilted
    )
    clean, _ = snap(geometry)
    assert np.array_equal(clean.directions, np.eye(3)[:, ::-1] * signs)
    assert clean.spacing == pytest.approx((2.0, 1.0, 3.0))
    assert clean.orientation == geometry.orientation


def test_a_real_tilt_stays():
    geometry = oblique_geometry(angles=(0.1, 0.0, 0.0))
    clean, changed = snap(geometry)
    assert not changed
    assert np.allclose(clean.affine, geometry.affine, atol=1e-12)
