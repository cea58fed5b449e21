"""Inputs that people hand over: files, channels, folders, data sets, tables, DICOM."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hilum.dataset.case import Case
from hilum.errors import UsageError
from hilum.inference import case_id, find_cases, read_source
from hilum.io import write_labels, write_volume
from inference_toys import index_volume


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def shape(cases):
    return {
        case.id: {channel: path.name for channel, path in case.images.items()} for case in cases
    }


def test_files_of_one_channel(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.b_0000.nrrd", "c.PNG")
    cases = find_cases(
        [tmp_path / "b.nii.gz", str(tmp_path / "a.b_0000.nrrd"), tmp_path / "c.PNG"], ["CT"]
    )
    assert shape(cases) == {
        "a.b": {"CT": "a.b_0000.nrrd"},
        "b": {"CT": "b.nii.gz"},
        "c": {"CT": "c.PNG"},
    }
    assert [case.id for case in cases] == ["a.b", "b", "c"]


def test_folder_with_one_file_a_channel(tmp_path):
    touch(
        tmp_path,
        "x_0001.nii.gz",
        "x_0000.nii.gz",
        "y_0000.nii.gz",
        "z.nii",
        ".part-1.nii.gz",
        "notes.txt",
        "run.json",
    )
    cases = find_cases([tmp_path], ["PET", "CT"])
    assert shape(cases) == {
        "x": {"PET": "x_0000.nii.gz", "CT": "x_0001.nii.gz"},
        "y": {"channel 0": "y_0000.nii.gz"},  # incomplete: reading it says so
        "z": {"PET": "z.nii", "CT": "z.nii"},  # one file with both channels
    }
    assert list(cases[0].images) == ["PET", "CT"]


def test_numbers_other_than_the_models_stand_for_no_names(tmp_path):
    touch(tmp_path, "x_0000.nii.gz", "x_0002.nii.gz")
    assert shape(find_cases([tmp_path], ["CT"])) == {
        "x": {"channel 0": "x_0000.nii.gz", "channel 2": "x_0002.nii.gz"}
    }


def test_numbers_without_a_first_channel_are_names(tmp_path):
    touch(tmp_path, "amos_0004.nii.gz", "amos_0019.nii.gz")
    cases = find_cases([tmp_path], ["CT"])
    assert shape(cases) == {
        "amos_0004": {"CT": "amos_0004.nii.gz"},
        "amos_0019": {"CT": "amos_0019.nii.gz"},
    }
    assert case_id(tmp_path / "amos_0019.nii.gz") == "amos_0019"


def test_dataset_gives_its_unlabelled_cases_or_all(tmp_path):
    image = index_volume()
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / name).mkdir()
    write_volume(image, tmp_path / "imagesTr/a_0000.nii.gz")
    write_labels(image.with_array(image.array.astype(np.uint8)), tmp_path / "labelsTr/a.nii.gz")
    write_volume(image, tmp_path / "imagesTs/t_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "liver": 1, "tumour": 2},
                "numTraining": 1,
                "file_ending": ".nii.gz",
            }
        )
    )
    assert shape(find_cases([tmp_path], ["CT"])) == {"t": {"CT": "t_0000.nii.gz"}}
    (tmp_path / "imagesTs/t_0000.nii.gz").unlink()
    assert shape(find_cases([tmp_path], ["CT"])) == {"a": {"CT": "a_0000.nii.gz"}}


def test_dicom_folder_and_folder_of_dicom_folders(tmp_path):
    touch(tmp_path, "p1/IM1.dcm", "p1/IM2.dcm", "p2/IM1.dcm", ".git/x")
    assert shape(find_cases([tmp_path / "p1"], ["CT"])) == {"p1": {"CT": "p1"}}
    assert shape(find_cases([tmp_path], ["CT"])) == {"p1": {"CT": "p1"}, "p2": {"CT": "p2"}}


@pytest.mark.real_data
def test_real_dicom_folder_is_one_case(real_data):
    cases = find_cases([real_data / "dicom" / "mr_two_slices"], ["MR"])
    assert shape(cases) == {"mr_two_slices": {"MR": "mr_two_slices"}}


@pytest.mark.real_data
def test_real_dataset_with_two_channels(real_data):
    cases = find_cases([real_data / "sarcoma_petct" / "imagesTr"], ["PET", "CT"])
    assert len(cases) == len(list((real_data / "sarcoma_petct" / "imagesTr").glob("*_0001.nii.gz")))
    assert shape(cases[:1]) == {
        "STS_001": {"PET": "STS_001_0000.nii.gz", "CT": "STS_001_0001.nii.gz"}
    }


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        find_cases([tmp_path / "nowhere"], ["CT"])
    touch(tmp_path, "readme.txt")
    with pytest.raises(UsageError, match="no image in it"):
        find_cases([tmp_path], ["CT"])


def test_images_of_one_name_are_told_apart(tmp_path, caplog):
    touch(tmp_path, "x.nii.gz", "x.nrrd", "y_0000.nrrd", "y_0000.mha", "z.png")
    found = {
        case.id: case.images["CT"].name
        for case in find_cases([tmp_path, tmp_path / "z.png"], ["CT"])
    }
    both = {
        "x_nii_gz": "x.nii.gz",
        "x_nrrd": "x.nrrd",
        "y_mha": "y_0000.mha",
        "y_nrrd": "y_0000.nrrd",
    }
    assert found == {**both, "z": "z.png"}
    assert (
        f"{tmp_path / 'x.nrrd'} is named like another image: its output is named x_nrrd"
        in caplog.text
    )


def test_patients_folders_and_classes_name_cases_as_in_training(tmp_path):
    touch(
        tmp_path,
        *(f"tot/s{n}/{name}.nii.gz" for n in (1, 2) for name in ("ct", "segmentations/liver")),
    )
    touch(
        tmp_path,
        *(f"new/s{n}/ct.nii.gz" for n in (1, 2)),
        *(f"B_1/B_1_{word}.nii.gz" for word in ("t1", "flair", "seg")),
    )
    touch(
        tmp_path,
        *(f"cls/{name}/{number}.png" for name in ("ill", "well") for number in range(5)),
        "cls/ill/x.png",
    )
    for place, channel, ids in (
        ("tot", "CT", ["s1", "s2"]),
        ("tot/s1", "image", ["s1"]),
        ("new", "CT", ["s1", "s2"]),
        ("B_1", "T1", ["B_1"]),
        (
            "cls",
            "image",
            [*(f"{name}__{number}" for name in ("ill", "well") for number in range(5)), "x"],
        ),
    ):
        assert [case.id for case in find_cases([tmp_path / place], [channel])] == ids, place


def test_ids_and_reading_of_every_kind_of_source(tmp_path):
    image = index_volume()
    path = tmp_path / "s.1_0000.nii.gz"
    write_volume(image, path)
    sources = {"case": image, "k": Case("k", None, {"CT": path}), "s.1": path}
    for name, source in sources.items():
        assert case_id(source) == name
        assert np.array_equal(read_source(source).array, image.array)
    assert case_id({"CT": path}) == case_id(str(path)) == "s.1"
    assert np.array_equal(read_source({"CT": path}).array, image.array)
    assert case_id(tmp_path) == tmp_path.name
