"""Folders of DICOM studies: every annotation finds its series, or it is said."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from hilum.dataset import check, open_dataset, read_annotation, read_case
from hilum.dataset.annotation import DicomSegments
from hilum.dataset.columns import role_of
from hilum.dataset.leaks.columns import predictors
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.rtstruct import write_rtstruct
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation.covariates import choose_columns
from hilum.examples import write_dicom_series
from hilum.examples.dicom import SeriesTags
from hilum.io import read_geometry
from hilum.volume import Geometry, LabelTable, Volume

PRODUCER = Producer("m0de1", "1.0")
NAMES = {1: "Liver", 2: "Tumour"}


def write_images(folder, patient, number=2, **more):
    """Write a series; its grid as it is read."""
    rng = np.random.default_rng(hash((patient, number)) % 1000)
    geometry = Geometry.from_spacing((5, 8, 12), (3, 1, 1), origin=(-20, 5, 100))
    array = rng.integers(-500, 500, (1, 5, 8, 12)).astype(np.int16)
    tags = SeriesTags(patient_id=patient, series_number=number, uid_seed=patient, **more)
    write_dicom_series(Volume(array, geometry), folder, tags=tags)
    return read_geometry(folder)


def sample_labels(geometry, ids=(1, 2), seed=0):
    """A block of the first label and a smaller one of the second inside."""
    array = np.zeros((1, *geometry.shape), dtype=np.uint8)
    array[0, 1:4, 1:6, 2 : 9 + seed] = ids[0]
    if len(ids) > 1:
        array[0, 2, 2:4, 3:6] = ids[1]
    return Volume(array, geometry)


def write_study(folder, patient, *, kind="seg", names=NAMES, where="annotation", **more):
    """Write a study with an annotation; the labels."""
    geometry = write_images(folder / "ct", patient, **more)
    labels = sample_labels(geometry, tuple(names))
    write = {"seg": write_segmentation, "rtstruct": write_rtstruct}[kind]
    (folder / where).mkdir(exist_ok=True)
    path = folder / where / f"{kind}.dcm"
    write(labels, LabelTable.from_names(names), folder / "ct", path, producer=PRODUCER)
    return labels


@pytest.fixture
def studies(tmp_path):
    """Four studies, SEG and RTSTRUCT in turn, each annotation in a folder of its own."""
    root = tmp_path / "data"
    for number in range(4):
        kind = ("seg", "rtstruct")[number % 2]
        write_study(root / f"case{number}" / "study", f"P{number % 3}", kind=kind)
    return root


def test_studies_are_cases_with_patients_channel_and_labels(studies):
    dataset = open_dataset(studies)
    assert dataset.layout == "dicom-studies"
    assert [case.id for case in dataset.cases] == ["case0", "case1", "case2", "case3"]
    assert [case.patient for case in dataset.cases] == ["P0", "P1", "P2", "P0"]
    assert dataset.channels == ("CT",)
    assert dataset.labels is not None
    assert [(one.id, one.name) for one in dataset.labels.foreground] == [
        (1, "Liver"),
        (2, "Tumour"),
    ]
    assert dataset.labels.labels[1].code == ("10200004", "SCT", "Liver")
    for case in dataset.cases:
        labels = read_annotation(case)
        assert labels.geometry == read_case(case).geometry
        np.testing.assert_array_equal(labels.array, sample_labels(labels.geometry).array)


def write_described(root, name, **stated):
    """Write a study whose headers state more of patient and scanner."""
    write_study(root / name, name.upper(), attributes=stated)


def test_headers_describe_the_cases_and_name_nobody(tmp_path):
    root = tmp_path / "data"
    scanner = {"Manufacturer": "Siemens", "ManufacturerModelName": "Sensation 64"}
    write_described(root, "a", PatientAge="045Y", PatientSex="F", **scanner,
                    PatientBirthDate="19800102", PatientWeight="70")  # fmt: skip
    write_described(root, "b", PatientAge="018M", BodyPartExamined="", ManufacturerModelName="")
    write_described(root, "c", PatientAge="101Y", PatientSex="M")
    write_described(root, "d", PatientAge="")
    first, *others = open_dataset(root).cases
    assert first.columns == {
        "body_part": "ABDOMEN",
        "sex": "F",
        "age": "45",
        "scanner": "Siemens Sensation 64",
    }
    assert [one.columns.get("age") for one in others] == ["1.5", "90", None]
    assert others[0].columns == {"age": "1.5", "scanner": "hilum"}
    chosen = choose_columns([one.columns for one in (first, *others)] * 2, [""] * 8)
    assert chosen.names == ("age", "body_part", "sex", "scanner")
    assert {role_of(name) for name in first.columns} == {"description"}


def test_patients_csv_counts_before_the_headers(tmp_path):
    for name, sex in (("a", "F"), ("b", "M")):
        write_described(tmp_path / "data", name, PatientSex=sex, PatientAge="045Y")
    rows = "case,patient,label,sex\na,A,ill,female\nb,B,well,male\n"
    (tmp_path / "data" / "patients.csv").write_text(rows)
    dataset = open_dataset(tmp_path / "data", task="classification")
    assert [one.label for one in dataset.cases] == ["ill", "well"]
    assert [one.columns["sex"] for one in dataset.cases] == ["female", "male"]
    assert {*dataset.cases[0].columns} == {"body_part", "sex", "age", "scanner"}
    rows = "case,patient,label,sex,age\na,A,ill,,46\nb,B,well,male,n/a\n"
    (tmp_path / "data" / "patients.csv").write_text(rows)
    cases = open_dataset(tmp_path / "data", task="classification").cases
    found = [(one.columns["sex"], one.columns["age"]) for one in cases]
    assert found == [("F", "46"), ("male", "45")]  # a cell without a value takes nothing away


def test_columns_of_headers_do_not_hide_where_labels_go(tmp_path):
    for name in "ab":
        write_described(tmp_path / "data", name, PatientSex="F")
    with pytest.raises(UsageError, match="no column is named like a label") as caught:
        open_dataset(tmp_path / "data", task="classification")
    assert caught.value.cure.startswith("label='COLUMN'; or write a ")
    assert "patients.csv with the columns case, patient, label" in caught.value.cure


def test_the_leak_audit_sees_columns_of_headers(tmp_path):
    for name, sex in (("a", "F"), ("b", "M")):
        write_described(tmp_path / "data", name, PatientSex=sex, PatientAge="045Y")
    (tmp_path / "data" / "patients.csv").write_text("case,patient,label\na,A,ill\nb,B,well\n")
    dataset = open_dataset(tmp_path / "data", task="classification")
    cases = [replace(case, id=f"{case.id}{n}") for case in dataset.cases for n in range(40)]
    found = predictors(cases, dataset.classes, {case.id: case.id for case in cases}, {})
    assert [(one.column, one.origin) for one in found] == [("sex", "table")]


def test_check_accounts_for_every_file(studies):
    report = studies / "case1" / "study" / "report.pdf"
    report.write_bytes(b"%PDF")
    write_images(studies / "case1" / "study" / "second", "P1", number=3)
    dataset = open_dataset(studies)
    files = dataset.files
    assert files is not None
    count = sum(path.is_file() for path in studies.rglob("*"))
    assert files.taken + len(files.others) == count
    reasons = {one.path.name: one.reason for one in files.others}
    assert reasons["report.pdf"] == "text"
    assert reasons["0001.dcm"] == "a series that no annotation refers to"
    assert not [one for one in check(dataset) if one.severity == "error"]


def test_check_says_what_overlaps_and_what_cannot_be_filled(studies):
    study = studies / "case1" / "study"
    data = pydicom.dcmread(study / "annotation" / "rtstruct.dcm")
    outer, inner = (item.ContourSequence for item in data.ROIContourSequence)
    outer[0].ContourGeometricType = "OPEN_PLANAR"
    inner.append(outer[1])
    data.save_as(study / "annotation" / "rtstruct.dcm")
    found = "\n".join(one.found for one in check(open_dataset(studies)))
    assert "contours that enclose nothing (OPEN_PLANAR) are left out: Liver (1)" in found
    assert "structures overlap: " in found


def test_images_and_annotation_may_lie_in_one_folder(tmp_path):
    for number in range(2):
        folder = tmp_path / "data" / f"p{number}"
        write_study(folder, f"P{number}", where="ct")
        for file in (folder / "ct").iterdir():
            file.rename(folder / file.name)
        (folder / "ct").rmdir()
    dataset = open_dataset(tmp_path / "data")
    assert [case.id for case in dataset.cases] == ["p0", "p1"]
    assert read_annotation(dataset.cases[1]).array.any()


def test_all_files_of_all_patients_may_lie_in_one_folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for number in range(2):
        write_study(tmp_path / "x", f"P{number}", kind="rtstruct")
        for place, file in enumerate(sorted((tmp_path / "x").rglob("*.dcm"))):
            file.rename(root / f"{number}{place}.dcm")
        shutil.rmtree(tmp_path / "x")
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == ["P0", "P1"]
    for case in dataset.cases:
        assert read_annotation(case).array.any()
        assert read_case(case).array.shape == (1, 5, 8, 12)
    files = dataset.files
    assert files is not None
    assert (files.taken, files.others) == (12, ())


def test_studies_of_a_patient_in_one_folder_are_named_by_date(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for number, year in enumerate((2019, 2020)):
        write_study(tmp_path / "x", "P", kind="rtstruct", study_date=f"{year}0101")
        for place, file in enumerate(sorted((tmp_path / "x").rglob("*.dcm"))):
            file.rename(root / f"{number}{place}.dcm")
        shutil.rmtree(tmp_path / "x")
    assert [case.id for case in open_dataset(root).cases] == ["P_20190101", "P_20200101"]


def test_labels_go_by_name_whatever_their_numbers_and_spelling(tmp_path):
    root = tmp_path / "data"
    write_study(root / "a", "A")
    write_study(root / "b", "B", names={7: "LIVER", 3: "tumour"}, kind="rtstruct")
    dataset = open_dataset(root)
    assert dataset.labels is not None
    assert dataset.labels.ids == (0, 1, 2)
    first, second = map(read_annotation, dataset.cases)
    np.testing.assert_array_equal(first.array, second.array)


def test_missing_structures_are_named(tmp_path):
    root = tmp_path / "data"
    write_study(root / "a", "A")
    write_study(root / "b", "B", names={1: "Liver"})
    notes = " ".join(open_dataset(root).notes)
    assert "structures that not every annotation has" in notes
    assert "Tumour (in 1 of 2)" in notes


def test_label_file_chooses_structures_and_the_others_hide_nothing(studies):
    (studies / "labels.json").write_text(json.dumps({"1": "liver"}))
    dataset = open_dataset(studies)
    assert dataset.labels is not None
    assert dataset.labels.ids == (0, 1)
    assert "structures that labels.json does not name are left out: Tumour" in dataset.notes
    case = dataset.cases[0]
    assert isinstance(case.annotation, DicomSegments)
    assert case.annotation.ids == {1: 1}
    assert not {2} & {*np.unique(read_annotation(case).array).tolist()}


def test_label_file_without_a_known_name_is_refused(studies):
    (studies / "labels.json").write_text(json.dumps({"1": "spleen"}))
    with pytest.raises(LabelError, match=r"labels\.json names spleen; the annotations hold Liver"):
        open_dataset(studies)


def test_several_annotations_of_a_series_are_listed_with_the_way_to_choose(studies):
    study = studies / "case0" / "study"
    labels = sample_labels(read_geometry(study / "ct"), seed=1)
    table = LabelTable.from_names(NAMES)
    write_rtstruct(labels, table, study / "ct", study / "second.dcm", producer=PRODUCER)
    dataset = open_dataset(studies)
    with pytest.raises(
        DataError, match=r"2 annotations of case case0: case0/study/second\.dcm .*seg\.dcm"
    ) as one:
        dataset.refuse_faults()
    assert "cases.csv" in one.value.cure
    found = [finding for finding in check(dataset) if finding.case == "case0"]
    assert any("2 annotations of case case0" in finding.found for finding in found)
    row = one.value.cure.rpartition(": ")[2]
    others = [
        f"{case.id},{case.images['CT']},{case.annotation.file}"
        for case in dataset.cases[1:]
        if isinstance(case.annotation, DicomSegments)
    ]
    (studies / "cases.csv").write_text("\n".join(["case,image,mask", row, *others]))
    chosen = open_dataset(studies)
    assert chosen.layout == "table"
    assert len(chosen.cases) == 4
    chosen.refuse_faults()
    for case in chosen.cases:
        expected = sample_labels(read_case(case).geometry, seed=int(case.id == "case0"))
        np.testing.assert_array_equal(read_annotation(case).array, expected.array)
    files = chosen.files
    assert files is not None
    assert [(one.path.name, one.reason) for one in files.others] == [
        ("seg.dcm", "a DICOM object that is no image (SEG)")
    ]


def test_annotations_without_images_or_damaged_are_named(studies):
    shutil.rmtree(studies / "case1" / "study" / "ct")
    damaged = studies / "case2" / "study" / "annotation" / "seg.dcm"
    data = damaged.read_bytes()
    damaged.write_bytes(data.replace(b"BINARY", b"BANANA"))
    shutil.rmtree(studies / "case2" / "study" / "ct")
    dataset = open_dataset(studies)
    assert [case.id for case in dataset.cases] == ["case0", "case3"]
    note = next(note for note in dataset.notes if note.startswith("annotations that are left out"))
    assert "rtstruct.dcm (the images that it was drawn on are not here)" in note
    assert "BANANA" in note
    found = {one.found: one for one in check(dataset) if one.kind == "orphan-annotation"}
    lone, broken = sorted(found, key=lambda text: "BANANA" in text)
    assert "rtstruct.dcm: the images that it was drawn on are not here" in lone
    uid = referenced_series(dataset.orphans[0].path)
    assert found[lone].cure.startswith(f"add series {uid} to the folder; or remove")
    assert "BANANA" in broken
    assert "export it again" in found[broken].cure


def referenced_series(rtstruct):
    """Read the UID of the only series that an RTSTRUCT names."""
    (frame,) = pydicom.dcmread(rtstruct).ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    return series.SeriesInstanceUID


def test_series_that_is_no_volume_is_left_out_as_such(studies):
    folder = studies / "case1" / "study" / "second"
    write_images(folder, "P1", number=3)
    (folder / "0003.dcm").unlink()
    files = open_dataset(studies).files
    assert files is not None
    assert [one.reason for one in files.others] == ["a DICOM series that is no volume"] * 4


def test_study_without_annotation_is_unlabelled_unless_it_has_several_series(studies):
    write_images(studies / "plain" / "ct", "Q")
    write_images(studies / "double" / "a", "R", number=1)
    write_images(studies / "double" / "b", "R", number=2)
    dataset = open_dataset(studies)
    assert [case.id for case in dataset.unlabelled] == ["plain"]
    assert "1 study without annotation counted as unlabelled" in dataset.notes
    assert "1 study of several series and no annotation left out" in dataset.notes


def test_copies_of_a_study_in_another_folder_are_a_case_of_their_own(studies):
    shutil.copytree(studies / "case0", studies / "again")
    dataset = open_dataset(studies)
    assert [case.id for case in dataset.cases] == ["again", "case0", "case1", "case2", "case3"]
    assert [case.fault for case in dataset.cases] == [None] * 5
    again, first = dataset.cases[:2]
    assert again.images["CT"].is_relative_to(studies / "again")
    assert again.annotation.source == again.images["CT"] != first.images["CT"]


def test_annotation_finds_its_volume_among_several_of_a_series(tmp_path):
    """Two acquisitions with one SeriesInstanceUID, each outlined by itself."""
    root = tmp_path / "data" / "a"
    table = LabelTable.from_names(NAMES)
    for number, place in enumerate(("first", "second")):
        geometry = write_images(tmp_path / place, place)
        for file in (tmp_path / place).iterdir():
            data = pydicom.dcmread(file)
            data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.3.4", "1.2.3"
            data.FrameOfReferenceUID, data.AcquisitionNumber = "1.2.5", number + 1
            data.save_as(file)
        labels = Volume(sample_labels(geometry, seed=number).array, read_geometry(tmp_path / place))
        (root / "ct").mkdir(parents=True, exist_ok=True)
        path = root / f"{place}.dcm"
        write_rtstruct(labels, table, tmp_path / place, path, producer=PRODUCER)
        for file in (tmp_path / place).iterdir():
            shutil.move(file, root / "ct" / f"{place}_{file.name}")
    dataset = open_dataset(tmp_path / "data")
    assert len(dataset.cases) == 2
    for case, number in zip(dataset.cases, (0, 1), strict=True):
        labels = read_annotation(case)
        assert labels.geometry == read_case(case).geometry
        expected = sample_labels(labels.geometry, seed=number)
        np.testing.assert_array_equal(labels.array, expected.array)


def test_no_annotation_of_images_that_are_there_is_refused(studies):
    for folder in studies.glob("*/study/ct"):
        shutil.rmtree(folder)
    with pytest.raises(
        DataError, match=r"no DICOM annotation of .* refers to images that are there"
    ):
        open_dataset(studies)


def test_annotations_of_nothing_are_refused(tmp_path):
    root = tmp_path / "data"
    geometry = write_images(root / "a" / "ct", "A")
    empty = Volume(np.zeros((1, *geometry.shape), dtype=np.uint8), geometry)
    table = LabelTable.from_names({1: "Liver"})
    write_rtstruct(empty, table, root / "a" / "ct", root / "a" / "rs.dcm", producer=PRODUCER)
    with pytest.raises(LabelError, match="name no structure with a voxel or contour"):
        open_dataset(root)
