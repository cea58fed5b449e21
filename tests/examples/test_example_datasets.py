"""The synthetic data sets and the DICOM series open as what they are."""

import csv
import json

import nibabel
import numpy as np
import pydicom
import pytest

from hilum.errors import UsageError
from hilum.examples import (
    ABDOMEN_LABELS,
    SeriesTags,
    make_abdomen_ct,
    make_abdomen_dataset,
    make_nodule_ct,
    make_nodule_dataset,
    write_dicom_series,
)
from hilum.volume import Geometry, Volume

SMALL = (10, 16, 20)


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory):
    seen = []
    folder = make_abdomen_dataset(
        tmp_path_factory.mktemp("abdomen") / "set",
        cases=5,
        tests=1,
        seed=3,
        shape=SMALL,
        progress=lambda *a: seen.append(a[:2]),
    )
    assert seen == [(n, 6) for n in range(1, 7)]
    return folder


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_abdomen_folder_is_nnunet_raw(abdomen):
    facts = json.loads((abdomen / "dataset.json").read_text())
    assert facts["channel_names"] == {"0": "CT"}
    assert facts["labels"] == {label.name: label.id for label in ABDOMEN_LABELS.labels}
    assert sorted(p.name for p in (abdomen / "imagesTr").iterdir()) == [
        f"abdomen_{n:03d}_0000.nii.gz" for n in range(5)
    ]
    image = nibabel.load(abdomen / "imagesTr/abdomen_002_0000.nii.gz")
    labels = nibabel.load(abdomen / "labelsTr/abdomen_002.nii.gz")
    assert image.shape == labels.shape == SMALL[::-1]
    assert np.allclose(image.affine, labels.affine)
    assert (abdomen / "imagesTs/abdomen_test_000_0000.nii.gz").is_file()
    assert (abdomen / "labelsTs/abdomen_test_000.nii.gz").is_file()
    assert len(list((abdomen / "dicomTs/abdomen_test_000").iterdir())) == SMALL[0]


def test_patients_have_one_or_two_studies(abdomen):
    patients = [row["patient"] for row in rows(abdomen / "patients.csv")]
    assert patients == ["P00000", "P00001", "P00001", "P00002", "P00003", "P10000"]
    per_patient = {
        row["patient"]: (row["sex"], row["age"], row["site"])
        for row in rows(abdomen / "patients.csv")
    }
    assert all(
        (row["sex"], row["age"], row["site"]) == per_patient[row["patient"]]
        for row in rows(abdomen / "patients.csv")
    )


def test_open_dataset_knows_cases_and_patients(abdomen):
    from hilum.dataset import open_dataset

    dataset = open_dataset(abdomen)
    assert dataset.channels == ("CT",)
    assert dataset.labels is not None
    assert dataset.labels.ids == ABDOMEN_LABELS.ids
    assert [case.patient for case in dataset.cases] == [
        "P00000",
        "P00001",
        "P00001",
        "P00002",
        "P00003",
    ]
    assert [case.id for case in dataset.unlabelled] == ["abdomen_test_000"]


def test_chosen_structures_are_renumbered(tmp_path):
    from hilum.io import read_labels

    folder = make_abdomen_dataset(
        tmp_path, cases=1, tests=0, shape=SMALL, structures=["spleen", "liver"]
    )
    full = make_abdomen_dataset(tmp_path / "full", cases=1, tests=0, shape=SMALL)
    chosen, everything = (
        read_labels(f / "labelsTr/abdomen_000.nii.gz").array for f in (folder, full)
    )
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "spleen": 1,
        "liver": 2,
    }
    assert np.array_equal(chosen == 1, everything == 3)
    assert np.array_equal(
        chosen == 2, (everything == 1) | (everything == 2)
    )  # tumours count as liver


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(UsageError, match="different names out of liver, liver tumour"):
        make_abdomen_dataset(tmp_path, structures=["heart"])
    with pytest.raises(UsageError, match="at least one case"):
        make_abdomen_dataset(tmp_path, cases=0)
    with pytest.raises(UsageError, match="at least one case"):
        make_nodule_dataset(tmp_path, cases=0)
    with pytest.raises(UsageError, match='"benign" or "malignant"'):
        make_nodule_ct(0, "odd")


def test_nodules_differ_by_kind():
    def diameter(kind, seed):
        study = make_nodule_ct(seed, kind, shape=(16, 32, 32))
        return (study.labels.array.sum() * study.labels.geometry.voxel_volume_mm3) ** (1 / 3)

    benign, malignant = (
        [diameter(kind, seed) for seed in range(12)] for kind in ("benign", "malignant")
    )
    assert min(benign) > 0
    assert np.mean(malignant) > 1.3 * np.mean(benign)
    assert max(benign) > min(malignant)  # size alone does not tell


def test_nodule_table(tmp_path):
    from hilum.dataset import open_dataset

    seen = []
    folder = make_nodule_dataset(
        tmp_path / "nodules", cases=6, shape=(8, 16, 16), progress=lambda *a: seen.append(a[:2])
    )
    assert seen[-1] == (6, 6)
    table = rows(folder / "cases.csv")
    assert [row["label"] for row in table] == ["benign", "malignant"] * 3
    assert len({row["patient"] for row in table}) == 5
    dataset = open_dataset(folder)
    assert all(case.annotation is not None and case.patient for case in dataset.cases)
    dataset = open_dataset(folder, label="label")
    assert dataset.classes.names == ("benign", "malignant")
    assert all(case.region is not None and case.patient for case in dataset.cases)


def test_dicom_series_is_the_volume(tmp_path):
    """SimpleITK, an independent reader, puts every voxel at the same place with the same HU."""
    sitk = pytest.importorskip("SimpleITK")
    image = make_abdomen_ct(9, shape=SMALL).image
    files = write_dicom_series(image, tmp_path / "series", tags=SeriesTags(patient_id="X1"))
    assert [f.name for f in files] == [f"{n:04d}.dcm" for n in range(1, SMALL[0] + 1)]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    read = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(read), image.array[0])
    for index in ((0, 0, 0), (3, 5, 7), (9, 15, 19)):
        there = read.TransformIndexToPhysicalPoint(index[::-1])
        assert there == pytest.approx(image.geometry.index_to_world(index), abs=1e-3)


def test_dicom_tags_and_uids(tmp_path):
    image = make_abdomen_ct(9, shape=SMALL).image
    first, again, other = (
        [
            pydicom.dcmread(f)
            for f in write_dicom_series(image, tmp_path / name, tags=SeriesTags(uid_seed=seed))
        ]
        for name, seed in (("a", "s"), ("b", "s"), ("c", "t"))
    )
    assert len({d.SOPInstanceUID for d in first}) == SMALL[0]
    assert (
        len({(d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID) for d in first}) == 1
    )
    assert [d.SOPInstanceUID for d in first] == [d.SOPInstanceUID for d in again]
    assert first[0].SeriesInstanceUID != other[0].SeriesInstanceUID
    assert (first[0].Modality, first[0].PatientID, first[0].RescaleIntercept) == (
        "CT",
        "SYN-0001",
        -1024,
    )
    grid = Geometry.from_spacing((2, 3, 4), frame_of_reference="1.2.3")
    kept = write_dicom_series(Volume(np.zeros((1, 2, 3, 4), np.int16), grid), tmp_path / "d")
    assert pydicom.dcmread(kept[0]).FrameOfReferenceUID == "1.2.3"


def test_dicom_refuses_what_it_cannot_hold(tmp_path):
    grid = Geometry.from_spacing((2, 3, 4))
    with pytest.raises(UsageError, match="2 channels"):
        write_dicom_series(Volume(np.zeros((2, 2, 3, 4)), grid), tmp_path)
    with pytest.raises(UsageError, match="finite HU from -1024"):
        write_dicom_series(Volume(np.full((1, 2, 3, 4), -2000.0), grid), tmp_path)
    with pytest.raises(UsageError, match="finite HU from -1024"):
        write_dicom_series(Volume(np.full((1, 2, 3, 4), np.nan), grid), tmp_path)


def test_nothing_that_is_there_is_replaced(tmp_path):
    """A user's image was written over by the README's first command."""
    own = tmp_path / "own" / "imagesTr" / "abdomen_000_0000.nii.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"my scan")
    with pytest.raises(UsageError, match="already holds imagesTr"):
        make_abdomen_dataset(tmp_path / "own", cases=1, tests=0, shape=(8, 20, 24))
    assert own.read_bytes() == b"my scan"
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == ["imagesTr"]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "cases.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"already holds cases\.csv"):
        make_nodule_dataset(tmp_path / "table", cases=2, shape=(8, 20, 20))
    image = make_abdomen_ct(0, shape=(8, 20, 24)).image
    write_dicom_series(image, tmp_path / "series")
    with pytest.raises(UsageError, match=r"0001\.dcm, 0002\.dcm, 0003\.dcm and 5 more"):
        write_dicom_series(image, tmp_path / "series")
