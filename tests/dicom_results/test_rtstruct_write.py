"""RTSTRUCT written and read again: the same voxels, names, colours; valid by dciodvfy."""

import subprocess

import numpy as np
import pydicom
import pytest
from io_support import rotation

from hilum.dicom_results.producer import Producer
from hilum.dicom_results.rtstruct import write_rtstruct
from hilum.errors import FormatError, GeometryError, LabelError
from hilum.examples import write_dicom_series
from hilum.io import read_geometry, read_labels, segments_of
from hilum.volume import Geometry, Label, LabelTable, Volume
from programs import require

PRODUCER = Producer("m0de1", "1.0")
TABLE = LabelTable(
    labels=(
        Label(id=0, name="background"),
        Label(id=1, name="Liver", code=("10200004", "SCT", "Liver"), colour=(200, 30, 60)),
        Label(id=3, name="Tumour"),
        Label(id=4, name="not there"),
    )
)


def random_labels(shape, seed=0):
    """Ragged labels with holes, islands and pixels that touch at corners."""
    rng = np.random.default_rng(seed)
    array = (rng.random((1, *shape)) < 0.7).astype(np.uint8)
    array[rng.random(array.shape) < 0.1] = 3
    return array


def series(folder, geometry):
    """A complete series on a grid; the grid as it is read."""
    image = Volume(np.zeros((1, *geometry.shape), dtype=np.int16), geometry)
    write_dicom_series(image, folder)
    return read_geometry(folder)


@pytest.fixture
def study(tmp_path, oblique):
    folder = tmp_path / "patient" / "study"
    return folder, series(folder / "ct", oblique)


@pytest.mark.parametrize(
    "axes", [(2, 1, 0), (1, 2, 0), (0, 2, 1)], ids=["axial", "coronal", "sagittal"]
)
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_round_trip_is_the_identity(tmp_path, axes, signs, turned):
    directions = np.eye(3)[:, list(axes)] * np.array(signs)
    if turned:
        directions = rotation(7) @ directions
    grid = Geometry.from_spacing(
        (4, 9, 13), (2.5, 0.7, 0.9), origin=(-31.3, 5.5, 800.7), directions=directions
    )
    folder = tmp_path / "patient" / "study"
    read = series(folder / "ct", grid)
    labels = Volume(random_labels(read.shape), read)
    write_rtstruct(labels, TABLE, folder / "ct", folder / "rs.dcm", producer=PRODUCER)
    again = read_labels(folder / "rs.dcm")
    np.testing.assert_array_equal(again.array, labels.array)
    assert again.geometry == read


def test_single_slice_comes_back(tmp_path):
    folder = tmp_path / "patient" / "study"
    read = series(folder / "ct", Geometry.from_spacing((1, 9, 13), (4, 0.5, 0.8)))
    labels = Volume(random_labels(read.shape), read)
    write_rtstruct(labels, TABLE, folder / "ct", folder / "rs.dcm", producer=PRODUCER)
    np.testing.assert_array_equal(read_labels(folder / "rs.dcm").array, labels.array)


def test_names_codes_and_references(study):
    folder, grid = study
    labels = Volume(random_labels(grid.shape), grid)
    write_rtstruct(labels, TABLE, folder / "ct", folder / "rs.dcm", producer=PRODUCER)
    found = segments_of(folder / "rs.dcm")
    assert [(one.name, one.value) for one in found] == [("Liver", 1), ("Tumour", 3)]
    assert found[0].code == ("10200004", "SCT", "Liver")
    assert found[0].colour == (200, 30, 60)
    data = pydicom.dcmread(folder / "rs.dcm")
    source = pydicom.dcmread(folder / "ct" / "0001.dcm")
    assert data.PatientID == source.PatientID
    assert data.FrameOfReferenceUID == source.FrameOfReferenceUID
    files = {pydicom.dcmread(file).SOPInstanceUID: file for file in (folder / "ct").iterdir()}
    for contour in data.ROIContourSequence[0].ContourSequence:
        named = files[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        place = np.array(pydicom.dcmread(named).ImagePositionPatient, dtype=float)
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        normal = grid.directions[:, 0]
        assert np.abs((points - place) @ normal).max() < 1e-3
    assert [one.ROIName for one in data.StructureSetROISequence] == ["Liver", "Tumour", "not there"]
    assert "ContourSequence" not in data.ROIContourSequence[2]


def test_the_same_labels_give_the_same_bytes(study, tmp_path):
    folder, grid = study
    labels = Volume(random_labels(grid.shape), grid)
    files = [tmp_path / "a.dcm", tmp_path / "b.dcm", tmp_path / "c.dcm"]
    for file in files[:2]:
        write_rtstruct(labels, TABLE, folder / "ct", file, producer=PRODUCER)
    assert files[0].read_bytes() == files[1].read_bytes()
    other = Volume(random_labels(grid.shape, seed=1), grid)
    write_rtstruct(other, TABLE, folder / "ct", files[2], producer=PRODUCER)
    first, last = (pydicom.dcmread(file) for file in files[1:])
    assert first.SOPInstanceUID != last.SOPInstanceUID


def test_dciodvfy_finds_no_error(study):
    program = require("dciodvfy")
    folder, grid = study
    labels = Volume(random_labels(grid.shape), grid)
    write_rtstruct(labels, TABLE, folder / "ct", folder / "rs.dcm", producer=PRODUCER)
    run = subprocess.run([program, folder / "rs.dcm"], capture_output=True, text=True, check=False)
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error")]
    assert errors == []


def test_labels_elsewhere_or_unknown_are_refused(study, tmp_path):
    folder, grid = study
    away = Volume(np.zeros((1, *grid.shape), dtype=np.uint8), grid.shifted((0, 1, 0), grid.shape))
    with pytest.raises(GeometryError, match="the labels lie on another grid than"):
        write_rtstruct(away, TABLE, folder / "ct", tmp_path / "a.dcm", producer=PRODUCER)
    strange = Volume(np.full((1, *grid.shape), 9, dtype=np.uint8), grid)
    with pytest.raises(LabelError, match="hold 9, which the label table does not name"):
        write_rtstruct(strange, TABLE, folder / "ct", tmp_path / "a.dcm", producer=PRODUCER)
    assert not (tmp_path / "a.dcm").exists()


def test_images_without_a_position_are_refused(tmp_path):
    series(tmp_path / "cr", Geometry.from_spacing((1, 9, 13), (4, 0.5, 0.8)))
    file = tmp_path / "cr" / "0001.dcm"
    data = pydicom.dcmread(file)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.Modality = "CR"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        delattr(data, keyword)
    data.save_as(file)
    grid = read_geometry(tmp_path / "cr")
    labels = Volume(np.ones((1, *grid.shape), dtype=np.uint8), grid)
    with pytest.raises(FormatError, match="do not say where they lie in the patient"):
        write_rtstruct(labels, TABLE, tmp_path / "cr", tmp_path / "rs.dcm", producer=PRODUCER)
