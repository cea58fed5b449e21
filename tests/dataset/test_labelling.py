"""Labels of a classification: column, kind, order, masks and points to look at."""

import numpy as np
import pytest
from dataset_samples import image, labels, nnunet, oblique, picture, picture_mask, pictures
from hypothesis import given
from hypothesis import strategies as st

from hilum.dataset import ClassTable, Fold, check, make_folds, open_cases, open_dataset, read_case
from hilum.dataset.layouts.class_order import class_order, natural
from hilum.errors import DataError, UsageError
from hilum.io import write_labels, write_volume


@pytest.fixture
def root(tmp_path):
    """Six pictures without masks, a0.png to a5.png."""
    for seed in range(6):
        write_volume(picture(seed), tmp_path / "set" / "images" / f"a{seed}.png")
    return tmp_path / "set"


def write(root, **columns):
    """A cases.csv with an image a row."""
    count = len(next(iter(columns.values())))
    header = ",".join(["image", *columns])
    rows = [
        ",".join([f"a{n}.png", *(values[n] for values in columns.values())]) for n in range(count)
    ]
    (root / "cases.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def opened(root, **columns):
    return open_dataset(write(root, **columns))


def labels_of(dataset):
    return [case.label for case in dataset.cases]


# --- which column
# ----------------------------------------------------------------------------------------


def test_a_column_named_like_a_label_is_one_and_others_stay(root):
    dataset = opened(root, Diagnosis=list("abcabc"), site=list("xxyyzz"))
    assert dataset.classes == ClassTable(names=("a", "b", "c"))
    assert labels_of(dataset) == list("abcabc")
    assert dataset.labels is None
    assert dict(dataset["a2"].columns) == {"site": "y"}


def test_an_empty_label_column_gives_way_to_a_filled_one(root):
    dataset = opened(root, label=[""] * 6, target=list("ababab"))
    assert labels_of(dataset) == list("ababab")
    assert "label" in dataset["a0"].columns


def test_another_column_is_asked_for_by_name_in_any_case(root):
    write(root, label=list("ababab"), grade=list("121212"))
    dataset = open_dataset(root, label="Grade")
    assert dataset.classes.names == ("1", "2")
    assert dataset["a0"].columns == {"label": "a"}


def test_no_label_says_which_columns_there_are(root):
    write(
        root,
        biopsy=list("ababab"),
        weight=list("123456"),
        name_of_site=['"a long name of a hospital, no, really"'] * 6,
    )
    with pytest.raises(UsageError, match="no column is named like a label") as caught:
        open_dataset(root)
    assert "biopsy: 2 values (a, b)" in caught.value.needed
    assert caught.value.needed.index("biopsy") < caught.value.needed.index("weight: 6 values")
    assert caught.value.cure == "label='COLUMN'"


def test_a_mistyped_column(root):
    write(root, biopsy=list("ababab"))
    with pytest.raises(UsageError, match="no column 'biopsi'") as caught:
        open_dataset(root, label="biopsi")
    assert caught.value.cure == "did you mean label='biopsy'?"


def test_a_label_that_is_no_class(root):
    write(root, weight=list("123456"), same=["a"] * 6, empty=[""] * 6)
    with pytest.raises(DataError, match="holds only 'a'"):
        open_dataset(root, label="same")
    with pytest.raises(DataError, match="holds no label"):
        open_dataset(root, label="empty")
    for seed in range(6, 60):
        write_volume(picture(seed), root / "images" / f"a{seed}.png")
    write(root, weight=[f"{n}.5" for n in range(60)], town=[f"n{n}" for n in range(60)])
    with pytest.raises(DataError, match="holds 60 different numbers") as caught:
        open_dataset(root, label="weight")
    assert "range of the number" in caught.value.cure
    with pytest.raises(DataError, match="holds 60 different values"):
        open_dataset(root, label="town")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": "ordnal"}, "classes='ordnal'"),
        ({"task": "classify"}, "task 'classify'"),
        ({"task": "segmentation", "label": "x"}, "a segmentation has no label column"),
        ({"task": "segmentation"}, "has no masks"),
        ({"positive": "c"}, "positive class 'c'"),
        ({"positive": "a", "classes": "ordinal"}, "2 ordinal classes have no positive"),
        ({"positive": "a", "classes": "multilabel"}, "findings have no positive class, and 'a'"),
        (
            {"label": ("label", "site"), "classes": "ordinal"},
            "2 label columns were named for ordinal classes",
        ),
    ],
)
def test_what_cannot_be_asked_for(root, asked, message):
    write(root, label=list("ababab"), site=list("010101"))
    with pytest.raises(UsageError, match=message):
        open_dataset(root, **asked)


# --- which values
# ----------------------------------------------------------------------------------------


def test_empty_labels_are_unlabelled_and_numbers_are_whole(root):
    dataset = opened(root, label=["1.0", "0.0", "", "nan", "1.0", "0.0"], fold=list("112211"))
    assert labels_of(dataset) == ["1", "0", "1", "0"]
    assert [case.id for case in dataset.unlabelled] == ["a2", "a3"]
    assert dataset.splits == ()
    assert any("2 of the 2 given folds have no labelled case" in note for note in dataset.notes)
    assert any(
        "2 cases without a label in label are counted as unlabelled" in note
        for note in dataset.notes
    )
    dataset = opened(root, label=["1", "0", "", "", "1", "0"], fold=list("121212"))
    assert dataset.splits == (Fold(("a1", "a5"), ("a0", "a4")), Fold(("a0", "a4"), ("a1", "a5")))
    assert not any("not here" in note for note in dataset.notes)


def test_findings_written_with_bars(root):
    dataset = opened(root, label=["Mass|Edema", "No Finding", "Edema", "", "Mass", "Hernia|Mass"])
    assert dataset.classes == ClassTable(names=("Edema", "Hernia", "Mass"), kind="multilabel")
    assert [(case.id, case.label) for case in dataset.cases] == [
        ("a0", "Edema|Mass"),
        ("a1", ""),
        ("a2", "Edema"),
        ("a4", "Mass"),
        ("a5", "Hernia|Mass"),
    ]
    assert any("No Finding means none" in note for note in dataset.notes)
    assert len(make_folds(dataset, 2)) == 2


def test_a_finding_that_stands_with_others_is_no_word_for_none(root):
    dataset = opened(root, label=["normal|Edema", "normal", "Edema", "Mass", "Mass", "Mass"])
    assert dataset.classes.names == ("Edema", "Mass", "normal")


def test_findings_asked_for_where_nobody_has_two(root):
    write(root, label=["Mass", "none", "Edema", "Mass", "none", "Edema"])
    assert open_dataset(root).classes.names == (
        "Edema",
        "Mass",
    )  # none among classes: see test_tables.py
    dataset = open_dataset(root, classes="multilabel")
    assert dataset.classes == ClassTable(names=("Edema", "Mass"), kind="multilabel")
    assert labels_of(dataset) == ["Mass", "", "Edema", "Mass", "", "Edema"]
    write(root, label=["none"] * 6)
    with pytest.raises(DataError, match="holds no finding"):
        open_dataset(root, classes="multilabel")


def test_several_columns_are_a_finding_each(root):
    columns = {"mass": ["1", "0", "1.0", "", "no", ""], "edema": ["1", "0", "0", "1", "yes", ""]}
    dataset = open_dataset(write(root, **columns), label=["mass", "edema"])
    assert dataset.classes == ClassTable(names=("mass", "edema"), kind="multilabel")
    assert [(case.id, case.label) for case in dataset.cases] == [
        ("a0", "mass|edema"),
        ("a1", ""),
        ("a2", "mass"),
        ("a4", "edema"),
    ]
    assert [case.id for case in dataset.unlabelled] == ["a3", "a5"]
    assert any("1 cases lack some of the 2 findings" in note for note in dataset.notes)
    assert open_dataset(root, label="mass, edema") == dataset
    write(root, mass=["1", "-1", "0", "0", "0", "0"], edema=list("000111"))
    with pytest.raises(DataError, match=r"the column mass holds '-1' \(case a1\)"):
        open_dataset(root, label=["mass", "edema"])
    write(root, mass=["", "1", "", "1", "", "1"], edema=["1", "", "1", "", "1", ""])
    with pytest.raises(DataError, match="has a label"):
        open_dataset(root, label=["mass", "edema"])


# --- which order
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("benign", "malignant"), ("benign", "malignant")),
        (("abnormal", "normal"), ("normal", "abnormal")),
        (("malignant", "benign"), ("benign", "malignant")),
        (("COVID", "Non-COVID"), ("Non-COVID", "COVID")),
        (("1", "0"), ("0", "1")),
        (("sick", "well"), ("well", "sick")),
        (("no", "normal"), ("no", "normal")),
        (("stage 10", "stage 2", "stage 1"), ("stage 1", "stage 2", "stage 10")),
        (("10", "9", "-1"), ("-1", "9", "10")),
    ],
)
def test_order_of_exclusive_classes(names, ordered):
    assert class_order(names, "exclusive", None)[0] == ordered
    if len(names) == 2:
        assert class_order(names, "exclusive", ordered[0])[0] == ordered[::-1]
        assert f"positive={ordered[0]!r}" in class_order(names, "exclusive", None)[1]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("10", "2", "1"), ("1", "2", "10")),
        (("grade 3", "grade 1", "grade 2"), ("grade 1", "grade 2", "grade 3")),
        (("Stage IV", "Stage I", "Stage III"), ("Stage I", "Stage III", "Stage IV")),
        (("C", "A", "B"), ("A", "B", "C")),
        (("severe", "none", "very severe", "mild"), ("none", "mild", "severe", "very severe")),
        (
            ("Proliferative DR", "No DR", "Mild NPDR", "Severe NPDR"),
            ("No DR", "Mild NPDR", "Severe NPDR", "Proliferative DR"),
        ),
        (("high", "medium", "low"), ("low", "medium", "high")),
    ],
)
def test_order_of_grades(names, ordered):
    assert class_order(names, "ordinal", None)[0] == ordered


def test_grades_that_do_not_say_their_order(root):
    with pytest.raises(UsageError, match="do not say which grade is lower"):
        open_dataset(
            write(root, label=["red", "green", "blue", "red", "green", "blue"]), classes="ordinal"
        )


def test_the_positive_class_is_the_one_asked_for(root):
    write(root, label=["benign", "malignant"] * 3)
    assert open_dataset(root, positive="benign").classes.names == ("malignant", "benign")
    with pytest.raises(UsageError, match="positive class 'benig'") as caught:
        open_dataset(root, positive="benig")
    assert caught.value.cure == "did you mean positive='benign'?"
    with pytest.raises(UsageError, match="3 exclusive classes have no positive class, and 'a'"):
        open_dataset(write(root, label=list("abcabc")), positive="a")


@given(st.lists(st.text(max_size=6), min_size=2, max_size=6))
def test_natural_order_is_an_order(names):
    ordered = sorted(names, key=natural)
    backwards = ordered[::-1]
    backwards.sort(key=natural)
    assert backwards == ordered


# --- masks and points
# ----------------------------------------------------------------------------------------


@pytest.fixture
def masked(tmp_path):
    root = pictures(tmp_path, ids=("a0", "a1", "a2", "a3"))
    return write(root, label=["x", "y", "x", "y"], age=list("1234"))


def test_masks_make_a_segmentation_and_say_what_to_type(masked):
    dataset = open_dataset(masked)
    assert (dataset.classes, dataset.labels is not None) == (None, True)
    assert dataset["a0"].annotation is not None
    assert dataset["a0"].label is None
    assert dataset["a0"].columns == {"label": "x", "age": "1"}
    assert any("label='label'" in note for note in dataset.notes)
    assert open_dataset(masked, task="segmentation") == dataset


@pytest.mark.parametrize(
    "asked",
    [{"label": "label"}, {"task": "classification"}, {"classes": "exclusive"}, {"positive": "y"}],
)
def test_masks_say_where_to_look_where_classes_are_asked_for(masked, asked):
    (masked / "masks" / "a3.png").unlink()
    dataset = open_dataset(masked, **asked)
    assert dataset.labels is None
    assert [case.label for case in dataset.cases] == ["x", "y", "x", "y"]
    assert dataset["a0"].annotation is None
    assert dataset["a0"].region == masked / "masks" / "a0.png"
    assert dataset["a3"].region is None
    assert any("the masks say where to look; 1 cases have none" in note for note in dataset.notes)


def test_a_column_of_regions_needs_no_asking(masked):
    (masked / "masks").rename(masked / "regions")
    text = (masked / "cases.csv").read_text().splitlines()
    rows = [f"{line},{'region' if n == 0 else f'a{n - 1}.png'}" for n, line in enumerate(text)]
    (masked / "cases.csv").write_text("\n".join(rows))
    dataset = open_dataset(masked)
    assert dataset["a1"].region == masked / "regions" / "a1.png"
    assert dataset.classes.names == ("x", "y")


def test_labels_in_the_patients_file_of_any_layout(tmp_path):
    root = nnunet(tmp_path)
    (root / "patients.csv").write_text(
        "case,patient,outcome\na,A,0\nb,A,1\nc,C,0\nd,D,1\ne,E,0\nf,F,\n"
    )
    assert open_dataset(root)["a"].columns == {"outcome": "0"}
    dataset = open_dataset(root, label="outcome")
    assert dataset.classes.names == ("0", "1")
    assert dataset["b"].region == root / "labelsTr" / "b.nii.gz"
    assert [case.id for case in dataset.unlabelled] == ["f"]
    with pytest.raises(UsageError, match="has no table with a label"):
        open_dataset(pictures(tmp_path / "pictures"), task="classification")
    with pytest.raises(UsageError, match="no column 'x'") as caught:
        open_dataset(tmp_path / "pictures", label="x")
    assert "has none" in caught.value.needed


def test_masks_are_not_read_for_a_classification(masked):
    for mask in (masked / "masks").iterdir():
        mask.write_bytes(b"no mask")
    assert len(open_dataset(masked, label="label").cases) == 4


def volumes(tmp_path, points, names=("centre_x", "centre_y", "centre_z")):
    rows = []
    for seed, point in enumerate(points):
        write_volume(image(seed), tmp_path / f"v{seed}.nii.gz")
        rows.append(f"v{seed}.nii.gz,{seed % 2},{','.join(map(str, point))}")
    (tmp_path / "cases.csv").write_text("\n".join([f"image,label,{','.join(names)}", *rows]))
    return open_dataset(tmp_path)


def middles(count=10):
    return [
        tuple(oblique().index_to_world((1.2 + n / 10, 3.0, 5.5)).tolist()) for n in range(count)
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("centre_x", "centre_y", "centre_z"),
        ("coordX", "coordY", "coordZ"),
        ("x_mm", "y_mm", "z_mm"),
    ],
)
def test_points_in_millimetres_are_where_to_look(tmp_path, names):
    points = middles()
    dataset = volumes(tmp_path, points, names)
    assert [case.centre_mm for case in dataset.cases] == points
    assert any("in LPS millimetres: 10 cases have it" in note for note in dataset.notes)


def test_a_point_outside_or_missing_is_left_out(tmp_path):
    points = middles(12)
    points[3], points[4] = (900.0, 0.0, 0.0), ("", "", "")
    dataset = volumes(tmp_path, points)
    assert [case.id for case in dataset.cases if case.centre_mm is None] == ["v3", "v4"]
    assert any("that of v3 lies outside" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(-x, -y, z) for x, y, z in middles()], "with x and y negated they do"),
        ([(5.5, 3.0, 1.0 + n / 10) for n in range(10)], "they look like voxels"),
        ([(900.0, 900.0, n) for n in range(10)], "0 of 10 points lie in their images"),
    ],
)
def test_points_of_another_convention_are_left_alone(tmp_path, points, said):
    dataset = volumes(tmp_path, points)
    assert all(case.centre_mm is None for case in dataset.cases)
    assert any(said in note for note in dataset.notes)


def test_points_in_pictures_need_no_z(root):
    dataset = opened(root, label=list("ababab"), centre_x=["3"] * 6, centre_y=["4.5"] * 6)
    assert dataset["a0"].centre_mm == (3.0, 4.5, 0.0)
    dataset = opened(root, label=list("ababab"), centre_x=["a"] * 6, centre_y=["4.5"] * 6)
    assert dataset["a0"].centre_mm is None


def test_points_of_volumes_need_z(tmp_path):
    for seed in range(2):
        write_volume(image(seed), tmp_path / f"v{seed}.nii.gz")
    (tmp_path / "cases.csv").write_text(
        "image,label,centre_x,centre_y\nv0.nii.gz,a,1,2\nv1.nii.gz,b,1,2\n"
    )
    assert all(case.centre_mm is None for case in open_dataset(tmp_path).cases)


# --- other layouts
# ----------------------------------------------------------------------------------------


def archive(root, train, val, shape=(5, 7)):
    arrays = {
        "train_images": np.zeros((len(train), *shape), np.uint8),
        "val_images": np.zeros((len(val), *shape), np.uint8),
    }
    np.savez(root / "toy.npz", train_labels=np.array(train), val_labels=np.array(val), **arrays)
    return root / "toy.npz"


def test_medmnist_with_several_labels_an_image(tmp_path):
    path = archive(tmp_path, [[0, 1, 1], [0, 0, 0]], [[1, 0, 0]])
    dataset = open_dataset(path)
    assert dataset.classes == ClassTable(names=("0", "1", "2"), kind="multilabel")
    assert labels_of(dataset) == ["1|2", "", "0"]
    assert open_dataset(path, classes="multilabel") == dataset
    with pytest.raises(UsageError, match="classes='ordinal' does not fit"):
        open_dataset(path, classes="ordinal")
    with pytest.raises(UsageError, match="findings have no positive class"):
        open_dataset(path, positive="1")
    with pytest.raises(UsageError, match="no column 'a'"):
        open_dataset(path, label="a")


def test_medmnist_with_one_of_several_and_with_grades(tmp_path):
    dataset = open_dataset(archive(tmp_path, [[0, 1, 0], [1, 0, 0]], [[0, 0, 1]], shape=(4, 5, 7)))
    assert dataset.classes == ClassTable(names=("0", "1", "2"))
    assert labels_of(dataset) == ["1", "0", "2"]
    assert read_case(dataset["val_00000"]).geometry.shape == (4, 5, 7)
    path = archive(tmp_path, [[4], [0], [11]], [[2]])
    assert open_dataset(path, classes="ordinal").classes == ClassTable(
        names=("0", "2", "4", "11"), kind="ordinal"
    )
    with pytest.raises(DataError, match="labels an image in its parts"):
        open_dataset(archive(tmp_path, [[0, 1]], [[1]]))


def test_class_folders_with_a_positive_class_and_grades(tmp_path):
    for name in ("grade 1", "grade 2"):
        for seed in range(2):
            write_volume(picture(seed), tmp_path / name / f"{name}{seed}.png")
    assert open_dataset(tmp_path, positive="grade 1").classes.names == ("grade 2", "grade 1")
    assert open_dataset(tmp_path, classes="ordinal").classes.kind == "ordinal"
    with pytest.raises(UsageError, match="no column 'x'"):
        open_dataset(tmp_path, label="x")


def test_dicom_studies_are_images_of_a_table_and_of_class_folders(tmp_path):
    from hilum.examples.dicom import SeriesTags, write_dicom_series

    for n in range(4):
        volume = image(n, oblique((3, 16, 18), angle=0.0))
        tags = SeriesTags(patient_id=f"P{n}", uid_seed=str(n))
        for folder in (
            tmp_path / "set" / "studies",
            tmp_path / "folders" / ("sick" if n % 2 else "well"),
        ):
            write_dicom_series(volume, folder / f"s{n}", tags=tags)
    rows = "".join(f"studies/s{n},P{n},{'sick' if n % 2 else 'well'}\n" for n in range(4))
    (tmp_path / "set" / "cases.csv").write_text(f"image,patient,label\n{rows}")
    table, folders = open_dataset(tmp_path / "set"), open_dataset(tmp_path / "folders")
    for dataset in (table, folders):
        assert [(case.id, case.label) for case in dataset.cases] == [
            ("s0", "well"),
            ("s1", "sick"),
            ("s2", "well"),
            ("s3", "sick"),
        ]
        assert dataset.channels == ("image",)
        assert np.array_equal(
            read_case(dataset["s2"]).array, image(2, oblique((3, 16, 18), angle=0.0)).array
        )
    assert [finding for finding in check(table) if finding.severity == "error"] == []


def test_cases_are_opened_without_asking_for_labels(root, masked, tmp_path):
    write(root, site=list("ababab"))
    assert [case.id for case in open_cases(root)] == [f"a{n}" for n in range(6)]
    cases = open_cases(masked)
    assert [case.id for case in cases] == ["a0", "a1", "a2", "a3"]
    assert all(
        case.region == case.annotation == masked / "masks" / f"{case.id}.png" for case in cases
    )
    with pytest.raises(UsageError, match="does not exist"):
        open_cases(tmp_path / "gone")


def test_a_picture_and_its_region_of_another_size_are_found(masked):
    write_labels(picture_mask((10, 17)), masked / "masks" / "a0.png")
    write_labels(
        labels(oblique((1, 12, 17)), (1,)).with_array(np.zeros((1, 1, 12, 17), np.uint8)),
        masked / "masks" / "a1.png",
    )
    (masked / "masks" / "a2.png").write_bytes(b"no mask")
    findings = check(open_dataset(masked, label="label"))
    found = {(finding.case, finding.kind) for finding in findings if finding.case}
    assert {("a0", "grid-mismatch"), ("a1", "empty-annotation"), ("a2", "unreadable")} <= found


# --- some of the classes
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        "benign,malignant",
        ("benign", "malignant"),
        ("Malignant , benign",),
        ("exclusive", "benign,malignant"),
    ],
)
def test_only_the_classes_that_are_asked_for_and_the_others_are_left_out_aloud(root, asked):
    write(
        root, label=["benign", "normal", "malignant", "", "normal", "benign"], fold=list("010101")
    )
    dataset = open_dataset(root, classes=asked)
    assert dataset.classes == ClassTable(names=("benign", "malignant"))
    assert labels_of(dataset) == ["benign", "malignant", "benign"]
    assert [case.id for case in dataset.unlabelled] == [
        "a3"
    ]  # that its class is not known is no reason to leave it out
    assert any(
        "2 cases of other classes than were asked for are left out: normal" in note
        for note in dataset.notes
    )
    assert {
        case for fold in dataset.splits for side in (fold.train, fold.validation) for case in side
    } <= {"a0", "a2", "a5"}
    assert not any("left out" in note for note in open_dataset(root).notes)


def test_grades_without_the_middle_one(root):
    write(root, label=["1.0", "2.0", "3.0", "4.0", "5.0", "3.0"])
    dataset = open_dataset(root, classes=("ordinal", "1,2,4,5"))
    assert dataset.classes == ClassTable(names=("1", "2", "4", "5"), kind="ordinal")
    assert labels_of(dataset) == ["1", "2", "4", "5"]


def test_folders_of_some_classes(tmp_path):
    for number, name in enumerate(("benign", "malignant", "normal")):
        write_volume(picture(number), tmp_path / "set" / name / f"p{number}.png")
    dataset = open_dataset(tmp_path / "set", classes="benign,malignant")
    assert labels_of(dataset) == ["benign", "malignant"]


def test_classes_that_cannot_be_chosen_are_refused(root):
    write(
        root,
        label=["benign", "normal", "malignant"] * 2,
        several=["a|b", "a", "b"] * 2,
        a=list("010101"),
        b=list("110011"),
    )
    with pytest.raises(
        UsageError,
        match=(
            r"the column label .* does not hold the class 'malign'[\s\S]*benign, malignant,"
            r" normal[\s\S]*classes='malignant'\?"
        ),
    ):
        open_dataset(root, classes="benign,malign")
    with pytest.raises(UsageError, match=r"classes=.benign.[\s\S]*at least two classes"):
        open_dataset(root, classes="benign")
    with pytest.raises(UsageError, match=r"classes=.ordinl.[\s\S]*did you mean 'ordinal'"):
        open_dataset(root, classes="ordinl")
    with pytest.raises(UsageError, match=r"classes.*'ordinal', 'exclusive'"):
        open_dataset(root, classes=("ordinal", "exclusive"))
    for label in ("several", ("a", "b")):
        with pytest.raises(UsageError, match=r"some findings alone cannot be chosen by classes"):
            open_dataset(root, label=label, classes="a,b")
    with pytest.raises(UsageError, match="a segmentation has no label column"):
        open_dataset(root, task="segmentation", classes="benign,malignant")
