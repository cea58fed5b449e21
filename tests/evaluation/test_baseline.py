"""Baselines that need no image: the columns they may use; they learn from no case they predict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hilum.dataset import Case, ClassTable, Fold
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import baseline_scores, choose_columns
from hilum.evaluation.classification.baseline import _Data
from hilum.metrics import auroc

TWO = ClassTable(names=("benign", "malignant"))


def cases_of(
    n: int = 60, *, seed: int = 0, names: tuple[str, ...] = TWO.names, strength: float = 2.0
) -> list[Case]:
    """Cases whose size and scanner say something about the class; two cases a patient."""
    random = np.random.default_rng(seed)
    cases = []
    for number in range(n):
        kind = number // 2 % len(names)
        size = 10 + strength * kind + random.normal()
        cases.append(
            Case(
                id=f"c{number:03}",
                patient=f"p{number // 2:03}",
                images={},
                label=names[kind],
                columns={
                    "size_mm": f"{size:.3f}" if number % 7 else "",
                    "scanner": random.choice(
                        ["A", "B", "n/a"], p=[0.5 - 0.4 * (kind > 0), 0.4 * (kind > 0) + 0.3, 0.2]
                    ),
                    "age": str(random.integers(30, 80)),
                },
            )
        )
    return cases


def folds_of(cases: list[Case], folds: int = 5) -> list[Fold]:
    parts = [
        tuple(case.id for case in cases if int(case.patient[1:]) // 2 % folds == k)
        for k in range(folds)
    ]
    return [Fold(tuple(case.id for case in cases if case.id not in part), part) for part in parts]


def by_name(baselines):
    return {baseline.name: baseline for baseline in baselines}


def test_one_answer_a_case_of_the_very_same_folds():
    cases = cases_of()
    folds = folds_of(cases)
    baselines = by_name(baseline_scores(cases, folds, TWO))
    assert set(baselines) == {"class prior", "logistic regression"}
    for baseline in baselines.values():
        assert sorted(score.case for score in baseline.scores) == [case.id for case in cases]
        for score in baseline.scores:
            assert score.case in folds[score.fold].validation
            assert sum(score.probabilities) == pytest.approx(1)
            assert (score.reference, score.patient) == (
                cases[int(score.case[1:])].label,
                cases[int(score.case[1:])].patient,
            )
    regression = baselines["logistic regression"]
    assert regression.columns == ("size_mm", "age", "scanner")
    found = auroc(
        [s.probabilities[1] for s in regression.scores],
        [s.reference == "malignant" for s in regression.scores],
    )
    assert 0.8 < found < 1


def test_the_prior_by_hand():
    cases = cases_of(8)  # patients of classes 0 1 0 1
    fold = Fold(train=("c000", "c001", "c002", "c004"), validation=("c003", "c005"))
    prior, *_ = baseline_scores(cases, [fold], TWO)
    assert [score.probabilities for score in prior.scores] == [
        pytest.approx((4 / 6, 2 / 6))
    ] * 2  # 3 + 1 and 1 + 1 of 4 + 2
    findings = ClassTable(names=TWO.names, kind="multilabel")
    both = [replace(case, label="benign|malignant" if case.id == "c000" else "") for case in cases]
    prior, *_ = baseline_scores(both, [fold], findings)
    assert prior.scores[0].probabilities == pytest.approx((2 / 6, 2 / 6))


def test_a_regression_by_hand():
    """With one number and a fixed penalty it is scikit-learn's on standardised values."""
    cases = [
        replace(case, columns={}) for case in cases_of(6)
    ]  # three patients: of class 1 there is one, so no inner folds
    sizes = {
        case.id: value for case, value in zip(cases, (1.0, 2.0, 4.0, 8.0, 3.0, 5.0), strict=True)
    }
    fold = Fold(train=tuple(sizes)[:4], validation=tuple(sizes)[4:])
    _, regression = baseline_scores(cases, [fold], TWO, measures={"size_mm": sizes})
    scaler = StandardScaler().fit(np.array([[1.0], [2.0], [4.0], [8.0]]))
    model = LogisticRegression(C=0.1).fit(
        scaler.transform([[1.0], [2.0], [4.0], [8.0]]), [0, 0, 1, 1]
    )
    expected = model.predict_proba(scaler.transform([[3.0], [5.0]]))
    np.testing.assert_allclose(
        [score.probabilities for score in regression.scores], expected, atol=1e-4
    )
    assert regression.columns == ("size_mm",)


def test_a_validation_case_never_teaches():
    """Its label and its patient's do not change what is said of it; another fold's do."""
    cases = cases_of(40)
    folds = folds_of(cases, 4)
    held_out = set(folds[0].validation)
    turned = [
        replace(c, label=TWO.names[1 - TWO.index(c.label)]) if c.id in held_out else c
        for c in cases
    ]
    for before, after in zip(
        baseline_scores(cases, folds, TWO), baseline_scores(turned, folds, TWO), strict=True
    ):
        first = {s.case: s.probabilities for s in before.scores}
        second = {s.case: s.probabilities for s in after.scores}
        assert all(first[case] == second[case] for case in held_out)
    assert any(first[case] != second[case] for case in first)  # the regression's


def test_the_order_of_cases_does_not_matter():
    cases = cases_of(40)
    folds = folds_of(cases, 4)
    expected = {s.case: s.probabilities for s in baseline_scores(cases, folds, TWO)[1].scores}
    found = {s.case: s.probabilities for s in baseline_scores(cases[::-1], folds, TWO)[1].scores}
    assert {case: pytest.approx(p, abs=1e-9) for case, p in expected.items()} == found


@pytest.mark.parametrize("kind", ["exclusive", "ordinal"])
def test_more_classes_than_two(kind):
    names = ("low", "middle", "high")
    cases = cases_of(90, names=names, strength=3.0)
    regression = by_name(
        baseline_scores(cases, folds_of(cases), ClassTable(names=names, kind=kind))
    )["logistic regression"]
    called = [
        names[int(np.argmax(score.probabilities))] == score.reference for score in regression.scores
    ]
    assert np.mean(called) > 0.6


def test_findings_have_a_regression_each():
    table = ClassTable(names=("effusion", "mass", "never"), kind="multilabel")
    cases = [
        replace(case, label=("effusion|mass" if number % 4 > 1 else "effusion"[: 8 * (number % 2)]))
        for number, case in enumerate(cases_of(60))
    ]
    regression = by_name(baseline_scores(cases, folds_of(cases), table))["logistic regression"]
    values = np.array([score.probabilities for score in regression.scores])
    assert values.shape == (60, 3)
    assert (values[:, 2] < 0.05).all()  # nobody has it: its prior
    mass = ["mass" in score.reference for score in regression.scores]
    assert auroc(values[:, 1], mass) > 0.8


def test_a_class_that_only_validation_has_gets_nothing():
    names = ("a", "b", "c")
    cases = cases_of(30, names=names)
    rare = tuple(case.id for case in cases if case.label == "c")
    fold = Fold(tuple(case.id for case in cases if case.label != "c"), rare)
    regression = by_name(baseline_scores(cases, [fold], ClassTable(names=names)))[
        "logistic regression"
    ]
    assert all(score.probabilities[2] == 0 for score in regression.scores)


def test_a_part_of_one_class_is_learned_as_such():
    """An inner fold may leave one class only: what is learned there is that class."""
    index = np.array([1, 1, 2, 0])
    data = _Data(np.arange(4.0)[:, None], 1, np.eye(3, dtype=bool)[index], np.arange(4), True, 0)
    found = data.fit_predict(index, 3, np.array([0, 1]), np.array([2, 3]), 1.0)
    assert found.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_without_columns_there_is_only_the_prior():
    cases = [replace(case, columns={"label_name": case.label}) for case in cases_of(20)]
    (prior,) = baseline_scores(cases, folds_of(cases), TWO)
    assert (prior.name, prior.columns) == ("class prior", ())


def test_a_case_is_answered_for_once():
    cases = cases_of(20)
    folds = [*folds_of(cases), folds_of(cases)[0]]
    assert len(baseline_scores(cases, folds, TWO)[0].scores) == 20


def test_what_cannot_be_done_is_refused():
    cases = cases_of(20)
    folds = folds_of(cases)
    with pytest.raises(UsageError, match="no folds"):
        baseline_scores(cases, [], TWO)
    with pytest.raises(UsageError, match="the folds name c000"):
        baseline_scores(cases[1:], folds, TWO)
    with pytest.raises(DataError, match="case c000 has no label"):
        baseline_scores([replace(cases[0], label=None), *cases[1:]], folds, TWO)
    with pytest.raises(LabelError, match="class 'cyst'"):
        baseline_scores([replace(cases[0], label="cyst"), *cases[1:]], folds, TWO)
    with pytest.raises(UsageError, match="no column 'sex'"):
        baseline_scores(cases, folds, TWO, columns=["sex"])
    with pytest.raises(UsageError, match=r"(?s)'age' names both a measure.*rename the column"):
        baseline_scores(cases, folds, TWO, measures={"age": {}})


# --- which columns
# ------------------------------------------------------------------------------

LABELS = ["benign", "malignant"] * 20
COLUMNS = {
    "fold": ("a part of the experiment", lambda i: str(i % 5)),
    "original_name": ("names of files", lambda i: f"benign ({i}).png"),
    "source": ("names of files", lambda i: f"scans/{i}"),
    "nih_finding_labels": ("named like a label", lambda i: "No Finding" if i % 3 else "Mass"),
    "Diagnosis_value": ("named like a label", lambda i: str(1 + i % 3)),
    "Malignancy_value": ("another reader's opinion", lambda i: str(1 + i % 5)),
    "InternalStructure_value": ("another reader's opinion", lambda i: str(1 + i % 2)),
    "n_readers": ("another reader's opinion", lambda i: str(1 + i % 4)),
    "BI-RADS": ("another reader's opinion", lambda i: str(1 + i % 6)),
    "nodule_id": ("names the case, and does not describe it", str),
    "PatientID": ("names the case, and does not describe it", str),
    "seriesuid": ("names the case, and does not describe it", lambda i: f"1.3.6.{i}"),
    "group": ("names the case, and does not describe it", lambda i: str(i // 2)),
    "kind": ("each value goes with one label only", lambda i: "xy"[i % 2]),
    "vendor": ("the same in every case", lambda i: "S" if i % 2 else "s"),
    "shape": ("too many different words", lambda i: f"{i}x{i}"),
    "remark": ("too many different words", lambda i: f"w{i % 21}"),
    "age": ("", lambda i: str(30 + i)),
    "PatientSex": ("", lambda i: "FM"[i // 3 % 2]),
    "pleural_fluid_ml": ("", lambda i: str(i * 1.5) if i % 4 else "NA"),
    "view": ("", lambda i: "PA" if i % 3 else "AP"),
    "age_group": ("", lambda i: "old" if i % 5 else "young"),
    "diameter_mm": (
        "",
        lambda i: str(i % 2 * 10 + i / 50),
    ),  # tells the classes apart, but does not restate them
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_rule(name):
    why, value = COLUMNS[name]
    choice = choose_columns([{name: value(i)} for i in range(40)], LABELS)
    assert dict(choice.left_out) == ({name: why} if why else {})
    assert choice.names == (() if why else (name,))


def test_numbers_and_words_and_whatever_is_asked_for():
    rows = [{name: value(i) for name, (_, value) in COLUMNS.items()} for i in range(40)]
    choice = choose_columns(rows, LABELS)
    assert choice.numeric == ("age", "pleural_fluid_ml", "diameter_mm")
    assert choice.words == ("PatientSex", "view", "age_group")
    asked = choose_columns(rows, LABELS, columns=["Malignancy_value", "shape", "shape"])
    assert (asked.numeric, asked.words, asked.left_out) == (("Malignancy_value",), ("shape",), {})
    with pytest.raises(UsageError, match="no column 'sex'"):
        choose_columns(rows, LABELS, columns=["sex"])
    with pytest.raises(UsageError, match="there are none"):
        choose_columns([{}], ["benign"], columns=["sex"])


@pytest.mark.real_data
def test_the_columns_of_real_tables(real_data: Path):
    import csv

    def chosen(folder, label):
        with (real_data / folder / "cases.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        others = [{name: value for name, value in row.items() if name != label} for row in rows]
        return set(choose_columns(others, [row[label] for row in rows]).names)

    assert chosen("chest_xray", "label") == {"age", "sex", "view"}
    assert chosen("breast_ultrasound", "label") == set()
    assert chosen("lung_nodules", "Diagnosis_value") == {
        "diameter_mm",
        "mask_volume_mm3",
        "coordX",
        "coordY",
        "coordZ",
    }
