"""Files that become cases, in any tree that people keep them in; every file is accounted for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hilum.dataset import arrange_channels
from hilum.errors import DataError, FormatError, UsageError
from hilum.examples import SeriesTags, write_dicom_series
from hilum.inference.find import find, find_cases
from hilum.io import read_volume, write_labels, write_volume
from inference_toys import index_volume


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Two DICOM series."""
    folder = tmp_path_factory.mktemp("series")
    for number in (1, 2):
        image = index_volume()
        tags = SeriesTags(series_number=number, uid_seed=f"seed {number}")
        write_dicom_series(
            image.with_array(image.array.astype(np.int16) + number),
            folder / f"s{number}",
            tags=tags,
        )
    return folder


def place(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(source, target))


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def ids(*sources, channels=("CT",)):
    return [case.id for case in find_cases(sources, channels)]


def reasons(files):
    return {one.path.name: one.reason for one in files.others}


def test_tree_of_patients_studies_and_series(series, tmp_path):
    for patient, name, source in (("P1", "SE1", "s1"), ("P1", "SE2", "s2"), ("P2", "SE1", "s2")):
        place(series / source, tmp_path / "tree" / patient / "ST1" / name)
    assert ids(tmp_path / "tree") == ["P1__SE1", "P1__SE2", "P2__SE1"]
    assert ids(tmp_path / "tree/P1", tmp_path / "tree/P2") == ["P1__SE1", "P1__SE2", "P2"]
    assert ids(tmp_path / "tree/P1/ST1/SE1", tmp_path / "tree/P2/ST1/SE1") == ["P1__SE1", "P2__SE1"]
    assert find([tmp_path / "tree"], ["CT"]).files.others == ()


def test_uneven_trees_lose_no_series(series, tmp_path):
    place(series / "s1", tmp_path / "t/P1")
    place(series / "s2", tmp_path / "t/P2/2020/CT/SE1")
    place(series / "s1", tmp_path / "t/P2/2021/CT/SE1")
    found = ids(tmp_path / "t")
    assert len(found) == 3
    assert all(name.startswith(("P1", "P2")) for name in found)


def test_cd_with_dicomdir_and_viewer(series, tmp_path):
    place(series / "s1", tmp_path / "cd/DICOM/PA0/ST0/SE0")
    touch(tmp_path / "cd", "autorun.inf", "VIEWER/v.exe", "INDEX.HTM")
    (tmp_path / "cd/DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = find([tmp_path / "cd"], ["CT"])
    assert [case.id for case in found.cases] == ["cd"]
    assert set(reasons(found.files)) == {"autorun.inf", "v.exe", "INDEX.HTM", "DICOMDIR"}
    assert not found.files.loses_images


def test_files_named_by_uid(series, tmp_path):
    (tmp_path / "uids").mkdir()
    for file in (series / "s1").iterdir():
        shutil.copy(file, tmp_path / "uids" / str(pydicom.dcmread(file).SOPInstanceUID))
    assert ids(tmp_path / "uids") == ["uids"]
    assert ids(*(tmp_path / "uids").iterdir()) == ["uids"]  # all files of a series are the series


def test_preview_beside_a_series_is_left_out(series, tmp_path):
    place(series / "s1", tmp_path / "p")
    touch(tmp_path / "p", "preview.jpg", "readme.txt", "._x.dcm")
    found = find([tmp_path / "p"], ["CT"])
    assert [case.images for case in found.cases] == [{"CT": tmp_path / "p"}]
    assert reasons(found.files) == {
        "preview.jpg": "a picture beside a DICOM series",
        "readme.txt": "text",
        "._x.dcm": "hidden",
    }


def test_series_that_share_a_folder_are_told_apart(series, tmp_path):
    place(series / "s1", tmp_path / "both")
    for file in (series / "s2").iterdir():
        shutil.copy(file, tmp_path / "both" / f"b_{file.name}")
    found = find([tmp_path / "both"], ["CT"])
    assert len(found.cases) == 2
    arrays = [read_volume(case.images["CT"]).array for case in found.cases]
    expected = [read_volume(series / name).array for name in ("s1", "s2")]
    assert sorted(int(a.sum()) for a in arrays) == sorted(int(a.sum()) for a in expected)
    assert found.files.others == ()


@pytest.mark.parametrize("content", [b"", b"not DICOM at all" * 30])
def test_a_damaged_slice_fails_its_case(series, tmp_path, content):
    place(series / "s1", tmp_path / "in/a")
    place(series / "s2", tmp_path / "in/b")
    max((tmp_path / "in/a").iterdir()).write_bytes(content)
    good, bad = sorted(find_cases([tmp_path / "in"], ["CT"]), key=lambda case: case.id == "a")
    read_volume(good.images["CT"])
    with pytest.raises(
        FormatError, match=r"empty file|not readable as DICOM, in a folder of slices"
    ):
        read_volume(bad.images["CT"])


def test_nifti_beside_series_and_in_sub_folders(series, tmp_path):
    place(series / "s1", tmp_path / "d")
    touch(tmp_path, "n_0000.nii.gz", "site1/x.nii.gz", "site2/x.nii.gz", "site2/y.NII")
    assert ids(tmp_path) == ["d", "n", "site1__x", "site2__x", "y"]


def test_annotations_are_no_cases(tmp_path):
    touch(
        tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "masks/b.nii.gz", "deep/labelsTr/a.nii.gz"
    )
    found = find([tmp_path], ["CT"])
    assert [case.id for case in found.cases] == ["a", "b"]
    assert [one.reason for one in found.files.others] == ["an annotation"] * 3


@pytest.mark.parametrize(
    "names", [("a_mask.png", "b_mask.png"), ("a_seg.nrrd", "b_seg.nrrd"), ("a_seg.nii.gz",)]
)
def test_a_folder_of_masks_only_is_refused(tmp_path, names):
    touch(tmp_path, *names)
    with pytest.raises(
        UsageError,
        match=r"no image in it; .*annotation[\s\S]*name the folder that holds the images",
    ):
        ids(tmp_path)
    assert ids(tmp_path / names[0]) == [names[0].partition(".")[0]]  # the file itself was named
    touch(tmp_path / "images", "a.nii.gz")
    assert ids(tmp_path) == ["a"]


def test_channels_by_the_words_of_a_folder(tmp_path):
    touch(
        tmp_path,
        *(f"{p}/{p}_{word}.nii.gz" for p in ("P1", "P2") for word in ("FLAIR", "t1", "t2")),
    )
    cases = find_cases([tmp_path], ["T1", "flair"])
    assert [case.id for case in cases] == ["P1", "P2"]
    assert {name: path.name for name, path in cases[0].images.items()} == {
        "t1": "P1_t1.nii.gz",
        "FLAIR": "P1_FLAIR.nii.gz",
    }
    files = find([tmp_path], ["T1", "flair"]).files
    assert reasons(files) == dict.fromkeys(
        ("P1_t2.nii.gz", "P2_t2.nii.gz"), "an image of a channel that the model does not use"
    )


@pytest.mark.parametrize("name", ["{p}/CT.nii.gz", "{p}_CT.nii.gz", "{p}/{p}-ct.nii.gz"])
def test_images_of_other_modalities_are_no_cases(tmp_path, name):
    names = [name.format(p=patient) for patient in ("P1", "P2")]
    others = [one.replace("CT", "PET").replace("ct", "t1w") for one in names]
    touch(tmp_path, *names, *others)
    found = find([tmp_path], ["ct"])
    assert {next(iter(case.images.values())) for case in found.cases} == {
        tmp_path / one for one in names
    }
    assert set(reasons(found.files).values()) == {
        "an image of a channel that the model does not use"
    }
    assert len(ids(tmp_path, channels=("image",))) == 4


def test_parts_of_a_series_in_two_folders_are_one_case(series, tmp_path):
    folder = place(series / "s1", tmp_path / "a")
    (tmp_path / "b").mkdir()
    for file in sorted(folder.iterdir())[:2]:
        file.rename(tmp_path / "b" / file.name)
    found = find([tmp_path], ["CT"])
    (case,) = found.cases
    assert case.id == tmp_path.name
    assert found.files.others == ()
    assert np.array_equal(read_volume(case.images["CT"]).array, read_volume(series / "s1").array)


def test_copies_of_a_series_in_two_folders_are_told(series, tmp_path, caplog):
    place(series / "s1", tmp_path / "a")
    place(series / "s1", tmp_path / "b")
    assert ids(tmp_path) == ["a", "b"]
    assert "images of one DICOM series lie in 2 folders" in caplog.text


def test_a_link_to_nothing_is_a_case_that_fails(tmp_path):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(".git/annex/objects/xx/b.nii.gz")
    assert ids(tmp_path) == ["a", "b"]
    assert ids(tmp_path / "b.nii.gz") == ["b"]
    with pytest.raises(FormatError, match="git-annex link whose content was not fetched"):
        read_volume(tmp_path / "b.nii.gz")


def test_links_in_circles_end(tmp_path):
    touch(tmp_path, "a/x.nii.gz")
    (tmp_path / "a/again").symlink_to(tmp_path)
    found = find([tmp_path], ["CT"])
    assert [case.id for case in found.cases] == ["x"]
    assert found.files.taken == 1


def test_nothing_to_predict_says_what_is_there(tmp_path):
    touch(tmp_path, "a/readme.txt", "b.xyz")
    with pytest.raises(
        UsageError,
        match=r"no image in it; Files of .*: 0 taken. 2 left out: text: 1 \(a/readme.txt\)",
    ):
        find_cases([tmp_path], ["CT"])


def test_training_images_that_are_not_predicted_are_named(tmp_path):
    image = index_volume()
    for name in ("imagesTr/a_0000", "labelsTr/a", "imagesTs/t_0000"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        labels = image.with_array((image.array > 9).astype(np.uint8))
        (write_labels if "labels" in name else write_volume)(labels, tmp_path / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}})
    )
    found = find([tmp_path], ["CT"])
    assert [case.id for case in found.cases] == ["t"]
    assert reasons(found.files) == {
        "a_0000.nii.gz": "an image that is annotated, where the data set has others to predict",
        "a.nii.gz": "an annotation",
    }


@pytest.mark.parametrize("place", ["data", "data/imagesTs"])
def test_a_data_set_beside_the_images_names_their_channels(tmp_path, place):
    images = tmp_path / "data/imagesTs"
    touch(images, "a_0000.nii.gz", "a_0001.nii.gz", "b.nii.gz")
    (tmp_path / place / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "PET", "1": "CT"}})
    )
    for sources in ([images], sorted(images.glob("*.nii.gz"))):
        numbered, whole = find_cases(sources, ["CT", "PET"])
        assert list(numbered.images.items()) == [
            ("PET", images / "a_0000.nii.gz"),
            ("CT", images / "a_0001.nii.gz"),
        ]
        assert list(whole.images) == ["PET", "CT"]
    assert list(find_cases([images], ["ct"])[0].images.values()) == [images / "a_0001.nii.gz"]
    with pytest.raises(
        DataError,
        match=r"2 channels \(PET, CT\), the model 2 channels \(T1, T2\) \(unknown: PET, CT;",
    ):
        arrange_channels(find_cases([images], ["T1", "T2"])[0], ["T1", "T2"])


def test_channels_of_one_file_keep_their_places(tmp_path):
    """A Decathlon data set whose files hold the model's channels in another order."""
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"modality": {"0": "PET", "1": "CT"}, "labels": {"1": "liver"}})
    )
    (case,) = find_cases([tmp_path], ["CT", "PET"])
    assert arrange_channels(case, ["CT", "PET"]).positions == (1, 0)


def test_files_that_describe_a_data_set_are_taken(tmp_path):
    nnunet, table, image = tmp_path / "nnunet", tmp_path / "table", index_volume()
    facts = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1},
        "file_ending": ".nii.gz",
    }
    for folder in (nnunet / "imagesTr", nnunet / "labelsTr", table):
        folder.mkdir(parents=True)
    write_volume(image, nnunet / "imagesTr" / "a_0000.nii.gz")
    write_labels(
        image.with_array((image.array > 1).astype(np.uint8)), nnunet / "labelsTr" / "a.nii.gz"
    )
    (nnunet / "dataset.json").write_text(json.dumps(facts))
    write_volume(image, table / "a.nii.gz")
    (table / "cases.csv").write_text("case,image\na,a.nii.gz\n")
    assert reasons(find([nnunet], ["CT"]).files) == {"a.nii.gz": "an annotation"}
    assert reasons(find([table], ["CT"]).files) == {}


def test_a_list_of_dicom_files_is_no_case(series, tmp_path):
    """A DICOMDIR, whatever its name, in a folder and among named files."""
    folder = place(series / "s1", tmp_path / "cd")
    data = pydicom.dcmread(next(folder.glob("*.dcm")))
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = (
        pydicom.uid.MediaStorageDirectoryStorage
    )
    for tag in ("PixelData", "SeriesInstanceUID", "Rows", "Columns"):
        delattr(data, tag)
    data.save_as(folder / "DIRFILE")
    whole, named = find([folder], ["CT"]), find(sorted(folder.iterdir()), ["CT"])
    assert len(whole.cases) == len(named.cases) == 1
    assert "a list of files" in reasons(whole.files)["DIRFILE"]
    assert "a list of files" in reasons(named.files)["DIRFILE"]


def test_a_folder_that_hilum_wrote_is_named_as_such(tmp_path):
    from hilum.files import OutputFolder

    with OutputFolder(tmp_path, "train") as out:
        (tmp_path / "training").mkdir()
        (tmp_path / "training" / "x.nii.gz").write_bytes(b"x")
        out.record(tmp_path / "training")
    with pytest.raises(UsageError, match="written by hilum") as caught:
        find([tmp_path], ["CT"])
    assert "cannot be opened" not in str(caught.value)


def test_files_that_are_named_like_slices_and_are_none_are_not_lost(tmp_path):
    touch(tmp_path, "s/1.dcm", "s/2.dcm")
    found = find([tmp_path], ["CT"])
    (case,) = found.cases
    assert (found.files.taken, found.files.others) == (2, ())
    with pytest.raises(FormatError, match="not readable as DICOM"):
        read_volume(case.images["CT"])
