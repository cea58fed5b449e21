"""The public data sets, opened where they lie."""

import shutil

import pytest
from dataset_samples import kinds

from hilum.dataset import check, make_folds, open_dataset, read_annotation, read_case
from hilum.volume import Volume

pytestmark = pytest.mark.real_data

SETS = {
    "hippocampus": ("decathlon", 208, ("MRI",)),
    "sarcoma_petct": ("nnunet", 40, ("PET", "CT")),
    "torso_ct": ("decathlon", 2, ("CT",)),
    "torso_ct/mr": ("paired-folders", 1, ("image",)),
    "liver_ct": ("decathlon", 1, ("image",)),
    "retina_vessels": ("paired-folders", 20, ("red", "green", "blue")),
    "nuclei": ("paired-folders", 267, ("image",)),
    "liver_mr_slices": ("paired-folders", 277, ("MR T1",)),
    "chest_xray": ("table", 800, ("image",)),
    "breast_ultrasound": ("table", 624, ("image",)),
    "breast_ultrasound/images": ("class-folders", 624, ("image",)),
    "lung_nodules": ("table", 798, ("image",)),
    "adrenalmnist3d/adrenalmnist3d.npz": ("medmnist", 1286, ("image",)),
    "breastmnist/breastmnist.npz": ("medmnist", 624, ("image",)),
    "pneumoniamnist/pneumoniamnist.npz": ("medmnist", 5232, ("image",)),
}


@pytest.mark.parametrize("name", SETS)
def test_opens(name, real_data):
    dataset = open_dataset(real_data / name)
    layout, count, channels = SETS[name]
    assert (dataset.layout, len(dataset.cases), dataset.channels) == (layout, count, channels)
    last = dataset.cases[-1]
    volume = read_case(last)
    assert volume.channels == len(channels)
    if dataset.labels is not None:
        assert read_annotation(last).geometry == volume.geometry
    else:
        assert dataset.classes.indicators(last.label).count(True) == 1


def test_hippocampus_is_healthy_and_its_folds_are_even(real_data):
    dataset = open_dataset(real_data / "hippocampus")
    assert kinds(check(dataset)) == [("", "unused-image")]  # dicom_test, which no case uses
    assert [case.id for case in dataset.unlabelled] == ["hippocampus_118"]
    folds = make_folds(dataset)
    assert sorted(len(fold.validation) for fold in folds) == [41, 41, 42, 42, 42]


def test_retina_eyes_stay_together(real_data):
    dataset = open_dataset(real_data / "retina_vessels", patients=r"(Image_\d+)")
    for fold in make_folds(dataset):
        assert all(
            f"{case[:-1]}{'LR'[case.endswith('L')]}" in fold.validation for case in fold.validation
        )


def test_one_ultrasound_image_is_in_two_classes(real_data):
    findings = check(open_dataset(real_data / "breast_ultrasound"))
    assert {kind for _, kind in kinds(findings)} == {"duplicate-image", "near-duplicate"}
    (copy,) = (finding for finding in findings if finding.kind == "duplicate-image")
    assert copy.case == "malignant_145"
    assert "benign_433, but annotated differently" in copy.found


def test_a_folder_of_dicom_slices_is_an_image(real_data, tmp_path):
    from hilum.io import write_labels

    for series in ("11_HCropVolume", "14_HCropVolume"):
        shutil.copytree(
            real_data / "hippocampus" / "dicom_test" / series, tmp_path / "images" / series
        )
    dataset_images = {path.name: path for path in sorted((tmp_path / "images").iterdir())}
    assert len(dataset_images) == 2
    from hilum.io import read_volume

    for name, folder in dataset_images.items():
        volume = read_volume(folder)
        write_labels(
            Volume((volume.array > volume.array.mean()).astype("uint8"), volume.geometry),
            tmp_path / "masks" / f"{name}.nii.gz",
        )
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["11_HCropVolume", "14_HCropVolume"]
    assert read_annotation(dataset.cases[1]).geometry == read_case(dataset.cases[1]).geometry
    assert kinds(check(dataset)) == []
