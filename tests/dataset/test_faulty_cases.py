"""A case that cannot be used is named with its fault, and the others go on."""

import pytest
from dataset_samples import nnunet, pictures
from PIL import Image

from hilum.dataset import check, fix, open_dataset, read_case
from hilum.errors import DataError, FormatError
from hilum.files import OutputFolder
from hilum.plan import make_fingerprint


def test_rows_whose_files_are_not_there_do_not_stop_the_others(tmp_path):
    root = pictures(tmp_path)
    (root / "cases.csv").write_text(
        "image,mask\np1.png,p1.png\ngone.png,p2.png\np3.png,nomask.png\n"
    )
    dataset = open_dataset(root)
    assert [finding.case for finding in check(dataset) if finding.severity == "error"] == [
        "gone",
        "p3",
    ]
    assert fix(dataset, check(dataset), tmp_path.with_name("copy_of_rows")).cases == ("p1",)
    with pytest.raises(
        DataError,
        match=(
            r"gone: .*line 3: the file 'gone.png' does not exist\n  p3: .*nomask.png does not exist"
        ),
    ):
        make_fingerprint(dataset)
    with pytest.raises(DataError, match=r"gone: .*\n  p3: .*nomask.png does not exist"):
        dataset.refuse_faults()


def test_damaged_first_image_does_not_stop_the_others(tmp_path):
    root = nnunet(tmp_path)
    (root / "dataset.json").unlink()
    (root / "imagesTr" / "a_0000.nii.gz").write_bytes(b"no image")
    dataset = open_dataset(root)
    assert dataset.channels == ("image",)
    assert [finding.case for finding in check(dataset) if finding.severity == "error"] == ["a"]


def test_missing_channel_file(tmp_path):
    root = nnunet(tmp_path, channels=("PET", "CT", "MR"))
    (root / "imagesTr" / "c_0001.nii.gz").unlink()
    (root / "imagesTr" / "d_0001.nii.gz").unlink()
    (root / "imagesTr" / "d_0002.nii.gz").unlink()
    dataset = open_dataset(root)
    wrong = [finding for finding in check(dataset) if finding.severity == "error"]
    assert [(finding.case, finding.kind) for finding in wrong] == [
        ("c", "unreadable"),
        ("d", "unreadable"),
    ]
    assert "add the missing file, e.g. d_0001.nii.gz" in wrong[1].cure
    with pytest.raises(FormatError, match=r"case c has the channel numbers \[0, 2\]"):
        read_case(dataset["c"])
    with pytest.raises(
        DataError, match=r"2 of 6 cases of .* cannot be used:\n  c: case c has .*\n  d: case d has"
    ):
        dataset.refuse_faults()


def test_two_files_of_one_name_in_a_class_folder_are_a_fault(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("L", (8, 6), number).save(tmp_path / name / f"{name}{number}.png")
    Image.new("L", (8, 6), 9).save(tmp_path / "ill" / "ill2.bmp")
    faulty = [
        case.id
        for case in open_dataset(tmp_path, task="classification").cases
        if case.fault is not None
    ]
    assert faulty == ["ill2"]


def test_a_folder_of_outputs_is_no_class(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (8, 6), number).save(tmp_path / name / f"{name}{number}.png")
    with OutputFolder(tmp_path / "out", "predict") as out:
        for number in range(3):
            Image.new("L", (8, 6), number).save(tmp_path / "out" / f"map{number}.png")
            out.record(tmp_path / "out" / f"map{number}.png")
    assert open_dataset(tmp_path, task="classification").classes.names == ("well", "ill")
