"""Many scores in a few figures."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation import METRICS, Score, Summary, score_labels, summarise
from hilum.evaluation.page import median_span
from hilum.metrics import bootstrap_interval
from hilum.volume import LabelTable

TABLE = LabelTable.from_names({1: "anterior", 2: "posterior"})


def rows(seed: int = 0, cases: int = 6, *, named: bool = True) -> list[Score]:
    random = np.random.default_rng(seed)
    scores: list[Score] = []
    for number in range(cases):
        reference = np.zeros((4, 9, 11), dtype=np.uint8)
        reference[1:3, 2:7, 1:5] = 1
        reference[1:3, 2:7, 5:9] = 2 if number else 0  # the first case has no posterior
        prediction = np.where(random.random(reference.shape) < 0.2, 0, reference)
        who = {"case": f"case{number}", "patient": f"p{number // 2}"} if named else {}
        scores += score_labels(prediction, reference, spacing=(3.0, 1.0, 2.0), table=TABLE, **who)
    return scores


def test_figures_by_hand() -> None:
    scores = rows()
    summary = summarise(scores, resamples=400)
    assert [region.region for region in summary.regions] == ["anterior", "posterior"]
    dices = [score.dice for score in scores if score.region == "anterior"]
    anterior = summary["anterior"].metrics["dice"]
    assert anterior.mean == pytest.approx(np.mean(dices))
    pairs = np.array(dices).reshape(-1, 2)  # two cases a patient
    assert anterior.median == pytest.approx(np.median(pairs.mean(axis=1)))
    assert anterior.std == pytest.approx(np.std(dices, ddof=1))
    interval = bootstrap_interval(
        dices, [score.group for score in scores if score.region == "anterior"], resamples=400
    )
    assert (anterior.low, anterior.high, anterior.patients) == (interval.low, interval.high, 3)
    assert summary.mean("dice", region="anterior") == anterior.mean
    assert summary.mean() == pytest.approx(
        (anterior.mean + summary["posterior"].metrics["dice"].mean) / 2
    )
    assert set(summary.overall) == set(METRICS)


def test_undefined_values_are_counted_not_hidden() -> None:
    posterior = summarise(rows(), resamples=50)["posterior"]
    assert (posterior.cases, posterior.present, posterior.missed, posterior.invented) == (
        6,
        5,
        0,
        0,
    )
    assert (posterior.metrics["dice"].n, posterior.metrics["dice"].undefined) == (5, 1)
    assert posterior.metrics["volume_error_ml"].undefined == 0


def test_missed_and_invented_regions_are_counted() -> None:
    full, empty = np.ones((2, 3, 4), dtype=np.uint8), np.zeros((2, 3, 4), dtype=np.uint8)
    table = LabelTable.from_names({1: "lesion"})
    pairs = {
        "found": (full, full),
        "missed": (empty, full),
        "invented": (full, empty),
        "healthy": (empty, empty),
    }
    scores = [
        s
        for name, (p, r) in pairs.items()
        for s in score_labels(p, r, spacing=(1, 1, 1), table=table, case=name)
    ]
    lesion = summarise(scores, resamples=50)["lesion"]
    assert (lesion.cases, lesion.present, lesion.missed, lesion.invented) == (4, 2, 1, 1)
    assert lesion.metrics["dice"].mean == pytest.approx(1 / 3)
    hd95 = lesion.metrics["hd95"]
    assert (hd95.n, hd95.undefined, hd95.one_sided) == (3, 1, 2)
    assert hd95.mean == pytest.approx(2 * math.sqrt(1 + 4 + 9) / 3)  # two diagonals and a 0
    assert lesion.metrics["dice"].one_sided == 0
    row = hd95.estimate("lesion", "hd95")
    assert row.note == "undefined in 1 case; 2 cases with one surface only: the image's diagonal"


def test_medians_have_exact_intervals_over_patients() -> None:
    summary = summarise(rows(cases=24), resamples=20)
    for metric in (summary["anterior"].metrics["dice"], summary.overall["dice"]):
        assert metric.median_low < metric.median < metric.median_high
    assert math.isnan(summarise(rows(cases=2), resamples=20)["anterior"].metrics["dice"].median_low)
    assert median_span(math.nan, math.nan) == "too few patients"


def test_rows_of_no_named_case_are_each_their_own() -> None:
    named, unnamed = summarise(rows(), resamples=50), summarise(rows(named=False), resamples=50)
    assert unnamed.mean() == pytest.approx(named.mean())
    assert unnamed["anterior"].metrics["dice"].patients == 6


def test_json_writes_null_and_reads_it_back() -> None:
    summary = summarise(rows(cases=1), resamples=10)
    text = summary.model_dump_json()
    assert "NaN" not in text
    assert '"low":null' in text
    again = Summary.model_validate_json(text)
    assert again.model_dump_json() == text
    assert math.isnan(again["posterior"].metrics["dice"].mean)


def test_same_seed_same_figures() -> None:
    scores = rows(cases=48)
    assert (
        summarise(scores, seed=1).model_dump_json() == summarise(scores, seed=1).model_dump_json()
    )
    assert (
        summarise(scores, seed=1).model_dump_json() != summarise(scores, seed=2).model_dump_json()
    )


def test_what_cannot_be_summarised_is_refused() -> None:
    with pytest.raises(DataError, match="at least one case"):
        summarise([])
    with pytest.raises(DataError, match="two scores of one case and region"):
        summarise(rows() + rows())
    with pytest.raises(KeyError, match="spleen"):
        summarise(rows(), resamples=10)["spleen"]


def test_an_interval_of_dice_ends_at_one() -> None:
    scores = [replace(score, dice=1.0 if score.case == "case0" else 0.9) for score in rows(cases=4)]
    dice = summarise(scores, resamples=20)["anterior"].metrics["dice"]
    assert (dice.interval, dice.high) == ("t", 1.0)
    assert dice.low < dice.mean < 1
