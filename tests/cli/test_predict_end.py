"""Last lines of `hilum predict`."""

from pathlib import Path

from hilum.cli.prediction import _print_report
from hilum.inference.run_report import CaseOutcome, RunClock


def test_warnings_of_the_models_training_are_said_at_the_end(capsys):
    cases = (CaseOutcome(case="a", status="done"),)
    warnings = ("fold 0 trained for only 5 steps",)
    report = RunClock("predict", device="cpu").report(cases=cases, model_warnings=warnings)
    _print_report(report, Path("out"), None)
    said = capsys.readouterr()
    assert said.out.startswith("1 of 1 cases predicted")
    assert said.err == "Warning of the model's training: fold 0 trained for only 5 steps\n"


def test_of_many_cases_the_first_are_named_and_the_others_counted(capsys):
    cases = tuple(CaseOutcome(case=f"c{n}", status="failed", error="no image") for n in range(10))
    _print_report(RunClock("predict", device="cpu").report(cases=cases), Path("out"), None)
    said = capsys.readouterr().err
    assert (
        said
        == "failed: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more: no image\nFull messages: above\n"
    )
