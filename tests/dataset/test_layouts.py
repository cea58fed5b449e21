"""Every layout is read in place, and every way in which it can be broken is said."""

import json
import re
import shutil
import unicodedata

import numpy as np
import pytest
from dataset_samples import (
    decathlon,
    facts,
    image,
    labels,
    nnunet,
    oblique,
    picture,
    picture_mask,
    pictures,
)

from hilum.dataset import LAYOUTS, ClassTable, Fold, check, open_dataset, read_annotation, read_case
from hilum.dataset.layouts.naming import label_table, labels_file, labels_from_values
from hilum.dataset.layouts.splits import ColumnSplit, folds_from_column
from hilum.errors import DataError, FormatError, GeometryError, LabelError, UsageError
from hilum.io import write_labels, write_volume
from hilum.volume import LabelTable, Volume, reorient_geometry


def table(root, text, name="cases.csv"):
    (root / name).write_text(text)
    return root


def test_nnunet_with_two_channels_and_test_images(tmp_path):
    root = nnunet(tmp_path / "D", channels=("PET", "CT"))
    for number in (0, 1):
        write_volume(image(99), root / "imagesTs" / f"t_{number:04d}.nii.gz")
    dataset = open_dataset(root)
    assert (dataset.layout, dataset.channels) == ("nnunet", ("PET", "CT"))
    assert [case.id for case in dataset.cases] == list("abcdef")
    assert [case.id for case in dataset.unlabelled] == ["t"]
    assert read_case(dataset["b"]).array.shape == (2, 4, 7, 9)
    assert np.array_equal(read_case(dataset["b"]).array[1], image(11).array[0])
    assert read_annotation(dataset["b"]).geometry == read_case(dataset["b"]).geometry
    assert dataset.labels is not None
    assert dataset.labels.ids == (0, 1, 2)
    assert any("each case counts as one patient" in note for note in dataset.notes)


def test_a_folder_next_to_a_data_set_suggests_it(tmp_path):
    root = nnunet(tmp_path / "D")
    for place in (root / "imagesTr", tmp_path):
        with pytest.raises(DataError, match=re.escape(f"Cure: give {root}, which has one")):
            open_dataset(place)
    assert open_dataset(root).summary == (
        "Read as nnunet: segmentation of liver, tumour; cases: 6, patients: 6; channels: CT"
    )


def test_decathlon_with_four_dimensional_images(tmp_path):
    dataset = open_dataset(decathlon(tmp_path, channels=("T1", "T2")))
    assert dataset.layout == "decathlon"
    case = dataset["b_002"]
    assert list(case.images) == ["T1", "T2"]
    assert len(set(case.images.values())) == 1
    assert read_case(case).channels == 2


def test_a_four_digit_case_number_is_no_channel_number(tmp_path):
    dataset = open_dataset(decathlon(tmp_path, ids=("BRATS_0001", "BRATS_0002")))
    assert dataset.layout == "decathlon"
    assert [case.id for case in dataset.cases] == ["BRATS_0001", "BRATS_0002"]


def test_the_files_decide_where_dataset_json_lists_others(tmp_path):
    root = nnunet(
        tmp_path,
        channels=("PET", "CT"),
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    )
    assert len(open_dataset(root).cases) == 6


def test_raw_folder_without_dataset_json(tmp_path):
    root = nnunet(tmp_path, channels=("x", "y"))
    (root / "dataset.json").unlink()
    dataset = open_dataset(root)
    assert dataset.channels == ("channel_0", "channel_1")
    assert [label.name for label in dataset.labels.labels] == ["background", "label_1", "label_2"]
    assert any("values in the annotations decide" in note for note in dataset.notes)


def test_one_rgb_picture_holds_all_channels_of_an_nnunet_case(tmp_path):
    write_volume(picture(1, channels=3), tmp_path / "imagesTr" / "a_0000.png")
    write_labels(picture_mask(), tmp_path / "labelsTr" / "a.png")
    facts(tmp_path, channels=("R", "G", "B"), names={"background": 0, "x": 1}, file_ending=".png")
    assert read_case(open_dataset(tmp_path).cases[0]).channels == 3


def test_dataset_list_of_nnunet(tmp_path):
    root = nnunet(tmp_path / "elsewhere", ids=("a", "b"))
    new = tmp_path / "D"
    new.mkdir()
    listed = {
        case: {
            "images": [f"../elsewhere/imagesTr/{case}_0000.nii.gz"],
            "label": f"../elsewhere/labelsTr/{case}.nii.gz",
        }
        for case in "ab"
    }
    facts(new, dataset=listed)
    dataset = open_dataset(new)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert read_case(dataset["a"]) == read_case(open_dataset(root)["a"])


def test_unpaired_files_are_noted_and_hidden_ones_passed_over(tmp_path):
    root = nnunet(tmp_path)
    (root / "labelsTr" / "a.nii.gz").unlink()
    (root / "imagesTr" / "b_0000.nii.gz").unlink()
    (root / "imagesTr" / "._c_0000.nii.gz").write_bytes(b"mac")
    dataset = open_dataset(root)
    assert [case.id for case in dataset.cases] == list("cdef")
    assert [case.id for case in dataset.unlabelled] == ["a"]
    assert any("a in imagesTr without annotation" in note for note in dataset.notes)
    assert any("b in labelsTr without image" in note for note in dataset.notes)


def test_no_pair_in_a_raw_folder(tmp_path):
    root = nnunet(tmp_path, ids=("a",))
    (root / "labelsTr" / "a.nii.gz").rename(root / "labelsTr" / "other.nii.gz")
    with pytest.raises(DataError, match=r"no image in .* has an annotation of the same name"):
        open_dataset(root)


def test_two_files_of_one_case(tmp_path):
    root = nnunet(tmp_path, file_ending=".unknown")
    write_volume(image(1), root / "imagesTr" / "a_0000.nrrd")
    with pytest.raises(DataError, match="are two images of one case"):
        open_dataset(root).refuse_faults()
    facts(root)
    assert open_dataset(root)["a"].images["CT"].name == "a_0000.nii.gz"


def test_channel_names_that_repeat_get_their_number(tmp_path):
    assert open_dataset(nnunet(tmp_path, channels=("MRI", "MRI"))).channels == ("MRI_0", "MRI_1")


def test_channel_numbers_with_a_gap(tmp_path):
    root = nnunet(tmp_path)
    facts(root, channel_names={"0": "CT", "2": "PET"})
    with pytest.raises(FormatError, match="one name for each number from 0"):
        open_dataset(root)


def test_regions_and_ignore(tmp_path):
    names = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    read = label_table({"labels": names, "regions_class_order": [1, 2, 3]}, tmp_path)
    assert [region.labels for region in read.regions] == [(1, 2, 3), (2, 3), (3,)]
    assert read.decode_ids == (1, 2, 3)
    assert read.ignore == 4
    assert [label.name for label in read.labels] == [
        "background",
        "label_1",
        "label_2",
        "enhancing",
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "names no labels"),
        ({"labels": {"background": 0, "a": "one"}}, "label 'a' has the id 'one'"),
        ({"labels": {"background": 0, "a": -1}}, "whole numbers from 0"),
        ({"labels": {"background": 0, "a": []}}, "a whole number, or a list of them"),
        (
            {"labels": {"background": 0, "a": 1, "b": 1, "c": 2}},
            "gives one id two names: {'a': 1, 'b': 1}",
        ),
        ({"labels": {"background": 0, "a": [1, 2]}}, "one label id for each region"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2, 3]}}, '"ignore" names ids'),
    ],
)
def test_labels_that_cannot_be(document, message, tmp_path):
    with pytest.raises(LabelError, match=message):
        label_table(document, tmp_path / "dataset.json")


def test_json_that_is_none(tmp_path):
    root = nnunet(tmp_path)
    (root / "dataset.json").write_text("{")
    with pytest.raises(FormatError, match="is not JSON"):
        open_dataset(root)
    (root / "dataset.json").write_text("[]")
    with pytest.raises(FormatError, match="holds an array"):
        open_dataset(root)


def test_labels_json_in_all_spellings(tmp_path):
    file = tmp_path / "labels.json"
    wanted = LabelTable.from_names({1: "liver", 5: "tumour"})
    for document in (
        {"1": "liver", "5": "tumour"},
        {"liver": 1, "tumour": 5},
        {"labels": {"liver": 1, "tumour": 5}},
    ):
        file.write_text(json.dumps(document))
        assert labels_file(file) == wanted
    file.write_text(wanted.model_dump_json())
    assert labels_file(file) == wanted


def test_paired_folders_of_colour_pictures(tmp_path):
    dataset = open_dataset(pictures(tmp_path, channels=3))
    assert (dataset.layout, dataset.channels) == ("paired-folders", ("red", "green", "blue"))
    assert read_case(dataset["p1"]).array.shape == (3, 1, 12, 17)
    assert dataset.labels == LabelTable.from_names({1: "foreground"})


def test_masks_of_0_and_255_and_endings(tmp_path):
    root = pictures(tmp_path, value=255, masks="Labels")
    (root / "Labels" / "p2.png").rename(root / "Labels" / "p2_mask.png")
    (root / "Labels" / "p3.png").unlink()
    dataset = open_dataset(root)
    assert dataset.labels.ids == (0, 255)
    assert [case.id for case in dataset.cases] == ["p1", "p2"]
    assert [case.id for case in dataset.unlabelled] == ["p3"]


def test_an_image_and_a_mask_whose_accents_are_coded_otherwise(tmp_path):
    root = pictures(tmp_path, ids=("Müller",))
    (mask,) = (root / "masks").iterdir()
    mask.rename(root / "masks" / unicodedata.normalize("NFD", "Müller_mask.png"))
    (case,) = open_dataset(root).cases
    assert case.annotation.name == unicodedata.normalize("NFD", "Müller_mask.png")


def test_masks_of_0_and_1_beside_masks_of_0_and_255(tmp_path):
    root = pictures(tmp_path, value=255)
    write_labels(picture_mask(value=1), root / "masks" / "p2.png")
    dataset = open_dataset(root)
    assert dataset.labels.ids == (0, 255)  # not two labels
    assert any(
        "1 masks of 0 and 1 beside 2 of 0 and 255 count as one label" in note
        for note in dataset.notes
    )
    (finding,) = [one for one in check(dataset) if one.kind == "unknown-label"]
    assert (finding.case, finding.cure) == (
        "p2",
        "write 255 for 1: one label is written in two ways",
    )


def test_paired_folders_take_names_and_split_from_dataset_json(tmp_path):
    root = pictures(tmp_path)
    document = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "liver": 1},
        "splits": {"train": ["p1", "p2"], "val": ["p3"]},
    }
    (root / "dataset.json").write_text(json.dumps(document))
    dataset = open_dataset(root)
    assert dataset.channels == ("MR",)
    assert dataset.splits == (Fold(("p1", "p2"), ("p3",)),)
    (root / "dataset.json").unlink()
    (root / "labels.json").write_text('{"1": "vessel"}')
    assert [label.name for label in open_dataset(root).labels.labels] == ["background", "vessel"]


def test_paired_folders_without_a_pair(tmp_path):
    root = pictures(tmp_path, ids=("p1",))
    (root / "masks" / "p1.png").rename(root / "masks" / "q1.png")
    with pytest.raises(DataError, match="has an annotation of the same name"):
        open_dataset(root)
    shutil.rmtree(root / "masks")
    with pytest.raises(DataError, match="has not both an images and a masks folder"):
        open_dataset(root, layout="paired-folders")


def test_lossy_masks_name_no_labels(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    (tmp_path / "m.jpg").parent.mkdir(exist_ok=True)
    noisy = np.random.default_rng(0).integers(0, 9, (12, 17)).astype(np.uint8)
    pillow.fromarray(noisy).save(tmp_path / "m.jpg")
    table, note = labels_from_values([tmp_path / "m.jpg"])
    assert table.ids == (0,)
    assert "none of the 1 annotations holds labels" in note


def test_labels_from_values_pass_over_what_cannot_be_read(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    write_labels(labels(values=(3,)), tmp_path / "good.nii.gz")
    table, note = labels_from_values([tmp_path / "bad.nii.gz", tmp_path / "good.nii.gz"])
    assert table.ids == (0, 3)
    assert "3 = foreground" in note


def test_table_with_channels_patients_columns_and_folds(tmp_path):
    root = tmp_path / "set"
    for seed, case in enumerate("abc"):
        write_volume(image(seed), root / f"{case}_ct.nii.gz")
        write_volume(image(seed + 50), root / f"{case}_pet.nrrd")
        write_labels(labels(), root / f"{case}_seg.mha")
    rows = "".join(
        f"{case},P{case},{case}_ct.nii.gz,{case}_pet.nrrd,{case}_seg.mha,{n},S{n}\n"
        for n, case in enumerate("abc")
    )
    table(root, "Case,Patient,image_CT,image_PET,mask,fold,site\n" + rows)
    dataset = open_dataset(root)
    assert (dataset.layout, dataset.channels, dataset.name) == ("table", ("CT", "PET"), "set")
    assert dataset["b"].patient == "Pb"
    assert dataset["b"].columns["site"] == "S1"
    assert dataset.splits[1] == Fold(("a", "c"), ("b",))
    assert not any("patient" in note for note in dataset.notes)
    assert open_dataset(root / "cases.csv") == dataset
    assert read_case(dataset["c"]).channels == 2


def test_classification_table_with_images_folder_group_and_split(tmp_path):
    root = tmp_path / "set"
    for seed, name in enumerate(("a", "b", "c", "d")):
        write_volume(picture(seed), root / "images" / f"{name}.png")
    table(
        root,
        "file;label;group;split\na.png;sick;1;train\nb.png;well;2;val\n"
        "c.png;sick;1;test\nd.png;;3;train\n",
    )
    dataset = open_dataset(root)
    assert dataset.labels is None
    assert dataset.classes == ClassTable(names=("well", "sick"))
    assert dataset["c"].patient == "1"
    assert dataset.splits == (Fold(("a",), ("b",)),)
    assert [case.id for case in dataset.unlabelled] == ["d"]
    assert any('"group" stands for the patient' in note for note in dataset.notes)
    assert any("1 test cases are in no fold" in note for note in dataset.notes)


def test_table_finds_masks_beside_and_labels_in_dataset_json(tmp_path):
    root = pictures(tmp_path)
    table(root, "file,patient_id\np1.png,A\np2.png,A\np3.png,B\n")
    dataset = open_dataset(root)
    assert dataset.layout == "table"
    assert dataset["p2"].annotation.name == "p2.png"
    facts(root, channels=("XR",), names={"background": 0, "lung": 1})
    assert open_dataset(root).channels == ("XR",)
    assert [label.name for label in open_dataset(root).labels.labels] == ["background", "lung"]
    (root / "dataset.json").unlink()
    (root / "labels.json").write_text('{"1": "rib"}')
    assert [label.name for label in open_dataset(root).labels.labels] == ["background", "rib"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,1\n", "a column of image files"),
        ("image,label\n", "has no rows"),
        ("image,label\nmissing.png,1\np1.png,0\n", "line 2: the file 'missing.png' does not exist"),
        ("case,image,label\nx/y,p1.png,1\n", "the case id 'x/y'"),
        ("case,image,label\nx,p1.png,1\nx,p2.png,1\n", "several cases of one name: x, x"),
        ("image,label\np1.png,\n", "the column label of .* holds no label"),
    ],
)
def test_tables_that_cannot_be(text, message, tmp_path):
    root = pictures(tmp_path)
    shutil.rmtree(root / "masks")
    with pytest.raises(DataError, match=message):
        open_dataset(table(root, text) / "cases.csv").refuse_faults()


def test_table_folder_without_table(tmp_path):
    with pytest.raises(DataError, match="no table in"):
        open_dataset(tmp_path, layout="table")


def test_class_folders(tmp_path):
    for seed, (name, case) in enumerate(
        [("well", "a"), ("well", "b"), ("sick", "a"), ("sick", "c")]
    ):
        write_volume(picture(seed), tmp_path / name / f"{case}.png")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.classes.names) == ("class-folders", ("well", "sick"))
    assert [(case.id, case.label) for case in dataset.cases] == [
        ("b", "well"),
        ("c", "sick"),
        ("sick__a", "sick"),
        ("well__a", "well"),
    ]
    with pytest.raises(DataError, match="case b has no annotation"):
        read_annotation(dataset["b"])


def test_class_folders_with_a_split(tmp_path):
    for seed, (part, name) in enumerate(
        (p, n) for p in ("train", "val", "test") for n in ("well", "sick")
    ):
        write_volume(picture(seed), tmp_path / part / name / "x.png")
    dataset = open_dataset(tmp_path)
    assert dataset.splits == (
        Fold(("train__sick__x", "train__well__x"), ("val__sick__x", "val__well__x")),
    )
    assert any("2 test cases are in no fold" in note for note in dataset.notes)


def test_one_class_is_none(tmp_path):
    write_volume(picture(1), tmp_path / "well" / "a.png")
    for layout in (None, "class-folders"):
        with pytest.raises(DataError, match=r"one class found \(well\), two needed"):
            open_dataset(tmp_path, layout=layout)


def test_paths_and_layouts_that_do_not_exist(tmp_path):
    nnunet(tmp_path / "liver", ids=("a",))
    with pytest.raises(UsageError, match=r"did you mean .*liver"):
        open_dataset(tmp_path / "livver")
    with pytest.raises(UsageError, match="did you mean layout='nnunet'"):
        open_dataset(tmp_path / "liver", layout="nnunett")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no layout that hilum knows"):
        open_dataset(tmp_path / "empty")


def test_every_layout_recognises_only_itself(tmp_path):
    roots = {
        "nnunet": nnunet(tmp_path / "nnunet"),
        "decathlon": decathlon(tmp_path / "decathlon"),
        "paired-folders": pictures(tmp_path / "paired"),
    }
    for name, root in roots.items():
        assert [key for key, layout in LAYOUTS.items() if layout.recognises(root)] == [name]
        assert open_dataset(root).orphans == ()


def test_given_split_in_the_folder_beside_and_foreign(tmp_path):
    root = nnunet(tmp_path / "raw" / "D")
    folds = [{"train": ["a", "b", "gone"], "val": ["c"]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    dataset = open_dataset(root)
    assert dataset.splits == (Fold(("a", "b"), ("c",)),)
    assert any("names cases that are not here" in note for note in dataset.notes)
    assert any("3 cases are in no fold" in note for note in dataset.notes)
    beside = tmp_path / "nnUNet_preprocessed" / "D" / "splits_final.json"
    beside.parent.mkdir(parents=True)
    (root / "splits_final.json").rename(beside)
    assert open_dataset(root).splits == dataset.splits
    beside.write_text(json.dumps([{"train": ["x"], "val": ["y"]}]))
    assert open_dataset(root).splits == ()


def test_given_splits_that_cannot_be(tmp_path):
    root = nnunet(tmp_path)
    (root / "splits_final.json").write_text('{"train": []}')
    with pytest.raises(FormatError, match="is no list of folds"):
        open_dataset(root)
    (root / "splits_final.json").write_text('[{"train": ["x"], "val": ["a"]}]')
    with pytest.raises(DataError, match="has no training or no validation case"):
        open_dataset(root)


def test_fold_columns():
    assert folds_from_column({"a": "1", "b": ""}) == ColumnSplit()
    split = folds_from_column({"a": "10", "b": "9", "c": "9"})
    assert split == ColumnSplit((Fold(("a",), ("b", "c")), Fold(("b", "c"), ("a",))))
    assert folds_from_column({"a": "train", "b": "train"}) == ColumnSplit()


def test_annotation_takes_the_images_grid_within_rounding_only(tmp_path):
    root = nnunet(tmp_path, ids=("a",))
    grid = oblique(origin=(-21.0 + 1e-2, 33.5, 7.25))
    write_labels(labels(grid), root / "labelsTr" / "a.nii.gz")
    dataset = open_dataset(root)
    assert read_annotation(dataset["a"]).geometry == read_case(dataset["a"]).geometry
    write_labels(labels(oblique(origin=(-18.0, 33.5, 7.25))), root / "labelsTr" / "a.nii.gz")
    with pytest.raises(GeometryError, match="case a: the annotation lies on"):
        read_annotation(dataset["a"])


def test_a_picture_with_and_a_mask_without_resolution_are_one_grid(tmp_path):
    root = pictures(tmp_path, ids=("p",))
    with_resolution = Volume(
        picture(1).array, oblique((1, 12, 17), (1.0, 0.5, 0.5), (0, 0, 0), 0.0)
    )
    write_volume(with_resolution, root / "images" / "p.png")
    dataset = open_dataset(root)
    assert read_annotation(dataset["p"]).geometry == read_case(dataset["p"]).geometry


def test_a_slice_and_a_mask_that_lies_elsewhere_are_two_grids(tmp_path):
    root = nnunet(tmp_path, ids=("a",))
    slice_grid = oblique((1, 7, 9))
    write_volume(image(0, slice_grid), root / "imagesTr" / "a_0000.nii.gz")
    for wrong in (
        oblique((1, 7, 9), origin=(-21.0, 33.5, 27.25)),
        reorient_geometry(slice_grid, "SAL"),
    ):
        write_labels(labels(wrong), root / "labelsTr" / "a.nii.gz")
        with pytest.raises(GeometryError, match="case a: the annotation lies on"):
            read_annotation(open_dataset(root)["a"])


def archive(root, **arrays):
    np.savez(root / "toymnist.npz", **arrays)
    return root / "toymnist.npz"


def test_medmnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_images": rng.integers(0, 255, (n, 5, 7, 3), np.uint8)
        for part, n in (("train", 3), ("val", 2), ("test", 2))
    }
    arrays |= {
        f"{part}_labels": np.array([[n % 2] for n in range(len(arrays[f"{part}_images"]))])
        for part in ("train", "val", "test")
    }
    dataset = open_dataset(archive(tmp_path, **arrays))
    assert (dataset.layout, dataset.classes.names, dataset.channels) == (
        "medmnist",
        ("0", "1"),
        ("red", "green", "blue"),
    )
    assert dataset.splits == (
        Fold(("train_00000", "train_00001", "train_00002"), ("val_00000", "val_00001")),
    )
    assert dataset["test_00001"].label == "1"
    volume = read_case(dataset["train_00002"])
    assert np.array_equal(volume.array[:, 0], np.moveaxis(arrays["train_images"][2], -1, 0))
    assert any("2 test cases are in no fold" in note for note in dataset.notes)
    assert dataset.orphans == ()


def test_medmnist_without_classes(tmp_path):
    images = np.zeros((3, 5, 7), np.uint8)
    with pytest.raises(DataError, match="has no train_labels"):
        open_dataset(archive(tmp_path, train_images=images))
    with pytest.raises(DataError, match="one class an image"):
        open_dataset(archive(tmp_path, train_images=images, train_labels=np.full((3, 14), 2)))


def test_a_case_that_is_not_there(tmp_path):
    with pytest.raises(KeyError, match="q"):
        open_dataset(nnunet(tmp_path))["q"]


def test_unnamed_channels_of_one_file(tmp_path):
    root = decathlon(tmp_path, channels=("T1", "T2"))
    (root / "dataset.json").unlink()
    assert open_dataset(root).channels == ("channel_0", "channel_1")


def test_tab_separated_table_with_empty_masks_and_special_names(tmp_path):
    for seed, name in enumerate(("a[1]", "b")):
        write_volume(picture(seed), tmp_path / "images" / f"{name}.png")
        write_labels(picture_mask(), tmp_path / "masks" / f"{name}.png")
    (tmp_path / "cases.tsv").write_text("image\tmask\na[1].png\ta[1].png\nb.png\t\n")
    dataset = open_dataset(tmp_path / "cases.tsv")
    assert ([case.id for case in dataset.cases], [case.id for case in dataset.unlabelled]) == (
        ["a[1]"],
        ["b"],
    )
    table(tmp_path, "image,site\na[1].png,x\nb.png,y\n")
    assert open_dataset(tmp_path)["a[1]"].annotation == tmp_path / "masks" / "a[1].png"
    write_volume(picture(5), tmp_path / "images" / "lonely.png")
    assert [orphan.case for orphan in open_dataset(tmp_path).orphans] == ["lonely"]
