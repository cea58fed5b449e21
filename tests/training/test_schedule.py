import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.training import Budget, warm_up_then_cosine
from hilum.training.schedule import Plateau


def test_learning_rate_rises_then_falls_to_nothing():
    rates = [warm_up_then_cosine(0.1, n / 100, warmup=0.1) for n in range(101)]
    top = rates.index(max(rates))
    assert top == 10
    assert rates[10] == pytest.approx(0.1)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.05)  # half-way down the cosine
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


@given(st.floats(0, 2))
def test_learning_rate_is_never_more_than_asked_nor_negative(progress):
    assert 0.0 <= warm_up_then_cosine(0.1, progress, warmup=0.1) <= 0.1


def test_progress_follows_steps_or_the_clock():
    assert Budget(steps=200).progress(50, elapsed=1e9) == 0.25
    assert Budget(steps=200, seconds=40.0).progress(50, elapsed=10.0) == 0.25


def test_plateau_needs_several_checks_without_gain():
    plateau = Plateau()
    for step, dice in enumerate([0.5, 0.6, 0.7], start=1):
        plateau = plateau.after(dice, step=step * 100, progress=step / 10)
    assert (plateau.best, plateau.waited, plateau.cooldown_from) == (0.7, 0, None)
    for step in range(4, 11):
        plateau = plateau.after(0.7005, step=step * 100, progress=step / 20)
    assert (plateau.waited, plateau.cooldown_from) == (7, None)
    plateau = plateau.after(0.69, step=900, progress=0.45)
    assert (plateau.cooldown_from, plateau.cooldown_step) == (0.45, 900)
    assert plateau.after(0.99, step=1000, progress=0.5) == plateau  # decided is decided


def test_an_undefined_dice_is_no_check():
    assert Plateau().after(math.nan, step=10, progress=0.1) == Plateau()


def test_after_a_plateau_the_schedule_is_passed_through_to_its_end():
    plateau = Plateau(cooldown_from=0.4, cooldown_step=1000)
    bent = [plateau.bend(step / 2500, step) for step in range(1000, 1151, 10)]
    assert bent[0] == pytest.approx(0.4)
    assert bent == sorted(bent)
    assert bent[-1] == pytest.approx(1.0)
    assert max(b - a for a, b in pairwise(bent)) < 0.05  # no jump in the learning rate
    assert Plateau().bend(0.3, 10) == 0.3
