"""Tables of other programs: encodings, decimal commas, "not known", spellings."""

import pytest

from hilum.dataset import ClassTable, open_dataset
from hilum.errors import FormatError, LabelError
from hilum.evaluation.classification.folder import evaluate_classes
from hilum.targets.predictions import read_predictions

TWO = ClassTable(names=("well", "größer"))
FINDINGS = ClassTable(names=("mass", "edema"), kind="multilabel")


def theirs(folder, encoding="cp1252"):
    """Six predictions of a spreadsheet with decimal commas and an index."""
    rows = [f'{n};"c{n}" ;0,{2 + n};0,{8 - n};NA;?;nan' for n in range(6)]
    text = (
        "sep=;\r\n"
        + "\r\n".join(['; "Case";p_WELL;p_größer;patient;Age;Fold', *rows, ";;;;;;"])
        + "\r\n"
    )
    folder.mkdir()
    (folder / "predictions.csv").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_predictions_of_a_spreadsheet(tmp_path, encoding):
    scores = read_predictions(theirs(tmp_path / "p", encoding), TWO)
    assert [score.case for score in scores] == [f"c{n}" for n in range(6)]
    assert scores[0].probabilities == (0.2, 0.8)
    assert {(score.patient, score.fold, score.columns["Age"]) for score in scores} == {
        (None, None, "?")
    }


def test_a_reference_with_words_and_spellings(tmp_path):
    rows = ["c0,größer,P", "c1,GRÖSSER,p", "c2,NA,n/a", "c3,Well,?", "c4,unknown,-", "c5, well ,Q"]
    (tmp_path / "truth.csv").write_bytes(
        "\n".join([" Case,LABEL,Patient", *rows]).encode("utf-16-le")
    )
    evaluation = evaluate_classes(
        theirs(tmp_path / "p"), tmp_path / "truth.csv", tmp_path / "out", subgroups=[]
    )
    assert {score.case: score.reference for score in evaluation.scores} == {
        "c0": "größer", "c1": "größer", "c3": "WELL", "c5": "WELL",
    }  # fmt: skip
    assert [score.patient for score in evaluation.scores] == ["P", "P", None, "Q"]
    notes = evaluation.record.notes
    assert "label: 2 of 6 not known (NA, unknown), and left out: c2, c4" in notes
    assert "Patient: 3 of 6 not known ('n/a' 1, '?' 1, '-' 1)" in notes
    assert "predictions.csv is not UTF-8: it is read as Windows-1252" in notes
    (tmp_path / "truth.csv").write_text("case,label\nc0,cyst\n")
    with pytest.raises(LabelError, match="class 'cyst'"):
        evaluate_classes(tmp_path / "p", tmp_path / "truth.csv", tmp_path / "out")


def test_a_reference_with_other_names_of_case_and_patient(tmp_path):
    rows = [f"c{n},{('well', 'größer')[n % 2]},{n // 2}" for n in range(6)]
    (tmp_path / "truth.csv").write_text("\n".join(["case_id,label,Subject ID", *rows]), "utf-8")
    evaluation = evaluate_classes(
        theirs(tmp_path / "p"), tmp_path / "truth.csv", tmp_path / "out", subgroups=[]
    )
    assert [score.patient for score in evaluation.scores] == ["0", "0", "1", "1", "2", "2"]
    assert all("Subject ID" not in score.columns for score in evaluation.scores)


def test_an_unknown_finding_is_no_absent_one(tmp_path):
    (tmp_path / "predictions.csv").write_text(
        "case,p_mass,p_edema\n" + "".join(f"c{n},0.2,0.{n}\n" for n in range(6))
    )
    rows = ["c0,Mass", "c1,No Finding", "c2,", "c3,edema|MASS", "c4,mass|NA", "c5,none"]
    (tmp_path / "truth.csv").write_text("\n".join(["case,label", *rows]))
    evaluation = evaluate_classes(
        tmp_path, tmp_path / "truth.csv", tmp_path / "out", table=FINDINGS, subgroups=[]
    )
    assert {score.case: score.reference for score in evaluation.scores} == {
        "c0": "mass", "c1": "", "c3": "edema|mass", "c5": "",
    }  # fmt: skip
    assert (
        "label: 2 of 6 not known (blank, mass|NA), and left out: c2, c4" in evaluation.record.notes
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("1", "10", "2"), {"1.0": "1", "10.0": "10", "02": "2"}),
        (("EGFR", "EGFR-"), {"EGFR": "EGFR", "EGFR-": "EGFR-"}),
        (("none", "polyp"), {"None": "none", "POLYP": "polyp"}),
    ],
)
def test_a_label_never_becomes_another_class(tmp_path, names, labels):
    share = ",".join([str(1 / len(names))] * len(names))
    header = f"case,{','.join(f'p_{name}' for name in names)}"
    rows = [f"c{n},{share}" for n, _ in enumerate(labels)]
    (tmp_path / "predictions.csv").write_text("\n".join([header, *rows]))
    truth = [f"c{n},{label}" for n, label in enumerate(labels)]
    (tmp_path / "truth.csv").write_text("\n".join(["case,label", *truth]))
    evaluation = evaluate_classes(tmp_path, tmp_path / "truth.csv", tmp_path / "out", subgroups=[])
    assert [score.reference for score in evaluation.scores] == [*labels.values()]


def test_a_file_of_excel_is_refused_with_the_cure(tmp_path):
    file = tmp_path / "cases.xlsx"
    file.write_bytes(b"PK\x03\x04")
    (tmp_path / "predictions.csv").write_text("case,p_a,p_b\nx,0.5,0.5\n")
    for work in (
        lambda: open_dataset(file),
        lambda: evaluate_classes(tmp_path, file, tmp_path / "out"),
    ):
        with pytest.raises(
            FormatError, match=r"is a spreadsheet[\s\S]*save the sheet as cases.csv"
        ):
            work()
