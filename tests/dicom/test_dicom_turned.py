"""However a series is stored, the volume in the patient is the same: 0 voxels differ."""

import itertools
import shutil

import numpy as np
import pydicom
import pytest
from dicom_series import turned_in_plane, write_enhanced
from io_support import write_series

from hilum.dicom.stack import open_stack
from hilum.io import inspect_file, read_geometry, read_volume
from hilum.volume import Geometry, Volume
from hilum.volume.orient import reorient

PLANES = [
    (swap, rows, columns) for swap, rows, columns in itertools.product((False, True), repeat=3)
]


def canonical(folder):
    """Read a folder onto the canonical axes."""
    return reorient(read_volume(folder))


def same(one, other):
    np.testing.assert_array_equal(one.array, other.array)
    return one.geometry.is_close(other.geometry, tolerance_voxels=1e-3)


def slightly_turned():
    """A volume that lies nearly along the patient's axes, so that each turn has its own name."""
    angle = np.radians(4)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    geometry = Geometry.from_spacing(
        (4, 5, 7), (2.5, 0.7, 0.9), origin=(-31.25, 5.5, 100.75), directions=turn[:, ::-1]
    )
    return Volume(np.arange(140, dtype=np.int16).reshape(1, 4, 5, 7) * 7 - 500, geometry)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_48_orientations_are_one_volume(tmp_path, axes, flips):
    volume = slightly_turned()
    shape = [volume.geometry.shape[axis] for axis in axes]
    affine = volume.geometry.affine[:, [*axes, 3]].copy()
    array = volume.array[0].transpose(axes)
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1
    array = array[tuple(slice(None, None, flip) for flip in flips)]
    write_series(tmp_path, Volume(array[np.newaxis], Geometry(tuple(shape), affine)))
    assert same(canonical(tmp_path), reorient(volume))


def test_shuffled_and_renamed_files_are_one_volume(tmp_path, volume):
    files = write_series(tmp_path / "a", volume)
    (tmp_path / "b").mkdir()
    for number, name in enumerate(("z", "7.dcm", "a.IMA", "IM-0000.dcm")):
        shutil.copy(files[(number * 3 + 1) % 4], tmp_path / "b" / name)
    assert read_volume(tmp_path / "a") == read_volume(tmp_path / "b")


def test_an_enhanced_twin_is_one_volume(tmp_path, volume):
    files = write_series(tmp_path / "a", volume)
    for seed in range(4):
        twin = write_enhanced(tmp_path / f"{seed}.dcm", files, seed=seed)
        assert read_volume(twin) == read_volume(tmp_path / "a")
        assert inspect_file(twin).geometry == read_geometry(tmp_path / "a")


def tilted(folder, turned=(False, False, False), *, step=0.6375, backwards=False):
    """A head CT whose slices move along their rows from one to the next."""
    geometry = Geometry.from_spacing((6, 12, 10), (4, 0.5, 0.5), origin=(-3, 7, 20))
    grid = np.indices(geometry.shape)
    array = (grid[0] * 211 + grid[1] * 37 + grid[2] ** 2 * 5).astype(np.int16)[np.newaxis]
    series = [f"1.2.3.{int(backwards)}"]
    files = write_series(
        folder,
        Volume(array, geometry),
        SeriesInstanceUID=series[0],
        ImagePositionPatient=lambda n: [
            f"{v:.10g}" for v in geometry.index_to_world((n, n * step, 0))
        ],
        **({"InstanceNumber": lambda n: 6 - n} if backwards else {}),
    )
    for file in files:
        data = pydicom.dcmread(file)
        turned_in_plane(data, swap=turned[0], rows=turned[1], columns=turned[2])
        data.save_as(file)
    return folder


@pytest.mark.parametrize("turned", PLANES)
def test_a_tilted_series_is_one_volume_however_it_is_stored(tmp_path, turned):
    straight = canonical(tilted(tmp_path / "a"))
    other = canonical(tilted(tmp_path / "b", turned, backwards=True))
    assert straight.geometry.shape == (6, 16, 10)
    assert same(straight, other)


def test_a_tilted_series_is_sheared_straight_and_said(tmp_path):
    tilted(tmp_path)
    facts = inspect_file(tmp_path)
    assert "the gantry was tilted by 4.6 degrees" in facts.notes[0]
    assert facts.geometry.spacing == pytest.approx((4, 0.5, 0.5))
    volume, opened = read_volume(tmp_path), open_stack(tmp_path)
    assert volume.geometry == facts.geometry == opened.geometry
    for index, frame in enumerate(opened.frames):
        pixels = pydicom.dcmread(frame.path).pixel_array.astype(float) - 1024
        # the place of a pixel in the middle of the slice, and what lies there
        world = frame.position + 5 * 0.5 * frame.orientation[1] + 4 * 0.5 * frame.orientation[0]
        z, y, x = volume.geometry.world_to_index(world)
        assert (z, x) == pytest.approx((index, 4), abs=1e-3)
        low, part = int(np.floor(y + 1e-6)), y - np.floor(y + 1e-6)
        lines = volume.array[0, index, :, 4].astype(float)
        if part < 1e-3:
            assert lines[low] == pixels[5, 4]
        assert pixels[4, 4] <= lines[low] <= pixels[6, 4]


def test_values_between_pixels_of_a_tilted_slice_are_linear(tmp_path):
    tilted(tmp_path, step=0.75)
    opened, array = open_stack(tmp_path), read_volume(tmp_path).array[0]
    assert opened.offsets is not None
    np.testing.assert_allclose(opened.offsets[:, 0], np.arange(6) * 0.75, atol=1e-4)
    for index, offset in enumerate(opened.offsets[:, 0]):
        pixels = pydicom.dcmread(opened.frames[index].path).pixel_array[:, 3].astype(float) - 1024
        rows = np.arange(int(np.ceil(offset)), int(offset) + 12)
        expected = np.interp(rows - offset, np.arange(12), pixels)
        np.testing.assert_array_equal(array[index, rows, 3], np.rint(expected))
        places = np.arange(array.shape[1])
        outside = array[index, (places <= offset - 1) | (places >= offset + 12), 3]
        assert (outside == array.min()).all()


def test_labels_of_a_tilted_series_come_back_to_its_frames(tmp_path):
    tilted(tmp_path)
    opened = open_stack(tmp_path)
    drawn = np.random.default_rng(0).integers(0, 3, (6, 12, 10)).astype(np.uint8)
    laid = opened.from_frames(drawn)
    assert laid.shape == opened.geometry.shape
    np.testing.assert_array_equal(opened.to_frames(laid), drawn)
    straight = open_stack(tilted(tmp_path / "b", step=0))
    assert straight.to_frames(drawn) is drawn
    assert straight.from_frames(drawn) is drawn
