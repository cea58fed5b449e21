"""Warnings about trainings that were short, and validations that were cut."""

from types import SimpleNamespace

import pytest

from classification_toys import class_plan
from hilum.training.assemble import few_scored, few_steps
from hilum.training.checkpoint import Progress, Row
from hilum.training.fold import TrainedFold
from hilum.training.log import loss_still_falls


@pytest.mark.parametrize(
    ("steps", "cases", "batch", "loss", "warning"),
    [
        (0, 12, 4, "falling", ""),
        (99, 12, 4, "falling", "99 steps (33 epochs of 12 cases) and its loss was still falling"),
        (99, 12, 4, "flat", ""),
        (100, 400, 4, "falling", ""),
        (
            100,
            401,
            4,
            "flat",
            "100 steps (1 epochs of 401 cases) and not every training case was used",
        ),
    ],
)
def test_short_training_warns_unless_its_loss_is_flat(steps, cases, batch, loss, warning):
    values = (
        [1 - 0.02 * n for n in range(40)]
        if loss == "falling"
        else [0.3 + 0.01 * (n % 3) for n in range(40)]
    )
    progress = Progress(step=steps, rows=tuple(log_row(n, value) for n, value in enumerate(values)))
    member = TrainedFold(0, None, progress, (), ("c",) * cases, ())
    note = few_steps(class_plan(batch=batch), member)
    assert warning in note
    assert bool(note) is bool(warning)


@pytest.mark.parametrize(
    ("cases", "scored", "said"),
    [
        (109, 1, "Warning: only 1 of 109 validation cases was scored within the time limit: these"),
        (
            41,
            24,
            "Only 24 of 41 validation cases were scored within the time limit; about --minutes 7 ",
        ),
        (2, 2, ""),
    ],
)
def test_few_scored_cases_are_said(cases, scored, said):
    scores = tuple(SimpleNamespace(case=n) for n in range(scored))
    fold = TrainedFold(0, None, Progress(), scores, (), ("c",) * cases, minutes_for_all=7.0)
    note = few_scored([fold])
    assert note.startswith(said)
    assert bool(note) is bool(said)


def log_row(step, loss):
    return Row(
        step=step, seconds=1.0, progress=0.5, learning_rate=0.1, loss=loss, gradient_norm=1.0
    )


def test_few_log_rows_count_as_a_falling_loss():
    assert loss_still_falls([log_row(n, 0.5) for n in range(7)])
    assert not loss_still_falls([log_row(n, 0.5) for n in range(8)])
