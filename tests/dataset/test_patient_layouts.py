"""Data sets of a folder a patient: BraTS, TotalSegmentator, BIDS.

And folders that are neither these nor classes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import image, kinds, labels, nnunet, oblique, picture

from hilum.dataset import (
    LAYOUTS,
    check,
    describing_files,
    fix,
    open_cases,
    open_dataset,
    read_annotation,
)
from hilum.dataset.annotation import MaskFiles, compose_masks, read_label_map
from hilum.errors import DataError, GeometryError
from hilum.files import OutputFolder
from hilum.io import write_labels, write_volume
from hilum.volume import Volume


def brats(
    root,
    patients=("BraTS_000", "BraTS_001", "BraTS_002"),
    words=("t1", "t1ce", "flair"),
    mask="seg",
    joint="_",
):
    for number, patient in enumerate(patients):
        for word in words:
            write_volume(
                image(10 * number + len(word)), root / patient / f"{patient}{joint}{word}.nii.gz"
            )
        write_labels(labels(), root / patient / f"{patient}{joint}{mask}.nii.gz")
    return root


def box(z, y, x):
    array = np.zeros((1, *oblique().shape), np.uint8)
    array[:, z, y, x] = 1
    return Volume(array, oblique())


LIVER, TUMOUR, SPLEEN = (
    box(slice(0, 3), slice(1, 5), slice(1, 6)),
    box(slice(1, 2), slice(2, 4), slice(2, 4)),
    box(slice(0, 2), slice(5, 7), slice(6, 9)),
)


def total(root, patients=("s0000", "s0001", "s0002"), name="ct"):
    for number, patient in enumerate(patients):
        write_volume(image(number), root / patient / f"{name}.nii.gz")
        for structure, mask in {"liver": LIVER, "a_tumour": TUMOUR, "spleen": SPLEEN}.items():
            if (number, structure) != (2, "spleen"):
                write_labels(mask, root / patient / "segmentations" / f"{structure}.nii.gz")
    return root


def bids(root, subjects=("01", "02", "03"), masks=("dseg",), session=""):
    for number, subject in enumerate(subjects):
        folder = f"sub-{subject}/{f'ses-{session}/' if session else ''}anat"
        stem = f"sub-{subject}{f'_ses-{session}' if session else ''}"
        for word in ("T1w", "FLAIR"):
            write_volume(image(10 * number + len(word)), root / folder / f"{stem}_{word}.nii.gz")
        for mask in masks:
            write_labels(labels(), root / "derivatives/manual" / folder / f"{stem}_{mask}.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    return root


@pytest.mark.parametrize(
    ("name", "root"),
    [("patient-folders", brats), ("patient-masks", total), ("bids", bids)],
    ids=["brats", "total", "bids"],
)
def test_each_is_recognised_opened_and_accounted_for(tmp_path, name, root):
    place = root(tmp_path / "set")
    assert [key for key, layout in LAYOUTS.items() if layout.recognises(place)] == [name]
    dataset = open_dataset(place)
    assert (dataset.layout, len(dataset.cases), dataset.orphans) == (name, 3, ())
    assert dataset.files is not None
    assert dataset.files.others == ()
    assert [finding for finding in check(dataset) if finding.severity == "error"] == []
    assert [case.id for case in open_cases(place)] == [case.id for case in dataset.cases]
    assert open_dataset(place, layout=name) == dataset


def test_brats_has_named_channels_and_patients(tmp_path):
    dataset = open_dataset(brats(tmp_path))
    assert dataset.channels == ("flair", "t1", "t1ce")
    assert [case.patient for case in dataset.cases] == ["BraTS_000", "BraTS_001", "BraTS_002"]
    assert dataset.cases[0].images["t1ce"].name == "BraTS_000_t1ce.nii.gz"
    assert np.array_equal(read_annotation(dataset.cases[0]).array, labels().array)


def test_examinations_of_one_patient_of_brats_stay_together(tmp_path):
    names = ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000")
    dataset = open_dataset(brats(tmp_path, names, words=("t1c", "t1n", "t2f", "t2w"), joint="-"))
    assert dataset.channels == ("t1c", "t1n", "t2f", "t2w")
    assert [case.patient for case in dataset.cases] == [
        "BraTS-GLI-00000",
        "BraTS-GLI-00000",
        "BraTS-GLI-00002",
    ]


def test_patients_one_level_deeper_without_their_names(tmp_path):
    for grade, patient in (("HGG", "p1"), ("HGG", "p2"), ("LGG", "p1")):
        write_volume(image(1), tmp_path / grade / patient / "T1.nii.gz")
        write_volume(image(2), tmp_path / grade / patient / "T2.nii.gz")
        write_labels(labels(), tmp_path / grade / patient / "lesion_mask.nii.gz")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["HGG__p1", "LGG__p1", "p2"]
    assert dataset.channels == ("T1", "T2")


def test_patients_that_lack_a_file_are_named(tmp_path):
    root = brats(tmp_path, ("BraTS_000", "BraTS_001", "BraTS_002", "BraTS_003"))
    (root / "BraTS_001/BraTS_001_t1.nii.gz").unlink()
    (root / "BraTS_002/BraTS_002_seg.nii.gz").unlink()
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == ["BraTS_000", "BraTS_003"]
    assert [case.id for case in dataset.unlabelled] == ["BraTS_002"]
    assert any("BraTS_001 lack one of flair, t1, t1ce: left out" in note for note in dataset.notes)
    assert ("", "unused-image") in kinds(check(dataset))


def test_several_masks_of_a_patient_are_refused(tmp_path):
    root = brats(tmp_path)
    for patient in root.iterdir():
        write_labels(labels(), patient / f"{patient.name}_brain_mask.nii.gz")
    with pytest.raises(DataError, match=r"most folders of .* hold 2 annotations: brain_mask, seg"):
        open_dataset(root)


def test_no_patient_is_complete(tmp_path):
    for patient, words in (("a", ("t1", "t2")), ("b", ("t1", "seg")), ("c", ("t2", "seg"))):
        for word in words:
            write_labels(labels(), tmp_path / patient / f"{patient}_{word}.nii.gz")
    with pytest.raises(
        DataError, match=r"no case of .* has both an annotation and the images t1, t2"
    ):
        open_dataset(tmp_path)


def test_masks_become_one_label_map_and_the_smaller_wins(tmp_path):
    dataset = open_dataset(total(tmp_path))
    assert dataset.labels is not None
    assert {label.id: label.name for label in dataset.labels.foreground} == {
        1: "a_tumour",
        2: "liver",
        3: "spleen",
    }
    assert dataset.channels == ("ct",)
    expected = np.where(TUMOUR.array, 1, np.where(LIVER.array, 2, np.where(SPLEEN.array, 3, 0)))
    assert np.array_equal(read_annotation(dataset["s0000"]).array, expected)
    assert np.array_equal(
        np.unique(read_annotation(dataset["s0002"]).array), [0, 1, 2]
    )  # no spleen in it
    overlap = [finding.found for finding in check(dataset) if finding.kind == "mask-overlap"]
    assert (
        overlap[0]
        == "4 voxels lie in several masks of segmentations: each belongs to the smaller mask"
    )


def test_order_of_masks_does_not_decide(tmp_path):
    for number, mask in enumerate((LIVER, TUMOUR)):
        write_labels(mask, tmp_path / f"{number}.nii.gz")
    one, two = (
        compose_masks(
            MaskFiles({1: tmp_path / f"{first}.nii.gz", 2: tmp_path / f"{1 - first}.nii.gz"})
        )
        for first in (0, 1)
    )
    assert one[1] == two[1] == int(TUMOUR.array.sum())
    assert np.array_equal(one[0].array == 2, two[0].array == 1)


def test_masks_on_different_grids_are_refused(tmp_path):
    write_labels(LIVER, tmp_path / "a.nii.gz")
    write_labels(Volume(TUMOUR.array, oblique(origin=(0.0, 0.0, 0.0))), tmp_path / "b.nii.gz")
    with pytest.raises(GeometryError, match=r"b.nii.gz lies on another grid than"):
        read_label_map(MaskFiles({1: tmp_path / "a.nii.gz", 2: tmp_path / "b.nii.gz"}))


def test_meta_and_label_files_beside_the_masks(tmp_path):
    root = total(tmp_path)
    (root / "meta.csv").write_text(
        "image_id;age;split\ns0000;50;train\ns0001;60;val\ns0002;70;test\n"
    )
    (root / "labels.json").write_text(json.dumps({"spleen": 1, "liver": 5, "a_tumour": 7}))
    dataset = open_dataset(root)
    assert [case.columns["age"] for case in dataset.cases] == ["50", "60", "70"]
    assert (dataset.splits[0].train, dataset.splits[0].validation) == (("s0000",), ("s0001",))
    assert set(np.unique(read_annotation(dataset["s0000"]).array)) == {0, 1, 5, 7}
    (root / "labels.json").write_text(json.dumps({"spleen": 1}))
    with pytest.raises(DataError, match=r"labels.json does not name the masks a_tumour, liver"):
        open_dataset(root)


def test_corrected_copy_of_masks_holds_label_maps(tmp_path):
    dataset = open_dataset(total(tmp_path / "set"))
    log = fix(dataset, check(dataset), tmp_path / "copy")
    assert log.cases == ("s0000", "s0001", "s0002")
    copied = open_dataset(tmp_path / "copy")
    assert np.array_equal(
        read_annotation(copied["s0001"]).array, read_annotation(dataset["s0001"]).array
    )


def test_patients_with_images_of_several_names_are_refused(tmp_path):
    for patient, name in (("a", "x"), ("b", "y"), ("c", "z")):
        write_volume(image(1), tmp_path / patient / f"{name}.nii.gz")
        write_labels(labels(), tmp_path / patient / "masks/liver.nii.gz")
    with pytest.raises(DataError, match="has both an annotation and images of one name"):
        open_dataset(tmp_path)


def test_bids_sessions_participants_and_label_names(tmp_path):
    root = bids(bids(tmp_path, session="1"), session="2")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t61\n")
    (root / "derivatives/manual/desc-manual_dseg.tsv").write_text(
        "index\tname\n0\tbackground\n1\tliver\n2\ttumour\n"
    )
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases][:2] == ["sub-01_ses-1", "sub-01_ses-2"]
    assert {case.patient for case in dataset.cases} == {"sub-01", "sub-02", "sub-03"}
    assert dataset.channels == ("FLAIR", "T1w")
    assert dataset.cases[0].columns == {"age": "61"}
    assert dataset.labels is not None
    assert [label.name for label in dataset.labels.foreground] == ["liver", "tumour"]


def test_bids_tables_with_faults_are_read_as_far_as_they_go(tmp_path):
    root = bids(tmp_path)
    (root / "participants.tsv").write_text(
        "participant_id\tage\n01\t61\nsub-01\t62\nsub-09\t1\nsub-02\tn/a\n"
    )
    (root / "derivatives/manual/dseg.tsv").write_text(
        "index\tname\n1.0\tliver\n2\ttumour\nx\tspleen\n"
    )
    dataset = open_dataset(root)
    assert [label.name for label in dataset.labels.foreground] == ["liver", "tumour"]
    assert dataset.cases[0].columns == {"age": "61"}
    for words in (
        "no whole number is the index 'x'",
        "1 of 4 rows of",
        "1 of 3 rows of .*: 'sub-09'",
        "age: 2 of 3 not known",
    ):
        assert any(re.search(words, note) for note in dataset.notes), (words, dataset.notes)


def test_bids_with_a_mask_a_label(tmp_path):
    dataset = open_dataset(
        bids(
            tmp_path,
            masks=("label-liver_mask", "label-lesion_mask", "space-MNI152_label-liver_mask"),
        )
    )
    assert dataset.labels is not None
    assert [label.name for label in dataset.labels.foreground] == ["lesion", "liver"]
    assert isinstance(dataset.cases[0].annotation, MaskFiles)


def test_bids_without_or_with_several_annotations(tmp_path):
    with pytest.raises(
        DataError,
        match=r"no case of .* has both an annotation and the images FLAIR, T1w",
    ):
        open_dataset(bids(tmp_path / "a", masks=()))
    with pytest.raises(
        DataError,
        match=r"holds several kinds of annotations: derivatives/manual: desc-a_dseg of 3 files",
    ):
        open_dataset(bids(tmp_path / "b", masks=("desc-a_dseg", "desc-b_dseg")))


def test_folders_of_patients_are_no_classes(tmp_path):
    for patient in ("p1", "p2", "p3"):
        for word in ("front", "side"):
            write_volume(picture(1), tmp_path / patient / f"{word}.png")
    with pytest.raises(
        DataError,
        match=(
            r"holds 6 images in 3 folders \(p1/front.png, .*\): these may be classes, or patients"
        ),
    ):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, task="classification")
    assert dataset.classes is not None
    assert dataset.classes.names == ("p1", "p2", "p3")


@pytest.mark.parametrize("folder", ["patient{}", "P{:03}", "{:04}", "Case_{}", "scan {}"])
def test_folders_numbered_like_patients_are_no_classes(tmp_path, folder):
    for number in range(8):
        for one in range(4):
            write_volume(
                picture(1), tmp_path / folder.format(number) / f"IMG_{4 * number + one}.png"
            )
    with pytest.raises(DataError, match="these may be classes, or patients"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, task="classification").classes.names) == 8


@pytest.mark.parametrize("folder", ["{}", "grade{}", "BI-RADS {}", "stage_{}"])
def test_folders_numbered_like_grades_are_classes(tmp_path, folder):
    for number in range(4):
        for one in range(4):
            write_volume(
                picture(1), tmp_path / folder.format(number) / f"IMG_{4 * number + one}.png"
            )
    assert len(open_dataset(tmp_path).classes.names) == 4


@pytest.mark.parametrize(
    ("folders", "patients"),
    [
        (("A/2001", "A/2004", "B/2002", "C/2003"), "AABC"),
        (("A/tp1", "A/tp2", "A/tp3", "B/tp1", "B/tp2", "B/tp3", "C/tp1"), "AAABBBC"),
        (("A/x/1", "B/y/1", "B/z/1", "C/w/2"), "ABBC"),
        (("HGG/A", "HGG/B", "HGG/C", "LGG/D", "LGG/E", "LGG/F"), "ABCDEF"),
        (("A_ses-1", "A_ses-2", "B_baseline", "B_follow-up"), "AABB"),
    ],
)
def test_examinations_in_folders_of_patients_stay_together(tmp_path, folders, patients):
    for number, folder in enumerate(folders):
        write_volume(image(number), tmp_path / folder / "ct.nii.gz")
        write_labels(labels(), tmp_path / folder / "seg.nii.gz")
    found = {
        next(iter(case.images.values())).parent: case.patient
        for case in open_dataset(tmp_path).cases
    }
    assert [found[tmp_path / folder] for folder in folders] == list(patients)


def test_one_image_a_folder_is_no_class(tmp_path):
    for number in range(8):
        write_volume(picture(number), tmp_path / f"case_{number}" / f"scan{number}.png")
    with pytest.raises(DataError, match='if each folder is a class: task="classification"'):
        open_dataset(tmp_path)


@pytest.mark.parametrize("relative", [False, True])
def test_check_names_images_that_no_case_uses_and_links_to_nothing(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path.parent)
    root = nnunet(Path(tmp_path.name) if relative else tmp_path)
    write_volume(image(1), root / "dicomTs/study/known.nii.gz")
    write_volume(image(1), root / "more/deep/lost.nii.gz")
    (root / "imagesTr/z_0000.nii.gz").symlink_to("gone")
    (root / "more/y.nii.gz").symlink_to("gone")
    findings = check(open_dataset(root))
    assert [f.found for f in findings if f.kind == "unused-image"] == [
        "no case uses 1 image: more/deep/lost.nii.gz"
    ]
    assert [finding.case for finding in findings if finding.severity == "error"] == ["y", "z"]


def test_a_labels_json_of_hilum_does_not_number_the_masks(tmp_path):
    root = total(tmp_path)
    before = open_dataset(root)
    with OutputFolder(root, "predict") as out:
        out.write({"labels.json": json.dumps({"bone": 1})})
    found = open_dataset(root)
    assert found.labels == before.labels
    assert root / "labels.json" not in describing_files(root)
