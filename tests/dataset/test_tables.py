"""Tables of users: words for "not known", spellings, paths, columns and ids that clash."""

import csv
import io
import json

import pytest
from dataset_samples import nnunet, picture, pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.dataset import make_folds, open_dataset
from hilum.dataset.layouts.naming import channel_names, label_table
from hilum.dataset.layouts.splits import folds_from_column
from hilum.dataset.open import known_patients
from hilum.errors import DataError, FormatError, LabelError
from hilum.io import write_volume

WORDS = ("NA", "n/a", "nan", "None", "null", "?", "-", "unknown", " ", "<NA>", "#N/A", "Missing")


@pytest.fixture
def root(tmp_path):
    for seed in range(6):
        write_volume(picture(seed), tmp_path / "set" / "images" / f"a{seed}.png")
    return tmp_path / "set"


def opened(root, encoding="utf-8", **columns):
    """A data set with an image a row."""
    columns = {"image": [f"a{n}.png" for n in range(6)], **columns}
    rows = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    (root / "cases.csv").write_bytes("\n".join(rows).encode(encoding))
    return open_dataset(root)


def said(dataset, text):
    return any(text in note for note in dataset.notes)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_not_known_in_every_column(root, word):
    dataset = opened(
        root,
        case=[word, "b1", "b2", "b3", "b4", "b5"],
        label=["ill", "well", "ill", "well", "ill", word],
        patient=["P", word, word, word, "P", "Q"],
        age=["1", "2", word, "4", "5", "6"],
        fold=["0.0", "1.0", "0.0", "1.0", word, "0.0"],
        region=[word] * 6,
    )
    assert dataset.classes.names == ("well", "ill")
    assert [case.id for case in (*dataset.cases, *dataset.unlabelled)] == [
        "a0",
        "b1",
        "b2",
        "b3",
        "b4",
        "b5",
    ]
    assert [case.patient for case in dataset.cases] == ["P", None, None, None, "P"]
    assert [fold.validation for fold in dataset.splits] == [("a0", "b2"), ("b1", "b3")]
    assert not any(case.region for case in dataset.cases)
    shown = f"{word.strip()!r} 1" if word.strip() else "blank 1"
    assert said(
        dataset, f"1 cases without a label in label are counted as unlabelled (1 of 6: {shown})"
    )
    assert said(dataset, "the patients of 3 cases are not known")
    assert said(dataset, f"age: 1 of 6 not known ({shown})") is bool(word.strip())
    assert said(dataset, "patient: 3 of 6 not known") is bool(word.strip())


def test_an_unknown_patient_is_a_patient_of_its_own(root):
    dataset = opened(root, label=["a", "b"] * 3, patient=["NA"] * 6)
    assert [len(fold.validation) for fold in make_folds(dataset, 3)] == [2, 2, 2]


def test_none_is_a_class_by_context_only(root):
    dataset = opened(root, label=["a", "b", "None"] * 2)
    assert dataset.classes.names == ("a", "b")
    assert said(
        dataset, "(2 of 6: 'None' 2); if None is a class, name every class: classes='CLASS,...'"
    )
    assert open_dataset(root, classes="a,b,none").classes.names == ("a", "b", "None")
    with pytest.raises(
        DataError, match=r"\(label: 3 of 6 not known \('none' 3\)\) holds only 'polyp'"
    ):
        opened(root, label=["none", "polyp"] * 3)
    assert open_dataset(root, classes="none,polyp").classes.names == ("none", "polyp")
    assert opened(root, label=["none", "mild", "severe"] * 2).classes.names == (
        "mild",
        "none",
        "severe",
    )
    findings = opened(root, label=["none", "a|b", "a", "NA", "b|NA", "b"])
    assert [case.label for case in findings.cases] == ["", "a|b", "a", "b"]
    assert [case.id for case in findings.unlabelled] == ["a3", "a4"]
    assert said(findings, "(2 of 6: 'NA' 1, 'b|NA' 1)")
    assert opened(root, label=["+", "-"] * 3).classes.names == ("+", "-")


def test_spellings_of_one_name_are_one(root):
    dataset = opened(
        root,
        label=["ill", "well", "ILL ", "Well", "ill", "well"],
        patient=["p1", "P1", "p1", "p2", "02", "2.0"],
    )
    assert dataset.classes.names == ("well", "ill")
    assert said(
        dataset,
        "classes in several spellings: 'ill' 2, 'ILL' 1 count as 'ill'; 'well' 2, 'Well' 1 count as"
        " 'well'",
    )
    assert [case.patient for case in dataset.cases] == ["p1", "p1", "p1", "p2", "02", "02"]
    assert said(dataset, "patients in several spellings: 'p1' 2, 'P1' 1 count as 'p1'")
    assert open_dataset(root, positive="WELL").classes.names == ("ill", "well")
    assert open_dataset(root, classes="Ill, WELL").classes.names == ("well", "ill")
    assert opened(root, label=["0", "1", "0.0", "1.0", "01", "00"]).classes.names == ("0", "1")
    assert opened(root, label=["o\u0308l", "\u00f6l", "b"] * 2).classes.names == ("b", "o\u0308l")
    assert opened(root, label=["A|b", "a", "B", "b", "b", "a"]).classes.names == ("a", "b")


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"label": ["a"] * 6, "Label ": ["b"] * 6}, "columns of one name: 'label', 'Label'"),
        (
            {"case": ["c", "C", "d", "e", "f", "g"], "label": ["a", "b"] * 3},
            "several cases of one name: C, c",
        ),
        (
            {"image": ["NA", *(f"a{n}.png" for n in range(1, 6))]},
            r"line 2: the image is not known \('NA'\)",
        ),
        (
            {"image": [f"D:\\x\\images\\a{n}.png" for n in range(6)]},
            r"line 2: the file 'D:(.|\n)*write images/a0.png: paths",
        ),
        (
            {"image": [f"\\\\server\\x\\a{n}.png" for n in range(6)]},
            r"write a0.png: paths of another",
        ),
        ({"image": [f"a{n}" for n in range(6)]}, "write a0.png, with its suffix"),
        ({"image": [f"a{n}.PNG" for n in range(6)]}, "write a0.png, with its suffix"),
        ({"image": [f"q{n}.png" for n in range(6)]}, "correct the path"),
    ],
)
def test_tables_that_contradict_themselves(root, columns, match):
    with pytest.raises(DataError, match=match):
        raise opened(root, **{"label": ["a", "b"] * 3, **columns}).cases[0].fault


def test_columns_of_spreadsheets_have_blanks_in_their_names(root):
    dataset = opened(
        root, **{"Patient ID": list("aabbcc"), "Case-ID": list("uvwxyz"), "Label": ["a", "b"] * 3}
    )
    assert (dataset["u"].patient, dataset["w"].patient) == ("a", "b")


def test_paths_with_backslashes_lead_to_files(root):
    assert (
        len(opened(root, image=[f"images\\a{n}.png" for n in range(6)], label=["a", "b"] * 3).cases)
        == 6
    )


def test_a_patients_file_as_spreadsheets_write_it(tmp_path):
    root = pictures(tmp_path, ids=("x", "y", "z"))
    text = 'sep=;\r\n"Case" ; "Patient";age\r\nx;Müller;61,5\r\ny;NA;?\r\nq;P;3\r\n'
    (root / "patients.csv").write_bytes(text.encode("cp1252"))
    dataset = open_dataset(root)
    assert [case.patient for case in dataset.cases] == ["Müller", None, None]
    assert dataset["x"].columns["age"] == "61.5"
    assert said(dataset, "1 of 3 rows of")
    assert said(dataset, "name no case that is here: 'q'")
    assert said(dataset, "Patient: 1 of 3 not known ('NA' 1)")
    assert known_patients(root / "patients.csv") == {"x": "Müller", "q": "P"}
    (root / "patients.csv").write_text("case,patient\nx,A\nx,B\n")
    with pytest.raises(DataError, match="several rows for x that differ"):
        open_dataset(root)


def test_json_files_in_other_encodings(tmp_path):
    root = nnunet(tmp_path)
    facts = json.loads((root / "dataset.json").read_text())
    facts["labels"] = {"background": 0, "Gefäß": 1, "tumour": 2}
    (root / "dataset.json").write_bytes(json.dumps(facts, ensure_ascii=False).encode("utf-16"))
    folds = [{"train": ["a", "b"], "val": ["c"]}]
    (root / "splits_final.json").write_bytes(json.dumps(folds).encode("utf-8-sig"))
    dataset = open_dataset(root)
    assert dataset.labels.labels[1].name == "Gefäß"
    assert dataset.splits[0].validation == ("c",)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ({"liver": 1, "Liver ": 2}, "gives several labels one name: 'liver', 'Liver'"),
        ({"1": "liver", "2": "liver"}, "'liver', 'liver'"),
    ],
)
def test_labels_of_one_name_are_refused(tmp_path, labels, match):
    with pytest.raises(LabelError, match=match):
        label_table({"labels": labels}, tmp_path / "dataset.json")


def test_names_that_json_leaves_out(tmp_path):
    assert label_table({"labels": {"1": None, "2": "rib"}}, tmp_path).labels[1].name == "label_1"
    assert label_table({"labels": {"rib": 1, "Ignore": 2}}, tmp_path).ignore == 2
    assert channel_names({"channel_names": {"0": None, "1": "CT", "2": "ct "}}, tmp_path) == (
        "channel_0",
        "CT_1",
        "ct_2",
    )


@pytest.mark.parametrize("word", WORDS)
def test_names_of_json_that_are_not_known(tmp_path, word):
    assert channel_names({"channel_names": {"0": word, "1": "CT", "2": word}}, tmp_path) == (
        "channel_0",
        "CT",
        "channel_2",
    )
    for labels in (
        {"background": 0, word: 1, "rib": 2},
        {"0": word, "1": word, "2": "rib"},
        {"0": word, "1": None, "2": "rib"},
    ):
        names = [label.name for label in label_table({"labels": labels}, tmp_path).labels]
        assert names == ["background", "label_1", "rib"]


def test_fold_columns_that_pandas_wrote():
    folds = folds_from_column({"a": "0.0", "b": "1.0", "c": "nan", "d": "NA", "e": "1"}).folds
    assert [fold.validation for fold in folds] == [("a",), ("b", "e")]


def test_bytes_that_are_no_table(root):
    (root / "cases.csv").write_bytes(b"PK\3\4\0\0\0\0\0\1")
    with pytest.raises(FormatError, match="is no text in an encoding"):
        open_dataset(root)
    (root / "cases.csv").write_text("who,label\nx,y\n")
    with pytest.raises(DataError, match="has the columns who, label"):
        open_dataset(root)
    (root / "cases.csv").rename(
        root / "notes.csv"
    )  # a file of any other name is not asked to be a table
    with pytest.raises(DataError, match="has no layout"):
        open_dataset(root)


ROWS = [
    ["case", "patient", "image", "label", "age", "note"],
    *(
        [f"Zoë {n}", f"P{n // 2}", f"a{n}.png", "ab"[n % 2], f"{20 + n}.5", f'a; "b", {n}\tc']
        for n in range(6)
    ),
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]),
    delimiter=st.sampled_from(",;\t"),
    eol=st.sampled_from(["\n", "\r\n", "\r"]),
    all_quoted=st.booleans(),
    extras=st.fixed_dictionaries(
        {
            "named": st.booleans(),
            "empty": st.integers(0, 2),
            "index": st.booleans(),
            "blanks": st.booleans(),
        }
    ),
)
def test_one_data_set_however_its_table_is_written(
    root, encoding, delimiter, eol, all_quoted, extras
):
    def text(rows, index):
        stream = io.StringIO()
        quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
        numbered = (
            [["", *row] if n == 0 else [str(n - 1), *row] for n, row in enumerate(rows)]
            if index
            else rows
        )
        csv.writer(stream, delimiter=delimiter, lineterminator=eol, quoting=quoting).writerows(
            numbered
        )
        return stream.getvalue()

    (root / "cases.csv").write_text(
        "\n".join(",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row) for row in ROWS)
    )
    plain = open_dataset(root)
    decimal = [
        [cell.replace(".5", ",5") if n else cell for cell in row] for n, row in enumerate(ROWS)
    ]
    written = text(ROWS if delimiter == "," else decimal, extras["index"])
    if extras["blanks"] and all_quoted:
        written = written.replace(f'"{delimiter}"', f'" {delimiter} "')
    ends = (delimiter * len(ROWS[0]) + eol) * extras["empty"]
    (root / "cases.csv").write_bytes(
        ((f"sep={delimiter}{eol}" if extras["named"] else "") + written + ends).encode(encoding)
    )
    assert open_dataset(root).cases == plain.cases


@pytest.mark.parametrize("folder", [("images", "masks"), ("benign", "malignant")])
def test_ids_that_differ_in_letter_case_only(tmp_path, folder):
    for name in ("a.png", "A.png", "b.png", "c.png"):
        for part in folder:
            write_volume(picture(1), tmp_path / part / name)
    if folder[0] == "benign":
        with pytest.raises(DataError, match="several cases of one name: benign__A, benign__a"):
            open_dataset(tmp_path, task="classification")
        (tmp_path / "benign" / "A.png").unlink()
        (tmp_path / "malignant" / "a.png").unlink()
        ids = {case.id for case in open_dataset(tmp_path, task="classification").cases}
        assert {"benign__a", "malignant__A"} <= ids
    else:
        with pytest.raises(DataError, match="several cases of one name: A, a"):
            open_dataset(tmp_path)


def test_metadata_in_several_spellings(root):
    dataset = opened(root, label=["ill", "well"] * 3, sex=["M", "m", "F", "f", "M", "n/a"])
    assert [case.columns["sex"] for case in dataset.cases] == ["M", "M", "F", "F", "M", "n/a"]
    assert said(
        dataset, "sex in several spellings: 'M' 2, 'm' 1 count as 'M'; 'F' 1, 'f' 1 count as 'F'"
    )


def test_yes_and_no_in_several_ways(root):
    with pytest.raises(DataError, match="says yes and no in several ways: 0, 1, no"):
        opened(root, label=["yes", "no", "1", "0", "yes", "no"])


def test_yes_and_no_as_letters_beside_words(root):
    with pytest.raises(DataError, match="says yes and no in several ways: N, Y, no"):
        opened(root, label=["yes", "no", "Y", "N", "yes", "no"])


def test_joints_within_a_word_make_no_other_class(root):
    dataset = opened(root, label=["non-ill", "non_ill", "Non ill", "ill", "ill", "ill"])
    assert dataset.classes.names == ("non-ill", "ill")
    assert said(dataset, "'non-ill' 1, 'non_ill' 1, 'Non ill' 1 count as 'non-ill'")
    assert opened(root, label=["-1", "1", "1-2", "12", "-1", "1"]).classes.names == (
        "-1",
        "1",
        "1-2",
        "12",
    )


@pytest.mark.parametrize("minus", "-–—−")
def test_any_minus_beside_plus_is_a_class(root, minus):
    assert set(opened(root, label=["+", minus] * 3).classes.names) == {"+", minus}


def test_characters_without_a_width_do_not_count(root):
    dataset = opened(
        root, **{"label\u200b": ["ill", "\ufeffill", "well", "well\u00ad", "\u200b", "−"]}
    )
    assert set(dataset.classes.names) == {"ill", "well"}
    assert len(dataset.unlabelled) == 2


def test_a_label_column_of_files_holds_masks(root):
    for seed in range(6):
        write_volume(picture(seed, channels=1), root / "masks" / f"a{seed}.png")
    dataset = opened(root, label=[f"masks/a{n}.png" for n in range(5)] + ["n/a"])
    assert dataset.labels is not None
    assert [case.annotation.name for case in dataset.cases] == [f"a{n}.png" for n in range(5)]
    assert said(dataset, "the column 'label' names files: it is that of the masks")


def test_a_case_that_is_not_known_is_said(root):
    assert said(
        opened(root, case=["NA", *"bcdef"], label=["ill", "well"] * 3),
        "case: 1 of 6 not known ('NA' 1)",
    )


@pytest.mark.parametrize("number", [1.5, float("nan"), float("inf"), "one", None])
def test_ids_of_labels_that_are_no_whole_numbers(tmp_path, number):
    with pytest.raises(LabelError, match="label 'a' has the id"):
        label_table({"labels": {"background": 0, "a": number}}, tmp_path / "dataset.json")


def test_folds_of_any_numbers_are_in_their_order():
    words = ("10", "2", "²", "1" * 5000)
    folds = folds_from_column({word: word for word in words}).folds
    assert [fold.validation[0] for fold in folds] == ["2", "²", "10", "1" * 5000]
