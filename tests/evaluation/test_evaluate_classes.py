"""Tables of predictions against references: matching, assumptions, results, all faults at once."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from class_samples import FINDINGS, THREE, TWO, made_up
from PIL import Image

from hilum import metrics
from hilum.api.scoring import evaluate as verb
from hilum.dataset import Case, Dataset
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import (
    ClassCurves,
    ClassEvaluation,
    ClassRows,
    Evaluation,
    EvaluationOptions,
    compare,
    evaluate,
    evaluate_classes,
    load_evaluation,
    questions,
    read_predictions,
    write_predictions,
)
from hilum.evaluation.estimates import COLUMNS
from hilum.evaluation.page import CROSS_VALIDATED
from hilum.io import write_labels
from hilum.volume import Geometry, Volume


def written(folder: Path, table=TWO, n: int = 24, **more):
    """Predictions without labels, as `hilum predict` knows none, and their data set."""
    scores = made_up(table, n, **more)
    bare = [
        s.model_copy(update={"reference": None, "patient": None, "columns": {}}) for s in scores
    ]
    write_predictions(bare, table, folder)
    cases = [
        Case(id=s.case, patient=s.patient, images={}, label=s.reference, columns=s.columns)
        for s in scores
    ]
    return scores, Dataset(
        "made up", folder, "table", tuple(cases), ("CT",), None, classes=table, notes=("a note",)
    )


def test_a_data_set_as_reference(tmp_path):
    scores, dataset = written(tmp_path / "p")
    evaluation = evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", threshold=0.4)
    assert evaluation.scores == tuple(scores)  # with label, patient and columns of the reference
    assert (
        evaluation.summary.cases,
        evaluation.summary.patients,
        evaluation.summary.threshold,
    ) == (24, 12, 0.4)
    assert evaluation.record.cross_validated  # each case has a fold
    assert evaluation.record.notes == (CROSS_VALIDATED, "a note")
    assert {g.column for g in evaluation.record.subgroups} == {"sex", "age", "site"}
    for metric in ("accuracy", "brier", "log_loss"):
        values = [one.value for one in evaluation.case_values if one.metric == metric]
        assert np.mean(values) == pytest.approx(evaluation.summary[metric].value)
    assert [one.case for one in evaluation.case_values[:24]] == [score.case for score in scores]
    assert (
        evaluate_classes(tmp_path / "p" / "predictions.csv", dataset, tmp_path / "again").summary[
            "auroc"
        ]
        == evaluation.summary["auroc"]
    )


def test_a_table_of_images_as_reference(tmp_path):
    """The data set is opened where it lies, its classes and patients are known."""
    scores, _ = written(tmp_path / "p")
    (tmp_path / "data" / "images").mkdir(parents=True)
    for s in scores:
        Image.new("L", (4, 3), color=int(s.case[1:])).save(
            tmp_path / "data" / "images" / f"{s.case}.png"
        )
    lines = [f"{s.case},{s.patient},{s.case}.png,{s.reference},{s.columns['sex']}" for s in scores]
    (tmp_path / "data" / "cases.csv").write_text(
        "\n".join(["case,patient,image,label,sex", *lines])
    )
    evaluation = evaluate_classes(tmp_path / "p", tmp_path / "data", tmp_path / "out")
    assert [s.model_copy(update={"columns": {}}) for s in scores] == [
        s.model_copy(update={"columns": {}}) for s in evaluation.scores
    ]
    assert evaluation.summary.patients == 12
    assert {g.value for g in evaluation.record.subgroups} == {"F", "M"}


@pytest.mark.parametrize("table", [TWO, THREE, FINDINGS])
def test_what_is_written(tmp_path, table):
    _, dataset = written(tmp_path / "p", table, sets=True)
    evaluation = evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", subgroups=["sex"])
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "cases.csv",
        "curves.json",
        "estimates.csv",
        "summary.json",
        "summary.md",
    ]
    with (tmp_path / "out" / "estimates.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["part"], row["metric"]) for row in rows] == [
        (one.part, one.metric) for one in evaluation.summary.figures
    ]
    assert float(rows[0]["value"]) == evaluation.summary["auroc"].value
    assert rows[0]["method"] == evaluation.summary["auroc"].method
    loaded = ClassEvaluation.load(tmp_path / "out")
    assert loaded.scores == evaluation.scores
    assert loaded.record.model_dump_json() == evaluation.record.model_dump_json()
    assert loaded.classes == table
    text = (tmp_path / "out" / "summary.md").read_text()
    assert text == evaluation.markdown()
    assert "24 cases of 12 patients" in text
    assert "coverage of the prediction sets" in text
    assert "| sex | F" in text
    assert ("## Confusion" in text) == (table.kind != "multilabel")
    assert "- a note" in text
    written_figure = json.loads((tmp_path / "out" / "summary.json").read_text())["summary"][
        "figures"
    ][0]
    assert written_figure["value"] == evaluation.summary["auroc"].value
    assert str(evaluation.summary["auroc"]) in text


def test_pages_say_what_matters(tmp_path):
    scores, dataset = written(tmp_path / "p")
    changed = [
        s.model_copy(
            update={
                "calibrated": tuple(0.001 + 0.998 * p for p in s.probabilities),
                "refuse": n == 0,
                "reference": "malignant",
                "patient": "p",
            }
        )
        for n, s in enumerate(scores)
    ]
    write_predictions(changed, TWO, tmp_path / "p")
    text = evaluate_classes(
        tmp_path / "p", dataset, tmp_path / "out", threshold=0.25, subgroups=[]
    ).markdown()
    assert "before calibration" in text
    assert "would refuse 1 of these cases" in text
    assert "operating point is 0.25: malignant is called" in text
    assert "Positive is malignant" in text
    assert "another label for" in text
    assert "another patient for" in text
    assert "## Subgroups" not in text
    one = replace(dataset, cases=tuple(replace(case, label="benign") for case in dataset.cases))
    text = evaluate_classes(tmp_path / "p", one, tmp_path / "out").markdown()
    assert re.search(r"^- AUROC, .*, MCC, .*: no case is malignant\.$", text, re.MULTILINE)


@pytest.mark.parametrize("table", [TWO, FINDINGS])
def test_curves_are_written_in_numbers(tmp_path, table):
    scores, dataset = written(tmp_path / "p", table, n=800)
    evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", subgroups=[])
    text = (tmp_path / "out" / "curves.json").read_text()
    told = json.loads(text)
    assert (told["format"], told["version"], told["calibrated"]) == ("hilum-class-curves", 1, False)
    assert [curve["of"] for curve in told["curves"]] == [
        q.name for q in questions(ClassRows.of(scores, table))
    ]
    question, curve = questions(ClassRows.of(scores, table))[0], told["curves"][0]
    p, truth = question.probability, question.positive
    assert (curve["cases"], curve["positive"]) == (800, int(truth.sum()))
    roc, precision = curve["roc"], curve["precision_recall"]
    assert {len(values) for values in roc.values()} == {len(roc["threshold"])}
    assert 200 < len(roc["threshold"]) <= 300  # of about 800
    assert roc["threshold"][0] is None
    assert (roc["sensitivity"][0], roc["sensitivity"][-1], roc["false_positive_rate"][-1]) == (
        0.0,
        1.0,
        1.0,
    )
    for at, alarms, found in [*zip(*roc.values(), strict=True)][1::40]:
        assert (alarms, found) == pytest.approx(
            ((p >= at)[~truth].mean(), (p >= at)[truth].mean()), abs=1e-5
        )
    assert np.trapezoid(roc["sensitivity"], roc["false_positive_rate"]) == pytest.approx(
        metrics.auroc(p, truth), abs=0.002
    )
    assert 200 < len(precision["recall"]) <= 300
    for at, found, share in [*zip(*precision.values(), strict=True)][::40]:
        assert (found, share) == pytest.approx(
            ((p >= at)[truth].mean(), truth[p >= at].mean()), abs=1e-5
        )
    assert curve["calibration"]["cases"] == [80] * 10
    assert np.mean(curve["calibration"]["observed"]) == pytest.approx(truth.mean(), abs=1e-5)
    benefit = metrics.net_benefit(p, truth, curve["decision"]["threshold"])
    assert curve["decision"]["model"] == pytest.approx(benefit.model.tolist(), rel=1e-5, abs=1e-5)
    assert curve["decision"]["treat_all"] == pytest.approx(
        benefit.treat_all.tolist(), rel=1e-5, abs=1e-5
    )
    assert set(curve["decision"]["treat_none"]) == {0.0}
    assert ClassCurves.model_validate_json(text).model_dump_json() + "\n" == text


def test_a_question_that_all_cases_answer_alike_has_no_roc(tmp_path):
    _, dataset = written(tmp_path / "p")
    one = replace(dataset, cases=tuple(replace(case, label="benign") for case in dataset.cases))
    (curve,) = evaluate_classes(tmp_path / "p", one, tmp_path / "out").curves.curves
    assert (curve.roc.threshold, curve.precision_recall.recall) == ((), ())
    assert sum(curve.calibration.cases) == 24
    assert len(curve.decision.model) == 99


def test_a_threshold_is_of_probabilities(tmp_path):
    _, dataset = written(tmp_path / "p", FINDINGS)
    asked = EvaluationOptions(threshold=0.3)
    evaluation = evaluate(tmp_path / "p", dataset, tmp_path / "out", asked)
    assert (
        evaluation.summary["mass", "sensitivity_at_point"].value
        >= evaluation.summary["mass", "sensitivity"].value
    )
    assert "each finding is called from this probability on" in evaluation.markdown()
    for folder in ("maps", "truth"):
        (tmp_path / folder).mkdir()
        labels = Volume(np.ones((1, 2, 3, 4), dtype=np.uint8), Geometry.from_spacing((2, 3, 4)))
        write_labels(labels, tmp_path / folder / "a.nii.gz")
    with pytest.raises(
        UsageError,
        match=r"threshold=0\.3 does not apply to label maps(.|\n)*leave out threshold=0.3",
    ):
        evaluate(tmp_path / "maps", tmp_path / "truth", tmp_path / "o", asked)


def test_missing_and_unexpected_predictions(tmp_path):
    scores, dataset = written(tmp_path / "p")
    extra = scores[0].model_copy(update={"case": "extra"})
    write_predictions([*scores[2:], extra], TWO, tmp_path / "p")
    with pytest.raises(DataError, match=r"2 of 24 cases .* have no prediction in .*: c000, c001\n"):
        evaluate_classes(tmp_path / "p", dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    evaluation = evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", allow_missing=True)
    assert (evaluation.record.missing, evaluation.record.unexpected) == (
        ("c000", "c001"),
        ("extra",),
    )
    assert "Without prediction and left out: c000, c001." in evaluation.markdown()
    assert "the reference does not have: extra." in evaluation.markdown()
    write_predictions([extra], TWO, tmp_path / "p")
    with pytest.raises(DataError, match="name the rows after the cases"):
        evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", allow_missing=True)


def test_every_label_that_is_no_class_is_named(tmp_path):
    _, dataset = written(tmp_path / "p")
    odd = tuple(replace(c, label="cyst") if n in (1, 4) else c for n, c in enumerate(dataset.cases))
    with pytest.raises(
        LabelError, match=r"case c001: the class 'cyst' .*, case c004: the class 'cyst'"
    ):
        evaluate_classes(tmp_path / "p", replace(dataset, cases=odd), tmp_path / "out")


def test_a_plain_table_as_reference(tmp_path):
    scores, _ = written(tmp_path / "p")
    table = tmp_path / "labels.csv"
    table.write_text(
        "case,label,patient,site\n"
        + "".join(f"{s.case},{s.reference},{s.patient},A\n" for s in scores)
    )
    evaluation = evaluate_classes(tmp_path / "p", table, tmp_path / "out", subgroups=["site"])
    assert evaluation.summary.patients == 12
    assert [g.value for g in evaluation.record.subgroups] == ["A"]
    table.write_text(
        "case,label\n"
        + "".join(f"{s.case},{s.reference if n else ''}\n" for n, s in enumerate(scores))
    )
    evaluation = evaluate_classes(tmp_path / "p", table, tmp_path / "out")
    assert evaluation.summary.cases == evaluation.summary.patients == 23
    assert evaluation.record.notes == (
        CROSS_VALIDATED,
        "no patient is known: each case counts as one patient",
        "label: 1 of 24 not known (blank), and left out: c000",
    )
    table.write_text("case,label\nc000,benign\nc000,benign\n")
    with pytest.raises(DataError, match=r"several rows for \S+ \(lines \d+, \d+\)"):
        evaluate_classes(tmp_path / "p", table, tmp_path / "out")


def test_predictions_that_hold_their_labels(tmp_path):
    """Out-of-fold predictions do; a finding that nobody has is a label too."""
    for table in (TWO, FINDINGS):
        scores = made_up(table, 24)
        write_predictions(scores, table, tmp_path)
        evaluation = evaluate_classes(tmp_path, tmp_path, tmp_path / "out")
        assert evaluation.scores == tuple(scores)
    write_predictions(
        [s.model_copy(update={"reference": None}) for s in scores], FINDINGS, tmp_path
    )
    with pytest.raises(UsageError, match=r"no row of .* has a label"):
        evaluate_classes(tmp_path, tmp_path / "predictions.csv", tmp_path / "out")


def test_units_are_kept_by_an_evaluation_against_themselves_or_the_labels(tmp_path):
    scores = [s.model_copy(update={"unit": f"u{n // 6}"}) for n, s in enumerate(made_up(TWO, 24))]
    write_predictions(scores, TWO, tmp_path / "p")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "case,label,patient\n" + "".join(f"{s.case},{s.reference},{s.patient}\n" for s in scores)
    )
    for reference in (tmp_path / "p", labels):
        evaluation = evaluate_classes(tmp_path / "p", reference, tmp_path / "out")
        assert (evaluation.summary.patients, evaluation.summary.joined) == (4, 8)
        assert ClassEvaluation.load(tmp_path / "out").scores == evaluation.scores
    bare = [s.model_copy(update={"unit": None}) for s in scores]
    write_predictions(bare, TWO, tmp_path / "bare")  # held to answers that know of units
    assert (
        evaluate_classes(tmp_path / "bare", tmp_path / "p", tmp_path / "out").summary.patients == 4
    )


def test_what_the_classes_are(tmp_path):
    """Classes of the caller, of classes.json, of the data set, or of the columns, with a note."""
    scores, dataset = written(tmp_path / "p", THREE)
    graded = THREE.model_copy(update={"kind": "ordinal"})
    assert (
        evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", table=graded).classes == graded
    )
    assert (
        evaluate_classes(tmp_path / "p", replace(dataset, classes=graded), tmp_path / "out").classes
        == THREE
    )
    (tmp_path / "p" / "classes.json").unlink()
    assert (
        evaluate_classes(tmp_path / "p", replace(dataset, classes=graded), tmp_path / "out").classes
        == graded
    )
    table = tmp_path / "labels.csv"
    table.write_text("case,label\n" + "".join(f"{s.case},{s.reference}\n" for s in scores))
    evaluation = evaluate_classes(tmp_path / "p", table, tmp_path / "out")
    assert evaluation.classes == THREE
    assert any("classes as found in the predictions" in note for note in evaluation.record.notes)
    with pytest.raises(UsageError, match=r"nowhere has no predictions\.csv"):
        evaluate_classes(tmp_path / "nowhere", table, tmp_path / "out")


def test_references_without_classes_are_refused(tmp_path):
    _, dataset = written(tmp_path / "p")
    with pytest.raises(
        UsageError, match=r"have no classes[\s\S]*name that column as the label: label='COLUMN'"
    ):
        evaluate_classes(tmp_path / "p", replace(dataset, cases=()), tmp_path / "out")
    with pytest.raises(UsageError, match="does not exist"):
        evaluate_classes(tmp_path / "p", tmp_path / "nowhere", tmp_path / "out")


# --- families
# ------------------------------------------------------------------------------


def label_maps(folder: Path) -> Path:
    for case in "abc":
        array = np.zeros((1, 3, 4, 5), dtype=np.uint8)
        array[0, 1, 1:3, 1:3] = 1
        write_labels(
            Volume(array, Geometry.from_spacing((3, 4, 5), (2.0, 1.0, 1.0))),
            folder / f"{case}.nii.gz",
        )
    return folder


def test_what_a_folder_holds_says_how_it_is_evaluated(tmp_path):
    _, dataset = written(tmp_path / "classes")
    of_classes = evaluate(
        tmp_path / "classes",
        dataset,
        tmp_path / "a",
        EvaluationOptions(threshold=0.4, subgroups=[]),
    )
    assert isinstance(of_classes, ClassEvaluation)
    assert (of_classes.summary.threshold, of_classes.record.subgroups) == (0.4, ())
    maps = label_maps(tmp_path / "maps")
    seen = []
    options = EvaluationOptions(
        scoring={"tolerance_mm": 1.5}, progress=lambda *done: seen.append(done)
    )
    of_maps = evaluate(str(maps), str(maps), str(tmp_path / "b"), options)
    assert isinstance(of_maps, Evaluation)
    assert (of_maps.record.tolerance_mm, len(seen)) == (1.5, 3)
    assert load_evaluation(tmp_path / "a").record == of_classes.record
    assert repr(load_evaluation(tmp_path / "b").scores) == repr(of_maps.scores)
    assert compare(tmp_path / "a", of_classes).cases == 24
    assert compare(tmp_path / "b", tmp_path / "b").cases == 3
    with pytest.raises(UsageError, match="are of different kinds"):
        compare(tmp_path / "a", tmp_path / "b")


def test_what_no_family_knows_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate(tmp_path / "nowhere", tmp_path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UsageError, match=r"no predictions in .*\n.*p_<class>, or a folder of label maps"
    ):
        evaluate(tmp_path / "empty", tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match=r"no cases\.csv in"):
        load_evaluation(tmp_path / "empty")
    for content in ("no json", "[]", '{"format": "other"}'):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(DataError, match="is no evaluation, or damaged"):
            load_evaluation(tmp_path)


def test_damaged_evaluations_are_refused(tmp_path):
    _, dataset = written(tmp_path / "p")
    with pytest.raises(UsageError, match=r"no cases\.csv in"):
        ClassEvaluation.load(tmp_path / "out")
    evaluate_classes(tmp_path / "p", dataset, tmp_path / "out", subgroups=[])
    table = tmp_path / "out" / "cases.csv"
    table.write_text(table.read_text() + "x\n")
    with pytest.raises(DataError, match="line 26: 1 of "):
        ClassEvaluation.load(tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text('{"format": "hilum-class-evaluation"}')
    with pytest.raises(DataError, match="damaged or of another version"):
        load_evaluation(tmp_path / "out")


def test_predictions_survive_an_evaluation(tmp_path):
    scores, dataset = written(tmp_path / "p", sets=True)
    evaluate_classes(tmp_path / "p", dataset, tmp_path / "out")
    assert read_predictions(tmp_path / "out" / "cases.csv", TWO) == tuple(scores)


def test_classes_are_matched_by_name(tmp_path):
    _scores, dataset = written(tmp_path / "p")
    plain = evaluate_classes(tmp_path / "p", dataset, tmp_path / "out").scores
    shouted = tuple(replace(case, label=case.label.upper()) for case in dataset.cases)
    loud = replace(
        dataset, cases=shouted, classes=TWO.model_copy(update={"names": ("MALIGNANT", "BENIGN")})
    )
    assert evaluate_classes(tmp_path / "p", loud, tmp_path / "out").scores == plain
    (tmp_path / "p" / "classes.json").unlink()
    assert evaluate_classes(tmp_path / "p", loud, tmp_path / "out").classes.names == (
        "malignant",
        "benign",
    )
    other = replace(dataset, classes=TWO.model_copy(update={"names": ("benign", "cyst")}))
    with pytest.raises(
        LabelError, match=r"p has the classes benign, cyst; .*p has benign, malignant"
    ):
        evaluate_classes(tmp_path / "p", other, tmp_path / "out")


def test_the_positive_class_can_be_chosen(tmp_path):
    _, dataset = written(tmp_path / "p")
    turned = evaluate(
        tmp_path / "p", dataset, tmp_path / "out", EvaluationOptions(positive="Benign")
    )
    assert turned.classes.names == ("malignant", "benign")
    with pytest.raises(
        UsageError, match="'cyst' cannot be the positive class of benign, malignant"
    ):
        evaluate(tmp_path / "p", dataset, tmp_path / "out", EvaluationOptions(positive="cyst"))


def test_words_in_other_letter_case_are_joined_and_said(tmp_path):
    scores, _ = written(tmp_path / "p")
    given = [
        s.model_copy(update={"reference": (s.reference or "").upper(), "patient": s.patient})
        for s in scores
    ]
    write_predictions(given, TWO, tmp_path / "p")
    rows = [
        f"{s.case},{s.reference if n else str(s.reference).upper()},{'mM'[n % 2]}\n"
        for n, s in enumerate(scores)
    ]
    (tmp_path / "labels.csv").write_text("case,label,sex\n" + "".join(rows))
    evaluation = evaluate_classes(
        tmp_path / "p", tmp_path / "labels.csv", tmp_path / "out", subgroups=["sex"]
    )
    assert [g.cases for g in evaluation.record.subgroups] == [24]
    notes = " / ".join(evaluation.record.notes)
    assert "sex in several spellings: 'm' 12, 'M' 12 count as 'm'" in notes
    assert "labels in another spelling count as the classes" in notes
    assert "another label" not in notes


def test_a_constant_answer_and_unknown_labels_are_named_as_such(tmp_path):
    (tmp_path / "p.csv").write_text(
        "case,p_well,p_ill\n" + "".join(f"c{n},0.3,0.7\n" for n in range(9))
    )
    labels = ["ill", "well", "NA"]
    (tmp_path / "labels.csv").write_text(
        "case,label\n" + "".join(f"c{n},{labels[n % 3]}\n" for n in range(9))
    )
    evaluation = evaluate_classes(tmp_path / "p.csv", tmp_path / "labels.csv", tmp_path / "out")
    assert (
        evaluation.summary["calibration_slope"].note == "the probability is the same in every case"
    )
    assert evaluation.record.unexpected == ()


def test_an_evaluation_that_is_an_input_is_not_written_over(tmp_path):
    """Its cases.csv is a table of predictions, of labels, and of patients."""
    table = tmp_path / "predictions.csv"
    table.write_text(
        "case,patient,label,p_benign,p_malignant\na,P0,benign,0.8,0.2\nb,P1,malignant,0.3,0.7\n"
    )
    few = tmp_path / "few.csv"
    few.write_text("case,label\na,benign\n")
    evaluate(table, table, tmp_path / "out")
    cases = tmp_path / "out" / "cases.csv"
    before = cases.read_bytes()
    for sides in ((cases, few), (table, cases)):
        with pytest.raises(UsageError, match=r"cases\.csv \(an input of this command\)"):
            evaluate(*sides, tmp_path / "out", EvaluationOptions(allow_missing=True))
    with pytest.raises(UsageError, match=r"cases\.csv \(an input of this command\)"):
        verb(table, few, tmp_path / "out", data=cases, allow_missing=True)
    assert cases.read_bytes() == before
