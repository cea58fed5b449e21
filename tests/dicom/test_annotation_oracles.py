"""Annotations of others, and hilum's read by others: the voxels of highdicom and dcmqi."""

import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from annotation_support import contour, series_uid, structure, write_rtstruct

from hilum.dicom.stack import open_stack
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.rtstruct import write_rtstruct as write_contours
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import FormatError
from hilum.examples import write_dicom_series
from hilum.io import inspect_file, read_geometry, read_labels, read_volume, segments_of
from hilum.volume import Geometry, LabelTable, Volume

TABLE = LabelTable.from_names({1: "Liver", 2: "Tumour"})
PRODUCER = Producer("m0de1", "1.0")


def sheared_series(folder, *, tilt=0.2, slices=7):
    """A series of a tilted gantry: each slice 3 mm on, and shifted along its columns."""
    import pydicom

    grid = Geometry.from_spacing((slices, 16, 12), (3, 1.1, 0.9), origin=(-5, 8, 40))
    rng = np.random.default_rng(1)
    image = Volume(rng.integers(0, 300, (1, *grid.shape)).astype(np.int16), grid)
    for index, file in enumerate(write_dicom_series(image, folder)):
        data = pydicom.dcmread(file)
        x, y, z = map(float, data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y + tilt * 3 * index, z]
        data.save_as(file)
    return open_stack(folder)


@pytest.fixture
def tilted(tmp_path):
    folder = tmp_path / "patient" / "study"
    stack = sheared_series(folder / "ct")
    assert stack.offsets is not None
    labels = np.zeros((1, *stack.geometry.shape), dtype=np.uint8)
    labels[0, 1:6, 5:14, 3:9] = 1
    labels[0, 2:4, 7:10, 4:6] = 2
    return folder, stack, Volume(labels, stack.geometry)


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_annotation_of_a_tilted_gantry_lies_on_its_own_slices(tilted, kind):
    """A mask written on the tilted frames comes back on the straight grid of the volume."""
    folder, stack, labels = tilted
    write = {"seg": write_segmentation, "rtstruct": write_contours}[kind]
    write(labels, TABLE, folder / "ct", folder / "annotation.dcm", producer=PRODUCER)
    again = read_labels(folder / "annotation.dcm")
    assert again.geometry == stack.geometry == read_volume(folder / "ct").geometry
    expected = stack.from_frames(stack.to_frames(labels.array[0]))
    np.testing.assert_array_equal(again.array[0], expected)
    assert (again.array != labels.array).mean() < 0.02


def test_contours_of_a_tilted_gantry_lie_in_its_own_planes(tilted):
    folder, stack, _ = tilted
    frame = stack.frames[3]
    columns, rows = frame.orientation
    corners = [(2.5, 1.5), (2.5, 8.5), (9.5, 8.5), (9.5, 1.5)]
    points = [frame.position + rows * r * 1.1 + columns * c * 0.9 for r, c in corners]
    uid = series_uid(sorted((folder / "ct").iterdir()))
    path = write_rtstruct(folder / "rs.dcm", [structure(1, "Liver", [contour(points)])], series=uid)
    on_frames = stack.to_frames(read_labels(path).array[0])
    expected = np.zeros_like(on_frames)
    expected[3, 3:10, 2:9] = 1
    np.testing.assert_array_equal(on_frames, expected)


def highdicom_labels(path, geometry):
    """Labels of a SEG as highdicom places them, sampled at the voxel centres of a grid."""
    found = hd.seg.segread(path)
    volume = found.get_volume(combine_segments=True, skip_overlap_checks=True)
    return sample(volume.array, np.linalg.inv(volume.affine), geometry)


def dcmqi_labels(path, out, geometry):
    """Labels of a SEG as dcmqi places them."""
    program = Path(sys.executable).with_name("segimage2itkimage")
    if not program.is_file():
        pytest.skip("segimage2itkimage is missing: pip install dcmqi")
    out.mkdir()
    subprocess.run(
        [program, "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nii"],
        check=True,
        capture_output=True,
    )
    labels = np.zeros(geometry.shape, dtype=int)
    for file in sorted(out.glob("*.nii*")):
        image = sitk.ReadImage(str(file))
        affine = np.eye(4)
        steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, :3], affine[:3, 3] = steps[:, ::-1], image.GetOrigin()
        found = sample(sitk.GetArrayFromImage(image), np.linalg.inv(affine), geometry)
        labels = np.where(found > 0, found, labels)
    return labels


def sample(array, to_index, geometry):
    """Take the values of another grid at the voxel centres of this one; 0 outside."""
    centres = geometry.index_to_world(np.argwhere(np.ones(geometry.shape)))
    index = np.rint(np.c_[centres, np.ones(len(centres))] @ to_index.T)[:, :3].astype(int)
    inside = ((index >= 0) & (index < array.shape)).all(axis=1)
    values = np.zeros(len(index), dtype=int)
    values[inside] = array[tuple(index[inside].T)]
    return values.reshape(geometry.shape)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_highdicom_and_dcmqi_place_the_same_voxels(tmp_path, oblique, kind):
    folder = tmp_path / "patient" / "study"
    shape = (6, 16, 11)
    grid = Geometry(shape, oblique.affine)
    image = Volume(np.zeros((1, *shape), dtype=np.int16), grid)
    write_dicom_series(image, folder / "ct")
    geometry = read_geometry(folder / "ct")
    array = np.random.default_rng(4).integers(0, 3, (1, *shape)).astype(np.uint8)
    path = folder / "seg.dcm"
    write_segmentation(
        Volume(array, geometry), TABLE, folder / "ct", path, producer=PRODUCER, kind=kind
    )
    ours = read_labels(path)
    np.testing.assert_array_equal(ours.array, array)
    np.testing.assert_array_equal(highdicom_labels(path, geometry), array[0])
    np.testing.assert_array_equal(dcmqi_labels(path, tmp_path / "out", geometry), array[0])


REAL = [
    "seg_labelmap/sparse-labelmap-noppv.dcm",
    "seg_labelmap/sparse-labelmap-ppv5.dcm",
    "seg_liver_ct_3slices/dicom_seg/liver.dcm",
    "highdicom_tests/seg_image_ct_binary.dcm",
    "highdicom_tests/seg_image_ct_binary_single_frame.dcm",
]


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_segmentations_as_highdicom_places_them(real_data, name):
    path = real_data / "dicom" / name
    ours = read_labels(path)
    theirs = highdicom_labels(path, ours.geometry)
    np.testing.assert_array_equal(ours.array[0], theirs)
    assert ours.array.any()


@pytest.mark.real_data
def test_liver_lies_on_its_ct_as_in_the_nrrd_beside_it(real_data):
    folder = real_data / "dicom" / "seg_liver_ct_3slices"
    labels = read_labels(folder / "dicom_seg" / "liver.dcm")
    assert labels.geometry == read_geometry(folder / "ct")
    nrrd = read_labels(folder / "nrrd" / "liver_seg.nrrd")
    mask = sample(nrrd.array[0], np.linalg.inv(nrrd.geometry.affine), labels.geometry)
    np.testing.assert_array_equal(labels.array[0] > 0, mask > 0)
    (liver,) = segments_of(folder / "dicom_seg" / "liver.dcm")
    assert (liver.name, liver.colour) == ("Liver", (221, 130, 101))


@pytest.mark.real_data
def test_partial_overlaps_are_counted(real_data):
    path = real_data / "dicom" / "seg_liver_ct_3slices" / "dicom_seg" / "partial_overlaps.dcm"
    labels = read_labels(path)
    assert np.unique(labels.array).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(inspect_file(path).segments) == 5
    shared = hd.seg.segread(path).get_volume(combine_segments=False).array.sum(axis=-1) > 1
    assert shared.any()


@pytest.mark.real_data
def test_slides_are_refused(real_data):
    for path in sorted((real_data / "dicom" / "highdicom_tests").glob("seg_image_sm_*.dcm")):
        with pytest.raises(FormatError, match="of a whole slide, stored in tiles"):
            read_labels(path)
