"""Two evaluations side by side."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hilum.errors import DataError, LabelError, UsageError, plain_digits
from hilum.evaluation import Comparison, Evaluation, EvaluationRecord, Score, compare, summarise
from hilum.evaluation.comparison_page import few_patients
from hilum.evaluation.page import p_value
from hilum.metrics import holm
from hilum.volume import LabelTable


def evaluation(
    values: dict[str, float],
    *,
    name: str = "model",
    tolerance_mm: float = 2.0,
    error_ml: float = 0.0,
    lesions: int = 1,
    region: str = "liver",
    label: int = 1,
    more: dict[int, str] | None = None,
) -> Evaluation:
    """An evaluation of one region with these Dice values by case."""
    scores = tuple(
        Score(
            region=region,
            case=case,
            patient=f"p-{case}",
            dice=dice,
            iou=dice / (2 - dice),
            nsd=dice,
            hd95=10 * (1 - dice),
            hd=20 * (1 - dice),
            assd=math.nan,
            masd=math.nan,
            volume_reference_ml=10.0,
            volume_prediction_ml=10.0 + error_ml,
            volume_error_ml=error_ml,
            volume_error_absolute_ml=abs(error_ml),
            volume_error_relative=error_ml / 10,
            lesions_reference=lesions,
            lesions_found=1,
            lesions_predicted=1,
            lesions_real=1,
            lesion_recall=1.0,
            lesion_precision=1.0,
            lesion_f1=1.0,
        )
        for case, dice in values.items()
    )
    record = EvaluationRecord(
        hilum="0",
        predictions=name,
        reference="r",
        tolerance_mm=tolerance_mm,
        labels=LabelTable.from_names({label: region} | (more or {})),
        missing=(),
        unexpected=(),
        notes=(),
        summary=summarise(scores, resamples=20),
    )
    return Evaluation(scores, record)


def dices(offset: float = 0.0, n: int = 20) -> dict[str, float]:
    random = np.random.default_rng(1)
    return {
        f"c{i}": float(v) + offset * (1 + i / n) for i, v in enumerate(random.uniform(0.7, 0.9, n))
    }


def test_the_better_of_two() -> None:
    a, b = evaluation(dices(0.03), name="new"), evaluation(dices(), name="old")
    comparison = compare(a, b)
    dice = comparison["liver", "dice"]
    expected = np.array(list(dices(0.03).values())) - np.array(list(dices().values()))
    assert dice.difference == pytest.approx(expected.mean())
    assert dice.low < dice.difference < dice.high
    assert dice.p_value == pytest.approx(stats.wilcoxon(expected).pvalue)
    assert dice.p_value < dice.p_holm < 0.05
    assert (dice.better, dice.n, dice.patients) == ("a", 20, 20)
    assert comparison["liver", "hd95"].better == "a"  # less is better
    assert comparison["liver", "hd95"].difference < 0
    assert compare(b, a)["liver", "dice"].better == "b"
    assert not {"hd", "masd", "volume_error_absolute_ml"} & {
        row.metric for row in comparison.differences
    }


def test_no_difference_is_shown_only_within_a_margin() -> None:
    random = np.random.default_rng(3)
    base = dices(n=60)
    noisy = {case: dice + random.normal(0, 0.01) for case, dice in base.items()}
    a, b = evaluation(noisy, name="new"), evaluation(base, name="old")
    dice = compare(a, b, margins={"dice": 0.02, "nsd": 1e-6})["liver", "dice"]
    assert (dice.better, dice.margin, dice.equivalent) == ("undecided", 0.02, True)
    assert dice.p_equivalence is not None
    assert dice.p_equivalence < 0.001 < dice.p_value
    comparison = compare(a, b, margins={"dice": 0.02, "nsd": 1e-6})
    assert comparison["liver", "nsd"].equivalent is False
    assert comparison["liver", "iou"].margin is None
    page = comparison.markdown()
    assert "Shown to be equivalent: Dice of liver (within 0.02)." in page
    assert "within 0.02 (p < 0.001)" in page
    assert "not shown within 1e-06" in page
    again = Comparison.model_validate_json(comparison.model_dump_json())
    assert again.model_dump_json() == comparison.model_dump_json()
    with pytest.raises(UsageError, match="margin 'dise'"):
        compare(a, b, margins={"dise": 0.01})


def test_a_page_begins_with_what_the_comparison_shows() -> None:
    better = compare(evaluation(dices(0.03)), evaluation(dices())).markdown()
    assert "a is better than b in 4 of" in better.splitlines()[2]
    random = np.random.default_rng(4)
    base = dices(n=20)
    noisy = {case: dice + random.normal(0, 0.03) for case, dice in base.items()}
    first = compare(evaluation(noisy), evaluation(base)).markdown().splitlines()[2]
    assert first.startswith("No difference is shown in any of")
    assert "These cases allow a difference in Dice of liver of -" in first
    assert re.search(r"To see a difference of 0\.01 .* about \d+ patients are needed; there", first)


def test_a_brief_page_has_the_rows_of_the_smallest_p_values() -> None:
    comparison = compare(evaluation(dices(0.03)), evaluation(dices()))
    rows = len(comparison.differences)
    brief = comparison.markdown(most=3)
    assert brief.count("\n| liver |") == 3
    assert "\n| liver | Dice |" in brief  # the first
    assert "volume error" not in brief  # p = 1
    assert f"And {rows - 3} more rows." in brief
    assert brief.splitlines()[2] == comparison.markdown().splitlines()[2]
    assert comparison.markdown(most=rows) == comparison.markdown()


def test_a_page_says_where_no_difference_can_be_shown() -> None:
    few = compare(evaluation(dices(0.03, n=6)), evaluation(dices(n=6)))
    tests = sum(not math.isnan(one.p_value) for one in few.differences)
    assert tests > 1
    needed = next(n for n in range(6, 40) if tests * 2 / 2**n < 0.05)
    assert (
        "Attention: 6 patients can show no difference, however large: corrected for"
        f" {tests} tests, at least {needed} patients are needed." in few.markdown()
    )
    enough = compare(evaluation(dices(0.03, n=needed)), evaluation(dices(n=needed)))
    assert "Attention" not in enough.markdown()
    assert enough["liver", "dice"].better == "a"
    assert few_patients(1, 5, 0.95).endswith(
        "corrected for 1 test, at least 6 patients are needed."
    )
    assert few_patients(1, 6, 0.95) == few_patients(0, 1, 0.95) == ""
    assert few_patients(3, 1, 0.95).startswith("Attention: 1 patient can show")


def test_who_loses_on_average_is_not_called_better() -> None:
    base = dices()
    mostly_worse = {case: dice - 0.01 for case, dice in base.items()} | {"c7": base["c7"] + 0.9}
    dice = compare(evaluation(mostly_worse), evaluation(base))["liver", "dice"]
    assert dice.p_holm < 0.05
    assert dice.difference > 0 > dice.low
    assert dice.better == "undecided"


def test_an_interval_ends_where_differences_of_the_metric_do() -> None:
    apart = compare(evaluation({"x": 0.99, "y": 0.5}), evaluation({"x": 0.1, "y": 0.45}))
    dice = apart["liver", "dice"]
    assert (dice.low, dice.high) == (-1, 1)
    assert apart["liver", "hd95"].low < -1  # mm have no end
    margins = {"dice": 0.9, "nsd": 0.9}
    wide = compare(
        evaluation({"x": 0.9, "y": 0.1}), evaluation({"x": 0.1, "y": 0.9}), margins=margins
    )
    dice = wide["liver", "dice"]
    assert (dice.low, dice.high, dice.equivalent) == (-1, 1, False)  # by the interval's own width


def test_lesion_metrics_are_compared_of_lesions_only() -> None:
    one, several = (evaluation(dices(), lesions=number) for number in (1, 2))
    assert not any("lesion" in row.metric for row in compare(one, one).differences)
    same = compare(several, several)["liver", "lesion_f1"]
    assert (same.better, same.p_value) == ("undecided", 1)


def test_volume_errors_are_compared_by_size() -> None:
    a, b = evaluation(dices(), error_ml=-3.0), evaluation(dices(), error_ml=1.0)
    volume = compare(a, b)["liver", "volume_error_ml"]
    assert (volume.a, volume.b, volume.better) == (3.0, 1.0, "b")


def test_undefined_values_are_counted() -> None:
    a, b = evaluation(dices(n=5)), evaluation(dices(n=5))
    holes = tuple(dataclasses.replace(s, hd95=math.nan) if s.case == "c0" else s for s in a.scores)
    comparison = compare(Evaluation(holes, a.record), b)
    assert (
        comparison["liver", "hd95"].n,
        comparison["liver", "hd95"].only_a,
        comparison["liver", "hd95"].only_b,
    ) == (4, 0, 1)
    assd = comparison["liver", "assd"]
    assert (assd.n, assd.better) == (0, "undecided")
    assert [math.isnan(v) for v in (assd.a, assd.difference, assd.p_value, assd.p_holm)] == [
        True
    ] * 4


def test_cases_of_one_side_are_left_out_and_named() -> None:
    comparison = compare(evaluation(dices(n=6)), evaluation(dices(n=4)))
    assert (comparison.cases, comparison.left_out) == (4, ("c4", "c5"))
    assert "only one of the two has them: c4, c5." in comparison.markdown()


def test_from_folders_to_files(tmp_path: Path) -> None:
    evaluation(dices(0.02), name="new").save(tmp_path / "a")
    evaluation(dices(), name="old").save(tmp_path / "b")
    comparison = compare(tmp_path / "a", str(tmp_path / "b"))
    comparison.save(tmp_path / "out")
    text = (tmp_path / "out" / "comparison.json").read_text()
    assert json.loads(text)["a"] == "new"
    assert Comparison.model_validate_json(text).model_dump_json() == comparison.model_dump_json()
    assert "| liver | Dice |" in (tmp_path / "out" / "comparison.md").read_text()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tolerance_mm of 2\.0 and of 3\.0"):
        compare(evaluation(dices()), evaluation(dices(), tolerance_mm=3.0))
    with pytest.raises(DataError, match="no case and region in common"):
        compare(evaluation({"x": 0.5}), evaluation({"y": 0.5}))
    with pytest.raises(KeyError, match="spleen"):
        compare(evaluation(dices()), evaluation(dices()))["spleen", "dice"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "< 0.001"), (1e-9, "< 0.001"), (0.001, "0.001"), (0.0421, "0.042")]
)
def test_a_p_value_is_never_printed_as_nothing(value, text):
    assert p_value(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (12741.3, 4, "12741"),
        (1500, 4, "1500"),
        (-12.5, 4, "-12.5"),
        (0.00012346, 4, "0.0001235"),
        (123.4, 2, "123"),
        (0, 4, "0"),
        (math.nan, 4, "nan"),
    ],
)
def test_numbers_are_written_without_an_exponent(value, digits, text):
    assert plain_digits(value, digits) == text


def test_regions_are_matched_by_name_and_unnamed_ones_by_id() -> None:
    plain = repr(compare(evaluation(dices(0.03)), evaluation(dices())))
    assert (
        repr(compare(evaluation(dices(0.03)), evaluation(dices(), region="Liver", label=4)))
        == plain
    )
    assert repr(compare(evaluation(dices(0.03)), evaluation(dices(), region="label 1"))) == plain


def test_evaluations_of_other_regions_are_refused() -> None:
    with pytest.raises(
        LabelError, match=r"(?s)has the labels 1 spleen; model has 1 liver.*evaluate again"
    ):
        compare(evaluation(dices()), evaluation(dices(), region="spleen"))
    with pytest.raises(
        LabelError, match="score different regions; model: liver; model: label 1, label 2"
    ):
        compare(evaluation(dices()), evaluation(dices(), region="label 1", more={2: "label 2"}))
