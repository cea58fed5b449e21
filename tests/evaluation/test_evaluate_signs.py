"""Warnings of an evaluation: swapped folders, unknown patients, lesions, undefined intervals."""

import json
from pathlib import Path

import numpy as np
import pytest

from hilum.dataset import ClassTable, known_patients
from hilum.errors import DataError, UsageError
from hilum.evaluation import (
    ClassScore,
    compare,
    evaluate,
    evaluate_folder,
    score_labels,
    summarise,
    write_predictions,
)
from hilum.io import write_labels, write_volume
from hilum.volume import Geometry, LabelTable, Volume

GRID = Geometry.from_spacing((6, 20, 22), (3.0, 0.8, 1.25), origin=(-31.0, 12.5, 208.0))
TABLE = LabelTable.from_names({1: "liver", 2: "tumour"})


def labels(seed: int, *, tumours: int = 1) -> Volume:
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[1:5, 2:18, 3 + seed % 2 : 19] = 1
    for number in range(tumours):
        array[2:4, 4:6, 6 + 4 * number : 8 + 4 * number] = 2
    return Volume(array[None], GRID)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number, name in enumerate("abcd"):
        write_labels(labels(number + 1), tmp_path / "predictions" / f"{name}.nii.gz")
        write_labels(labels(number), tmp_path / "references" / f"{name}.nii.gz")
    return tmp_path / "predictions", tmp_path / "references"


def test_swapped_folders_are_noticed_by_what_predict_wrote(folders, tmp_path):
    predictions, references = folders
    (predictions / "run.json").write_text(json.dumps({"verb": "predict"}))
    right = evaluate_folder(predictions, references, tmp_path / "right")
    assert "Attention" not in right.markdown()
    page = evaluate_folder(references, predictions, tmp_path / "swapped").markdown()
    assert page.index("was written by `hilum predict`") < page.index("## label 1")
    assert page.count("Attention: ") == 1
    (references / "run.json").write_text(
        json.dumps({"verb": "predict"})
    )  # one model against another
    assert "Attention" not in evaluate_folder(references, predictions, tmp_path / "both").markdown()


def test_patients_of_a_plain_folder_are_told_by_a_table_or_a_data_set(folders, tmp_path):
    predictions, references = folders
    (tmp_path / "who.csv").write_text("case,patient\na,p1\nb,p1\nc,p2\nd,\n")
    known = known_patients(tmp_path / "who.csv")
    assert known == {"a": "p1", "b": "p1", "c": "p2"}
    scores = evaluate_folder(predictions, references, tmp_path / "out", patients=known).scores
    assert {score.case: score.patient for score in scores} == {
        "a": "p1",
        "b": "p1",
        "c": "p2",
        "d": None,
    }
    assert "of d no patient is known" in (tmp_path / "out" / "summary.md").read_text()
    alone = evaluate_folder(predictions, references, tmp_path / "alone")
    assert {score.patient for score in alone.scores} == {None}
    assert any("no patient is known" in note for note in alone.record.notes)


def test_the_data_set_that_a_folder_lies_in_knows_its_patients(tmp_path):
    home = tmp_path / "data"
    rng = np.random.default_rng(0)
    for number, name in enumerate("abcd"):
        write_volume(
            Volume(rng.normal(size=(1, *GRID.shape)).astype(np.float32), GRID),
            home / "images" / f"{name}.nii.gz",
        )
        write_labels(labels(number), home / "masks" / f"{name}.nii.gz")
        write_labels(labels(number + 1), tmp_path / "predictions" / f"{name}.nii.gz")
    (home / "patients.csv").write_text("case,patient\na,p1\nb,p1\nc,p2\nd,p3\n")
    made = evaluate_folder(tmp_path / "predictions", home / "masks", tmp_path / "out")
    assert {score.case: score.patient for score in made.scores} == {
        "a": "p1",
        "b": "p1",
        "c": "p2",
        "d": "p3",
    }
    assert any(note == f"patients as the data set {home} has them" for note in made.record.notes)


def test_lesions_are_counted_of_what_comes_in_several_pieces(tmp_path):
    for number, name in enumerate("abcd"):
        write_labels(
            labels(number + 1, tumours=1 + number % 2), tmp_path / "predictions" / f"{name}.nii.gz"
        )
        write_labels(
            labels(number, tumours=1 + number % 3), tmp_path / "references" / f"{name}.nii.gz"
        )
    made = evaluate_folder(
        tmp_path / "predictions", tmp_path / "references", tmp_path / "out", table=TABLE
    )
    assert [region.lesions for region in made.summary.regions] == [
        False,
        True,
    ]  # of tumours two of four have several
    liver, _, rest = made.markdown().partition("## tumour")
    assert "lesion recall" not in liver
    assert rest.count("lesion recall") == 2  # the tumour's, and the mean over what are lesions
    assert made.summary.overall["lesion_recall"].mean == pytest.approx(
        made.summary["tumour"].metrics["lesion_recall"].mean
    )
    assert made.summary.overall["dice"].mean != pytest.approx(
        made.summary["tumour"].metrics["dice"].mean
    )


def test_without_lesions_no_lesion_is_counted(folders, tmp_path):
    made = evaluate_folder(*folders, tmp_path / "out", table=TABLE)
    assert not any(region.lesions for region in made.summary.regions)
    assert "| lesion" not in made.markdown()


def test_a_single_patient_has_no_interval():
    one = labels(0).array[0]
    scores = score_labels(one, labels(1).array[0], spacing=GRID.spacing, table=TABLE, case="a")
    assert summarise(scores)["liver"].metrics["dice"].interval == "none"


def test_the_page_of_a_single_patient_shows_a_dash(folders, tmp_path):
    predictions, references = folders
    for name in "bcd":
        (predictions / f"{name}.nii.gz").unlink()
        (references / f"{name}.nii.gz").unlink()
    page = evaluate_folder(predictions, references, tmp_path / "out").markdown()
    assert "– to –" not in page
    assert "| Dice | " in page


def test_what_is_missed_and_invented_is_said_in_full(folders, tmp_path):
    page = evaluate_folder(*folders, tmp_path / "out").markdown()
    assert "In 4 of 4 references. Missed: 0 of these" in page
    assert (
        "A missed or invented case counts as 0 for Dice and NSD, and as the image's diagonal for"
        in page
    )


def test_a_wrong_reference_leads_to_the_right_one(folders, tmp_path):
    predictions, references = folders
    home = tmp_path / "study"
    (home / "labelsTs").mkdir(parents=True)
    for file in references.iterdir():
        file.rename(home / "labelsTs" / file.name)
    with pytest.raises(
        UsageError,
        match=(
            r"study holds no label maps and is no data set[\s\S]*name one of its folders:"
            r" .*labelsTs"
        ),
    ):
        evaluate_folder(predictions, home, tmp_path / "out")
    write_labels(labels(0), home / "labelsTr" / "x.nii.gz")
    with pytest.raises(
        DataError, match=r"1 of 1 cases[\s\S]*labelsTs holds label maps of these cases"
    ):
        evaluate_folder(predictions, home / "labelsTr", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UsageError, match=r"empty holds no label maps and is no data set[\s\S]*check the path"
    ):
        evaluate_folder(predictions, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(
        UsageError, match=r"prediction is not a folder[\s\S]*did you mean .*predictions\?"
    ):
        evaluate(tmp_path / "prediction", home / "labelsTs", tmp_path / "out")


def test_classes_and_a_wrong_reference(tmp_path):
    table = ClassTable(names=("benign", "malignant"))
    write_predictions(
        [ClassScore(case=f"n{n}", probabilities=(0.4, 0.6)) for n in range(4)],
        table,
        tmp_path / "p",
    )
    write_labels(labels(0), tmp_path / "images" / "n0.nii.gz")
    with pytest.raises(
        UsageError,
        match=r"images holds no labels and is no data set[\s\S]*name the data set itself",
    ):
        evaluate(tmp_path / "p", tmp_path / "images", tmp_path / "out")
    (tmp_path / "other.csv").write_text("case,label\nm1,benign\nm2,malignant\n")
    with pytest.raises(
        DataError,
        match=(
            r"2 of 2 cases[\s\S]*the predictions are of n0, n1, n2, n3: name the reference of these"
        ),
    ):
        evaluate(tmp_path / "p", tmp_path / "other.csv", tmp_path / "out")


def test_pictures_without_a_scale_are_measured_in_pixels(tmp_path):
    plain, scanned = (Geometry.from_spacing((1, 20, 22), (1.0, mm, mm)) for mm in (1.0, 0.1))
    array = labels(0).array[:, 2:3]
    for number, name in enumerate("ab"):
        write_labels(Volume(np.roll(array, number, axis=3), plain), tmp_path / "p" / f"{name}.png")
        write_labels(Volume(array, plain), tmp_path / "r" / f"{name}.png")
        write_labels(Volume(array, scanned), tmp_path / "s" / f"{name}.nii.gz")
    page = evaluate_folder(tmp_path / "p", tmp_path / "r", tmp_path / "pixels").markdown()
    assert "no scale is known" in page
    assert "NSD at 2 pixels" in page
    assert "| HD95, pixels |" in page
    assert ", mm" not in page
    assert ", ml" not in page
    compared = compare(tmp_path / "pixels", tmp_path / "pixels").markdown()
    assert "HD95, pixels" in compared
    assert (
        "| HD95, mm |"
        in evaluate_folder(tmp_path / "s", tmp_path / "s", tmp_path / "mm").markdown()
    )


def test_training_cases_are_named_before_the_figures(folders, tmp_path, caplog):
    predictions, references = folders
    (predictions / "run.json").write_text(
        json.dumps({"verb": "predict", "trained_on": ["b", "d", "elsewhere"]})
    )
    page = evaluate_folder(predictions, references, tmp_path / "out").markdown()
    said = "2 of 4 cases are named like cases that the model was trained on (b, d)"
    assert page.index(f"Attention: {said}") < page.index("## label 1")
    assert said in caplog.text
    caplog.clear()
    (predictions / "run.json").write_text(
        json.dumps({"verb": "predict", "trained_on": ["elsewhere"]})
    )
    assert (
        "trained on"
        not in evaluate_folder(predictions, references, tmp_path / "new").markdown() + caplog.text
    )


def test_training_cases_of_classes_are_named_before_the_figures(tmp_path):
    table = ClassTable(names=("benign", "malignant"))
    rows = [
        ClassScore(
            case=f"n{i}",
            probabilities=(0.4, 0.6),
            reference=table.names[i % 2],
            patient=None,
            columns={},
        )
        for i in range(6)
    ]
    write_predictions(rows, table, tmp_path / "p")
    (tmp_path / "r.csv").write_text(
        "case,label\n" + "".join(f"{row.case},{row.reference}\n" for row in rows)
    )
    (tmp_path / "p" / "run.json").write_text(json.dumps({"verb": "predict", "trained_on": ["n1"]}))
    page = evaluate(tmp_path / "p", tmp_path / "r.csv", tmp_path / "out").markdown()
    assert page.index("Attention: 1 of 6 cases") < page.index("| figure |")
    assert page.count("Attention: ") == 1
