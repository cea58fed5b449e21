"""Figures of a classification: by hand, against scikit-learn, and what must not change them."""

import math

import numpy as np
import pytest
from class_samples import FINDINGS, GRADES, TABLES, THREE, TWO, made_up, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from hilum import metrics
from hilum.dataset import ClassTable
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import (
    CLASS_METRICS,
    ClassRows,
    ClassScore,
    ClassSummary,
    questions,
    summarise_classes,
)
from hilum.evaluation.classification.arrays import resampling_groups
from hilum.evaluation.markdown import summary_page

FAST = {"resamples": 50}


def values(summary):
    return {(figure.part, figure.metric): figure.value for figure in summary.figures}


# --- by hand
# ------------------------------------------------------------------------------


def test_two_classes_by_hand():
    """Ten cases: malignant with .9 .8 .6 .3, benign with .7 .4 .3 .2 .1 .1 for malignant."""
    malignant = [(TWO.names[1], p) for p in (0.9, 0.8, 0.6, 0.3)]
    benign = [(TWO.names[0], p) for p in (0.7, 0.4, 0.3, 0.2, 0.1, 0.1)]
    scores = scores_of(TWO, [(label, (1 - p, p)) for label, p in malignant + benign])
    summary = summarise_classes(scores, TWO, threshold=0.3, **FAST)
    found = values(summary)
    pairs = 24
    assert found["", "auroc"] == pytest.approx(
        (6 + 6 + 5 + 3.5) / pairs
    )  # .3 is above .2 .1 .1 and ties with .3
    assert found["", "accuracy"] == pytest.approx(8 / 10)
    assert found["", "sensitivity"] == pytest.approx(3 / 4)
    assert found["", "specificity"] == pytest.approx(5 / 6)
    assert found["", "balanced_accuracy"] == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert found["", "f1"] == pytest.approx(6 / 8)
    assert found["", "sensitivity_at_point"] == 1.0
    assert found["", "specificity_at_point"] == pytest.approx(3 / 6)
    assert found["", "sensitivity_at_specificity_90"] == pytest.approx(2 / 4)
    assert found["", "specificity_at_sensitivity_95"] == pytest.approx(3 / 6)
    squares = [0.01, 0.04, 0.16, 0.49, 0.49, 0.16, 0.09, 0.04, 0.01, 0.01]
    assert found["", "brier"] == pytest.approx(np.mean(squares))
    assert summary.confusion == ((5, 1), (1, 3))
    assert (summary.cases, summary.patients, summary.counts, summary.calibrated) == (
        10,
        10,
        (6, 4),
        False,
    )
    assert (summary["sensitivity"].n, summary["specificity"].n, summary["auroc"].n) == (4, 6, 10)
    assert summary["sensitivity_at_point"].method == "wilson"  # 4 of 4: no draw says otherwise
    assert summary["sensitivity_at_point"].low == pytest.approx(4 / (4 + 1.959964**2), rel=1e-6)


def test_grades_by_hand():
    """I I II III: called I, II, II, I (each with certainty)."""
    three = ClassTable(names=("I", "II", "III"), kind="ordinal")
    sure = {"I": (1.0, 0.0, 0.0), "II": (0.0, 1.0, 0.0), "III": (0.0, 0.0, 1.0)}
    summary = summarise_classes(
        scores_of(
            three, [("I", sure["I"]), ("I", sure["II"]), ("II", sure["II"]), ("III", sure["I"])]
        ),
        three,
        **FAST,
    )
    found = values(summary)
    assert found["", "mean_absolute_error"] == pytest.approx(3 / 4)
    expected_by_chance = (2 * 2 * 0 + 2 * 2 * 1 + 1 * 2 * 1 + 1 * 2 * 0 + 1 * 2 * 4 + 1 * 2 * 1) / 4
    assert found["", "quadratic_kappa"] == pytest.approx(1 - (1 + 4) / expected_by_chance)
    assert summary.parts == ("II or more", "III or more")
    assert found["II or more", "auroc"] == pytest.approx(
        (1 + 0.5 + 0.5 + 0) / 4
    )  # 1 and 0 against 0 and 1
    assert found["III or more", "auroc"] == 0.5
    assert found["", "auroc"] == pytest.approx((found["II or more", "auroc"] + 0.5) / 2)
    assert found["", "accuracy"] == 0.5


def test_findings_by_hand():
    two = ClassTable(names=("mass", "nodule"), kind="multilabel")
    scores = scores_of(
        two,
        [
            ("mass", (0.9, 0.2)),
            ("", (0.4, 0.1)),
            ("mass|nodule", (0.6, 0.4)),
            ("nodule", (0.7, 0.8)),
        ],
    )
    summary = summarise_classes(scores, two, **FAST)
    found = values(summary)
    assert (found["mass", "auroc"], found["nodule", "auroc"]) == (0.75, 1.0)
    assert (found["mass", "sensitivity"], found["mass", "specificity"]) == (1.0, 0.5)
    assert (found["nodule", "sensitivity"], found["nodule", "specificity"]) == (0.5, 1.0)
    assert found["mass", "f1"] == pytest.approx(4 / 5)
    assert (found["mass", "accuracy"], found["nodule", "balanced_accuracy"]) == (0.75, 0.75)
    assert found["mass", "mcc"] == pytest.approx(2 / math.sqrt(2 * 2 * 3 * 1))
    assert (
        found["mass", "sensitivity_at_specificity_90"],
        found["mass", "specificity_at_sensitivity_95"],
    ) == (0.5, 0.5)
    assert math.isfinite(found["mass", "calibration_slope"])
    assert math.isnan(found["nodule", "calibration_slope"])  # told apart: no slope is the best
    assert found["", "f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["", "auroc"] == 0.875
    assert found["", "brier"] == pytest.approx(
        np.mean([0.01, 0.04, 0.16, 0.01, 0.16, 0.36, 0.49, 0.04])
    )
    assert summary.confusion == ()
    assert summary.counts == (2, 2)


@pytest.mark.parametrize("kind", ["exclusive", "ordinal", "multilabel"])
def test_a_part_is_judged_like_two_classes(kind):
    """A finding, a class, a step between grades: every metric and interval of a question."""
    table = TABLES[kind]
    scores = made_up(table, 60)
    asked = questions(ClassRows.of(scores, table))[1]
    two = ClassTable(names=("other", asked.name))
    alone = [
        s.model_copy(
            update={"reference": asked.name if yes else "other", "probabilities": (1 - p, p)}
        )
        for s, yes, p in zip(
            scores, asked.positive.tolist(), asked.probability.tolist(), strict=True
        )
    ]
    given = {
        f.metric: f
        for f in summarise_classes(scores, table, **FAST).figures
        if f.part == asked.name
    }
    of_two = {f.metric: f for f in summarise_classes(alone, two, **FAST).figures}
    assert set(given) == set(of_two)
    decided = {
        "accuracy",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "f1",
        "mcc",
    }  # a class is called where it is largest
    for metric, figure in given.items():
        if kind == "multilabel" or metric not in decided:
            assert (
                figure.model_copy(update={"part": ""}).model_dump_json()
                == of_two[metric].model_dump_json()
            )
    assert {
        "calibration_slope",
        "calibration_intercept",
        "mcc",
        "specificity_at_sensitivity_95",
    } <= set(given)


def test_a_threshold_of_findings():
    two = ClassTable(names=("mass", "nodule"), kind="multilabel")
    scores = scores_of(
        two,
        [
            ("mass", (0.9, 0.2)),
            ("", (0.4, 0.1)),
            ("mass|nodule", (0.6, 0.4)),
            ("nodule", (0.7, 0.8)),
        ],
    )
    summary = summarise_classes(scores, two, threshold=0.4, **FAST)
    found = values(summary)
    assert (found["mass", "sensitivity_at_point"], found["mass", "specificity_at_point"]) == (
        1.0,
        0.0,
    )
    assert (found["nodule", "sensitivity_at_point"], found["nodule", "specificity_at_point"]) == (
        1.0,
        1.0,
    )
    assert summary.threshold == 0.4


def test_prediction_sets_by_hand():
    names = THREE.names
    sets = [(names[0],), (names[0], names[1]), names, ()]
    scores = [
        score.model_copy(update={"prediction_set": chosen})
        for score, chosen in zip(
            scores_of(THREE, [(names[0], (0.5, 0.3, 0.2))] * 2 + [(names[2], (0.5, 0.3, 0.2))] * 2),
            sets,
            strict=True,
        )
    ]
    found = values(summarise_classes(scores, THREE, **FAST))
    assert found["", "coverage"] == 0.75
    assert found["", "set_size"] == pytest.approx(6 / 4)
    assert (found[names[0], "coverage"], found[names[2], "coverage"]) == (1.0, 0.5)
    assert math.isnan(found[names[1], "coverage"])


def test_sets_of_findings_by_hand():
    """A set holds a finding that may be present, or an absent one that is not certain."""
    two = ClassTable(names=("mass", "nodule"), kind="multilabel")
    rows = [
        ("mass", ("mass",), ("mass",)),
        ("mass", ("nodule",), ()),
        ("", ("mass", "nodule"), ("nodule",)),
        ("", (), ()),
    ]
    scores = [
        s.model_copy(update={"prediction_set": possible, "certain": certain})
        for s, (_, possible, certain) in zip(
            scores_of(two, [(label, (0.5, 0.5)) for label, _, _ in rows]), rows, strict=True
        )
    ]
    found = values(summarise_classes(scores, two, **FAST))
    assert (found["mass", "coverage"], found["nodule", "coverage"], found["", "coverage"]) == (
        0.75,
        0.75,
        0.75,
    )
    assert found["", "set_size"] == 1.0


# --- against scikit-learn
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_scikit_learn_agrees(kind):
    table = TABLES[kind]
    scores = made_up(table, 200)
    found = values(summarise_classes(scores, table, **FAST))
    p = np.array([score.probabilities for score in scores])
    members = np.array([table.indicators(score.reference) for score in scores])
    index, called = members.argmax(axis=1), p.argmax(axis=1)
    expected = {
        "binary": lambda: {
            ("", "auroc"): oracle.roc_auc_score(index, p[:, 1]),
            ("", "auprc"): oracle.average_precision_score(index, p[:, 1]),
            ("", "balanced_accuracy"): oracle.balanced_accuracy_score(index, called),
            ("", "f1"): oracle.f1_score(index, called),
            ("", "mcc"): oracle.matthews_corrcoef(index, called),
            ("", "brier"): oracle.brier_score_loss(index, p[:, 1]),
            ("", "log_loss"): oracle.log_loss(index, p),
        },
        "exclusive": lambda: {
            ("", "auroc"): oracle.roc_auc_score(index, p, multi_class="ovr"),
            ("", "f1"): oracle.f1_score(index, called, average="macro"),
            ("", "mcc"): oracle.matthews_corrcoef(index, called),
            ("", "log_loss"): oracle.log_loss(index, p),
            (table.names[2], "auroc"): oracle.roc_auc_score(index == 2, p[:, 2]),
            (table.names[1], "auprc"): oracle.average_precision_score(index == 1, p[:, 1]),
            (table.names[1], "sensitivity"): oracle.recall_score(index, called, average=None)[1],
            (table.names[0], "f1"): oracle.f1_score(index, called, average=None)[0],
        },
        "ordinal": lambda: {
            ("II or more", "auroc"): oracle.roc_auc_score(index > 0, p[:, 1:].sum(axis=1)),
            ("IV or more", "auroc"): oracle.roc_auc_score(index > 2, p[:, 3]),
            ("", "quadratic_kappa"): oracle.cohen_kappa_score(
                index, _median_grade(p), weights="quadratic"
            ),
            ("", "mean_absolute_error"): oracle.mean_absolute_error(index, _median_grade(p)),
        },
        "multilabel": lambda: {
            ("", "auroc"): oracle.roc_auc_score(members, p),
            ("", "auprc"): oracle.average_precision_score(members, p),
            ("", "f1"): oracle.f1_score(members, p >= 0.5, average="macro"),
            ("mass", "brier"): oracle.brier_score_loss(members[:, 1], p[:, 1]),
            ("", "log_loss"): np.mean(
                [oracle.log_loss(m, q) for m, q in zip(members.T, p.T, strict=True)]
            ),
        },
    }[kind]()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-6), key


def _median_grade(p):
    return (np.cumsum(p, axis=1) <= 0.5).sum(axis=1)


def test_intervals_are_those_of_the_metrics_room():
    scores = made_up(TWO, 80)
    summary = summarise_classes(scores, TWO, resamples=300, seed=3)
    p, truth = [s.probabilities[1] for s in scores], [s.reference == "malignant" for s in scores]
    whose = [s.patient for s in scores]
    area = metrics.delong_interval(p, truth, groups=whose)
    assert (summary["auroc"].value, summary["auroc"].low, summary["auroc"].high) == (
        area.estimate,
        area.low,
        area.high,
    )
    assert (summary["auroc"].method, summary["auroc"].patients) == ("delong", 40)
    brier = metrics.bootstrap_statistic(metrics.brier, (p, truth), whose, resamples=300, seed=3)
    assert (summary["brier"].low, summary["brier"].high, summary["brier"].method) == (
        brier.low,
        brier.high,
        "bca",
    )
    assert summary["sensitivity_at_specificity_90"].method == "percentile"
    wider = summarise_classes(scores, TWO, resamples=300, seed=3, level=0.99)
    assert wider["brier"].low < summary["brier"].low < summary["brier"].high < wider["brier"].high


def test_patients_of_many_cases_make_intervals_wider():
    once = made_up(TWO, 60)
    many = [s.model_copy(update={"case": f"{s.case}-{k}"}) for s in once for k in range(4)]
    own = [s.model_copy(update={"patient": None}) for s in many]
    for metric in ("auroc", "accuracy", "brier"):
        of_patients = summarise_classes(many, TWO, resamples=300)[metric]
        of_cases = summarise_classes(own, TWO, resamples=300)[metric]
        assert of_patients.value == pytest.approx(of_cases.value)
        assert of_patients.high - of_patients.low > 1.5 * (of_cases.high - of_cases.low)


def copied(scores, times: int = 4, *, joined: bool):
    """Each case several times as a case of another patient, and what a leak audit says of that."""
    return [
        s.model_copy(
            update={
                "case": f"{s.case}-{k}",
                "patient": f"{s.patient}-{k}",
                "unit": s.patient if joined else None,
            }
        )
        for s in scores
        for k in range(times)
    ]


@pytest.mark.parametrize("kind", TABLES)
def test_near_duplicates_make_no_interval_narrower(kind):
    """Copies of every case, joined by their units, have the intervals of the cases.

    Unknown copies seem to know more.
    """
    table = TABLES[kind]
    once = made_up(table, 60)
    single, blind, joined = (
        summarise_classes(scores, table, resamples=300)
        for scores in (once, copied(once, joined=False), copied(once, joined=True))
    )
    assert (single.patients, single.joined) == (30, 0)
    assert (blind.patients, blind.joined) == (120, 0)
    assert (joined.patients, joined.joined) == (30, 90)
    for metric in ("auroc", "brier"):
        assert joined[metric].value == pytest.approx(single[metric].value)
        assert (joined[metric].low, joined[metric].high) == pytest.approx(
            (single[metric].low, single[metric].high), abs=0.01
        )
        assert joined[metric].high - joined[metric].low > 1.5 * (
            blind[metric].high - blind[metric].low
        )
    assert "join 90 further patients" in " ".join(summary_page(joined, ()))
    assert "Near-duplicates" not in " ".join(summary_page(single, ()))


def test_patients_and_units_join_each_other():
    """a and b share a patient, b and c a unit; a unit has the name of a patient."""
    whose = {
        "a": ("P", None),
        "b": ("P", "u"),
        "c": (None, "u"),
        "d": ("u", None),
        "e": (None, "P"),
    }
    scores = [
        ClassScore(
            case=case, patient=patient, unit=unit, reference="benign", probabilities=(1.0, 0.0)
        )
        for case, (patient, unit) in whose.items()
    ]
    assert resampling_groups(scores).tolist() == [0, 0, 0, 1, 2]
    assert ClassRows.of(scores, TWO).joined == 1
    other = [s.model_copy(update={"unit": {"c": "v", "d": "v"}.get(s.case)}) for s in scores]
    assert resampling_groups(scores, other).tolist() == [0, 0, 0, 0, 1]


# --- what must not matter
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_the_order_of_cases_does_not_matter(kind):
    table = TABLES[kind]
    scores = made_up(table, 60, sets=True)
    assert values(summarise_classes(scores[::-1], table, **FAST)) == pytest.approx(
        values(summarise_classes(scores, table, **FAST)), nan_ok=True
    )


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(3)))
def test_the_order_and_names_of_classes_do_not_matter(order):
    """Except that grades are in order."""
    for table in (THREE, FINDINGS):
        scores = made_up(table, 60)
        other = ClassTable(names=tuple(f"class {table.names[k]}" for k in order), kind=table.kind)
        turned = [
            s.model_copy(
                update={
                    "reference": "|".join(f"class {n}" for n in s.reference.split("|") if n),
                    "probabilities": tuple(s.probabilities[k] for k in order),
                }
            )
            for s in scores
        ]
        expected = values(summarise_classes(scores, table, resamples=1))
        found = values(summarise_classes(turned, other, resamples=1))
        assert found == pytest.approx(
            {
                (f"class {part}" if part else "", metric): v
                for (part, metric), v in expected.items()
            },
            nan_ok=True,
        )


def test_two_classes_turned_round():
    """With the other class as the positive one, sensitivity and specificity change places."""
    scores = made_up(TWO, 80)
    turned = ClassTable(names=TWO.names[::-1])
    expected = values(summarise_classes(scores, TWO, resamples=1))
    found = values(
        summarise_classes(
            [s.model_copy(update={"probabilities": s.probabilities[::-1]}) for s in scores],
            turned,
            resamples=1,
        )
    )
    for metric in (
        "auroc",
        "accuracy",
        "balanced_accuracy",
        "mcc",
        "brier",
        "log_loss",
        "calibration_slope",
    ):
        assert found["", metric] == pytest.approx(expected["", metric])
    assert found["", "sensitivity"] == expected["", "specificity"]
    assert found["", "calibration_in_the_large"] == pytest.approx(
        -expected["", "calibration_in_the_large"]
    )


def test_two_grades_are_two_classes():
    scores = made_up(TWO, 60)
    graded = summarise_classes(scores, ClassTable(names=TWO.names, kind="ordinal"), **FAST)
    assert graded.model_dump(exclude={"classes"}) == summarise_classes(
        scores, TWO, **FAST
    ).model_dump(exclude={"classes"})


# --- calibration, refusal, nothing to say
# ------------------------------------------------------------------------------------


def test_calibrated_probabilities_are_those_that_count():
    scores = made_up(TWO, 100, noise=2.0)
    timid = [
        s.model_copy(update={"calibrated": tuple(0.25 + p / 2 for p in s.probabilities)})
        for s in scores
    ]
    summary = summarise_classes(timid, TWO, **FAST)
    plain = summarise_classes(scores, TWO, **FAST)
    assert summary.calibrated
    assert summary["auroc"].value == pytest.approx(plain["auroc"].value)
    assert summary["brier"].value == pytest.approx(
        np.mean([(s.calibrated[1] - (s.reference == "malignant")) ** 2 for s in timid])
    )
    before = {figure.metric: figure.value for figure in summary.uncalibrated}
    assert before == {metric: plain[metric].value for metric in before}
    assert set(before) >= {"brier", "log_loss", "ece", "calibration_slope"}


def test_what_calibration_left_as_it_was_is_not_called_calibrated():
    scores = [
        s.model_copy(update={"calibrated": tuple(p + 1e-9 for p in s.probabilities)})
        for s in made_up(TWO, 20)
    ]
    summary = summarise_classes(scores, TWO, **FAST)
    assert (summary.calibrated, summary.uncalibrated) == (False, ())


def test_refusals_are_counted():
    scores = [
        s.model_copy(update={"refuse": number < 7}) for number, s in enumerate(made_up(TWO, 40))
    ]
    assert summarise_classes(scores, TWO, **FAST).refused == 7
    assert summarise_classes(made_up(TWO, 40), TWO, **FAST).refused is None


@pytest.mark.parametrize(
    ("labels", "metric", "said"),
    [
        (["benign"] * 6, "auroc", "no case is malignant"),
        (["malignant"] * 6, "auroc", "every case is malignant"),
        (["benign"] * 6, "sensitivity", "no case is malignant"),
        (["benign"] * 6, "mcc", "no case is malignant"),
        (
            ["benign"] * 3 + ["malignant"] * 3,
            "calibration_slope",
            "the probabilities separate the classes",
        ),
    ],
)
def test_what_is_undefined_says_why(labels, metric, said):
    chances = (0.1, 0.2, 0.3, 0.6, 0.7, 0.8)
    scores = scores_of(TWO, [(label, (1 - p, p)) for label, p in zip(labels, chances, strict=True)])
    figure = summarise_classes(scores, TWO, **FAST)[metric]
    assert math.isnan(figure.value)
    assert said in figure.note
    assert (figure.method, str(figure)) == ("none", "–")


def test_one_patient_has_no_interval():
    scores = [s.model_copy(update={"patient": "p"}) for s in made_up(TWO, 20)]
    summary = summarise_classes(scores, TWO, **FAST)
    assert summary["brier"].note == "no interval: one patient"
    assert str(summary["brier"]).endswith(" (no interval: one patient)")
    assert math.isnan(summary["auroc"].low)


def test_perfect_separation_is_no_certainty():
    scores = scores_of(TWO, [(TWO.names[k], (1 - k, k)) for k in (0, 1) * 10])
    summary = summarise_classes(scores, TWO, **FAST)
    area, accuracy = summary["auroc"], summary["accuracy"]
    assert (area.value, area.method, accuracy.value, accuracy.method) == (
        1.0,
        "pairs",
        1.0,
        "wilson",
    )
    assert 0.5 < area.low < 1
    assert accuracy.low == pytest.approx(20 / (20 + 1.959964**2), rel=1e-6)
    assert summary["brier"].note == "no interval: the same in every resample of patients"
    assert summary["ece"].note == "no interval is made of this metric"
    assert summary["ece_noise"].note == "no interval is made of this metric"


def test_records_survive_json():
    summary = summarise_classes(made_up(GRADES, 40, sets=True), GRADES, **FAST)
    text = summary.model_dump_json()
    assert "NaN" not in text
    assert ClassSummary.model_validate_json(text).model_dump_json() == text
    assert {figure.metric for figure in summary.figures} <= set(CLASS_METRICS)
    with pytest.raises(KeyError, match="dice"):
        summary["dice"]


def test_what_cannot_be_summarised_is_refused():
    with pytest.raises(UsageError, match=r"threshold=0\.5 does not apply to 3 classes"):
        summarise_classes(made_up(THREE, 10), THREE, threshold=0.5)
    with pytest.raises(UsageError, match=r"the threshold is 1\.5\n.*a probability from 0 to 1"):
        summarise_classes(made_up(TWO, 10), TWO, threshold=1.5)
    with pytest.raises(LabelError, match="class 'cyst'"):
        summarise_classes(scores_of(TWO, [("cyst", (0.5, 0.5))]), TWO)
    with pytest.raises(DataError, match="no scores"):
        summarise_classes([], TWO)


def test_questions_are_named():
    asked = {
        kind: [q.name for q in questions(ClassRows.of(made_up(table, 10), table))]
        for kind, table in TABLES.items()
    }
    assert asked == {
        "binary": ["malignant"],
        "exclusive": [*THREE.names],
        "ordinal": ["II or more", "III or more", "IV or more"],
        "multilabel": [*FINDINGS.names],
    }
