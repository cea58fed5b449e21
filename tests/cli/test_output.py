"""Output that people see: places, intervals, findings of one kind together."""

import io
import logging
import re
import time
from pathlib import Path

import pytest
import typer

from hilum.cli.output import (
    MessageFormatter,
    ProgressDisplay,
    command_to_continue,
    describe_paths,
    files_at_the_end,
    format_findings,
    format_interval,
    option_names,
    print_curves,
    shown_progress,
    with_options,
)
from hilum.dataset import Finding
from hilum.errors import DataError
from hilum.io.inventory import take_inventory


def finding(
    case: str, kind: str = "grid-header", cure: str = "--fix", severity: str = "warning"
) -> Finding:
    return Finding(
        case=case, kind=kind, severity=severity, found=f"{case or 'all'} is odd", cure=cure
    )


def test_many_files_of_a_folder_are_one_place():
    files = [Path("out/pictures") / f"{n}.png" for n in range(35)]
    assert (
        describe_paths([*files, Path("out/curves.png")])
        == f"{Path('out/pictures')} (35 files), {Path('out/curves.png')}"
    )
    assert describe_paths(files[:1]) == str(files[0])
    assert describe_paths([]) == ""


def test_an_interval_that_is_not_there_is_not_called_undefined():
    assert format_interval(0.5, 0.75) == "(0.500 to 0.750)"
    assert format_interval(None, None) == "(no interval: one patient, or the same in every one)"
    assert format_interval(0.5, float("nan")) == format_interval(None, None)


def test_three_findings_are_named_and_more_are_counted():
    assert format_findings([finding("a"), finding("b"), finding("c")]) == [
        "warning grid-header: a: a is odd",
        "warning grid-header: b: b is odd",
        "warning grid-header: c: c is odd",
        "        cure: --fix",
    ]
    assert format_findings([finding(name) for name in "abcdefghijkl"]) == [
        "warning grid-header: a: a is odd",
        "        and 11 more like it: b, c, d, e, f, g, h, i and 3 more (--json names all)",
        "        cure: --fix",
    ]


def test_findings_without_a_case_are_each_said():
    found = [
        Finding(
            case="", kind="predictor", severity="note", found=f"column {n} predicts", cure="look"
        )
        for n in range(5)
    ]
    lines = format_findings(
        [*found, *(finding(name, "predictor", "look", "note") for name in "abcde")]
    )
    assert lines[:6] == [
        *(f"note    predictor: column {n} predicts" for n in range(5)),
        "note    predictor: a: a is odd",
    ]
    assert lines[6:] == [
        "        and 4 more like it: b, c, d, e (--json names all)",
        "        cure: look",
    ]


def bars(monkeypatch, *moves, columns=80):
    """Last screen of a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with shown_progress() as shown:
            for move in moves:
                shown.advance(*move)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    return [line.rstrip() for line in plain.replace("\r", "\n").splitlines() if line.strip()]


def test_times_are_whole_in_a_narrow_terminal(monkeypatch):
    long = "a_case_with_a_very_long_name_that_no_terminal_holds   1 of 30 cases done"
    line = bars(monkeypatch, ("validating fold 0", 1, 2, long))[-1]
    assert re.search(r" 50 % 0:00:0\d (-:--:--|0:00:0\d) left a_case_with", line), line
    assert "left" not in bars(monkeypatch, ("looking", 2, 2, "b"))[-1]
    assert len(line) <= 80
    assert line.endswith("…")
    assert "of 30 cases done" in bars(monkeypatch, ("predict", 1, 2, long), columns=160)[-1]


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(monkeypatch):
    monkeypatch.setattr("hilum.cli.output._LINE_EVERY_SECONDS", 0.02)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with shown_progress() as shown:
            for move in ((), ("looking", 4, 4, "case_4"), ("features fold 0", 1, 4, "case_7")):
                if move:
                    shown.advance(*move)
                before = len(stream.getvalue())
                for _ in range(10_000):
                    if stream.getvalue()[before:].count("\n") >= 2:
                        break
                    time.sleep(0.01)
            said = stream.getvalue().splitlines()
    assert re.fullmatch(r"0:00:\d\d since the start", said[0])
    assert any(re.fullmatch(r"0:00:\d\d since the start; looking has ended", line) for line in said)
    assert re.fullmatch(r"0:00:\d\d features fold 0: 25 %   case_7", said[-1])


def test_ctrl_c_says_what_is_kept(capsys):
    for stopped, said in (
        (KeyboardInterrupt(), "Stopped. To continue"),
        (KeyboardInterrupt("9 are kept"), "Stopped: 9 are kept. To"),
    ):
        with pytest.raises(SystemExit), shown_progress():
            raise stopped
        assert said in capsys.readouterr().err


def test_the_command_to_continue_is_written_whole(monkeypatch):
    monkeypatch.setattr("hilum.cli.output.which", lambda _: "/bin/hilum")
    for given, said in {
        "train my data -o m": "hilum train my data -o m --resume",
        "train d -o m --resume": "hilum train d -o m --resume",
        "predict m d -o p": "hilum predict m d -o p --skip-existing",
        "check train": "hilum check train",
    }.items():
        assert command_to_continue([".venv/bin/hilum", *given.split()]) == said
    assert command_to_continue(["x", "check", "my data"]) == "hilum check 'my data'"
    monkeypatch.setattr("hilum.cli.output.which", lambda _: None)
    assert command_to_continue([".venv/bin/hilum", "demo"]).endswith(" demo")


def test_curves_that_are_not_there_are_not_named(tmp_path, capsys):
    (tmp_path / "training" / "fold_0").mkdir(parents=True)
    print_curves(tmp_path)
    assert not capsys.readouterr().out
    (tmp_path / "training" / "fold_0" / "curves.png").touch()
    print_curves(tmp_path)
    assert "Learning curves: " in capsys.readouterr().out


def test_a_case_that_failed_is_not_called_done(monkeypatch):
    from hilum.inference.forecast import Advance
    from hilum.inference.run_report import CaseOutcome

    stream = io.StringIO()
    monkeypatch.setenv("COLUMNS", "160")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with shown_progress() as shown:
            shown.predicted(Advance("a", 1, 1, 1.0, 0.0))
            shown.outcome(CaseOutcome(case="a", status="failed", error="broken"), 1, 1)
    assert "1 of 1 cases, 1 failed   a" in stream.getvalue()
    assert "done" not in stream.getvalue()


def test_a_stage_that_comes_again_begins_anew():
    from rich.progress import Progress

    ticks = iter(range(100))
    progress = Progress(get_time=lambda: float(next(ticks)), disable=True)
    shown = ProgressDisplay(progress)
    for done in (1, 2):
        shown.advance("looking", done, 2, "")
    first = progress.tasks[0].start_time
    shown.advance("looking", 1, 2, "")
    assert progress.tasks[0].start_time > first
    assert not progress.tasks[0].finished


def test_findings_of_other_kinds_cures_and_severities_stand_apart():
    lines = format_findings(
        [
            finding(""),
            finding("a", cure="other"),
            finding("b", severity="error"),
            finding("c", kind="header"),
            finding("d"),
        ]
    )
    assert [line for line in lines if "cure" not in line] == [
        "warning grid-header: all is odd",
        "warning grid-header: d: d is odd",
        "warning grid-header: a: a is odd",
        "error   grid-header: b: b is odd",
        "warning header: c: c is odd",
    ]


def test_files_that_are_not_taken_are_the_last_lines(tmp_path, capsys):
    for name in ("a.png", "readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    with files_at_the_end():
        take_inventory([tmp_path], [tmp_path / "a.png"]).log()
        take_inventory([tmp_path / "a.png"], [tmp_path / "a.png"]).log()  # nothing to say
        typer.echo("1 of 1 cases predicted")
    shown = capsys.readouterr()
    assert shown.out == "1 of 1 cases predicted\n"
    assert shown.err == f"Files of {tmp_path}: 1 taken. 1 left out: text: 1 (readme.txt)\n"


def test_errors_name_the_option_of_an_argument():
    for text, shown in (
        ("Cure: region='middle' or minutes=20", "Cure: --region middle or --minutes 20"),
        ("every_patch=True for a classifier", "--every-patch for a classifier"),
        ("gamma=0.3, beta=0.7", "gamma=0.3, beta=0.7"),
        ("plan='my plan.json'", "plan='my plan.json'"),
    ):
        assert with_options(text) == shown


def test_logged_errors_name_options_too():
    """Only hilum's own messages are rewritten, and not the source code of a traceback."""

    def shown(name, text, error=None):
        info = None if error is None else (type(error), error, None)
        record = logging.LogRecord(name, logging.ERROR, "", 1, "%s: %s", ("a", text), info)
        return MessageFormatter("%(message)s").format(record)

    error = DataError("two series", cure="choose one: series='2'")
    assert shown("hilum", error) == "a: two series\nCure: choose one: --series 2"
    assert shown("another", "series='2'") == "a: series='2'"
    assert shown("hilum", "f(series='2')", KeyError(1)).startswith("a: f(series='2')\nKeyError")


def test_options_of_all_commands_are_known():
    names = option_names()
    assert names["memory_gb"] == "--memory"
    assert names["formats"] == "--format"
    assert {"region", "network", "gate", "folds", "explain", "tolerance"} <= set(names)
