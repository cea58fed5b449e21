"""The report of a model folder: what it says first, where it stands, and what is unknown."""

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from report_samples import AGES, CARD, METRICS, SEEN, calibrated, make_model_folder, table_of
from test_html_report import Page, data  # noqa: F401  (a fixture)

from hilum.errors import DataError, ModelError
from hilum.plan.data_card import ColumnSummary
from hilum.plan.plan import ChannelRange
from hilum.report import write_report
from hilum.report.html.checklists import FOR_THE_AUTHOR, check, load_checklist
from hilum.report.html.data_flow import Step, flow_drawing
from hilum.report.html.learning import learning_curves
from hilum.report.html.model import model_report
from hilum.report.html.model_folder import CurveRow, FoldCases, ModelFolder
from hilum.report.html.proofs import PROOFS
from hilum.report.html.prose import prose


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):  # noqa: F811
    made = tmp_path_factory.mktemp("model") / "m"
    evaluation = data / "predictions", data / "Dataset001_Liver"
    return make_model_folder(made, evaluation=evaluation)


@pytest.fixture(scope="module")
def page(folder):
    write_report(folder, folder.parent / "model.html")
    return Page((folder.parent / "model.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def text(page):
    return " ".join(page.text.split())


def test_the_first_words_say_what_how_good_on_whom_and_where_it_fails(text):
    start = text[: text.index("A model is tested on")]
    assert "This model finds liver in CT." in start
    assert "Dice of liver 0.910 (0.880 to 0.940)" in start
    assert "cross-validated figures" in start
    assert "Missed altogether: liver in 1 of 8." in start
    assert "images other than CT; patients' ages: 23 to 81 (median 60) years" in start
    assert "structures missed altogether" in start
    assert "Not a medical device" in start


def test_a_childs_mr_is_answered(folder):
    asked = dict(table_of(model_report(ModelFolder.read(folder)), "May it be used on ...").rows)
    other = asked["another kind of image than CT?"]
    assert other.startswith("No evidence: it learnt from CT only.")
    assert asked["a child's image?"].startswith("No evidence: the youngest patient was 23 years")
    assert "sex: F (5), M (3)" in asked["women and men alike?"]
    assert asked["another hospital or scanner?"].startswith("Unknown")


def test_what_is_unknown_is_called_unknown(tmp_path):
    made = make_model_folder(tmp_path / "m", data_card=None, seen=None)
    text = " ".join(model_report(ModelFolder.read(made)).summary)
    assert "What kind of images it learnt from is unknown; patients' ages: unknown" in text
    asked = dict(table_of(model_report(ModelFolder.read(made)), "May it be used on ...").rows)
    assert asked["a child's image?"].startswith("Unknown: the training data name no ages.")
    assert asked["my kind of image?"].startswith("Unknown")


def test_children_among_the_patients_are_named(tmp_path):
    young = AGES.model_copy(update={"numbers": AGES.numbers.model_copy(update={"low": 3})})
    card = CARD.model_copy(update={"columns": (young,)})
    made = make_model_folder(tmp_path / "m", data_card=card)
    asked = dict(table_of(model_report(ModelFolder.read(made)), "May it be used on ...").rows)
    assert "from 3 years on" in asked["a child's image?"]


def questions_of(tmp_path, **parts):
    """The first words and the answered questions of a model with these parts."""
    document = model_report(ModelFolder.read(make_model_folder(tmp_path / "m", **parts)))
    return " ".join(document.summary), dict(table_of(document, "May it be used on ...").rows)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("age_group", (("0-4", 3), ("5-17", 5)), "age_group: 0-4 (3), 5-17 (5)"),
        ("PatientAge", (("004Y", 8),), "PatientAge: 004Y (8)"),
    ],
)
def test_ages_that_are_no_numbers_are_quoted(name, values, told, tmp_path):
    column = ColumnSummary(name=name, known=8, values=len(values), counts=values)
    card = CARD.model_copy(update={"columns": (column,)})
    words, asked = questions_of(tmp_path, data_card=card)
    assert asked["a child's image?"] == (
        f"Ages are told, but not as numbers: {told}. Look whether children are among them."
    )
    assert f"patients' ages: {told};" in words


def test_of_ages_without_a_unit_nothing_is_concluded(tmp_path):
    column = AGES.model_copy(update={"name": "PatientAge"})
    card = CARD.model_copy(update={"columns": (column,)})
    words, asked = questions_of(tmp_path, data_card=card)
    assert "23 to 81 (median 60) (unit not told)" in words
    assert asked["a child's image?"].startswith("Ages are told, but not their unit: PatientAge 23")


def test_ages_in_months_are_said_with_their_unit(tmp_path):
    column = AGES.model_copy(update={"name": "age_months"})
    card = CARD.model_copy(update={"columns": (column,)})
    _, asked = questions_of(tmp_path, data_card=card)
    assert asked["a child's image?"] == "Ages are given in months: 23 to 81 (median 60)."


def test_a_channel_of_unknown_kind_is_not_passed_over(tmp_path):
    channels = (*SEEN.channels, ChannelRange(name="extra", kind="unknown"))
    words, asked = questions_of(tmp_path, seen=SEEN.model_copy(update={"channels": channels}))
    kinds = "CT and images of an unknown kind"
    assert asked[f"another kind of image than {kinds}?"].startswith(
        f"No evidence: it learnt from {kinds}. "
    )
    assert f"works on images other than {kinds};" in words


def test_tuned_metrics_are_not_called_held_out(folder):
    model = ModelFolder.read(folder)
    measured = "3 cases of X, which the model may have been trained on (hilum tune)"
    metrics = METRICS.model_copy(update={"measured_on": measured})
    model = replace(model, metrics=metrics)
    document = model_report(model)
    assert PROOFS["performance"](model).text == f"Measured on {measured}."
    assert "cross-validated figures" not in " ".join(document.summary)
    assert table_of(document, "Measured metrics").rows


def test_unknown_patients_are_not_called_apart(folder):
    model = ModelFolder.read(folder)
    facts = model.manifest.facts.model_copy(update={"patients": None})
    manifest = model.manifest.model_copy(update={"facts": facts})
    document = model_report(replace(model, manifest=manifest))
    (flow,) = (one for one in document.sections if one.title == "Data flow")
    assert flow.paragraphs[0].startswith("No patients are known: each case counts as one;")


def test_the_page_asks_nothing_of_a_network_and_its_links_lead_somewhere(page):
    assert [one for one in page.addresses if not one.startswith(("data:", "#"))] == []
    assert len(page.ids) == len({*page.ids})
    assert {known["href"][1:] for known in page.all("a")} <= {*page.ids}


def test_every_decision_stands_with_its_reason(folder):
    document = model_report(ModelFolder.read(folder))
    rows = table_of(document, "Decisions").rows
    plan = ModelFolder.read(folder).plan
    assert [row[0] for row in rows] == [name.replace("_", " ") for name in plan.decisions]
    assert all(
        row[2] == decision.because
        for row, decision in zip(rows, plan.decisions.values(), strict=True)
    )


def test_learning_curves_say_their_numbers(text):
    assert "Loss of training from 2 at step 1 to 0.05 at step 40" in text
    assert "last 0.800, best 0.800 at step 40" in text


def test_a_model_without_its_training_folder_says_so(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("training", "run.json"))
    document = model_report(ModelFolder.read(copy))
    said = " ".join(text for section in document.sections for text in section.paragraphs)
    assert "the folder `training/` with the logs was not given along" in said
    assert "device, versions and options are unknown" in said
    assert [one.value for one in document.numbers] == ["0.910"]


def test_a_report_may_lie_in_the_model_folder(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for _ in range(2):  # its own is replaced
        write_report(copy, copy / "report.html")
    assert ModelFolder.read(copy).manifest == ModelFolder.read(folder).manifest


def test_an_imported_model_proves_nothing_of_its_training(tmp_path):
    made = make_model_folder(tmp_path / "m", data_card=None)
    model = ModelFolder.read(made)
    facts = model.manifest.facts.model_copy(update={"details": {}})
    imported = replace(model, manifest=model.manifest.model_copy(update={"facts": facts}))
    states = {one.item.number: one.status for one in check(load_checklist("claim_2024"), imported)}
    assert states["25"] == states["26"] == states["19"] == FOR_THE_AUTHOR
    assert states["22"] == states["9"] == "filled"


def test_an_altered_model_has_no_report(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "metrics.json").write_text("{}")
    with pytest.raises(ModelError, match="altered"):
        write_report(copy, tmp_path / "report.html")


@pytest.mark.parametrize("name", ["training/fold_0/log.csv", "run.json"])
def test_a_damaged_log_or_run_is_named(name, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).write_text("step,loss\nx,1\n")
    with pytest.raises(DataError, match=f"{re.escape(name)} is damaged"):
        ModelFolder.read(copy)


def test_a_classifiers_confidence_is_shown(tmp_path):
    made = make_model_folder(tmp_path / "m", assurance=calibrated())
    rows = dict(table_of(model_report(ModelFolder.read(made)), "Learnt from held-out cases").rows)
    assert rows["temperature"] == "1.5"
    assert rows["coverage of the prediction sets"] == "90%"
    assert rows["least probability in a set"] == "0.2, 0.3"


# --- data flow


def test_the_diagram_counts_who_came_in_and_who_did_not(text):
    assert "8 cases for training and validation (8 patients)" in text
    assert "13 cases in Livers (left out: 3 without annotation)" in text
    assert "10 annotated cases (left out: 2 kept for testing by the data set)" in text
    assert "fold 0: 6 to train on, 2 to validate on; fold 1" in text
    left_out = "1 to train on not learnt from in time, 1 to validate on not scored in time"
    assert f"fold 1: 6 to train on, 2 to validate on, {left_out}" in text


def test_cases_that_the_time_left_out_are_counted(folder):
    document = model_report(ModelFolder.read(folder))
    folds = table_of(document, "Folds")
    assert folds.head[1:5] == ("training cases", "learnt from", "validation cases", "scored")
    assert [row[1:5] for row in folds.rows] == [("6", "6", "2", "2"), ("6", "5", "2", "1")]
    rows = dict(table_of(document, "The data set").rows)
    assert rows["cases for training and validation"] == "8"
    assert rows["of these, learnt from"] == "7"
    assert rows["of these, held out for validation by a fold"] == "2"
    assert rows["cases kept for testing"] == "2"


def test_a_short_curve_has_no_running_mean():
    rows = [CurveRow(step, 1 / step, None) for step in range(1, 41)]
    short, long = learning_curves("fold 0", rows[:39]), learning_curves("fold 0", rows)
    assert len(short.canvas.axes[0].lines) == 1
    assert "bold" not in short.text
    assert len(long.canvas.axes[0].lines) == 2
    assert "the bold line is its running mean" in long.text


def test_the_diagram_is_drawn_within_its_width_and_escapes_names():
    steps = (Step("<script>x</script> & more", ("a reason " * 20,)), Step("next"))
    drawing = flow_drawing(steps, (FoldCases("fold 0", 99, 1, 3, 1, 5),))
    root = ET.fromstring(drawing.svg)  # noqa: S314  (our own drawing)
    width, height = map(int, root.attrib["viewBox"].split()[2:])
    boxes = root.findall("{*}rect")
    assert all(
        float(box.get("x")) + float(box.get("width")) <= width
        and float(box.get("y")) + float(box.get("height")) <= height
        for box in boxes
    )
    words = [one.text for one in root.findall("{*}text")]
    assert "<script>x</script> & more" in words
    assert {"train 99", "validate 1"} <= {*words}
    bars = [box for box in boxes if box.get("class") in {"train", "validation"}]
    assert bars[0].get("x") == "1"
    assert {"3 to train on not learnt from in time"} <= {*words}
    assert float(bars[0].get("width")) + float(bars[1].get("width")) == width - 2


# --- check lists


@pytest.mark.parametrize(
    ("name", "items", "last"), [("claim_2024", 44, "44"), ("tripod_ai", 52, "27c")]
)
def test_the_lists_are_complete_and_name_only_proofs_that_exist(name, items, last):
    checklist = load_checklist(name)
    numbers = [one.number for one in checklist.items]
    assert len(numbers) == len({*numbers}) == items
    assert numbers[-1] == last
    assert {proof for one in checklist.items for proof in one.proofs} <= {*PROOFS}


def test_every_proof_stands_where_it_says(folder):
    model = ModelFolder.read(folder)
    proofs = [proof for make in PROOFS.values() if (proof := make(model)) is not None]
    assert len(proofs) > 25
    for proof in proofs:
        assert (folder / proof.file).is_file(), proof
        held = json.loads((folder / proof.file).read_text("utf-8")) if proof.fields else {}
        for field in proof.fields:
            value = held
            for part in field.split("."):
                assert part in value, proof
                value = value[part]


def test_what_no_file_proves_is_for_the_author(folder, tmp_path):
    model = ModelFolder.read(folder)
    states = {one.item.number: one.status for one in check(load_checklist("claim_2024"), model)}
    assert states["9"] == states["20"] == states["32"] == "filled"
    assert states["7"].startswith("in part")
    assert states["11"] == states["33"] == states["44"] == FOR_THE_AUTHOR
    bare = ModelFolder.read(make_model_folder(tmp_path / "m", data_card=None))
    states = {one.item.number: one.status for one in check(load_checklist("claim_2024"), bare)}
    assert states["35"] == states["36"] == states["12"] == FOR_THE_AUTHOR


def test_both_lists_are_on_the_page(text):
    assert "CLAIM 2024 check list" in text
    assert "TRIPOD+AI check list" in text
    assert re.search(r"Of 44 items \d+ are filled from the files of the model, \d+ in part", text)


# --- model card


def test_a_card_may_hold_any_markdown_and_fetches_nothing():
    block = prose(
        "# Title\n\n## Part\n\n![x](http://a/b.png) [here](https://c.d) <script>y</script>\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    assert "<h3>Title</h3>" in block.html
    assert "<h4>Part</h4>" in block.html
    assert "<img" not in block.html
    assert "<a " not in block.html
    assert "<script" not in block.html
    assert "here (https://c.d)" in block.html
    assert "<td>1</td>" in block.html


def test_every_wide_table_is_scrolled_by_keyboard_and_has_a_name(page):
    boxes = page.all("div", **{"class": "scroll"})
    assert len(boxes) == len(page.all("table")) > 10
    assert all(one["tabindex"] == "0" and one["role"] == "region" for one in boxes)
    assert len({one["aria-label"] for one in boxes}) == len(boxes)


def test_the_card_is_on_the_page(text, folder):
    assert "What it takes" in text
    assert "Every decision with its reason is in plan.json." in text
