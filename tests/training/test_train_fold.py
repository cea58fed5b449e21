"""The time of one fold: reading its cases belongs to the steps, and what is too short is said."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hilum.training import Budget, Listener, TrainingJob
from hilum.training.checkpoint import Progress
from hilum.training.fold import train_fold
from hilum.training.time_plan import Pace, TimePlan, segmentation_needs

READING = 7.0
"""Seconds of reading the training cases."""


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    return made


def train(clock, monkeypatch, *, minutes, case_seconds, cases=3, scored=3, spent=0, slower=1.0):
    """Train a fold that makes no step; return it, the job of its steps, and what was said."""
    jobs, said = [], []

    def read_cases(_):
        clock.now += READING

    def fit(job, step, **_):
        jobs.append(job)
        return SimpleNamespace(network=None, progress=Progress())

    def score(*_, **__):
        clock.now += scored * case_seconds * slower
        return tuple(SimpleNamespace(case=n) for n in range(scored))

    monkeypatch.setattr("hilum.training.fold.fit", fit)
    validator = SimpleNamespace(
        cases=range(cases), ends_by_plateau=True, most_checked=0, score=score
    )
    validator.subset = lambda _: SimpleNamespace(cases=())
    pace = Pace(step=0.5, case=case_seconds)
    needs = segmentation_needs(pace, validated=cases)
    time_plan = TimePlan.of(minutes, needs, started=clock.now - spent)
    job = TrainingJob(
        plan=None,
        store=None,
        cases=("a", "b"),
        folder=Path("nowhere"),
        budget=Budget(1, time_plan.steps),
        device=torch.device("cpu"),
    )
    fold = train_fold(
        0,
        SimpleNamespace(training_step=read_cases),
        job,
        validator,
        time_plan,
        pace,
        Listener(say=said.append),
    )
    return fold, jobs[0], said


def test_reading_cases_takes_time_of_the_steps_not_of_validation(clock, monkeypatch):
    fold, job, said = train(clock, monkeypatch, minutes=1, case_seconds=1.0)
    steps = 60 - 3.75 - 0.6 - 3.0
    assert job.budget.seconds == pytest.approx(steps - READING - 0.5)
    assert fold.minutes_for_all == 0
    (sentence,) = said
    assert f"at most about {steps / 0.5:.0f} steps (fewer where the machine is busy)" in sentence


def test_minutes_that_score_all_cases_are_named_before_and_after(clock, monkeypatch):
    fold, _, said = train(clock, monkeypatch, minutes=1, case_seconds=20.0, scored=1)
    before = "about 1 of 3 validation cases; for all, about --minutes 4 are needed"
    assert before in said[0]
    assert fold.unscored == 2
    assert fold.minutes_for_all == pytest.approx(4.0)


def test_a_single_case_is_always_scored(clock, monkeypatch):
    *_, said = train(clock, monkeypatch, minutes=1, case_seconds=20.0, cases=1, scored=1)
    assert "for all" not in " ".join(said)


def test_a_slow_validation_asks_for_more_minutes_than_were_given(clock, monkeypatch):
    fold, *_ = train(clock, monkeypatch, minutes=1, case_seconds=8.0, scored=2, slower=1.4)
    assert fold.minutes_for_all == pytest.approx(2.3)


def test_little_time_for_steps_names_minutes_that_also_score_all_cases(clock, monkeypatch):
    _, _, said = train(clock, monkeypatch, minutes=1, case_seconds=40.0, scored=1, spent=45)
    assert "0.0 are left for training itself" in said[0]
    assert "--resume --minutes 8.6:" in said[0]
