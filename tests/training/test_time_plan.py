"""The plan of time: one table, whose shares add up, and deadlines that leave the rest its time."""

import math
import time

import pytest

from hilum.training.time_plan import (
    SHARES,
    TRIAL_SHARE,
    TUNE_SHARES,
    VALIDATION_TAKES,
    Pace,
    TimePlan,
    classification_needs,
    segmentation_needs,
)


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    return clock


@pytest.mark.parametrize("shares", [SHARES, TUNE_SHARES])
def test_shares_add_up_to_all_of_the_minutes(shares):
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in shares.values())


def test_what_the_stages_after_the_steps_do_not_need_goes_to_the_steps(now):
    needs = segmentation_needs(Pace(step=0.1, case=1.0), validated=10)
    assert needs == {"validation": pytest.approx(12.5), "tuning": pytest.approx(2.0)}
    plan = TimePlan.of(10, needs, started=now[0] - 60)
    assert plan.steps == pytest.approx(600 - 60 - 12.5 - 2 - 5)
    assert plan.deadline("steps").at == pytest.approx(now[0] - 60 + 600 - 19.5)
    assert plan.deadline("validation").at == pytest.approx(now[0] - 60 + 600 - 7)
    assert plan.deadline("writing").at == pytest.approx(now[0] - 60 + 600)


def test_no_stage_gets_more_than_its_share_however_many_cases_there_are(now):
    pace = Pace(step=0.1, case=10.0)
    plan = TimePlan.of(10, segmentation_needs(pace, validated=10**6), started=now[0])
    assert plan.seconds["validation"] == pytest.approx(SHARES["validation"] * 600)
    assert plan.steps == pytest.approx((1 - 0.15 - 0.05) * 600 - 5)
    needs = classification_needs(pace, trained=80_000, validated=10_000, outputs=2)
    plan = TimePlan.of(10, needs, started=now[0] - 0.15 * 600)  # looking and preprocessing
    left = SHARES["steps"] + SHARES["checks"] + SHARES["tuning"] + SHARES["writing"]
    assert plan.steps == pytest.approx(left * 600 - 5)


def test_all_cases_are_validated_where_enough_is_left_for_steps(now):
    needs = {"validation": 19.0}
    plan = TimePlan.of(1, needs, started=now[0] - 5)
    assert plan.seconds["validation"] == 19.0
    assert plan.steps == pytest.approx(60 - 5 - 19 - 3)
    without = 60 - 5 - SHARES["validation"] * 60 - 3
    assert without * (1 - VALIDATION_TAKES) <= plan.steps < without
    late = TimePlan.of(1, needs, started=now[0] - 10)
    assert late.seconds["validation"] == pytest.approx(SHARES["validation"] * 60)
    enough = TimePlan.of(late.minutes_for(19.0), needs, started=now[0] - 10)
    assert enough.seconds["validation"] == 19.0


def test_minutes_that_score_all_cases_leave_other_stages_their_shares(now):
    needs = segmentation_needs(Pace(step=0.5, case=36.0), validated=68)
    short = TimePlan.of(7, needs, started=now[0] - 120)
    assert short.seconds["tuning"] < needs["tuning"]
    minutes = short.minutes_for(needs["validation"])
    timing = TRIAL_SHARE * 60 * (minutes - 7)
    enough = TimePlan.of(minutes, needs, started=now[0] - 120 - timing)
    assert enough.seconds["validation"] == pytest.approx(needs["validation"])


def test_late_training_gets_a_second_and_no_limit_is_none(now):
    assert TimePlan.of(1, {}, started=now[0] - 100).steps == 1.0
    free = TimePlan.of(None, {"validation": 1e9}, started=now[0])
    assert free.steps is None
    assert math.isinf(free.deadline("validation").at)
    assert free.overrun(0.0, 1) == ""


def test_minutes_that_were_not_kept_are_said(now):
    plan = TimePlan.of(2, {}, started=now[0])
    assert plan.overrun(now[0] - 120, 1) == ""
    assert plan.overrun(now[0] - 240, 2) == ""
    assert plan.overrun(now[0] - 400, 1).startswith(
        "The time was overrun: 6.7 minutes instead of 2."
    )
    assert time.perf_counter() == now[0]
