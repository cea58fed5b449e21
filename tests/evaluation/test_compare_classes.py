"""Two classifiers on the same cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from class_samples import FINDINGS, GRADES, TABLES, THREE, TWO, made_up, scores_of

from hilum import metrics
from hilum.dataset import ClassTable
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import (
    CLASS_METRICS,
    ClassEvaluation,
    ClassEvaluationRecord,
    Comparison,
    compare,
    compare_classes,
    summarise_classes,
)
from hilum.evaluation.comparison import p_of_interval

FAST = {"resamples": 200}


def worse(scores, table, amount: float = 0.6):
    """The same answers with something of another classifier's mixed in."""
    other = made_up(table, len(scores), seed=99)
    mixed = [
        tuple(
            ((1 - amount) * np.array(s.probabilities) + amount * np.array(o.probabilities)).tolist()
        )
        for s, o in zip(scores, other, strict=True)
    ]
    return [s.model_copy(update={"probabilities": p}) for s, p in zip(scores, mixed, strict=True)]


@pytest.mark.parametrize("kind", TABLES)
def test_the_better_of_two(kind):
    table = TABLES[kind]
    good = made_up(table, 200, noise=0.6)
    bad = worse(good, table)
    comparison = compare_classes(good, bad, table, names=("new", "old"), **FAST)
    assert (comparison.cases, comparison.patients, comparison.left_out) == (200, 100, ())
    assert (comparison["brier"].better, comparison["auroc"].better) == (
        "a",
        "a",
    )  # less is better, more is better
    assert comparison["brier"].difference < 0 < comparison["auroc"].difference
    turned = compare_classes(bad, good, table, **FAST)
    for one, other in zip(comparison.differences, turned.differences, strict=True):
        assert other.difference == pytest.approx(-one.difference)
        assert (one.better, other.better) in {("a", "b"), ("b", "a"), ("undecided", "undecided")}
    assert all(CLASS_METRICS[d.metric].higher_is_better is not None for d in comparison.differences)
    both = summarise_classes(good, table, **FAST), summarise_classes(bad, table, **FAST)
    for d in comparison.differences:
        assert (d.a, d.b) == pytest.approx(
            (both[0][d.part, d.metric].value, both[1][d.part, d.metric].value)
        )


def test_tests_are_those_of_the_metrics_room():
    good = made_up(TWO, 100)
    bad = worse(good, TWO)
    comparison = compare_classes(good, bad, TWO, resamples=300, seed=5)
    p, q = ([s.probabilities[1] for s in scores] for scores in (good, bad))
    truth, whose = [s.reference == "malignant" for s in good], [s.patient for s in good]
    expected = metrics.delong_test(p, q, truth, groups=whose)
    found = comparison["auroc"]
    assert (found.difference, found.low, found.high, found.p_value, found.test) == (
        expected.difference, expected.low, expected.high, expected.p_value, "delong",
    )  # fmt: skip
    change = metrics.bootstrap_difference(
        metrics.brier, (p, truth), (q, truth), whose, resamples=300, seed=5
    )
    found = comparison["brier"]
    assert (found.low, found.high, found.test) == (change.low, change.high, "bootstrap")
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert all(d.p_holm >= d.p_value for d in comparison.differences)


@pytest.mark.parametrize(
    ("difference", "low", "high", "p"),
    [
        (0.1, 0.0, 0.3, 0.05),  # the interval just reaches 0
        (-0.1, -0.3, 0.0, 0.05),
        (0.2, 0.1, 0.3, 2 * 0.0000443),  # two half widths of 1.96: z = 3.92
        (0.0, -0.1, 0.1, 1.0),
        (0.1, math.nan, math.nan, math.nan),
        (0.1, 0.1, 0.2, math.nan),
    ],
)
def test_p_values_of_intervals(difference, low, high, p):
    found = p_of_interval(difference, low, high, 0.95, 40)
    assert found == pytest.approx(p, rel=1e-2, nan_ok=True)


def test_a_difference_of_calibration_errors_has_percentiles_as_ends():
    models = [made_up(TWO, seed=0), made_up(TWO, seed=0, noise=2.0)]
    truth = np.array([s.reference == TWO.names[1] for s in models[0]])
    assert [s.reference for s in models[0]] == [s.reference for s in models[1]]
    sides = [(np.array([s.probabilities[1] for s in one]), truth) for one in models]
    wanted = metrics.bootstrap_difference(
        metrics.expected_calibration_error,
        *sides,
        [s.patient for s in models[0]],
        method="percentile",
        **FAST,
    )
    found = compare_classes(*models, TWO, **FAST)["ece"]
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_few_patients_have_no_tiny_p_value():
    assert p_of_interval(0.2, 0.199, 0.201, 0.95, 6) == 2 / 2**6
    good = made_up(TWO, 12, noise=0.1)
    turned = [s.model_copy(update={"probabilities": s.probabilities[::-1]}) for s in good]
    found = compare_classes(good, turned, TWO, **FAST)["brier"]
    patients = len({s.patient for s in good})
    assert (found.test, found.p_value) == ("bootstrap", 2 / 2**patients)
    four = made_up(TWO, 8, noise=0.5)
    turned = [s.model_copy(update={"probabilities": s.probabilities[::-1]}) for s in four]
    turned[0] = four[0]  # both areas have a spread
    area = compare_classes(four, turned, TWO, **FAST)["auroc"]
    assert (area.test, area.p_value) == ("delong", 2 / 2**4)


@pytest.mark.parametrize("table", [TWO, THREE, GRADES, FINDINGS])
def test_the_same_is_not_better_than_itself(table):
    scores = made_up(table, 60)
    for d in compare_classes(scores, scores[::-1], table, **FAST).differences:
        assert (d.difference, d.better) == (0.0, "undecided") or math.isnan(d.difference)
        assert d.p_value == 1.0 or math.isnan(d.p_value)


def test_calibration_alone_does_not_change_the_order():
    scores = made_up(TWO, 100, noise=2.0)
    timid = [
        s.model_copy(update={"calibrated": tuple(0.25 + p / 2 for p in s.probabilities)})
        for s in scores
    ]
    comparison = compare_classes(timid, scores, TWO, **FAST)
    assert (comparison["auroc"].p_value, comparison["auroc"].difference) == (1.0, 0.0)
    assert comparison["brier"].difference != 0


def test_cases_of_one_side_are_left_out_and_named():
    scores = made_up(TWO, 30)
    comparison = compare_classes(scores[:28], scores[2:], TWO, **FAST)
    assert (comparison.cases, comparison.left_out) == (26, ("c000", "c001", "c028", "c029"))
    assert "only one of the two has them: c000, c001, c028, c029." in comparison.markdown()


@pytest.mark.parametrize("known_to", ["both", "a", "b"])
def test_copies_that_an_audit_found_make_nobody_better(known_to):
    """Copies of every case change no test where either side knows of them.

    Unknown ones make p smaller.
    """
    good = made_up(TWO, 40)
    bad = worse(good, TWO)

    def copies(scores, *, joined):
        return [
            s.model_copy(
                update={
                    "case": f"{s.case}-{k}",
                    "patient": f"{s.patient}-{k}",
                    "unit": s.patient if joined else None,
                }
            )
            for s in scores
            for k in range(5)
        ]

    once = compare_classes(good, bad, TWO, **FAST)
    blind = compare_classes(copies(good, joined=False), copies(bad, joined=False), TWO, **FAST)
    sides = copies(good, joined=known_to != "b"), copies(bad, joined=known_to != "a")
    found = compare_classes(*sides, TWO, **FAST)
    assert (once.patients, blind.patients, found.patients, found.joined) == (20, 100, 20, 80)
    for metric in ("auroc", "brier"):
        assert found[metric].difference == pytest.approx(once[metric].difference)
        assert found[metric].p_value == pytest.approx(once[metric].p_value, rel=0.2)
        assert blind[metric].p_value < found[metric].p_value / 2
    assert "join 80 further patients" in found.markdown()
    assert "Near-duplicates" not in once.markdown()


def test_what_the_two_must_agree_on():
    scores = made_up(TWO, 30)
    with pytest.raises(DataError, match="no case in common"):
        compare_classes(scores[:10], scores[10:], TWO)
    other = scores[0].model_copy(
        update={"reference": "malignant" if scores[0].reference == "benign" else "benign"}
    )
    with pytest.raises(DataError, match=r"case c000 is '.*' in one and '.*' in another"):
        compare_classes(scores, [other, *scores[1:]], TWO)
    with pytest.raises(DataError, match="case c000 is of patient p000 and of p999"):
        compare_classes(
            scores, [scores[0].model_copy(update={"patient": "p999"}), *scores[1:]], TWO
        )
    unknown = [s.model_copy(update={"patient": None}) for s in scores]
    assert compare_classes(unknown, scores, TWO, **FAST).patients == 15
    swapped = scores_of(FINDINGS, [("mass|nodule", (0.5, 0.5, 0.5)), ("", (0.1, 0.2, 0.3))])
    other = [
        swapped[0].model_copy(update={"reference": "nodule|mass"}),
        swapped[1],
    ]  # the same label
    assert compare_classes(other, swapped, FINDINGS, **FAST).cases == 2
    with pytest.raises(KeyError, match="dice"):
        compare_classes(scores, scores, TWO, **FAST)["dice"]


def as_evaluation(scores, table, name: str) -> ClassEvaluation:
    record = ClassEvaluationRecord(
        hilum="0", predictions=name, reference="r", summary=summarise_classes(scores, table, **FAST)
    )
    return ClassEvaluation(tuple(scores), record)


def test_from_folders_to_files(tmp_path: Path):
    good = made_up(TWO, 60)
    as_evaluation(good, TWO, "new").save(tmp_path / "a")
    as_evaluation(worse(good, TWO), TWO, "old").save(tmp_path / "b")
    comparison = compare(tmp_path / "a", tmp_path / "b", resamples=200)
    assert isinstance(comparison, Comparison)
    comparison.save(tmp_path / "out")
    text = (tmp_path / "out" / "comparison.json").read_text()
    assert (json.loads(text)["a"], json.loads(text)["b"]) == ("new", "old")
    assert Comparison.model_validate_json(text).model_dump_json() == comparison.model_dump_json()
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert page == comparison.markdown()
    assert "| all | AUROC |" in page
    with pytest.raises(
        LabelError, match="cyst, adenoma, carcinoma; the other evaluation has benign, malignant"
    ):
        compare(tmp_path / "a", as_evaluation(made_up(THREE, 20), THREE, "other"))


def _as_other(scores, table, names: dict[str, str], order: list[int]):
    """The same answers under other names, in another order."""
    renamed = ClassTable(names=tuple(names[table.names[place]] for place in order), kind=table.kind)
    return renamed, [
        s.model_copy(
            update={
                "reference": names[s.reference],
                "probabilities": tuple(s.probabilities[place] for place in order),
                "prediction_set": (
                    None
                    if s.prediction_set is None
                    else tuple(names[name] for name in s.prediction_set)
                ),
            }
        )
        for s in scores
    ]


def test_classes_are_matched_by_name_in_any_order() -> None:
    good = made_up(THREE, 60, sets=True)
    bad = worse(good, THREE)
    plain = compare(as_evaluation(good, THREE, "a"), as_evaluation(bad, THREE, "b"), resamples=50)
    other, moved = _as_other(bad, THREE, {name: name.upper() for name in THREE.names}, [2, 0, 1])
    matched = compare(
        as_evaluation(good, THREE, "a"), as_evaluation(moved, other, "b"), resamples=50
    )
    assert matched == plain


def test_another_positive_class_is_refused() -> None:
    good = made_up(TWO, 40)
    other, moved = _as_other(good, TWO, {name: name for name in TWO.names}, [1, 0])
    with pytest.raises(
        UsageError, match=r"benign, malignant \(exclusive\) and malignant, benign[\s\S]*positive="
    ):
        compare(as_evaluation(good, TWO, "a"), as_evaluation(moved, other, "b"))
