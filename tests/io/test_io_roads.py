"""The same image by every road is one volume, wherever it lies and however it is turned."""

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from io_support import rotation, write_series

from hilum.io import read_geometry, read_volume, write_volume
from hilum.volume import Geometry, Volume

sizes = st.tuples(st.integers(2, 5), st.integers(3, 6), st.integers(2, 7))
spacings = st.tuples(*[st.floats(0.3, 6.0, allow_nan=False)] * 3)
origins = st.tuples(*[st.floats(-400, 400, allow_nan=False)] * 3)


@st.composite
def volumes(draw):
    """int16 volumes, oblique or along any axes, right-handed, as DICOM can hold them."""
    shape = draw(sizes)
    seed = draw(st.integers(0, 10_000))
    directions = (
        rotation(seed)
        if draw(st.booleans())
        else np.rint(
            rotation(seed) ** 3 * 0 + np.eye(3)[np.random.default_rng(seed).permutation(3)]
        )
    )
    if np.linalg.det(directions) < 0:
        directions[:, 0] *= -1
    directions = directions[:, [2, 1, 0]]  # z = x cross y, in array order
    geometry = Geometry.from_spacing(
        shape, draw(spacings), origin=draw(origins), directions=directions
    )
    array = np.random.default_rng(seed).integers(-1000, 3000, (1, *shape)).astype(np.int16)
    return Volume(array, geometry)


def roads(folder: Path, volume: Volume) -> dict[str, Path]:
    """Write the volume in every format."""
    paths = {name: folder / f"a.{name}" for name in ("nii", "nii.gz", "nrrd", "mha")}
    for path in paths.values():
        write_volume(volume, path)
    write_series(folder / "series", volume)
    return paths | {"dicom": folder / "series"}


@settings(deadline=None, max_examples=25, derandomize=True)
@given(volumes())
def test_every_road_gives_the_same_volume(volume):
    with tempfile.TemporaryDirectory() as folder:
        for name, path in roads(Path(folder), volume).items():
            again = read_volume(path)
            np.testing.assert_array_equal(again.array, volume.array, err_msg=name)
            assert again.array.dtype == np.int16, name
            assert again.geometry.is_close(volume.geometry, tolerance_voxels=1e-3), name
            assert read_geometry(path) == again.geometry, name


@settings(deadline=None, max_examples=15, derandomize=True)
@given(volumes())
def test_world_coordinates_are_those_of_itk(volume):
    with tempfile.TemporaryDirectory() as folder:
        paths = roads(Path(folder), volume)
        del paths[
            "dicom"
        ]  # its slice order is GDCM's; test_io_dicom compares voxels by their place
        for name, path in paths.items():
            image, geometry = sitk.ReadImage(str(path)), read_geometry(path)
            for z, y, x in geometry.corner_indices().astype(int):
                point = image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
                np.testing.assert_allclose(
                    geometry.index_to_world((z, y, x)), point, atol=1e-3, err_msg=name
                )


@settings(deadline=None, max_examples=15, derandomize=True)
@given(volumes())
def test_written_again_nothing_drifts(volume):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii.gz"
        write_volume(volume, path)
        first = read_volume(path)
        for _ in range(3):
            write_volume(read_volume(path), path)
        assert read_geometry(path).is_close(first.geometry, tolerance_voxels=1e-4)


@settings(deadline=None, max_examples=10, derandomize=True)
@given(sizes, spacings, origins)
def test_straight_grids_of_decimals_come_back_to_the_last_bit(shape, spacing, origin):
    geometry = Geometry.from_spacing(
        shape, [round(v, 3) for v in spacing], origin=[round(v, 2) for v in origin]
    )
    volume = Volume(np.zeros((2, *shape), np.uint8), geometry)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("nii", "mha"):  # NRRD stores the product of direction and spacing
            write_volume(volume, Path(folder) / f"a.{suffix}")
            assert read_volume(Path(folder) / f"a.{suffix}") == volume, suffix
