"""Patients of cases: from patients.csv, a pattern, or the two sides in its name."""

import pytest
from dataset_samples import pictures

from hilum.dataset import make_folds, open_dataset
from hilum.errors import DataError, UsageError


def test_patients_from_file_and_pattern(tmp_path):
    root = pictures(tmp_path, ids=("Image_01L", "Image_01R", "Image_02L"))
    dataset = open_dataset(root, patients=r"(Image_\d+)")
    assert [case.patient for case in dataset.cases] == ["Image_01", "Image_01", "Image_02"]
    with pytest.raises(UsageError, match="is no regular expression"):
        open_dataset(root, patients="(")
    with pytest.raises(UsageError, match="is not found in the case ids Image_01L"):
        open_dataset(root, patients="R$")
    (root / "patients.csv").write_text("case,patient\nImage_01L,A\nImage_01R,A\n")
    dataset = open_dataset(root)
    assert [case.patient for case in dataset.cases] == ["A", "A", None]
    assert any("the patients of 1 cases are not known" in note for note in dataset.notes)
    (root / "patients.csv").write_text("id,who\n")
    with pytest.raises(DataError, match="a column of cases"):
        open_dataset(root)


def test_patients_under_the_names_that_the_table_of_cases_takes(tmp_path):
    root = pictures(tmp_path, ids=("a", "b", "c"))
    (root / "patients.csv").write_text("Case ID,Subject-ID,site\na,1,x\nb,1,y\nc,2,y\n")
    dataset = open_dataset(root)
    assert [case.patient for case in dataset.cases] == ["1", "1", "2"]
    assert dataset["b"].columns == {"site": "y"}
    (root / "patients.csv").write_text("id,group\na,1\nb,1\nc,2\n")
    dataset = open_dataset(root)
    assert [case.patient for case in dataset.cases] == ["1", "1", "2"]
    assert any('"group" stands for the patient' in note for note in dataset.notes)


def test_rows_that_lost_the_zeros_of_their_case(tmp_path):
    root = pictures(tmp_path, ids=("007", "010", "Ab"))
    (root / "patients.csv").write_text("case,patient\n7,A\n10.0,A\nab,B\n")
    dataset = open_dataset(root)
    assert [case.patient for case in dataset.cases] == ["A", "A", "B"]
    assert any(
        "3 of 3 rows" in note and "write their case otherwise: 7 is 007" in note
        for note in dataset.notes
    )
    (root / "patients.csv").write_text("case,patient\n7,A\n07,B\n")  # whose is 007?
    assert [case.patient for case in open_dataset(root).cases] == [None] * 3


@pytest.mark.parametrize(
    ("ids", "patients"),
    [
        (
            ("Image_01L", "Image_01R", "Image_02L", "Image_02R"),
            ["Image_01", "Image_01", "Image_02", "Image_02"],
        ),
        (("p7_left", "p7_right"), ["p7", "p7"]),
        (
            ("Image_01L", "Image_01R", "Image_02L", "Image_03", "Image_04"),
            [None] * 5,
        ),  # few pairs are chance
        (("Image_01L", "Image_02L", "Image_03R"), [None] * 3),
        (("scan_AR", "scan_BL"), [None] * 2),  # a letter before L or R: part of a word
    ],
)
def test_both_sides_of_a_patient_are_one_patient(tmp_path, ids, patients):
    dataset = open_dataset(pictures(tmp_path, ids=ids))
    assert [case.patient for case in dataset.cases] == patients
    assert any("pairs of a left and a right side" in note for note in dataset.notes) is (
        patients[0] is not None
    )
    if len(set(patients)) > 1:
        for fold in make_folds(dataset, 2):
            assert not {dataset[c].patient for c in fold.train} & {
                dataset[c].patient for c in fold.validation
            }
