"""The report of a prediction run: what became of each case, and what to look at first."""

import shutil

import numpy as np
import pytest
from PIL import Image
from report_samples import LIVER, make_run, outcome, table_of
from test_html_report import Page, case, data  # noqa: F401  (a fixture)

from hilum import api
from hilum.dataset.classes import ClassTable
from hilum.errors import DataError
from hilum.report import write_report
from hilum.report.html.model_folder import read_run
from hilum.report.html.run import run_report
from hilum.targets.class_score import ClassScore
from hilum.targets.predictions import write_predictions

FAR = ("a spacing of 20 mm along Z, where the training images have 3 to 5 mm",)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("run") / "predictions"
    shutil.copytree(data / "predictions", folder, ignore=shutil.ignore_patterns(".*"))
    (folder / "labels.json").write_text(LIVER.model_dump_json())
    outcomes = [outcome(f"c{n}", files=(f"c{n}.nii.gz",)) for n in range(7)]
    outcomes[2] = outcomes[2].model_copy(update={"unlike": FAR})
    outcomes.append(outcome("c7", "skipped"))
    outcomes += [outcome(f"bad{n}", "failed", error=f"/x/bad{n}.nii is damaged") for n in (1, 2)]
    make_run(folder, outcomes, trained_on=("c1",))
    return folder


@pytest.fixture(scope="module")
def text(run):
    write_report(run, run.parent / "run.html")
    page = Page((run.parent / "run.html").read_text("utf-8"))
    assert [one for one in page.addresses if not one.startswith(("data:", "#"))] == []
    return " ".join(page.text.split())


def test_the_first_words_say_what_became_of_the_cases(text):
    start = text[: text.index("Data flow")]
    assert "Model 0123456789abcdef predicted 7 of 10 cases" in start
    assert "1 case had been predicted before" in start
    assert "Not predicted: bad1, bad2." in start
    assert "Unlike the images that the model learnt from: c2." in start
    assert "1 case are named like" not in start
    assert "hilum report MODEL" in start


def test_warnings_of_the_models_training_are_among_the_first_words(tmp_path):
    make_run(tmp_path, [outcome("a")], model_warnings=("fold 0 trained for only 5 steps",))
    document = run_report(tmp_path, read_run(tmp_path / "run.json"), images={})
    assert "Warning of the model's training: fold 0 trained for only 5 steps" in document.summary


def test_failures_with_one_cause_stand_together(run):
    document = run_report(run, read_run(run / "run.json"), images={})
    rows = table_of(document, "Failures, warnings and refusals").rows
    assert rows[0] == ("failed", "bad1, bad2", "/x/bad1.nii is damaged")
    assert rows[1] == ("unlike the training", "c2", FAR[0])


def attention(folder, *outcomes):
    make_run(folder, outcomes)
    document = run_report(folder, read_run(folder / "run.json"), images={})
    return next(one for one in document.sections if one.title == "Look at these first")


def test_what_earlier_runs_warned_of_is_not_presumed(tmp_path):
    unknown = attention(tmp_path, outcome("a"), outcome("b", "skipped"))
    assert unknown.paragraphs == (
        "Predicted before: b. What earlier runs warned of in these is not known.",
    )
    known = attention(tmp_path, outcome("a"), outcome("b", "skipped", carried=True))
    assert known.paragraphs == ("No case failed, and none was warned of.",)
    warned = outcome("b", "skipped", carried=True, unlike=FAR)
    (table,) = attention(tmp_path, warned).blocks
    assert table.rows == (("unlike the training", "b", FAR[0]),)


def test_volumes_are_those_of_the_label_maps(run):
    document = run_report(run, read_run(run / "run.json"), images={})
    table = table_of(document, "Every case")
    rows = {row[0]: row for row in table.rows}
    assert table.head[2] == "liver, ml"
    labels = case(3)
    expected = (labels.array > 0).sum() * labels.geometry.voxel_volume_mm3 / 1000
    assert float(rows["c3"][2]) == pytest.approx(expected, rel=1e-3)
    assert rows["c7"][1:3] == ("predicted before", "not found")
    assert rows["bad1"][1:3] == ("failed", "–")
    assert rows["c2"][1] == "predicted, warned"
    (summary,) = table_of(document, "Labels over all predicted cases").rows
    assert summary[:2] == ("liver", "7 of 8")


def test_pictures_need_the_images(run, text, data, tmp_path):  # noqa: F811
    assert "None: give the images" in text
    images = data / "Dataset001_Liver" / "imagesTr"
    api.report(run, tmp_path / "with.html", images=images)
    page = Page((tmp_path / "with.html").read_text("utf-8"))
    assert len(page.all("figure", **{"class": "viewer"})) == 7
    assert "c2, warned of or refused" in " ".join(page.text.split())


def test_an_image_of_another_grid_is_left_out(run, data, tmp_path, caplog):  # noqa: F811
    other = {"c1": data / "Dataset001_Liver" / "imagesTr" / "c1_0000.nii.gz"}
    small = tmp_path / "small.nii.gz"
    from hilum.io import write_volume
    from hilum.volume import Geometry, Volume

    write_volume(Volume(np.zeros((1, 3, 4, 5), np.int16), Geometry.from_spacing((3, 4, 5))), small)
    write_report(run, tmp_path / "report.html", images={**other, "c0": small})
    assert "case c0 is not in the report's pictures" in caplog.text


def test_classes_show_probabilities_sets_and_refusals(tmp_path):
    table = ClassTable(names=("benign", "malignant"))
    scores = [
        ClassScore(
            case=f"n{n}",
            probabilities=(1 - p, p),
            prediction_set=("benign",) if p < 0.5 else ("benign", "malignant"),
            refuse=n == 2,
            distance=1.0,
        )
        for n, p in enumerate((0.1, 0.7, 0.5))
    ]
    write_predictions(scores, table, tmp_path)
    (tmp_path / "classes.json").write_text(table.model_dump_json())
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "n1.png")
    make_run(tmp_path, [outcome(f"n{n}") for n in range(3)])
    document = run_report(tmp_path, read_run(tmp_path / "run.json"), images={})
    rows = table_of(document, "Every case").rows
    assert rows[1][:6] == ("n1", "predicted", "malignant", "0.300", "0.700", "benign, malignant")
    assert rows[2][1] == "predicted, refused"
    assert [one.value for one in document.numbers] == ["3 of 3", "1", "0"]
    assert table_of(document, "Classes over all predicted cases").rows[0][1] == "1 of 3"
    pictures = [
        block.title
        for section in document.sections
        for block in section.blocks
        if block.kind == "picture"
    ]
    assert [one.partition(",")[0] for one in pictures] == ["n1"]


def test_a_run_without_readable_predictions_says_so(tmp_path):
    make_run(tmp_path, [outcome("a")])
    document = run_report(tmp_path, read_run(tmp_path / "run.json"), images={})
    said = " ".join(text for section in document.sections for text in section.paragraphs)
    assert "Volumes and probabilities are not shown" in said


def test_a_damaged_label_table_is_named(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns(".*"))
    (copy / "labels.json").write_text('{"labels": [{"id": 1}]}')
    with pytest.raises(DataError, match=r"labels\.json is no label table"):
        run_report(copy, read_run(copy / "run.json"), images={})


def test_a_damaged_run_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"run\.json is damaged"):
        write_report(tmp_path, tmp_path / "out" / "report.html")
