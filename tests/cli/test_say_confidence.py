"""Line of `hilum predict` on the intervals of volumes."""

from pathlib import Path

import pytest

from hilum.cli.prediction import _say_confidence
from hilum.inference.confidence import CaseConfidence, RegionConfidence


def judged(patients: int, *, low: float | None) -> CaseConfidence:
    high = None if low is None else 12.0
    region = RegionConfidence(region="liver", volume_ml=10, low_ml=low, high_ml=high, dice=0.9)
    return CaseConfidence(
        alpha=0.1,
        smallest_alpha=1 / (patients + 1),
        patients=patients,
        guarantee="",
        regions=(region,),
    )


def test_the_intervals_are_said_to_be_in_the_run():
    said = _say_confidence([judged(19, low=None), judged(19, low=9.0)], Path("run.json"))
    assert said == (
        "Volumes with intervals, expected Dice: run.json (alpha 0.1; possible with 19 held-out"
        " patients at alpha 0.05 or more)"
    )


@pytest.mark.parametrize(
    ("patients", "words"),
    [(1, "1 held-out patient at alpha 0.5"), (6, "6 held-out patients at alpha 0.143")],
)
def test_too_few_patients_for_any_interval_are_counted(patients, words):
    said = _say_confidence([judged(patients, low=None)] * 2, Path("run.json"))
    assert said == f"No intervals of volumes at alpha 0.1: possible with {words} or more"


def test_the_alpha_that_is_named_is_allowed():
    assert "alpha 0.084 or more" in _say_confidence([judged(11, low=9.0)], Path("run.json"))
